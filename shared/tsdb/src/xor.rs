//! XOR chunks: floats, Gorilla compressed (Prometheus `tsdb/chunkenc/xor.go`).
//!
//! Two bytes of sample count, then for each sample the second difference of its time in a prefix code and the XOR of its
//! value with the value before, without its leading and trailing zeros.

use crate::bits::{BitReader, BitWriter, EndOfData};
use crate::chunk::{ChunkError, Order, TIMES_FALL};
use farview_model::TimeRange;

/// Widths of the time differences, by the number of ones in their prefix.
const DOD_BITS: [usize; 5] = [0, 14, 17, 20, 64];

/// Why decoding stopped; where is known to whoever holds the reader.
#[derive(Debug)]
enum Fault {
    End,
    Order,
}

impl From<EndOfData> for Fault {
    fn from(EndOfData: EndOfData) -> Self {
        Self::End
    }
}

/// Decodes the samples of `data` that lie in `range` and appends them to the columns.
pub(crate) fn decode(
    data: &[u8],
    range: TimeRange,
    order: Order,
    timestamps: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let count = crate::chunk::sample_count(data)?;
    let before = timestamps.len();
    debug_assert_eq!(before, values.len());
    // Written by index into room made before: pushing costs as much as decoding.
    timestamps.resize(before + count, 0);
    values.resize(before + count, 0.0);
    let (times, numbers) = (&mut timestamps[before..], &mut values[before..]);
    let mut kept = 0;
    let mut bits = BitReader::new(&data[2..]);
    let result = walk(&mut bits, count, order, |t, value| {
        if t > range.maxt {
            return false;
        }
        (times[kept], numbers[kept]) = (t, value);
        kept += usize::from(t >= range.mint);
        true
    });
    timestamps.truncate(before + kept);
    values.truncate(before + kept);
    result.map_err(|fault| match fault {
        Fault::End => ChunkError::Truncated { offset: 2 + bits.offset(), len: data.len() },
        Fault::Order => ChunkError::Malformed { offset: 2 + bits.offset(), reason: TIMES_FALL },
    })
}

/// Goes over the samples until `sample` says no.
#[inline(always)]
fn walk(
    bits: &mut BitReader<'_>,
    count: usize,
    order: Order,
    mut sample: impl FnMut(i64, f64) -> bool,
) -> Result<(), Fault> {
    let (mut t, mut delta, mut value) = (0i64, 0i64, 0u64);
    let mut window = Window::default();
    // One call of `sample`, so that it is inlined.
    for i in 0..count {
        if i > 1 {
            delta = delta.wrapping_add(delta_of_delta(bits)?);
            t = order.next(t, delta).ok_or(Fault::Order)?;
            value = window.next(bits, value)?;
        } else if i == 1 {
            delta = bits.uvarint()? as i64;
            t = order.next(t, delta).ok_or(Fault::Order)?;
            value = window.next(bits, value)?;
        } else {
            t = bits.varint()?;
            value = bits.bits(64)?;
        }
        if !sample(t, f64::from_bits(value)) {
            return Ok(());
        }
    }
    Ok(())
}

#[inline(always)]
fn delta_of_delta(bits: &mut BitReader<'_>) -> Result<i64, EndOfData> {
    let word = bits.peek();
    let ones = (!word).leading_zeros().min(4) as usize;
    let prefix = if ones == 4 { 4 } else { ones + 1 };
    let width = DOD_BITS[ones];
    if ones == 0 {
        bits.skip(1)?;
        return Ok(0);
    }
    if ones == 4 {
        bits.skip(prefix)?;
        return Ok(bits.bits(64)? as i64);
    }
    bits.skip(prefix + width)?;
    let raw = (word << prefix >> (64 - width)) as i64;
    // The range is (-2^(n-1), 2^(n-1)]: the highest value has its top bit set and is not negative.
    Ok(if raw > 1 << (width - 1) { raw - (1 << width) } else { raw })
}

