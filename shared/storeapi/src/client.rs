//! Asking a store.

use crate::codec::SeriesClientCodec;
use crate::{
    DecodedFrame, LabelsAnswer, LabelsRequest, SLOTS_METADATA_KEY, SelectRequest, StoreError, TENANT_METADATA_KEY,
};
use bytes::Bytes;
use farview_model::{ErrorKind, Slots, Warnings};
use farview_proto::thanos;
use futures::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::{StdError, http};
use tonic::{GrpcMethod, Request, Streaming};

/// What goes with a call beside the request.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// How long the whole call may take; the server is told (`grpc-timeout`). None: as long as it takes.
    pub timeout: Option<Duration>,
    /// Largest message that is accepted, bytes. None: [`StoreClient::DEFAULT_MAX_MESSAGE_BYTES`].
    pub max_message_bytes: Option<usize>,
}

/// A client of `thanos.Store` over any gRPC channel `T`.
#[derive(Debug, Clone)]
pub struct StoreClient<T> {
    channel: T,
}

impl<T> StoreClient<T>
where
    T: GrpcService<Body> + Clone,
    T::Error: Into<StdError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<StdError> + Send,
{
    /// Largest message that is accepted by default, bytes. Thanos sends frames of any size; a frame holds whole series.
    pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 << 20;

    /// Makes a client over `channel`; connects nothing.
    pub fn new(channel: T) -> Self {
        Self { channel }
    }

    async fn ready(&self, options: &CallOptions) -> Result<Grpc<T>, StoreError> {
        let max = options.max_message_bytes.unwrap_or(Self::DEFAULT_MAX_MESSAGE_BYTES);
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(max);
        grpc.ready().await.map_err(|error| {
            let error: StdError = error.into();
            StoreError::new(ErrorKind::Unavailable, format!("the channel is not ready: {error}"))
        })?;
        Ok(grpc)
    }

    /// Asks for series. Returns once the server has accepted the call; the frames come through the stream.
    ///
    /// # Errors
    /// [`StoreError`] if the call cannot be made or is refused.
    ///
    /// # Cancellation
    /// Dropping the future or the stream resets the call: the server stops working for it.
    pub async fn select(&self, request: &SelectRequest, options: &CallOptions) -> Result<FrameStream, StoreError> {
        let mut grpc = self.ready(options).await?;
        let path = http::uri::PathAndQuery::from_static("/thanos.Store/Series");
        let mut call = call(request.to_proto(), (&request.tenant, request.slots), options)?;
        call.extensions_mut().insert(GrpcMethod::new("thanos.Store", "Series"));
        let response = grpc.server_streaming(call, path, SeriesClientCodec).await?;
        Ok(FrameStream { inner: response.into_inner() })
    }

    /// Asks for names of labels.
    ///
    /// # Errors
    /// [`StoreError`] if the call fails.
    pub async fn label_names(
        &self,
        request: &LabelsRequest,
        options: &CallOptions,
    ) -> Result<LabelsAnswer, StoreError> {
        let mut grpc = self.ready(options).await?;
        let path = http::uri::PathAndQuery::from_static("/thanos.Store/LabelNames");
        let mut call = call(request.to_names_proto(), (&request.tenant, request.slots), options)?;
        call.extensions_mut().insert(GrpcMethod::new("thanos.Store", "LabelNames"));
        let codec = tonic_prost::ProstCodec::<thanos::LabelNamesRequest, thanos::LabelNamesResponse>::default();
        let response = grpc.unary(call, path, codec).await?.into_inner();
        Ok(LabelsAnswer { values: response.names, warnings: warnings(response.warnings) })
    }

    /// Asks for values of a label.
    ///
    /// # Errors
    /// [`StoreError`] if the call fails.
    pub async fn label_values(
        &self,
        request: &LabelsRequest,
        options: &CallOptions,
    ) -> Result<LabelsAnswer, StoreError> {
        let mut grpc = self.ready(options).await?;
        let path = http::uri::PathAndQuery::from_static("/thanos.Store/LabelValues");
        let mut call = call(request.to_values_proto(), (&request.tenant, request.slots), options)?;
        call.extensions_mut().insert(GrpcMethod::new("thanos.Store", "LabelValues"));
        let codec = tonic_prost::ProstCodec::<thanos::LabelValuesRequest, thanos::LabelValuesResponse>::default();
        let response = grpc.unary(call, path, codec).await?.into_inner();
        Ok(LabelsAnswer { values: response.values, warnings: warnings(response.warnings) })
    }
}

fn warnings(texts: Vec<String>) -> Warnings {
    let mut warnings = Warnings::default();
    texts.into_iter().for_each(|text| warnings.add(text));
    warnings
}

fn call<M>(
    message: M,
    (tenant, slots): (&str, Option<Slots>),
    options: &CallOptions,
) -> Result<Request<M>, StoreError> {
    let mut call = Request::new(message);
    if let Some(value) = slots.and_then(|slots| slots.to_string().parse().ok()) {
        call.metadata_mut().insert(SLOTS_METADATA_KEY, value);
    }
    if !tenant.is_empty() {
        let value = tenant.parse().map_err(|_| {
            StoreError::new(ErrorKind::Invalid, format!("the tenant {tenant:?} cannot travel as gRPC metadata"))
        })?;
        call.metadata_mut().insert(TENANT_METADATA_KEY, value);
    }
    if let Some(timeout) = options.timeout {
        call.set_timeout(timeout);
    }
    Ok(call)
}

/// The frames of one answer, as they arrive. Ends after an error; an end without an error means that the server said the
/// answer is complete.
#[derive(Debug)]
pub struct FrameStream {
    inner: Streaming<DecodedFrame>,
}

impl Stream for FrameStream {
    type Item = Result<DecodedFrame, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner).poll_next(cx).map(|frame| frame.map(|frame| frame.map_err(StoreError::from)))
    }
}
