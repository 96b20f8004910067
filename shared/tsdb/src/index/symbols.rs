//! The texts of an index: every label name and value once, sorted.

use super::{INDEX_HEAD_LEN, IndexVersion};
use crate::format::{Cursor, FormatError, Section, framed};
use bytes::Bytes;

/// Of so many symbols the place of one is kept.
const SAMPLE: usize = 32;
/// Length and count in front of the first symbol.
const FIRST: usize = 8;
/// Label names and values are shorter, bytes.
const MAX_SYMBOL_LEN: usize = 1 << 28;

/// The symbols of an index.
///
/// # Memory
/// The section's bytes, which are shared and not copied, and four bytes for every 32nd symbol.
#[derive(Debug, Clone)]
pub struct Symbols {
    section: Bytes,
    version: IndexVersion,
    count: u32,
    /// Where every 32nd symbol begins in `section`.
    samples: Vec<u32>,
}

impl Symbols {
    /// Takes the section of an index, which begins with its length; bytes behind it are ignored. The checksum and every
    /// symbol are checked.
    ///
    /// # Errors
    /// [`FormatError`] with an offset in `section`.
    pub fn decode(section: Bytes, version: IndexVersion) -> Result<Self, FormatError> {
        let end = FIRST - 4 + framed(Section::Symbols, &section)?.len();
        let section = section.slice(..end);
        let mut cursor = Cursor::new(Section::Symbols, &section, 4);
        let count = cursor.u32()?;
        if count as usize > cursor.left() {
            return Err(cursor.malformed("there are more symbols than the section can hold"));
        }
        let mut samples = Vec::with_capacity(count as usize / SAMPLE + 1);
        for i in 0..count as usize {
            if i % SAMPLE == 0 {
                samples.push(cursor.at() as u32);
            }
            let at = cursor.at();
            if cursor.text()?.len() >= MAX_SYMBOL_LEN {
                return Err(FormatError::malformed(Section::Symbols, at, "a symbol is longer than labels can be"));
            }
        }
        Ok(Self { section, version, count, samples })
    }

    /// Returns the symbol that the series of this index call `reference`: by version 2 a number from 0, by version 1 an
    /// offset in the index.
    ///
    /// # Errors
    /// [`FormatError`] if there is no such symbol.
    pub fn get(&self, reference: u32) -> Result<&str, FormatError> {
        let unknown = FormatError::malformed(Section::Symbols, reference as usize, "a series names an unknown symbol");
        let (at, skip) = match self.version {
            IndexVersion::V1 => ((reference as usize).checked_sub(INDEX_HEAD_LEN).filter(|at| *at >= FIRST), 0),
            IndexVersion::V2 if reference >= self.count => (None, 0),
            IndexVersion::V2 => {
                (self.samples.get(reference as usize / SAMPLE).map(|at| *at as usize), reference as usize % SAMPLE)
            }
        };
        let mut cursor = Cursor::new(Section::Symbols, &self.section, at.ok_or(unknown)?);
        for _ in 0..skip {
            cursor.prefixed()?;
        }
        cursor.text()
    }

    /// Returns how many symbols there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Goes over the symbols in the order in which they are written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut cursor = Cursor::new(Section::Symbols, &self.section, FIRST);
        (0..self.count).map_while(move |_| cursor.text().ok())
    }
}
