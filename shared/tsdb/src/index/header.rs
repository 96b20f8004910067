//! The index header: what a store keeps of an index that lies in object storage (Thanos `pkg/block/indexheader`, version 1).
//!
//! ```text
//! magic 4 | version 1 | index version 1 | place of the postings offset table in the index 8 |
//! symbols, as in the index | postings offset table, as in the index | place of both here, 8 and 8 | checksum of these 4
//! ```

use super::{IndexVersion, PostingsOffsets, Symbols};
use crate::format::{Cursor, FormatError, FormatFault, Section, crc32c};
use bytes::Bytes;

const MAGIC: u32 = 0xBAAA_D792;
const VERSION: u8 = 1;
const HEAD_LEN: usize = 14;
const TOC_LEN: usize = 20;

/// Why an index header cannot be used. Whoever has the index makes a new one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexHeaderError {
    /// It is no index header, or one of another version.
    #[error("this is no index header of version 1; it is to be made anew from the index")]
    Foreign,
    /// It is broken.
    #[error("the index header is broken and is to be made anew from the index: {0}")]
    Broken(#[from] FormatError),
}

/// An index header.
#[derive(Debug, Clone)]
pub struct IndexHeader {
    /// The version of the index.
    pub version: IndexVersion,
    /// Where the postings offset table begins in the index, which is behind all posting lists.
    pub postings_table: u64,
    /// The symbols of the index.
    pub symbols: Symbols,
    /// The postings offset table of the index.
    pub postings: PostingsOffsets,
}

impl IndexHeader {
    /// Returns the bytes in front of the symbols.
    pub fn head(version: IndexVersion, postings_table: u64) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        out[..4].copy_from_slice(&MAGIC.to_be_bytes());
        out[4] = VERSION;
        out[5] = version as u8;
        out[6..].copy_from_slice(&postings_table.to_be_bytes());
        out
    }

    /// Returns the bytes behind the postings offset table, for a symbols section of this length.
    pub fn tail(symbols_len: u64) -> [u8; TOC_LEN] {
        let mut out = [0; TOC_LEN];
        out[..8].copy_from_slice(&(HEAD_LEN as u64).to_be_bytes());
        out[8..16].copy_from_slice(&(HEAD_LEN as u64 + symbols_len).to_be_bytes());
        let checksum = crc32c(&out[..16]);
        out[16..].copy_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Writes a header from the ranges [`Toc::symbols_range`](super::Toc::symbols_range) and
    /// [`Toc::postings_table_range`](super::Toc::postings_table_range) of an index.
    pub fn encode(version: IndexVersion, postings_table: u64, symbols: &[u8], table: &[u8]) -> Vec<u8> {
        let head = Self::head(version, postings_table);
        let tail = Self::tail(symbols.len() as u64);
        [&head, symbols, table, &tail].concat()
    }

    /// Reads a header and checks all of it.
    ///
    /// # Errors
    /// [`IndexHeaderError`] if it cannot be used.
    pub fn decode(file: Bytes) -> Result<Self, IndexHeaderError> {
        if file.len() < 5 || file[..4] != MAGIC.to_be_bytes() || file[4] != VERSION {
            return Err(IndexHeaderError::Foreign);
        }
        let mut cursor = Cursor::new(Section::IndexHeader, &file, 5);
        let version = IndexVersion::from_byte(Section::IndexHeader, 5, cursor.u8()?)?;
        let postings_table = cursor.u64()?;
        let Some(toc) = file.len().checked_sub(TOC_LEN).filter(|toc| *toc >= HEAD_LEN) else {
            return Err(
                FormatError::truncated(Section::IndexHeader, file.len(), HEAD_LEN + TOC_LEN - file.len()).into()
            );
        };
        let mut cursor = Cursor::new(Section::IndexHeader, &file, toc);
        let (symbols_at, table_at) = (cursor.u64()?, cursor.u64()?);
        cursor.checksum_of(&file[toc..toc + TOC_LEN - 4])?;
        if symbols_at != HEAD_LEN as u64 || table_at < symbols_at || table_at > toc as u64 {
            let fault = FormatFault::Malformed("the sections cannot lie so");
            return Err(FormatError { section: Section::IndexHeader, offset: toc as u64, fault }.into());
        }
        let table_at = table_at as usize;
        let symbols =
            Symbols::decode(file.slice(HEAD_LEN..table_at), version).map_err(|error| error.based(HEAD_LEN as u64))?;
        let postings = PostingsOffsets::decode(file.slice(table_at..toc), postings_table)
            .map_err(|error| error.based(table_at as u64))?;
        Ok(Self { version, postings_table, symbols, postings })
    }
}
