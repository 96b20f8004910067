//! What can be wrong with histograms.

use crate::ErrorKind;

/// A histogram that is not valid, or two that do not go together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HistogramError {
    /// One histogram has exponential buckets, the other custom ones.
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    MixedSchemas,
    /// The schema is neither exponential nor the custom one.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets, got schema {0}"
    )]
    InvalidSchema(i32),
    /// A span other than the first goes back.
    #[error("span number {span} with offset {offset}: histogram has a span whose offset is negative")]
    NegativeOffset {
        /// Number of the span, from 1.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// The spans promise another number of buckets than there are.
    #[error(
        "spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpansMismatch {
        /// Buckets by the spans.
        spans: u64,
        /// Buckets in the list.
        buckets: usize,
    },
    /// A bucket has a negative count.
    #[error(
        "bucket number {bucket} has observation count of {count}: histogram has a bucket whose observation count is negative"
    )]
    NegativeCount {
        /// Number of the bucket, from 1.
        bucket: usize,
        /// Its count.
        count: f64,
    },
    /// Custom bounds do not rise.
    #[error(
        "previous bound is {previous} and current is {current}: histogram custom bounds must be in strictly increasing order"
    )]
    BoundsNotRising {
        /// The bound before.
        previous: f64,
        /// The bound that is not greater.
        current: f64,
    },
    /// The last custom bound is not finite.
    #[error("last custom bound must not be infinite: it is implied")]
    InfiniteBound,
    /// The spans of custom buckets go past the bounds.
    #[error(
        "only {bounds} custom bounds defined which is insufficient to cover total span length of {buckets}: histogram custom bounds are too few"
    )]
    TooFewBounds {
        /// How many bounds there are.
        bounds: usize,
        /// Index after the last bucket.
        buckets: i64,
    },
    /// Custom buckets know neither zero bucket nor negative buckets.
    #[error("histogram with custom buckets must not have {0}")]
    NotWithCustomBuckets(&'static str),
    /// Exponential buckets know no custom bounds.
    #[error("histogram with exponential schema must not have custom bounds")]
    CustomBoundsOnExponential,
}

impl HistogramError {
    /// Says what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MixedSchemas => ErrorKind::Execution,
            _ => ErrorKind::Corrupt,
        }
    }
}
