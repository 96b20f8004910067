//! The series of an index: which labels, which chunks.

use super::IndexVersion;
use crate::format::{Cursor, FormatError, FormatFault, Section};
use farview_model::TimeRange;

/// Names a series within an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u32);

/// Series are aligned so in version 2.
pub const SERIES_ALIGN: u64 = 16;

impl SeriesRef {
    /// Returns where the series begins in the index.
    pub fn offset(self, version: IndexVersion) -> u64 {
        match version {
            IndexVersion::V1 => u64::from(self.0),
            IndexVersion::V2 => u64::from(self.0) * SERIES_ALIGN,
        }
    }
}

/// Names a chunk within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef(pub u64);

impl ChunkRef {
    /// Makes the reference of the chunk at `offset` of segment `segment`, the first being 0.
    pub fn new(segment: u32, offset: u32) -> Self {
        Self(u64::from(segment) << 32 | u64::from(offset))
    }

    /// Returns the segment, the first being 0.
    pub fn segment(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the offset in the segment, bytes.
    pub fn offset(self) -> u32 {
        self.0 as u32
    }
}

/// What an index says about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkMeta {
    /// Time of the first sample, ms.
    pub mint: i64,
    /// Time of the last sample, ms, inclusive.
    pub maxt: i64,
    /// Where it is.
    pub reference: ChunkRef,
}

/// A series; used again and again, so that reading many does not allocate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesEntry {
    /// References of name and value of each label, by name.
    pub labels: Vec<(u32, u32)>,
    /// Its chunks in the order of their beginnings.
    pub chunks: Vec<ChunkMeta>,
}

/// Returns how long the series is that begins with `head`, with its length and checksum. Ten bytes are always enough.
///
/// # Errors
/// [`FormatError`] if `head` ends within the length.
pub fn encoded_len(head: &[u8]) -> Result<u64, FormatError> {
    let mut cursor = Cursor::new(Section::Series, head, 0);
    let len = cursor.uvarint()?;
    let rest = cursor.at() as u64 + 4;
    len.checked_add(rest).ok_or(FormatError::malformed(Section::Series, 0, "a series is too long"))
}

/// Reads the series at the beginning of `bytes` with the chunks that overlap `range` into `out`, whose content is
/// replaced; returns its length. What follows it is ignored, so that a range may be a guess: an error then
/// [is_truncated](FormatError::is_truncated), and [`encoded_len`] says how much is needed.
///
/// # Errors
/// [`FormatError`] if the series is cut, its checksum wrong, or it is malformed; `out` then holds nothing useful.
pub fn decode(bytes: &[u8], range: TimeRange, out: &mut SeriesEntry) -> Result<usize, FormatError> {
    out.labels.clear();
    out.chunks.clear();
    let mut frame = Cursor::new(Section::Series, bytes, 0);
    let len = frame.size()?;
    let start = frame.at();
    if frame.left() < len.saturating_add(4) {
        return Err(FormatError::truncated(Section::Series, bytes.len(), len.saturating_add(4) - frame.left()));
    }
    let content = frame.take(len)?;
    frame.checksum_of(content)?;
    let mut cursor = Cursor::new(Section::Series, &bytes[..start + len], start);
    let labels = bounded(&mut cursor, 2, "there are more labels than the series can hold")?;
    out.labels.reserve(labels);
    for _ in 0..labels {
        out.labels.push((symbol(&mut cursor)?, symbol(&mut cursor)?));
    }
    chunks(&mut cursor, range, &mut out.chunks)?;
    Ok(frame.at())
}

fn chunks(cursor: &mut Cursor<'_>, range: TimeRange, out: &mut Vec<ChunkMeta>) -> Result<(), FormatError> {
    let count = bounded(cursor, 3, "there are more chunks than the series can hold")?;
    let (mut end, mut reference, mut begin) = (0i64, 0u64, i64::MIN);
    for i in 0..count {
        let mint = if i == 0 { cursor.varint()? } else { end.wrapping_add_unsigned(cursor.uvarint()?) };
        let maxt = mint.wrapping_add_unsigned(cursor.uvarint()?);
        reference = if i == 0 { cursor.uvarint()? } else { reference.wrapping_add_signed(cursor.varint()?) };
        // Chunks of blocks that were joined may overlap: then the difference to the end before is negative and wraps.
        if mint > maxt || mint < begin {
            return Err(cursor.malformed("the times of the chunks do not rise"));
        }
        (begin, end) = (mint, maxt);
        if TimeRange::new(mint, maxt).overlaps(range) {
            out.push(ChunkMeta { mint, maxt, reference: ChunkRef(reference) });
        }
    }
    Ok(())
}

/// Reads a number of things that take `least` bytes each.
fn bounded(cursor: &mut Cursor<'_>, least: usize, reason: &'static str) -> Result<usize, FormatError> {
    let count = cursor.size()?;
    if count > cursor.left() / least {
        return Err(cursor.malformed(reason));
    }
    Ok(count)
}

fn symbol(cursor: &mut Cursor<'_>) -> Result<u32, FormatError> {
    u32::try_from(cursor.uvarint()?).map_err(|_| cursor.malformed("the reference of a symbol is too large"))
}

/// Goes over all series of a section, for whoever has it.
#[derive(Debug, Clone)]
pub struct SeriesSection<'a> {
    bytes: &'a [u8],
    base: u64,
    at: usize,
    version: IndexVersion,
}

impl<'a> SeriesSection<'a> {
    /// Takes the bytes of [`Toc::series_range`](super::Toc::series_range), which begin at `base` in the index.
    pub fn new(bytes: &'a [u8], base: u64, version: IndexVersion) -> Self {
        Self { bytes, base, at: 0, version }
    }

    /// Reads the next series with all its chunks into `out`; `None` at the end.
    ///
    /// # Errors
    /// [`FormatError`] with an offset in the index. Where the next series would begin is then not known.
    pub fn next(&mut self, out: &mut SeriesEntry) -> Result<Option<SeriesRef>, FormatError> {
        let place = self.base.checked_add(self.at as u64).and_then(|place| match self.version {
            IndexVersion::V1 => Some(place),
            IndexVersion::V2 => place.checked_next_multiple_of(SERIES_ALIGN),
        });
        let place = place.ok_or(FormatError { section: Section::Series, offset: self.base, fault: TOO_LARGE })?;
        self.at = usize::try_from(place - self.base).unwrap_or(usize::MAX);
        let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
        // A series is never empty: a length of 0 is the padding in front of the next section.
        if rest[0] == 0 {
            return Ok(None);
        }
        let reference = match self.version {
            IndexVersion::V1 => place,
            IndexVersion::V2 => place / SERIES_ALIGN,
        };
        let reference = u32::try_from(reference).map_err(|_| FormatError {
            section: Section::Series,
            offset: place,
            fault: TOO_LARGE,
        })?;
        let len = decode(rest, TimeRange::ALL, out).map_err(|error| error.based(place))?;
        self.at += len;
        Ok(Some(SeriesRef(reference)))
    }
}

const TOO_LARGE: FormatFault = FormatFault::Malformed("the index is larger than references can say");
