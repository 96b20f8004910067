//! Histograms with float counts: every number XORed with the one before it, each with a window of its own.

use super::Counts;
use crate::bits::{BitReader, EndOfData};
use crate::xor::Window;
use farview_model::{FloatHistogram, is_stale_nan};

/// A number that is read as XOR with the one before.
#[derive(Debug, Clone, Copy)]
struct Xored {
    bits: u64,
    window: Window,
}

impl Xored {
    fn first(bits: &mut BitReader<'_>) -> Result<Self, EndOfData> {
        Ok(Self { bits: bits.bits(64)?, window: Window::default() })
    }

    fn advance(&mut self, bits: &mut BitReader<'_>) -> Result<(), EndOfData> {
        self.bits = self.window.next(bits, self.bits)?;
        Ok(())
    }

    fn value(&self) -> f64 {
        f64::from_bits(self.bits)
    }
}

/// The counts of a histogram with float counts.
#[derive(Debug)]
pub(crate) struct FloatCounts {
    count: Xored,
    zero_count: Xored,
    sum: Xored,
    positive: Vec<Xored>,
    negative: Vec<Xored>,
}

impl Counts for FloatCounts {
    fn first(bits: &mut BitReader<'_>, positive: usize, negative: usize) -> Result<Self, EndOfData> {
        let (count, zero_count, sum) = (Xored::first(bits)?, Xored::first(bits)?, Xored::first(bits)?);
        let mut buckets =
            |count: usize| -> Result<Vec<Xored>, EndOfData> { (0..count).map(|_| Xored::first(bits)).collect() };
        let (positive, negative) = (buckets(positive)?, buckets(negative)?);
        Ok(Self { count, zero_count, sum, positive, negative })
    }

    fn advance(&mut self, bits: &mut BitReader<'_>) -> Result<(), EndOfData> {
        self.count.advance(bits)?;
        self.zero_count.advance(bits)?;
        self.sum.advance(bits)?;
        if is_stale_nan(self.sum()) {
            return Ok(());
        }
        self.positive.iter_mut().chain(&mut self.negative).try_for_each(|bucket| bucket.advance(bits))
    }

    fn sum(&self) -> f64 {
        self.sum.value()
    }

    fn fill(&self, out: &mut FloatHistogram) {
        out.count = self.count.value();
        out.zero_count = self.zero_count.value();
        out.sum = self.sum();
        out.positive_buckets = self.positive.iter().map(Xored::value).collect();
        out.negative_buckets = self.negative.iter().map(Xored::value).collect();
    }
}
