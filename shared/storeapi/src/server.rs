//! A [`Store`] on the wire.

use crate::codec::SeriesServerCodec;
use crate::{Frame, LabelsRequest, SLOTS_METADATA_KEY, SelectRequest, Store, StoreError, TENANT_METADATA_KEY};
use farview_model::{ErrorKind, Slots, SlotsError};
use farview_proto::thanos;
use farview_series::ChunkSeries;
use futures::{Stream, StreamExt, stream};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::{NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// Largest request that is read, bytes. Requests carry matchers, and a regular expression may list thousands of values.
const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The gRPC service `thanos.Store` over any [`Store`].
///
/// Written by hand in the shape of generated code, because generated services can use only one codec and Series frames
/// have their own.
#[derive(Clone)]
pub struct StoreServer {
    store: Arc<dyn Store>,
}

impl StoreServer {
    /// Serves `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}

impl NamedService for StoreServer {
    const NAME: &'static str = "thanos.Store";
}

impl<B> Service<http::Request<B>> for StoreServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let store = Arc::clone(&self.store);
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/thanos.Store/Series" => {
                    let mut grpc =
                        tonic::server::Grpc::new(SeriesServerCodec).max_decoding_message_size(MAX_REQUEST_BYTES);
                    grpc.server_streaming(SeriesMethod(store), request).await
                }
                "/thanos.Store/LabelNames" => {
                    let mut grpc =
                        tonic::server::Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST_BYTES);
                    grpc.unary(LabelNamesMethod(store), request).await
                }
                "/thanos.Store/LabelValues" => {
                    let mut grpc =
                        tonic::server::Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_REQUEST_BYTES);
                    grpc.unary(LabelValuesMethod(store), request).await
                }
                _ => Status::unimplemented("thanos.Store has Series, LabelNames and LabelValues").into_http(),
            })
        })
    }
}

struct SeriesMethod(Arc<dyn Store>);
struct LabelNamesMethod(Arc<dyn Store>);
struct LabelValuesMethod(Arc<dyn Store>);

type FrameResults = std::pin::Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl ServerStreamingService<thanos::SeriesRequest> for SeriesMethod {
    type Response = Frame;
    type ResponseStream = FrameResults;
    type Future = BoxFuture<Response<FrameResults>, Status>;

    fn call(&mut self, request: Request<thanos::SeriesRequest>) -> Self::Future {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let (tenant, slots) = (tenant(request.metadata()), slots(request.metadata())?);
            let request = SelectRequest { tenant, slots, ..SelectRequest::from_proto(request.into_inner())? };
            let batch = request.batch_size.max(1);
            let frames = store.select(request).await?;
            let frames = frames.flat_map(move |frame| stream::iter(in_batches(frame, batch)));
            Ok(Response::new(Box::pin(frames) as FrameResults))
        })
    }
}

impl UnaryService<thanos::LabelNamesRequest> for LabelNamesMethod {
    type Response = thanos::LabelNamesResponse;
    type Future = BoxFuture<Response<thanos::LabelNamesResponse>, Status>;

    fn call(&mut self, request: Request<thanos::LabelNamesRequest>) -> Self::Future {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let (tenant, slots) = (tenant(request.metadata()), slots(request.metadata())?);
            let request = LabelsRequest { tenant, slots, ..LabelsRequest::from_names_proto(request.into_inner())? };
            let answer = store.label_names(request).await?;
            let warnings = answer.warnings.iter().map(str::to_owned).collect();
            Ok(Response::new(thanos::LabelNamesResponse { names: answer.values, warnings, hints: None }))
        })
    }
}

impl UnaryService<thanos::LabelValuesRequest> for LabelValuesMethod {
    type Response = thanos::LabelValuesResponse;
    type Future = BoxFuture<Response<thanos::LabelValuesResponse>, Status>;

    fn call(&mut self, request: Request<thanos::LabelValuesRequest>) -> Self::Future {
        let store = Arc::clone(&self.0);
        Box::pin(async move {
            let (tenant, slots) = (tenant(request.metadata()), slots(request.metadata())?);
            let request = LabelsRequest { tenant, slots, ..LabelsRequest::from_values_proto(request.into_inner())? };
            let answer = store.label_values(request).await?;
            let warnings = answer.warnings.iter().map(str::to_owned).collect();
            Ok(Response::new(thanos::LabelValuesResponse { values: answer.values, warnings, hints: None }))
        })
    }
}

/// Cuts a frame of series into frames of at most `batch` series: what the client asked for, whatever the store made.
fn in_batches(frame: Result<Frame, StoreError>, batch: usize) -> Vec<Result<Frame, Status>> {
    match frame {
        Ok(Frame::Series(series)) if series.len() > batch => {
            let mut rest = series.into_iter();
            std::iter::from_fn(|| {
                let part: Vec<ChunkSeries> = rest.by_ref().take(batch).collect();
                (!part.is_empty()).then_some(Ok(Frame::Series(part)))
            })
            .collect()
        }
        Ok(Frame::Series(series)) if series.is_empty() => Vec::new(),
        Ok(frame) => vec![Ok(frame)],
        Err(error) => vec![Err(error.into())],
    }
}

/// Returns who asks, from the metadata of a call; empty for nobody in particular.
pub fn tenant(metadata: &MetadataMap) -> String {
    metadata.get(TENANT_METADATA_KEY).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn slots(metadata: &MetadataMap) -> Result<Option<Slots>, StoreError> {
    let Some(value) = metadata.get(SLOTS_METADATA_KEY) else { return Ok(None) };
    let slots = value.to_str().unwrap_or_default().parse();
    slots.map(Some).map_err(|error: SlotsError| StoreError::new(ErrorKind::Invalid, error.to_string()))
}
