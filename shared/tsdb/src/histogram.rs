//! Native histograms, with integer counts (Prometheus `tsdb/chunkenc/histogram.go`) and with float counts
//! (`float_histogram.go`).
//!
//! Two bytes of sample count, a byte with what is known about a counter reset before the chunk, the layout that all its
//! histograms share ([`layout`]), then the samples: the first in full, the others as differences ([`integer`], [`float`]).
//! A stale marker is a histogram whose sum has the stale bits; only stale markers can follow it in a chunk.

mod encode;
mod float;
mod integer;
mod layout;

pub use encode::EncodeError;
pub(crate) use encode::{encode_float, encode_integer};
pub(crate) use float::FloatCounts;
pub(crate) use integer::IntegerCounts;

use crate::bits::{BitReader, EndOfData};
use crate::chunk::{ChunkError, Order, TIMES_FALL};
use crate::varbit;
use farview_model::{CounterResetHint, FloatHistogram, Samples, TimeRange, is_stale_nan};
use layout::{Layout, bucket_count};
use std::sync::Arc;

/// Sample count and the byte of the counter reset.
const HEADER_LEN: usize = 3;
/// The bits of the third byte that say what is known about a reset before the chunk.
const RESET_MASK: u8 = 0b1100_0000;
const GAUGE: u8 = 0b1100_0000;
const RESET: u8 = 0b1000_0000;
const NOT_RESET: u8 = 0b0100_0000;

/// Why decoding stopped; where is known to whoever holds the reader.
#[derive(Debug)]
enum Fault {
    End,
    Malformed(&'static str),
}

impl From<EndOfData> for Fault {
    fn from(EndOfData: EndOfData) -> Self {
        Self::End
    }
}

/// The counts of the histogram that was read last, in one of the two codings.
pub(crate) trait Counts: Sized {
    /// Reads the first histogram of a chunk.
    fn first(bits: &mut BitReader<'_>, positive: usize, negative: usize) -> Result<Self, EndOfData>;
    /// Goes on to the next. Buckets do not follow a stale sum.
    fn advance(&mut self, bits: &mut BitReader<'_>) -> Result<(), EndOfData>;
    fn sum(&self) -> f64;
    /// Writes counts, sum and buckets to `out`.
    fn fill(&self, out: &mut FloatHistogram);
}

/// Decodes the samples of `data` that lie in `range` and appends them to `out`.
pub(crate) fn decode<C: Counts>(
    data: &[u8],
    range: TimeRange,
    order: Order,
    out: &mut Samples,
) -> Result<(), ChunkError> {
    let count = crate::chunk::sample_count(data)?;
    let Some(body) = data.get(HEADER_LEN..) else {
        return if count == 0 { Ok(()) } else { Err(ChunkError::Truncated { offset: data.len(), len: data.len() }) };
    };
    let gauge = data[2] & RESET_MASK == GAUGE;
    let mut bits = BitReader::new(body);
    walk::<C>(&mut bits, count, gauge, (range, order), out).map_err(|fault| {
        let offset = (HEADER_LEN + bits.offset()).min(data.len());
        match fault {
            Fault::End => ChunkError::Truncated { offset, len: data.len() },
            Fault::Malformed(reason) => ChunkError::Malformed { offset, reason },
        }
    })
}

fn walk<C: Counts>(
    bits: &mut BitReader<'_>,
    count: usize,
    gauge: bool,
    (range, order): (TimeRange, Order),
    out: &mut Samples,
) -> Result<(), Fault> {
    if count == 0 {
        return Ok(());
    }
    let layout = Layout::read(bits)?;
    check_work(&layout, count, bits.left())?;
    let mut t = varbit::read_int(bits)?;
    let mut delta = 0i64;
    let mut counts = C::first(bits, bucket_count(&layout.positive), bucket_count(&layout.negative))?;
    for i in 0..count {
        if i > 0 {
            delta = delta.wrapping_add(varbit::read_int(bits)?);
            t = order.next(t, delta).ok_or(Fault::Malformed(TIMES_FALL))?;
            counts.advance(bits)?;
        }
        if t > range.maxt {
            return Ok(());
        }
        if range.contains(t) {
            // Of the first nothing is known, whatever the chunk says: the chunk before it may be gone, or have come later.
            let hint = match (gauge, i) {
                (true, _) => CounterResetHint::Gauge,
                (false, 0) => CounterResetHint::Unknown,
                (false, _) => CounterResetHint::NotReset,
            };
            out.push_histogram(t, Arc::new(histogram(&layout, &counts, hint)));
        }
    }
    Ok(())
}

fn histogram<C: Counts>(layout: &Layout, counts: &C, hint: CounterResetHint) -> FloatHistogram {
    if is_stale_nan(counts.sum()) {
        return FloatHistogram { sum: counts.sum(), ..FloatHistogram::default() };
    }
    let mut histogram = FloatHistogram {
        counter_reset_hint: hint,
        schema: layout.schema,
        zero_threshold: layout.zero_threshold,
        positive_spans: layout.positive.clone(),
        negative_spans: layout.negative.clone(),
        custom_values: layout.custom.clone(),
        ..FloatHistogram::default()
    };
    counts.fill(&mut histogram);
    histogram
}

/// Refuses a chunk that would become much more memory than it has bytes: every bucket costs a bit in every histogram, but
/// spans without buckets are written once and repeated in each.
fn check_work(layout: &Layout, count: usize, bits: usize) -> Result<(), Fault> {
    let empty = layout.positive.iter().chain(&layout.negative).filter(|span| span.length == 0).count();
    if empty.saturating_mul(count) > 65_536 + bits {
        return Err(Fault::Malformed("too many spans without buckets"));
    }
    Ok(())
}
