//! Native histograms: what Prometheus calls a float histogram, exponential and with custom buckets.

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

impl PartialEq for FloatHistogram {
    /// Equal bits in every field; the hint does not count.
    fn eq(&self, other: &Self) -> bool {
        let bits =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
        self.schema == other.schema
            && self.zero_threshold.to_bits() == other.zero_threshold.to_bits()
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && bits(&self.positive_buckets, &other.positive_buckets)
            && bits(&self.negative_buckets, &other.negative_buckets)
            && bits(self.custom_values.as_deref().unwrap_or(&[]), other.custom_values.as_deref().unwrap_or(&[]))
    }
}
