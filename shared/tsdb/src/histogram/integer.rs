//! Histograms with integer counts: counts as second differences, each bucket as the difference to the bucket before it,
//! and that as a second difference over time.

use super::Counts;
use crate::bits::{BitReader, EndOfData};
use crate::varbit;
use crate::xor::Window;
use farview_model::{FloatHistogram, is_stale_nan};

/// A number that is read as second differences.
#[derive(Debug, Clone, Copy)]
struct Counter {
    value: i64,
    delta: i64,
}

impl Counter {
    fn first(value: i64) -> Self {
        Self { value, delta: 0 }
    }

    fn advance(&mut self, bits: &mut BitReader<'_>) -> Result<(), EndOfData> {
        self.delta = self.delta.wrapping_add(varbit::read_int(bits)?);
        self.value = self.value.wrapping_add(self.delta);
        Ok(())
    }
}

/// The counts of a histogram with integer counts.
#[derive(Debug)]
pub(crate) struct IntegerCounts {
    count: Counter,
    zero_count: Counter,
    sum: u64,
    window: Window,
    positive: Vec<Counter>,
    negative: Vec<Counter>,
}

impl Counts for IntegerCounts {
    fn first(bits: &mut BitReader<'_>, positive: usize, negative: usize) -> Result<Self, EndOfData> {
        let count = Counter::first(varbit::read_uint(bits)? as i64);
        let zero_count = Counter::first(varbit::read_uint(bits)? as i64);
        let sum = bits.bits(64)?;
        let mut buckets = |count: usize| -> Result<Vec<Counter>, EndOfData> {
            (0..count).map(|_| varbit::read_int(bits).map(Counter::first)).collect()
        };
        let (positive, negative) = (buckets(positive)?, buckets(negative)?);
        Ok(Self { count, zero_count, sum, window: Window::default(), positive, negative })
    }

    fn advance(&mut self, bits: &mut BitReader<'_>) -> Result<(), EndOfData> {
        self.count.advance(bits)?;
        self.zero_count.advance(bits)?;
        self.sum = self.window.next(bits, self.sum)?;
        if is_stale_nan(self.sum()) {
            return Ok(());
        }
        self.positive.iter_mut().chain(&mut self.negative).try_for_each(|bucket| bucket.advance(bits))
    }

    fn sum(&self) -> f64 {
        f64::from_bits(self.sum)
    }

    fn fill(&self, out: &mut FloatHistogram) {
        out.count = self.count.value as u64 as f64;
        out.zero_count = self.zero_count.value as u64 as f64;
        out.sum = self.sum();
        out.positive_buckets = absolute(&self.positive);
        out.negative_buckets = absolute(&self.negative);
    }
}

fn absolute(buckets: &[Counter]) -> Vec<f64> {
    let mut sum = 0i64;
    let add = |bucket: &Counter| {
        sum = sum.wrapping_add(bucket.value);
        sum as f64
    };
    buckets.iter().map(add).collect()
}
