//! The words of the domain.
//!
//! Everything that talks about Prometheus data says it with these types: [`Labels`] and [`Matcher`], [`TimeRange`],
//! samples as columns ([`Samples`]), native histograms ([`FloatHistogram`]), what a caller may do about an error
//! ([`ErrorKind`]) and what an answer has to say beside its data ([`Warnings`]).
//!
//! The crate does no I/O, reads no clock and knows no runtime, no wire format and no protobuf type.

pub mod budget;
pub mod classic;
pub mod error;
pub mod escape;
pub mod external;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod number;
pub mod pattern;
pub mod quote;
pub mod relabel;
pub mod resolution;
pub mod sample;
pub mod shard;
mod slots;
pub mod sum;
pub mod time;
pub mod warnings;

pub use budget::{Budget, BudgetExceeded, Reservation};
pub use error::ErrorKind;
pub use external::ExternalLabels;
pub use histogram::{CounterResetHint, FloatHistogram, HistogramError, HistogramMean, HistogramSum, Span};
pub use labels::{Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use relabel::{RelabelAction, RelabelConfig, RelabelError, relabel};
pub use resolution::{Aggregate, Resolution};
pub use sample::{STALE_NAN_BITS, Samples, is_stale_nan};
pub use shard::ShardInfo;
pub use slots::{Slots, SlotsError};
pub use sum::{Mean, Sum, almost_equal};
pub use time::TimeRange;
pub use warnings::Warnings;

/// The label that holds a series' metric name.
pub const METRIC_NAME: &str = "__name__";
