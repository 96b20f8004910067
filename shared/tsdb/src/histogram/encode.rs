//! Writing histogram chunks.
//!
//! A new chunk begins where Prometheus begins one: at a reset of the counter, between gauges and counters, after a stale
//! marker. It also begins after [`MAX_SAMPLES`], where Prometheus goes by bytes, and where the layout changes, for which
//! Prometheus would rather write the chunk before anew with the buckets of both.

use super::layout::{Layout, bucket_count};
use super::{GAUGE, HEADER_LEN, NOT_RESET, RESET};
use crate::bits::BitWriter;
use crate::chunk::MAX_SAMPLES;
use crate::varbit;
use crate::xor::XorWriter;
use farview_model::{CounterResetHint, FloatHistogram, is_stale_nan};
use std::sync::Arc;

/// Why histograms cannot be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A histogram has another number of buckets than its spans say.
    #[error("histogram {index} has not as many buckets as its spans say")]
    BucketCount {
        /// Which one.
        index: usize,
    },
    /// A count is no whole number, so that the histogram has no form with integer counts.
    #[error("histogram {index} has a count that is no whole number")]
    NotWhole {
        /// Which one.
        index: usize,
    },
}

/// Bytes of chunks of float histograms.
pub(crate) fn encode_float(
    timestamps: &[i64],
    histograms: &[Arc<FloatHistogram>],
) -> Result<Vec<Vec<u8>>, EncodeError> {
    check(histograms, |_| true)?;
    Ok(runs(histograms).map(|(run, reset)| chunk(&timestamps[run.clone()], &histograms[run], reset, floats)).collect())
}

/// Bytes of chunks of histograms with integer counts.
pub(crate) fn encode_integer(
    timestamps: &[i64],
    histograms: &[Arc<FloatHistogram>],
) -> Result<Vec<Vec<u8>>, EncodeError> {
    // Beyond 2^53 not every whole number is a float: what came in was not counted in integers.
    check(histograms, |count| (0.0..=9_007_199_254_740_992.0).contains(&count) && count.fract() == 0.0)?;
    Ok(runs(histograms)
        .map(|(run, reset)| chunk(&timestamps[run.clone()], &histograms[run], reset, integers))
        .collect())
}

fn check(histograms: &[Arc<FloatHistogram>], fits: impl Fn(f64) -> bool) -> Result<(), EncodeError> {
    for (index, h) in histograms.iter().enumerate().filter(|(_, h)| !is_stale_nan(h.sum)) {
        if bucket_count(&h.positive_spans) != h.positive_buckets.len()
            || bucket_count(&h.negative_spans) != h.negative_buckets.len()
        {
            return Err(EncodeError::BucketCount { index });
        }
        if !counts(h).all(&fits) {
            return Err(EncodeError::NotWhole { index });
        }
    }
    Ok(())
}

fn counts(h: &FloatHistogram) -> impl Iterator<Item = f64> {
    [h.count, h.zero_count].into_iter().chain(h.positive_buckets.iter().chain(&h.negative_buckets).copied())
}

/// What one histogram is to the one before it.
#[derive(PartialEq)]
enum Step {
    Continues,
    Reset,
    Other,
}

fn step(before: &FloatHistogram, next: &FloatHistogram) -> Step {
    match (is_stale_nan(before.sum), is_stale_nan(next.sum)) {
        (_, true) => return Step::Continues,
        (true, false) => return Step::Other,
        (false, false) => {}
    }
    let gauge = next.counter_reset_hint == CounterResetHint::Gauge;
    let custom = |h: &FloatHistogram| h.custom_values.iter().flat_map(|v| v.iter().map(|v| v.to_bits())).collect();
    let (custom_before, custom_next): (Vec<u64>, Vec<u64>) = (custom(before), custom(next));
    if gauge != (before.counter_reset_hint == CounterResetHint::Gauge)
        || before.schema != next.schema
        || before.zero_threshold.to_bits() != next.zero_threshold.to_bits()
        || before.positive_spans != next.positive_spans
        || before.negative_spans != next.negative_spans
        || custom_before != custom_next
    {
        return Step::Other;
    }
    let falls = || counts(before).zip(counts(next)).any(|(before, next)| next < before);
    if !gauge && (next.counter_reset_hint == CounterResetHint::Reset || falls()) {
        return Step::Reset;
    }
    Step::Continues
}

/// Cuts histograms into runs that fit in a chunk, each with the reset byte of its chunk.
fn runs(histograms: &[Arc<FloatHistogram>]) -> impl Iterator<Item = (std::ops::Range<usize>, u8)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = histograms.get(start)?;
        let reset = start > 0 && step(&histograms[start - 1], first) == Step::Reset;
        let flags = match first.counter_reset_hint {
            CounterResetHint::Gauge => GAUGE,
            CounterResetHint::Reset => RESET,
            _ if reset => RESET,
            CounterResetHint::NotReset => NOT_RESET,
            CounterResetHint::Unknown => 0,
        };
        let most = histograms.len().min(start + MAX_SAMPLES);
        let end =
            (start + 1..most).find(|i| step(&histograms[i - 1], &histograms[*i]) != Step::Continues).unwrap_or(most);
        let run = start..end;
        start = end;
        Some((run, flags))
    })
}

