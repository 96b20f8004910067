//! Samples of one series, as columns.

use crate::FloatHistogram;
use std::sync::Arc;

/// The bits of the NaN by which Prometheus marks a series as stale.
pub const STALE_NAN_BITS: u64 = 0x7FF0_0000_0000_0002;

/// Tells whether `value` is the stale marker: one bit pattern, not any NaN.
pub fn is_stale_nan(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// Samples of one series as columns: floats and histograms in two lists, each in strictly rising time.
///
/// A stale marker is a float with the bits [`STALE_NAN_BITS`], or a histogram whose sum has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Times of the floats, ms.
    pub timestamps: Vec<i64>,
    /// Values of the floats; as long as `timestamps`.
    pub values: Vec<f64>,
    /// Start times of the floats, ms, 0 where unknown. Empty when no sample has one, else as long as `timestamps`.
    pub start_timestamps: Vec<i64>,
    /// Times of the histograms, ms.
    pub histogram_timestamps: Vec<i64>,
    /// The histograms; as long as `histogram_timestamps`.
    pub histograms: Vec<Arc<FloatHistogram>>,
    /// Start times of the histograms, ms, 0 where unknown. Empty when none has one, else as long as `histograms`.
    pub histogram_start_timestamps: Vec<i64>,
}

impl Samples {
    /// Takes all samples out and keeps the memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.start_timestamps.clear();
        self.histogram_timestamps.clear();
        self.histograms.clear();
        self.histogram_start_timestamps.clear();
    }

    /// Returns how many samples there are, floats and histograms together.
    pub fn len(&self) -> usize {
        self.timestamps.len() + self.histograms.len()
    }

    /// Tells whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a float sample at `t` (ms), which must lie after the last float.
    pub fn push(&mut self, t: i64, value: f64) {
        self.timestamps.push(t);
        self.values.push(value);
        if !self.start_timestamps.is_empty() {
            self.start_timestamps.push(0);
        }
    }

    /// Appends a histogram sample at `t` (ms), which must lie after the last histogram.
    pub fn push_histogram(&mut self, t: i64, histogram: Arc<FloatHistogram>) {
        self.histogram_timestamps.push(t);
        self.histograms.push(histogram);
        if !self.histogram_start_timestamps.is_empty() {
            self.histogram_start_timestamps.push(0);
        }
    }
}
