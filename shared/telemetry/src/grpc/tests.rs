use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use tower::{ServiceExt, service_fn};

use super::*;
use crate::{Exposition, RootRegistry};

/// One message, then a panic, as of a handler with a bug in the middle of its stream.
struct Panics(bool);

impl HttpBody for Panics {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        assert!(!std::mem::replace(&mut self.0, true), "on purpose");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 1, 7])))))
    }
}

fn descriptors() -> Vec<u8> {
    let method =
        MethodDescriptorProto { name: Some("Series".into()), server_streaming: Some(true), ..Default::default() };
    let service = ServiceDescriptorProto { name: Some("Store".into()), method: vec![method], ..Default::default() };
    let file = FileDescriptorProto { package: Some("thanos".into()), service: vec![service], ..Default::default() };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

async fn drain(body: Body) -> Option<Code> {
    let mut body = std::pin::pin!(body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Err(status) = frame {
            return Some(status.code());
        }
    }
    None
}

#[tokio::test]
async fn a_panic_is_a_status_of_its_call_and_counted() {
    let registry = RootRegistry::empty();
    let descriptors = descriptors();
    let metrics = registry.register(|r| GrpcMetrics::server(r, &[&descriptors], RequestLog::default()));
    let handler = service_fn(|request: http::Request<Body>| async move {
        assert!(request.uri().path() != "/a.B/C", "on purpose");
        Ok::<_, Infallible>(http::Response::new(Body::new(Panics(false))))
    });
    let call = |path: &str| {
        let request = http::Request::post(path).body(Body::empty()).unwrap();
        metrics.layer(handler).oneshot(request)
    };
    let response = call("/thanos.Store/Series").await.unwrap();
    assert_eq!(drain(response.into_body()).await, Some(Code::Internal));
    let response = call("/a.B/C").await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "13");
    drain(response.into_body()).await;
    // Somebody who leaves before the end.
    drop(call("/thanos.Store/Series").await.unwrap());

    let text = registry.render(Exposition::Prometheus);
    let series = "grpc_method=\"Series\",grpc_service=\"thanos.Store\",grpc_type=\"server_stream\"";
    let unknown = "grpc_method=\"unknown\",grpc_service=\"unknown\",grpc_type=\"unary\"";
    for line in [
        "grpc_req_panics_recovered_total 2".to_owned(),
        format!("grpc_server_started_total{{{series}}} 2"),
        format!("grpc_server_handled_total{{grpc_code=\"Internal\",{series}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"Canceled\",{series}}} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{series}}} 0"),
        format!("grpc_server_handled_total{{grpc_code=\"Internal\",{unknown}}} 1"),
        format!("grpc_server_msg_sent_total{{{series}}} 1"),
        format!("grpc_server_handling_seconds_count{{{series}}} 2"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
    }
}
