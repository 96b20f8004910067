//! The table of contents of an index.

use super::INDEX_HEAD_LEN;
use crate::format::{Cursor, FormatError, Section};
use std::ops::Range;

/// Length of the table of contents, the last bytes of an index.
pub const TOC_LEN: usize = 52;

/// Where the sections of an index begin, in bytes from its beginning; 0 where a section is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Toc {
    /// The symbols.
    pub symbols: u64,
    /// The series. The first may be up to 15 bytes later.
    pub series: u64,
    /// The label indices, which nobody reads; where the postings begin if there are none.
    pub label_indices: u64,
    /// The posting lists.
    pub postings: u64,
    /// The table of the label indices.
    pub label_index_table: u64,
    /// The table of the posting lists.
    pub postings_table: u64,
}

impl Toc {
    /// Reads the table from the end of `tail`, the last [`TOC_LEN`] or more bytes of an index.
    ///
    /// # Errors
    /// [`FormatError`] if it is short, its checksum wrong, or the sections cannot lie so.
    pub fn decode(tail: &[u8]) -> Result<Self, FormatError> {
        let Some(start) = tail.len().checked_sub(TOC_LEN) else {
            return Err(FormatError::truncated(Section::Toc, tail.len(), TOC_LEN - tail.len()));
        };
        let mut cursor = Cursor::new(Section::Toc, tail, start);
        let toc = Self {
            symbols: cursor.u64()?,
            series: cursor.u64()?,
            label_indices: cursor.u64()?,
            label_index_table: cursor.u64()?,
            postings: cursor.u64()?,
            postings_table: cursor.u64()?,
        };
        cursor.checksum_of(&tail[start..start + TOC_LEN - 4])?;
        let order = [INDEX_HEAD_LEN as u64, toc.symbols, toc.series, toc.postings, toc.postings_table];
        if !order.is_sorted() {
            return Err(FormatError::malformed(Section::Toc, start, "the sections are not in order"));
        }
        Ok(toc)
    }

    /// Writes the table with its checksum.
    pub fn encode(&self) -> [u8; TOC_LEN] {
        let mut out = [0; TOC_LEN];
        let fields =
            [self.symbols, self.series, self.label_indices, self.label_index_table, self.postings, self.postings_table];
        for (place, field) in out.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_be_bytes());
        }
        let checksum = crate::format::crc32c(&out[..TOC_LEN - 4]);
        out[TOC_LEN - 4..].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Returns the range of the symbols with their length and checksum.
    pub fn symbols_range(&self) -> Range<u64> {
        self.symbols..self.series
    }

    /// Returns the range in which the series lie.
    pub fn series_range(&self) -> Range<u64> {
        self.series..self.after(self.series)
    }

    /// Returns the end of the last posting list.
    pub fn postings_end(&self) -> u64 {
        self.after(self.postings)
    }

    /// Returns the range of the postings offset table with its length and checksum, in an index of `index_len` bytes;
    /// empty if the index is shorter than it says.
    pub fn postings_table_range(&self, index_len: u64) -> Range<u64> {
        self.postings_table..index_len.saturating_sub(TOC_LEN as u64).max(self.postings_table)
    }

    /// Returns where the section after the one at `start` begins.
    fn after(&self, start: u64) -> u64 {
        let begins = [self.label_indices, self.postings, self.label_index_table, self.postings_table];
        begins.into_iter().filter(|begin| *begin > start).min().unwrap_or(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOC: Toc = Toc {
        symbols: 5,
        series: 365,
        label_indices: 1159,
        postings: 1344,
        label_index_table: 1992,
        postings_table: 2077,
    };

    #[test]
    fn the_sections_end_where_the_next_begins() {
        assert_eq!(Toc::decode(&TOC.encode()), Ok(TOC));
        assert_eq!(TOC.series_range(), 365..1159);
        assert_eq!(TOC.postings_end(), 1992);
        assert_eq!(TOC.postings_table_range(2686), 2077..2634);
        let without = Toc { label_indices: 1344, label_index_table: 2077, ..TOC };
        assert_eq!(without.series_range(), 365..1344);
        assert_eq!(without.postings_end(), 2077);
        let zeros = Toc { label_indices: 0, label_index_table: 0, ..TOC };
        assert_eq!((zeros.series_range(), zeros.postings_end()), (365..1344, 2077));
    }

    #[test]
    fn a_flipped_bit_and_a_wrong_order_are_refused() {
        let bytes = TOC.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Toc::decode(&bytes).is_err(), "{bit}");
        }
        assert!(Toc::decode(&bytes[1..]).is_err_and(|error| error.is_truncated()));
        assert!(Toc::decode(&Toc { series: 2000, ..TOC }.encode()).is_err());
    }
}
