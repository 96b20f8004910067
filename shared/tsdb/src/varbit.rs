//! Numbers of the histogram encodings: a prefix of ones says how many bits follow (Prometheus `tsdb/chunkenc/varbit.go`).

use crate::bits::{BitReader, BitWriter, EndOfData};

/// Widths of the numbers, by the number of ones in their prefix. All but the last prefix end with a zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
const LAST: usize = WIDTHS.len() - 1;

#[inline(always)]
fn width(bits: &mut BitReader<'_>) -> Result<u32, EndOfData> {
    let ones = (!bits.peek()).leading_zeros().min(LAST as u32) as usize;
    bits.skip(if ones == LAST { LAST } else { ones + 1 })?;
    Ok(WIDTHS[ones])
}

#[inline(always)]
pub(crate) fn read_uint(bits: &mut BitReader<'_>) -> Result<u64, EndOfData> {
    let width = width(bits)?;
    bits.bits(width as usize)
}

#[inline(always)]
pub(crate) fn read_int(bits: &mut BitReader<'_>) -> Result<i64, EndOfData> {
    let width = width(bits)?;
    let raw = bits.bits(width as usize)? as i64;
    Ok(match width {
        0 | 64 => raw,
        // The range is (-2^(n-1), 2^(n-1)]: the highest value has its top bit set and is not negative.
        _ if raw > 1 << (width - 1) => raw - (1 << width),
        _ => raw,
    })
}

pub(crate) fn write_uint(bits: &mut BitWriter, value: u64) {
    write(bits, value, |width| value < 1 << width);
}

pub(crate) fn write_int(bits: &mut BitWriter, value: i64) {
    write(bits, value as u64, |width| match width {
        0 => value == 0,
        _ => -((1i64 << (width - 1)) - 1) <= value && value <= 1 << (width - 1),
    });
}

fn write(bits: &mut BitWriter, value: u64, fits: impl Fn(u32) -> bool) {
    let ones = WIDTHS[..LAST].iter().position(|width| fits(*width)).unwrap_or(LAST);
    let prefix = (1u64 << ones) - 1;
    if ones == LAST {
        bits.bits(prefix, LAST as u32);
    } else {
        bits.bits(prefix << 1, ones as u32 + 1);
    }
    bits.bits(value, WIDTHS[ones]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Value, how many bits it takes: the table of `varbit.go`.
    const SIGNED: [(i64, u32); 17] = [
        (0, 1),
        (-3, 5),
        (4, 5),
        (-4, 9),
        (32, 9),
        (33, 13),
        (256, 13),
        (257, 17),
        (2048, 17),
        (2049, 24),
        (131_072, 24),
        (131_073, 32),
        (16_777_216, 32),
        (16_777_217, 64),
        (36_028_797_018_963_968, 64),
        (36_028_797_018_963_969, 72),
        (i64::MIN, 72),
    ];

    #[test]
    fn signed_numbers_take_the_documented_width_and_come_back() {
        for (value, width) in SIGNED {
            let mut writer = BitWriter::default();
            write_int(&mut writer, value);
            let bytes = writer.into_bytes();
            assert_eq!(bytes.len() as u32, width.div_ceil(8), "{value}");
            let mut reader = BitReader::new(&bytes);
            assert_eq!(read_int(&mut reader), Ok(value));
            assert_eq!(reader.left(), bytes.len() * 8 - width as usize, "{value}");
        }
    }

    #[test]
    fn unsigned_numbers_come_back_at_every_power_of_two() {
        let around = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in around.chain([u64::MAX]) {
            let mut writer = BitWriter::default();
            write_uint(&mut writer, value);
            assert_eq!(read_uint(&mut BitReader::new(&writer.into_bytes())), Ok(value));
        }
    }
}
