//! Tombstones: what was deleted from a block, but whose samples are still in its chunks (Prometheus
//! `tsdb/docs/format/tombstones.md`). Only Prometheus itself writes them; in a bucket a block without the samples takes the place
//! of the block.

use crate::format::{Cursor, FormatError, FormatFault, Section, crc32c, put_uvarint};
use crate::index::SeriesRef;
use farview_model::TimeRange;
use std::collections::BTreeMap;

const MAGIC: u32 = 0x0130_BA30;
const VERSION: u8 = 1;
/// Magic and version, which the checksum leaves out.
const HEAD_LEN: usize = 5;

/// Ranges of time that are deleted, by series; for each series sorted and apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstones(BTreeMap<SeriesRef, Vec<TimeRange>>);

impl Tombstones {
    /// Reads the file `tombstones` of a block.
    ///
    /// # Errors
    /// [`FormatError`] if the file is cut, broken, or of an unknown version.
    pub fn decode(file: &[u8]) -> Result<Self, FormatError> {
        let Some(end) = file.len().checked_sub(4).filter(|end| *end >= HEAD_LEN) else {
            return Err(FormatError::truncated(Section::Tombstones, file.len(), HEAD_LEN + 4 - file.len()));
        };
        let mut cursor = Cursor::new(Section::Tombstones, file, 0);
        if cursor.u32()? != MAGIC {
            return Err(FormatError::malformed(Section::Tombstones, 0, "these are no tombstones"));
        }
        let version = cursor.u8()?;
        if version != VERSION {
            return Err(FormatError { section: Section::Tombstones, offset: 4, fault: FormatFault::Version(version) });
        }
        Cursor::new(Section::Tombstones, file, end).checksum_of(&file[HEAD_LEN..end])?;
        let mut cursor = Cursor::new(Section::Tombstones, &file[..end], HEAD_LEN);
        let mut out = Self::default();
        while cursor.left() > 0 {
            let series = u32::try_from(cursor.uvarint()?).map(SeriesRef);
            let series = series.map_err(|_| cursor.malformed("the reference of a series is too large"))?;
            out.add(series, TimeRange::new(cursor.varint()?, cursor.varint()?));
        }
        Ok(out)
    }

    /// Writes the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        let zigzag = |n: i64| (n << 1 ^ n >> 63) as u64;
        for (series, range) in
            self.0.iter().flat_map(|(series, ranges)| ranges.iter().map(move |range| (series, range)))
        {
            put_uvarint(&mut out, u64::from(series.0));
            put_uvarint(&mut out, zigzag(range.mint));
            put_uvarint(&mut out, zigzag(range.maxt));
        }
        let checksum = crc32c(&out[HEAD_LEN..]);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Deletes a range of a series. Ranges that overlap or meet become one.
    pub fn add(&mut self, series: SeriesRef, range: TimeRange) {
        if range.is_empty() {
            return;
        }
        let ranges = self.0.entry(series).or_default();
        let from = ranges.partition_point(|other| other.maxt.saturating_add(1) < range.mint);
        let to = ranges.partition_point(|other| other.mint <= range.maxt.saturating_add(1)).max(from);
        let joined = ranges[from..to]
            .iter()
            .fold(range, |joined, other| TimeRange::new(joined.mint.min(other.mint), joined.maxt.max(other.maxt)));
        ranges.splice(from..to, [joined]);
    }

    /// Returns what is deleted of a series.
    pub fn of(&self, series: SeriesRef) -> &[TimeRange] {
        self.0.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Tells whether nothing is deleted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many ranges there are, as `numTombstones` of a block's meta says.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_become_one_and_all_are_read_again() {
        let mut stones = Tombstones::default();
        let (a, b) = (SeriesRef(7), SeriesRef(300));
        for (mint, maxt) in [(10, 20), (40, 50), (-9, -5), (21, 22), (24, 30), (5, 1)] {
            stones.add(a, TimeRange::new(mint, maxt));
        }
        stones.add(b, TimeRange::ALL);
        let ranges = |pairs: &[(i64, i64)]| -> Vec<TimeRange> {
            pairs.iter().map(|(mint, maxt)| TimeRange::new(*mint, *maxt)).collect()
        };
        assert_eq!(stones.of(a), ranges(&[(-9, -5), (10, 22), (24, 30), (40, 50)]));
        assert_eq!(Tombstones::decode(&stones.encode()), Ok(stones.clone()));
        stones.add(a, TimeRange::new(23, 45));
        assert_eq!(stones.of(a), ranges(&[(-9, -5), (10, 50)]));
        assert_eq!(stones.len(), 3);
    }

    #[test]
    fn a_flipped_bit_and_a_cut_are_seen() {
        let mut stones = Tombstones::default();
        stones.add(SeriesRef(3), TimeRange::new(1_700_000_000_000, 1_700_000_900_000));
        let file = stones.encode();
        for cut in 0..file.len() {
            assert!(Tombstones::decode(&file[..cut]).is_err(), "{cut}");
        }
        for bit in 0..file.len() * 8 {
            let mut file = file.clone();
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(Tombstones::decode(&file).is_err(), "{bit}");
        }
    }
}