/// Writes the numbers of one sample of a run, which follow its time: `(bits, index of the sample)`.
type Numbers<'a> = Box<dyn FnMut(&mut BitWriter, usize) + 'a>;

fn chunk(
    timestamps: &[i64],
    run: &[Arc<FloatHistogram>],
    flags: u8,
    numbers: fn(&[Arc<FloatHistogram>]) -> Numbers<'_>,
) -> Vec<u8> {
    let count = u16::try_from(run.len()).expect("a run has at most MAX_SAMPLES histograms");
    let mut bytes = Vec::with_capacity(HEADER_LEN + 64 + run.len() * 16);
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.push(flags);
    let mut bits = BitWriter::new(bytes);
    let stale = FloatHistogram::default();
    Layout::write(&mut bits, if is_stale_nan(run[0].sum) { &stale } else { &run[0] });
    let mut numbers = numbers(run);
    let mut delta = 0i64;
    for (i, t) in timestamps.iter().enumerate() {
        if i == 0 {
            varbit::write_int(&mut bits, *t);
        } else {
            let next = t.wrapping_sub(timestamps[i - 1]);
            varbit::write_int(&mut bits, next.wrapping_sub(delta));
            delta = next;
        }
        numbers(&mut bits, i);
    }
    bits.into_bytes()
}

/// Writes floats, each XORed with the one before it.
fn floats(run: &[Arc<FloatHistogram>]) -> Numbers<'_> {
    let mut columns: Vec<(u64, XorWriter)> = Vec::new();
    Box::new(move |bits, i| {
        let h = &run[i];
        // A stale marker has zeros for counts, and no buckets.
        let stale = is_stale_nan(h.sum);
        let head = if stale { [0.0, 0.0, h.sum] } else { [h.count, h.zero_count, h.sum] };
        let buckets = h.positive_buckets.iter().chain(&h.negative_buckets).filter(|_| !stale);
        for (column, value) in head.iter().chain(buckets).enumerate() {
            let raw = value.to_bits();
            match columns.get_mut(column) {
                None => {
                    bits.bits(raw, 64);
                    columns.push((raw, XorWriter::default()));
                }
                Some((before, writer)) => {
                    writer.put(bits, *before, raw);
                    *before = raw;
                }
            }
        }
    })
}

/// Writes integers as second differences, the sum XORed.
fn integers(run: &[Arc<FloatHistogram>]) -> Numbers<'_> {
    let mut columns: Vec<(i64, i64)> = Vec::new();
    let mut sum = XorWriter::default();
    Box::new(move |bits, i| {
        let h = &run[i];
        let stale = is_stale_nan(h.sum);
        let whole = |count: f64| if stale { 0 } else { count as i64 };
        let head = [whole(h.count), whole(h.zero_count)];
        let buckets = deltas(&h.positive_buckets).chain(deltas(&h.negative_buckets)).filter(|_| !stale);
        for (column, value) in head.into_iter().chain(buckets).enumerate() {
            if column == head.len() {
                put_sum(bits, &mut sum, run, i);
            }
            match columns.get_mut(column) {
                None => {
                    if column < head.len() {
                        varbit::write_uint(bits, value as u64);
                    } else {
                        varbit::write_int(bits, value);
                    }
                    columns.push((value, 0));
                }
                Some((before, delta)) => {
                    let next = value.wrapping_sub(*before);
                    // The counts of a stale marker mean nothing and are written as no change.
                    varbit::write_int(bits, if stale { 0 } else { next.wrapping_sub(*delta) });
                    (*before, *delta) = (value, next);
                }
            }
        }
        if stale || h.positive_buckets.is_empty() && h.negative_buckets.is_empty() {
            put_sum(bits, &mut sum, run, i);
        }
    })
}

fn put_sum(bits: &mut BitWriter, writer: &mut XorWriter, run: &[Arc<FloatHistogram>], i: usize) {
    let sum = run[i].sum.to_bits();
    if i == 0 {
        bits.bits(sum, 64);
    } else {
        writer.put(bits, run[i - 1].sum.to_bits(), sum);
    }
}

/// Each bucket less the one before it.
fn deltas(buckets: &[f64]) -> impl Iterator<Item = i64> + '_ {
    let mut before = 0i64;
    buckets.iter().map(move |bucket| {
        let value = *bucket as i64;
        value - std::mem::replace(&mut before, value)
    })
}
