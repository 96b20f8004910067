//! Writes segments, cut where Prometheus cuts them.

use super::{CHUNK_OVERHEAD, SEGMENT_HEAD_LEN, SEGMENT_MAGIC};
use crate::format::{crc32c, put_uvarint};
use crate::index::ChunkRef;
use std::io;

/// A segment is at most so long, bytes, if it has more than one chunk.
pub const MAX_SEGMENT_LEN: u64 = 512 << 20;

/// Where segments go to.
pub trait SegmentSink {
    /// Begins a segment, the first being 0; the one before is complete.
    ///
    /// # Errors
    /// What the output says.
    fn begin(&mut self, segment: u32) -> io::Result<()>;

    /// Appends to the segment that was begun last.
    ///
    /// # Errors
    /// What the output says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Writes chunks to segments. Holds nothing but one chunk.
#[derive(Debug)]
pub struct SegmentWriter<S> {
    sink: S,
    max_len: u64,
    /// The segment that is being written; none before the first chunk.
    segment: Option<u32>,
    len: u64,
    buffer: Vec<u8>,
}

impl<S: SegmentSink> SegmentWriter<S> {
    /// Writes segments of at most `max_len` bytes, mostly [`MAX_SEGMENT_LEN`].
    pub fn new(sink: S, max_len: u64) -> Self {
        Self { sink, max_len: max_len.min(u64::from(u32::MAX)), segment: None, len: 0, buffer: vec![] }
    }

    /// Writes the chunks of a series, each as its encoding byte and data, and says where they are.
    ///
    /// # Errors
    /// What the output says.
    pub fn write(&mut self, chunks: &[(u8, &[u8])]) -> io::Result<Vec<ChunkRef>> {
        let mut refs = Vec::with_capacity(chunks.len());
        // Prometheus counts the chunks of a series as if their lengths took all the bytes that they may.
        let mut counted = self.len;
        for (encoding, data) in chunks {
            let most = (data.len() + CHUNK_OVERHEAD) as u64;
            let empty = counted <= SEGMENT_HEAD_LEN as u64;
            if self.segment.is_none() || (!empty && counted + most > self.max_len) {
                self.cut()?;
                counted = self.len;
            }
            counted += most;
            refs.push(self.put(*encoding, data)?);
        }
        Ok(refs)
    }

    fn cut(&mut self) -> io::Result<()> {
        let segment = self.segment.map_or(0, |segment| segment + 1);
        self.sink.begin(segment)?;
        let mut head = [0; SEGMENT_HEAD_LEN];
        head[..4].copy_from_slice(&SEGMENT_MAGIC.to_be_bytes());
        head[4] = 1;
        self.sink.append(&head)?;
        (self.segment, self.len) = (Some(segment), SEGMENT_HEAD_LEN as u64);
        Ok(())
    }

    fn put(&mut self, encoding: u8, data: &[u8]) -> io::Result<ChunkRef> {
        let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "a segment is longer than references can say");
        let offset = u32::try_from(self.len).map_err(too_large)?;
        self.buffer.clear();
        put_uvarint(&mut self.buffer, data.len() as u64);
        let start = self.buffer.len();
        self.buffer.push(encoding);
        self.buffer.extend_from_slice(data);
        let checksum = crc32c(&self.buffer[start..]);
        self.buffer.extend_from_slice(&checksum.to_be_bytes());
        self.sink.append(&self.buffer)?;
        self.len += self.buffer.len() as u64;
        Ok(ChunkRef::new(self.segment.unwrap_or(0), offset))
    }

    /// Returns the output; its last segment is complete.
    pub fn finish(self) -> S {
        self.sink
    }
}
