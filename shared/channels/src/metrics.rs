//! gRPC client metrics under the names of go-grpc-middleware, which Thanos' alerts and dashboards read.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::frames::FrameCounter;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    grpc_method: String,
    grpc_service: String,
    grpc_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: &'static str,
    grpc_method: String,
    grpc_service: String,
    grpc_type: &'static str,
}

/// The counters of all calls of a process. `Default` makes unregistered ones; clones share the counts.
#[derive(Debug, Clone)]
pub struct ClientMetrics {
    started: Family<Call, Counter>,
    handled: Family<Handled, Counter>,
    seconds: Family<Call, Histogram>,
    sent: Family<Call, Counter>,
    received: Family<Call, Counter>,
}

/// The buckets that Thanos uses.
const BUCKETS: [f64; 15] = [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0];

impl Default for ClientMetrics {
    fn default() -> Self {
        Self {
            started: Family::default(),
            handled: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            sent: Family::default(),
            received: Family::default(),
        }
    }
}

impl ClientMetrics {
    /// Registers `grpc_client_{started,handled,msg_sent,msg_received}_total` and `grpc_client_handling_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("grpc_client_started", "RPCs started on the client", metrics.started.clone());
        let help = "RPCs completed by the client, regardless of success or failure";
        registry.register("grpc_client_handled", help, metrics.handled.clone());
        let help = "Response latency of the gRPC until it is finished by the application, in seconds";
        registry.register("grpc_client_handling_seconds", help, metrics.seconds.clone());
        registry.register("grpc_client_msg_sent", "gRPC stream messages sent by the client", metrics.sent.clone());
        registry.register(
            "grpc_client_msg_received",
            "RPC stream messages received by the client",
            metrics.received.clone(),
        );
        metrics
    }

    /// Returns a layer that counts the calls of a [`crate::Channel`] or a [`crate::Group`].
    pub fn layer(&self) -> MeasuredLayer {
        MeasuredLayer { metrics: self.clone() }
    }

    /// Wraps a service; shorter than a layer.
    pub fn measure<S>(&self, service: S) -> Measured<S> {
        self.layer().layer(service)
    }
}

/// Makes [`Measured`] services.
#[derive(Debug, Clone)]
pub struct MeasuredLayer {
    metrics: ClientMetrics,
}

impl<S> Layer<S> for MeasuredLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured { inner, metrics: self.metrics.clone() }
    }
}

/// A service whose calls are counted. A call that is dropped counts as Canceled.
#[derive(Debug, Clone)]
pub struct Measured<S> {
    inner: S,
    metrics: ClientMetrics,
}

impl<S> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Status>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut watch = Watch::start(&self.metrics, request.uri().path());
        let sent = Arc::new(self.metrics.sent.get_or_create(&watch.call).clone());
        let request =
            request.map(|body| Body::new(Counted { body, counter: FrameCounter::default(), on: On::Sent(sent) }));
        let answer = self.inner.call(request);
        Box::pin(async move {
            match answer.await {
                Ok(response) => {
                    if let Some(code) = code_in(response.headers()) {
                        watch.end(code);
                    }
                    let on = On::Received(Box::new(watch));
                    Ok(response.map(|body| Body::new(Counted { body, counter: FrameCounter::default(), on })))
                }
                Err(status) => {
                    watch.end(status.code());
                    Err(status)
                }
            }
        })
    }
}

/// One call from start to end.
struct Watch {
    metrics: ClientMetrics,
    call: Call,
    received: Counter,
    started: Instant,
    ended: bool,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Watch {
    fn start(metrics: &ClientMetrics, path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or(("unknown", "unknown"));
        let call =
            Call { grpc_method: method.to_owned(), grpc_service: service.to_owned(), grpc_type: kind(service, method) };
        metrics.started.get_or_create(&call).inc();
        let received = metrics.received.get_or_create(&call).clone();
        Self { metrics: metrics.clone(), call, received, started: Instant::now(), ended: false }
    }

    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let Call { grpc_method, grpc_service, grpc_type } = self.call.clone();
        let handled = Handled { grpc_code: name(code), grpc_method, grpc_service, grpc_type };
        self.metrics.handled.get_or_create(&handled).inc();
        self.metrics.seconds.get_or_create(&self.call).observe(self.started.elapsed().as_secs_f64());
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// A body whose messages are counted; a response also ends its call.
struct Counted {
    body: Body,
    counter: FrameCounter,
    on: On,
}

enum On {
    Sent(Arc<Counter>),
    Received(Box<Watch>),
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        let messages = match &frame {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| this.counter.feed(data)),
            _ => 0,
        };
        match &mut this.on {
            On::Sent(counter) => _ = counter.inc_by(messages),
            On::Received(watch) => {
                watch.received.inc_by(messages);
                match &frame {
                    Some(Ok(frame)) => {
                        if let Some(code) = frame.trailers_ref().and_then(code_in) {
                            watch.end(code);
                        }
                    }
                    Some(Err(status)) => watch.end(status.code()),
                    // A stream without a status in its trailers was cut.
                    None => watch.end(Code::Unknown),
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

/// Returns the type of a call. HTTP/2 does not tell it; these are the streaming methods of the services that we call.
fn kind(service: &str, method: &str) -> &'static str {
    match (service, method) {
        ("thanos.Store", "Series")
        | ("thanos.Query", "Query" | "QueryRange")
        | ("thanos.Rules", "Rules")
        | ("thanos.Targets", "Targets")
        | ("thanos.Metadata", "MetricMetadata")
        | ("thanos.Exemplars", "Exemplars")
        | ("thanos.Status", "TSDBStatistics")
        | ("grpc.health.v1.Health", "Watch") => "server_stream",
        _ => "unary",
    }
}

/// Returns a code's name as grpc-go writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
