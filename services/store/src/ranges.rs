//! Which reads to make for many small ranges.

use std::ops::Range;

/// Bytes between two ranges up to which reading them costs less than another request: at 40 ms a request and 25 MB/s a stream
/// the costs are equal at 1 MiB; half of it keeps the waste small.
pub(crate) const GAP: u64 = 512 << 10;
/// A longer read is divided, so that several connections share it, bytes.
pub(crate) const LONGEST: u64 = 8 << 20;

/// A read that covers several of the wanted ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// What to read.
    pub(crate) range: Range<u64>,
    /// Which of the wanted ranges are in it.
    pub(crate) wanted: Range<usize>,
}

/// Joins ranges, which must be sorted by their beginnings, into reads. No range is divided.
pub(crate) fn join(wanted: &[Range<u64>], gap: u64, longest: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (i, range) in wanted.iter().enumerate() {
        match parts.last_mut() {
            Some(part)
                if range.start <= part.range.end.saturating_add(gap)
                    && range.end.max(part.range.end) - part.range.start <= longest =>
            {
                part.range.end = part.range.end.max(range.end);
                part.wanted.end = i + 1;
            }
            _ => parts.push(Part { range: range.clone(), wanted: i..i + 1 }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_ranges_are_read_together_and_long_reads_divided() {
        let parts = join(&[0..10, 10..20, 25..30, 100..110, 105..108], 5, 1_000);
        assert_eq!(parts, [Part { range: 0..30, wanted: 0..3 }, Part { range: 100..110, wanted: 3..5 }]);
        let parts = join(&[0..10, 10..20, 20..30, 30..90], 5, 25);
        let ranges: Vec<_> = parts.into_iter().map(|part| part.range).collect();
        assert_eq!(ranges, [0..20, 20..30, 30..90]);
        assert_eq!(join(&[], 1, 1), []);
    }
}