/// The leading and trailing zeros that the last explicit window had.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    leading: u32,
    trailing: u32,
}

impl Window {
    /// Reads the XOR and returns the bits of the next value.
    #[inline(always)]
    pub(crate) fn next(&mut self, bits: &mut BitReader<'_>, before: u64) -> Result<u64, EndOfData> {
        let word = bits.peek();
        if word >> 63 == 0 {
            bits.skip(1)?;
            return Ok(before);
        }
        if word >> 62 == 0b10 {
            bits.skip(2)?;
        } else {
            bits.skip(13)?;
            self.leading = (word >> 57 & 0x1f) as u32;
            let significant = (word >> 51 & 0x3f) as u32;
            // 64 does not fit in six bits and is written as 0.
            let significant = if significant == 0 { 64 } else { significant };
            self.trailing = 64u32.checked_sub(self.leading + significant).ok_or(EndOfData)?;
        }
        let significant = 64 - self.leading - self.trailing;
        Ok(before ^ bits.bits(significant as usize)? << self.trailing)
    }
}

/// Encodes samples, at most 65,535, in rising time.
pub(crate) fn encode(timestamps: &[i64], values: &[f64]) -> Vec<u8> {
    debug_assert_eq!(timestamps.len(), values.len());
    let count = u16::try_from(timestamps.len()).expect("a chunk has at most 65,535 samples");
    let mut bytes = Vec::with_capacity(16 + timestamps.len() * 3);
    bytes.extend_from_slice(&count.to_be_bytes());
    let mut bits = BitWriter::new(bytes);
    let mut writer = XorWriter::default();
    let mut delta = 0i64;
    for (i, (t, value)) in timestamps.iter().zip(values).enumerate() {
        match i {
            0 => {
                bits.varint(*t);
                bits.bits(value.to_bits(), 64);
            }
            _ => {
                let next = t.wrapping_sub(timestamps[i - 1]);
                if i == 1 {
                    bits.uvarint(next as u64);
                } else {
                    put_delta_of_delta(&mut bits, next.wrapping_sub(delta));
                }
                delta = next;
                writer.put(&mut bits, values[i - 1].to_bits(), value.to_bits());
            }
        }
    }
    bits.into_bytes()
}

pub(crate) fn put_delta_of_delta(bits: &mut BitWriter, dod: i64) {
    if dod == 0 {
        bits.bits(0, 1);
        return;
    }
    for (prefix, prefix_len, width) in [(0b10, 2, 14), (0b110, 3, 17), (0b1110, 4, 20)] {
        if -((1i64 << (width - 1)) - 1) <= dod && dod <= 1 << (width - 1) {
            bits.bits(prefix, prefix_len);
            bits.bits(dod as u64, width);
            return;
        }
    }
    bits.bits(0b1111, 4);
    bits.bits(dod as u64, 64);
}

/// Writes XORed values; remembers the last window.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct XorWriter {
    window: Option<(u32, u32)>,
}

impl XorWriter {
    pub(crate) fn put(&mut self, bits: &mut BitWriter, before: u64, value: u64) {
        let xor = before ^ value;
        if xor == 0 {
            bits.bits(0, 1);
            return;
        }
        bits.bits(1, 1);
        // Five bits hold at most 31.
        let leading = xor.leading_zeros().min(31);
        let trailing = xor.trailing_zeros();
        if let Some((l, t)) = self.window
            && leading >= l
            && trailing >= t
        {
            bits.bits(0, 1);
            bits.bits(xor >> t, 64 - l - t);
            return;
        }
        self.window = Some((leading, trailing));
        let significant = 64 - leading - trailing;
        bits.bits(1, 1);
        bits.bits(u64::from(leading), 5);
        bits.bits(u64::from(significant), 6);
        bits.bits(xor >> trailing, significant);
    }
}
