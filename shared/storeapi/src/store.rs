//! What a store is.

use crate::{Frame, LabelsRequest, SelectRequest, StoreError};
use async_trait::async_trait;
use farview_model::Warnings;
use futures::Stream;
use std::pin::Pin;

/// Frames of one answer. Series come in label order (after replica labels were dropped); one series may go on over several
/// frames; warnings and hints come anywhere. An error ends the stream; a stream that ends without one is complete.
pub type SelectStream = Pin<Box<dyn Stream<Item = Result<Frame, StoreError>> + Send>>;

/// Names or values of labels, sorted, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelsAnswer {
    /// The names or values.
    pub values: Vec<String>,
    /// What the answer lacks.
    pub warnings: Warnings,
}

/// Something that answers StoreAPI: a sidecar, a bucket, a whole query service.
///
/// # Cancellation
/// Every future and stream may be dropped at any point: the caller went away.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Returns the series that match.
    ///
    /// # Errors
    /// [`StoreError`] if nothing can be answered; later failures come through the stream.
    async fn select(&self, request: SelectRequest) -> Result<SelectStream, StoreError>;

    /// Returns the names of the labels of the series that match.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be told.
    async fn label_names(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError>;

    /// Returns the values of the label `request.label` of the series that match.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be told.
    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError>;
}
