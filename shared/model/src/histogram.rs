//! Native histograms: what Prometheus calls a float histogram, exponential and with custom buckets.
//!
//! The type is here with what it is; what is done with it lies beside: walking over buckets, sums and means
//! ([`HistogramSum`], [`HistogramMean`]), counter resets, quantiles and fractions, trimming, text. All of it is pure. Classic
//! histograms, which are series with `le` labels, are in [`classic`](crate::classic).

mod accumulate;
mod bounds;
mod buckets;
mod custom;
mod error;
mod reset;
mod sparse;
mod statistics;
mod text;
mod trim;
mod validate;

#[cfg(test)]
mod tests;

pub use accumulate::{Accumulator, Combined, HistogramMean, HistogramSum, PlainSum};
pub use bounds::{MAX_EXPONENTIAL_SCHEMA, MIN_EXPONENTIAL_SCHEMA, is_exponential, upper_bound};
pub use buckets::{Bucket, Indexed};
pub use error::HistogramError;
pub use sparse::Count;
pub use statistics::NanObservations;
pub use trim::Keep;

use std::sync::Arc;

/// What is known about a counter reset before a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CounterResetHint {
    /// Nothing is known: compare with the sample before.
    #[default]
    Unknown,
    /// The counter was reset before this sample.
    Reset,
    /// It was not.
    NotReset,
    /// The histogram is a gauge: resets have no meaning.
    Gauge,
}

/// A run of consecutive buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    /// Gap to the end of the span before; for the first span the index of its first bucket.
    pub offset: i32,
    /// How many buckets the run has.
    pub length: u32,
}

/// The schema of histograms with custom bucket bounds.
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A native histogram with float counts. Buckets are absolute counts, not deltas.
#[derive(Debug, Clone, Default)]
pub struct FloatHistogram {
    /// What is known about a reset before this sample.
    pub counter_reset_hint: CounterResetHint,
    /// -4..=8: exponential buckets of base 2^(2^-schema); [`CUSTOM_BUCKETS_SCHEMA`]: custom bounds.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// Spans of the positive buckets.
    pub positive_spans: Vec<Span>,
    /// Spans of the negative buckets.
    pub negative_spans: Vec<Span>,
    /// Counts of the positive buckets; as many as the lengths of the positive spans together.
    pub positive_buckets: Vec<f64>,
    /// Counts of the negative buckets.
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, rising, without the last, which is +Inf. Only with the custom schema.
    pub custom_values: Option<Arc<[f64]>>,
}

impl FloatHistogram {
    /// Returns the marker by which a series of histograms goes stale.
    pub fn stale() -> Self {
        Self { sum: f64::from_bits(crate::STALE_NAN_BITS), ..Self::default() }
    }

    /// Tells whether this is a stale marker: its sum has the marker's bits.
    pub fn is_stale(&self) -> bool {
        crate::is_stale_nan(self.sum)
    }

    /// Tells whether the buckets have custom bounds.
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// Returns the custom bounds; none for exponential buckets.
    pub fn custom_bounds(&self) -> &[f64] {
        self.custom_values.as_deref().unwrap_or_default()
    }

    /// Returns the bytes that the histogram holds by Prometheus' account: what its limits of samples count.
    pub fn size_bytes(&self) -> usize {
        let parts = self.positive_spans.len()
            + self.negative_spans.len()
            + self.positive_buckets.len()
            + self.negative_buckets.len()
            + self.custom_bounds().len();
        168 + 8 * parts
    }

    /// Returns how many float samples the histogram counts for in limits: one sample is a value and a time, 16 bytes.
    pub fn sample_count(&self) -> usize {
        (self.size_bytes() + 8) / 16
    }

    /// Takes away empty buckets and joins the spans that touch.
    pub fn compact(&mut self) {
        let populated = |bucket: &(i32, f64)| bucket.1 != 0.0;
        let (spans, buckets) = sparse::to_spans(self.positive_indexed().filter(populated));
        (self.positive_spans, self.positive_buckets) = (spans, buckets);
        let (spans, buckets) = sparse::to_spans(self.negative_indexed().filter(populated));
        (self.negative_spans, self.negative_buckets) = (spans, buckets);
    }

    /// Returns the histogram without empty buckets.
    #[must_use]
    pub fn compacted(mut self) -> Self {
        self.compact();
        self
    }
}

impl PartialEq for FloatHistogram {
    /// Equal bits in every field and the same buckets, however many spans they are written in; the hint does not count.
    fn eq(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && custom::same_bounds(self.custom_bounds(), other.custom_bounds())
            && same_buckets(self.positive_indexed(), other.positive_indexed())
            && same_buckets(self.negative_indexed(), other.negative_indexed())
    }
}

fn same_buckets(a: Indexed<'_>, b: Indexed<'_>) -> bool {
    let bits = |(index, count): (i32, f64)| (index, count.to_bits());
    a.map(bits).eq(b.map(bits))
}
