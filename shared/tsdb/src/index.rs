//! The index of a block (Prometheus `tsdb/docs/format/index.md`), read from ranges of it.
//!
//! ```text
//! head | symbols | series | (label indices) | postings | (label index table) | postings offset table | table of contents
//! ```
//!
//! Nothing here needs the whole index: [`Toc`] is read from its last bytes and says where the sections are, [`Symbols`] and
//! [`PostingsOffsets`] take their sections, [`postings`] and [`series`] one entry each. The label indices are read by nobody any
//! more. [`IndexHeader`] is what a store keeps of an index that lies in object storage.

mod header;
mod matching;
pub mod postings;
mod postings_offsets;
pub mod series;
mod symbols;
mod toc;
mod writer;

pub use header::{IndexHeader, IndexHeaderError};
pub use matching::{failing, passing};
pub use postings::Postings;
pub use postings_offsets::{PostingsEntry, PostingsOffsets};
pub use series::{ChunkMeta, ChunkRef, SeriesEntry, SeriesRef};
pub use symbols::Symbols;
pub use toc::{TOC_LEN, Toc};
pub use writer::{IndexSummary, IndexWriteError, IndexWriter};

use crate::format::{Cursor, FormatError, FormatFault, Section};

/// The first four bytes of an index.
pub const INDEX_MAGIC: u32 = 0xBAAA_D700;
/// Length of magic and version, after which the symbols begin.
pub const INDEX_HEAD_LEN: usize = 5;
/// The name and value of the list of all series.
pub const ALL_POSTINGS: (&str, &str) = ("", "");

/// The version of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IndexVersion {
    /// References of series and symbols are offsets in the index.
    V1 = 1,
    /// References of series are offsets divided by 16, those of symbols numbers from 0.
    V2 = 2,
}

impl IndexVersion {
    pub(crate) fn from_byte(section: Section, offset: usize, byte: u8) -> Result<Self, FormatError> {
        match byte {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(FormatError { section, offset: offset as u64, fault: FormatFault::Version(other) }),
        }
    }

    /// Reads magic and version from the first [`INDEX_HEAD_LEN`] bytes of an index.
    ///
    /// # Errors
    /// [`FormatError`] if this is no index, or one of an unknown version.
    pub fn decode(head: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(Section::IndexHead, head, 0);
        if cursor.u32()? != INDEX_MAGIC {
            return Err(FormatError::malformed(Section::IndexHead, 0, "this is no index of a block"));
        }
        Self::from_byte(Section::IndexHead, 4, cursor.u8()?)
    }
}
