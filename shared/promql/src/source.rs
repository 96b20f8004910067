//! Where the engine's samples come from.

use farview_model::{ErrorKind, Labels, Matcher, Samples, TimeRange};

/// One request for series: what a selector needs, with hints that a source may use and may ignore.
#[derive(Debug, Clone)]
pub struct Select {
    /// What the labels must match.
    pub matchers: Vec<Matcher>,
    /// Samples needed, both ends inclusive, ms. For ranges and lookback this begins before the first step.
    pub range: TimeRange,
    /// Step of the query, ms; 0 for an instant.
    pub step: i64,
    /// Range of the range selector, ms; 0 for an instant selector.
    pub window: i64,
    /// The nearest function or aggregation above the selector (`rate`, `sum`, …); empty if none. Chooses the aggregate of
    /// downsampled data and tells deduplication whether the samples count.
    pub func: String,
    /// Labels of the nearest aggregation.
    pub grouping: Vec<String>,
    /// Whether `grouping` came with `by` (else `without`).
    pub by: bool,
    /// Only the labels are needed, no samples.
    pub labels_only: bool,
    /// At most so many series, 0 for all.
    pub limit: usize,
}

/// Why a source could not answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// What happened and where.
    pub message: String,
}

/// Something that can be asked for series.
pub trait Queryable: Send + Sync {
    /// Opens the stream of the series that match. Called once for each selector of a plan, all of them before the first
    /// is read, so that the source can fetch them at the same time.
    ///
    /// # Errors
    /// [`SourceError`] if the stream cannot be opened.
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError>;
}

/// Series in label order.
pub trait SeriesStream: Send {
    /// Waits for the next batch of series, blocking the thread; `None` at the end. Label sets rise strictly from one series
    /// to the next, within a batch and across batches. Batches hold about 64 to 256 series.
    ///
    /// # Errors
    /// [`SourceError`] if the source fails; the stream is then over. A cancelled query surfaces here.
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError>;
}

/// A series whose samples are yet to be decoded.
pub struct SourceSeries {
    /// The series' labels, as the query shall see them.
    pub labels: Labels,
    /// Its samples.
    pub samples: Box<dyn SampleSource>,
}

/// The samples of one series, compressed.
pub trait SampleSource: Send + Sync {
    /// Decodes the samples that lie in `range` and appends them to `out`. May be called more than once, from any thread.
    ///
    /// # Errors
    /// [`SourceError`] of kind [`ErrorKind::Corrupt`] if a chunk cannot be decoded.
    fn read(&self, range: TimeRange, out: &mut Samples) -> Result<(), SourceError>;

    /// Returns the bytes held, for the memory account.
    fn size_bytes(&self) -> usize;
}
