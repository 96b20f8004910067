//! Chunk segments: the files in which a block keeps its chunks (Prometheus `tsdb/docs/format/chunks.md`).
//!
//! Eight bytes of head, then for each chunk the length of its data, one byte of encoding, the data and a checksum of both.

mod writer;

pub use writer::{MAX_SEGMENT_LEN, SegmentSink, SegmentWriter};

use crate::aggr::{self, AGGR_ENCODING};
use crate::chunk::{Chunk, ChunkError, Encoding};
use crate::format::{Cursor, FormatError, FormatFault, Section};
use bytes::Bytes;

/// The first four bytes of a segment.
pub const SEGMENT_MAGIC: u32 = 0x85BD_40DD;
/// Length of magic, version and padding, after which the first chunk begins.
pub const SEGMENT_HEAD_LEN: usize = 8;
/// Bytes that a chunk takes at most beside its data: length, encoding, checksum.
pub const CHUNK_OVERHEAD: usize = 5 + 1 + 4;
/// A length has at most so many bytes.
const MAX_LEN_BYTES: usize = 5;

/// A chunk as it was read from a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentChunk {
    /// The byte that says how the data are to be read: [`AGGR_ENCODING`] or that of an [`Encoding`].
    pub encoding: u8,
    /// The data; a slice of the bytes that were given.
    pub data: Bytes,
    /// How many bytes the chunk takes in the segment, with length, encoding and checksum.
    pub len: usize,
}

/// What is in a chunk of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChunk {
    /// Samples as scraped.
    Raw(Chunk),
    /// What downsampling made of them, in the order of [`aggr::AGGREGATES`].
    Aggregated([Option<Chunk>; 5]),
}

impl SegmentChunk {
    /// Says what the data are.
    ///
    /// # Errors
    /// [`ChunkError`] if the encoding is not known or the container of aggregates broken.
    pub fn open(&self) -> Result<StoredChunk, ChunkError> {
        if self.encoding == AGGR_ENCODING {
            return aggr::decode(&self.data).map(StoredChunk::Aggregated);
        }
        let encoding = Encoding::from_byte(self.encoding)
            .ok_or(ChunkError::Malformed { offset: 0, reason: "the encoding of the chunk is not known" })?;
        Ok(StoredChunk::Raw(Chunk { encoding, data: self.data.clone() }))
    }
}

/// Returns the name of a segment's file, the first segment being 0.
pub fn file_name(segment: u32) -> String {
    format!("{:06}", u64::from(segment) + 1)
}

/// Checks the first [`SEGMENT_HEAD_LEN`] bytes of a segment.
///
/// # Errors
/// [`FormatError`] if this is no segment, or one of an unknown version.
pub fn check_head(head: &[u8]) -> Result<(), FormatError> {
    let mut cursor = Cursor::new(Section::Segment, head, 0);
    if cursor.u32()? != SEGMENT_MAGIC {
        return Err(FormatError::malformed(Section::Segment, 0, "this is no segment of chunks"));
    }
    match cursor.u8()? {
        1 => cursor.take(3).map(|_| ()),
        version => Err(FormatError { section: Section::Segment, offset: 4, fault: FormatFault::Version(version) }),
    }
}

/// Returns how many bytes the chunk takes that begins with `head`, with length, encoding and checksum. Five bytes are always
/// enough.
///
/// # Errors
/// [`FormatError`] if `head` ends within the length, or no chunk can be so long.
pub fn encoded_len(head: &[u8]) -> Result<usize, FormatError> {
    let (start, len) = data_range(head)?;
    Ok(start + len + 4)
}

/// Returns where the data begin behind the encoding, and how many there are.
fn data_range(head: &[u8]) -> Result<(usize, usize), FormatError> {
    let mut cursor = Cursor::new(Section::Segment, &head[..head.len().min(MAX_LEN_BYTES)], 0);
    let len = match cursor.size() {
        Err(_) if head.len() >= MAX_LEN_BYTES => usize::MAX,
        len => len?,
    };
    if u32::try_from(len).is_err() {
        return Err(FormatError::malformed(Section::Segment, 0, "a chunk is too long"));
    }
    Ok((cursor.at() + 1, len))
}

/// Reads the chunk at `offset` of `bytes` and checks it. `bytes` may be any range of a segment; that the chunk reaches beyond
/// it is an error that [is_truncated](FormatError::is_truncated).
///
/// # Errors
/// [`FormatError`] if the chunk is cut or its checksum wrong.
pub fn read(bytes: &Bytes, offset: usize) -> Result<SegmentChunk, FormatError> {
    let rest = bytes.get(offset..).unwrap_or_default();
    let chunk = || -> Result<SegmentChunk, FormatError> {
        let (start, len) = data_range(rest)?;
        let mut cursor = Cursor::new(Section::Segment, rest, start - 1);
        let content = cursor.take(1 + len)?;
        cursor.checksum_of(content)?;
        let data = bytes.slice(offset + start..offset + start + len);
        Ok(SegmentChunk { encoding: content[0], data, len: cursor.at() })
    };
    chunk().map_err(|error| error.based(offset as u64))
}
