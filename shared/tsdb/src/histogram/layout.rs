//! What all histograms of a chunk share: schema, zero threshold, spans, custom bounds (Prometheus
//! `tsdb/chunkenc/histogram_meta.go`).

use super::Fault;
use crate::bits::{BitReader, BitWriter};
use crate::varbit;
use farview_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use farview_model::{FloatHistogram, Span};
use std::sync::Arc;

/// The layout in front of a chunk's samples.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: Vec<Span>,
    pub(super) negative: Vec<Span>,
    pub(super) custom: Option<Arc<[f64]>>,
}

/// Returns how many buckets the spans have.
pub(super) fn bucket_count(spans: &[Span]) -> usize {
    spans.iter().fold(0, |sum, span| usize::saturating_add(sum, span.length as usize))
}

impl Layout {
    /// Reads the layout and refuses one that no histogram can have, so that whoever indexes by it may rely on it.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, Fault> {
        let zero_threshold = read_zero_threshold(bits)?;
        let schema = varbit::read_int(bits)?;
        if !(-4..=8).contains(&schema) && schema != i64::from(CUSTOM_BUCKETS_SCHEMA) {
            return Err(Fault::Malformed("histogram schema is unknown"));
        }
        let schema = schema as i32;
        let positive = read_spans(bits)?;
        let negative = read_spans(bits)?;
        let custom = if schema == CUSTOM_BUCKETS_SCHEMA {
            let custom = read_bounds(bits)?;
            let end: i64 = positive.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
            if !negative.is_empty()
                || positive.first().is_some_and(|span| span.offset < 0)
                || end > custom.len() as i64 + 1
            {
                return Err(Fault::Malformed("buckets lie outside of the custom bounds"));
            }
            Some(custom)
        } else {
            None
        };
        Ok(Self { schema, zero_threshold, positive, negative, custom })
    }

    /// Writes the layout of `of`.
    pub(super) fn write(bits: &mut BitWriter, of: &FloatHistogram) {
        write_zero_threshold(bits, of.zero_threshold);
        varbit::write_int(bits, i64::from(of.schema));
        for spans in [&of.positive_spans, &of.negative_spans] {
            varbit::write_uint(bits, spans.len() as u64);
            for span in spans {
                varbit::write_uint(bits, u64::from(span.length));
                varbit::write_int(bits, i64::from(span.offset));
            }
        }
        if of.schema == CUSTOM_BUCKETS_SCHEMA {
            let bounds = of.custom_values.as_deref().unwrap_or(&[]);
            varbit::write_uint(bits, bounds.len() as u64);
            for bound in bounds {
                write_bound(bits, *bound);
            }
        }
    }
}

fn read_spans(bits: &mut BitReader<'_>) -> Result<Vec<Span>, Fault> {
    let count = varbit::read_uint(bits)? as usize;
    // A span takes two bits at least, a bucket of it one.
    if count > bits.left() / 2 {
        return Err(Fault::Malformed("more spans than the data can hold"));
    }
    let mut spans = Vec::with_capacity(count);
    let mut end = 0i64;
    for i in 0..count {
        let length = varbit::read_uint(bits)?;
        let offset = varbit::read_int(bits)?;
        let (Ok(length), Ok(offset)) = (u32::try_from(length), i32::try_from(offset)) else {
            return Err(Fault::Malformed("a span is out of range"));
        };
        end += i64::from(offset) + i64::from(length);
        if (i > 0 && offset < 0) || i32::try_from(end).is_err() {
            return Err(Fault::Malformed("a span is out of range"));
        }
        spans.push(Span { offset, length });
    }
    if bucket_count(&spans) > bits.left() {
        return Err(Fault::Malformed("more buckets than the data can hold"));
    }
    Ok(spans)
}

/// One byte for 0 and for the powers of two from 2^-243 to 2^10; else 255 and the bits of the number.
fn read_zero_threshold(bits: &mut BitReader<'_>) -> Result<f64, Fault> {
    Ok(match bits.bits(8)? {
        0 => 0.0,
        255 => f64::from_bits(bits.bits(64)?),
        byte => f64::from_bits((byte + 1023 - 244) << 52),
    })
}

fn write_zero_threshold(bits: &mut BitWriter, threshold: f64) {
    let raw = threshold.to_bits();
    let exponent = (raw >> 52) as i64 - 1023;
    if threshold == 0.0 {
        bits.bits(0, 8);
    } else if raw & ((1 << 52) - 1) == 0 && (-243..=10).contains(&exponent) {
        bits.bits((exponent + 244) as u64, 8);
    } else {
        bits.bits(255, 8);
        bits.bits(raw, 64);
    }
}

fn read_bounds(bits: &mut BitReader<'_>) -> Result<Arc<[f64]>, Fault> {
    let count = varbit::read_uint(bits)? as usize;
    if count > bits.left() {
        return Err(Fault::Malformed("more custom bounds than the data can hold"));
    }
    let mut bounds: Vec<f64> = Vec::with_capacity(count);
    for _ in 0..count {
        let bound = match varbit::read_uint(bits)? {
            0 => f64::from_bits(bits.bits(64)?),
            thousandths => (thousandths - 1) as f64 / 1000.0,
        };
        if bound.is_nan() || bounds.last().is_some_and(|last| *last >= bound) {
            return Err(Fault::Malformed("custom bounds do not rise"));
        }
        bounds.push(bound);
    }
    Ok(bounds.into())
}

/// Multiples of 0.001 up to 33,554.43 as a number, one higher than their thousandths; all else as a zero and their bits.
fn write_bound(bits: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let whole = thousandths.round();
    if (0.0..=33_554_430.0).contains(&thousandths) && whole / 1000.0 == bound {
        varbit::write_uint(bits, whole as u64 + 1);
    } else {
        bits.bits(0, 1);
        bits.bits(bound.to_bits(), 64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_thresholds_come_back_and_common_ones_take_a_byte() {
        let smallest = 2f64.powi(-243);
        let cases =
            [(0.0, 1), (2f64.powi(-128), 1), (smallest, 1), (1024.0, 1), (smallest / 2.0, 9), (2048.0, 9), (0.001, 9)];
        for (threshold, len) in cases {
            let mut writer = BitWriter::default();
            write_zero_threshold(&mut writer, threshold);
            let bytes = writer.into_bytes();
            assert_eq!(bytes.len(), len, "{threshold}");
            assert_eq!(read_zero_threshold(&mut BitReader::new(&bytes)).ok(), Some(threshold));
        }
        // The default threshold of Prometheus' clients, by the number its source names.
        let mut writer = BitWriter::default();
        write_zero_threshold(&mut writer, 2f64.powi(-128));
        assert_eq!(writer.into_bytes(), [116]);
    }

    #[test]
    fn custom_bounds_come_back() {
        let bounds = [-1.5, 0.0, 0.005, 0.1, 2.5, 33_554.43, 33_554.431, 1e9];
        let mut writer = BitWriter::default();
        varbit::write_uint(&mut writer, bounds.len() as u64);
        for bound in bounds {
            write_bound(&mut writer, bound);
        }
        assert_eq!(read_bounds(&mut BitReader::new(&writer.into_bytes())).ok().as_deref(), Some(&bounds[..]));
    }
}
