//! Frames of a Series answer, written and read by hand.
//!
//! A generated decoder allocates two strings per label and a struct per chunk; a walk over the fields writes labels into
//! their packed form and takes chunk bytes as slices of the frame. The wire is `thanos.SeriesResponse`
//! (`proto/store/storepb/rpc.proto`, `types.proto`); a test holds both against the generated code.

use bytes::{BufMut, Bytes, BytesMut};
use farview_model::Labels;
use farview_series::chunk_series::Aggregated;
use farview_series::{AggrChunk, ChunkData, ChunkSeries};
use farview_tsdb::{Chunk, Encoding};
use prost::Message;
use prost_types::Any;
use smallvec::SmallVec;

/// One message of a Series answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Series in label order.
    Series(Vec<ChunkSeries>),
    /// Something that the answer lacks.
    Warning(String),
    /// Hints, by type (`hintspb.SeriesResponseHints`).
    Hints(Any),
}

/// A frame as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedFrame {
    /// What was in it.
    pub frame: Frame,
    /// Its size on the wire, bytes.
    pub bytes: usize,
    /// Encodings that could not be read; their chunks are missing from the frame, which must be said in the answer.
    pub unknown_encodings: Vec<i32>,
}

/// Why a frame cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed StoreAPI frame at byte {offset} of {len}: {reason}")]
pub struct FrameError {
    /// Where in the frame.
    pub offset: usize,
    /// Size of the frame.
    pub len: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

// === reading ===

/// A cursor over one message within the frame.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    frame: &'a Bytes,
    at: usize,
    end: usize,
}

enum Field {
    Varint(u64),
    /// Start and end within the frame.
    Bytes(usize, usize),
}

impl<'a> Cursor<'a> {
    fn error(&self, reason: &'static str) -> FrameError {
        FrameError { offset: self.at, len: self.frame.len(), reason }
    }

    fn varint(&mut self) -> Result<u64, FrameError> {
        let bytes = &self.frame[self.at..self.end];
        if let Some(first) = bytes.first()
            && *first < 0x80
        {
            self.at += 1;
            return Ok(u64::from(*first));
        }
        let mut value = 0u64;
        for (i, byte) in bytes.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.error("a number does not end"))
    }

    /// Returns number and content of the next field; `None` at the end of the message.
    fn field(&mut self) -> Result<Option<(u64, Field)>, FrameError> {
        if self.at == self.end {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            2 => {
                let len = self.varint()?;
                if len > (self.end - self.at) as u64 {
                    return Err(self.error("a field reaches beyond its message"));
                }
                let start = self.at;
                self.at += len as usize;
                Field::Bytes(start, self.at)
            }
            1 => self.skip(8)?,
            5 => self.skip(4)?,
            _ => return Err(self.error("unknown wire type")),
        };
        Ok(Some((key >> 3, field)))
    }

    fn skip(&mut self, len: usize) -> Result<Field, FrameError> {
        if self.end - self.at < len {
            return Err(self.error("a field reaches beyond its message"));
        }
        let start = self.at;
        self.at += len;
        Ok(Field::Bytes(start, self.at))
    }

    fn within(&self, start: usize, end: usize) -> Self {
        Self { frame: self.frame, at: start, end }
    }

    fn text(&self, start: usize, end: usize) -> Result<&'a str, FrameError> {
        std::str::from_utf8(&self.frame[start..end]).map_err(|_| FrameError {
            offset: start,
            len: self.frame.len(),
            reason: "a text is not UTF-8",
        })
    }
}

impl DecodedFrame {
    /// Reads a `thanos.SeriesResponse`. The series' chunks are slices of `frame`.
    ///
    /// # Errors
    /// [`FrameError`] with the place, for anything that is no well-formed frame: bad lengths, labels out of order, text that
    /// is not UTF-8, chunks whose times run backwards.
    pub fn decode(frame: Bytes) -> Result<Self, FrameError> {
        let mut unknown_encodings = Vec::new();
        let mut cursor = Cursor { frame: &frame, at: 0, end: frame.len() };
        let mut content = None;
        while let Some((number, field)) = cursor.field()? {
            let Field::Bytes(start, end) = field else { continue };
            content = match number {
                1 => Some(Frame::Series(vec![series(cursor.within(start, end), &mut unknown_encodings)?])),
                2 => Some(Frame::Warning(cursor.text(start, end)?.to_owned())),
                3 => {
                    let any = Any::decode(&frame[start..end])
                        .map_err(|_| cursor.within(start, end).error("hints are no google.protobuf.Any"))?;
                    Some(Frame::Hints(any))
                }
                4 => Some(Frame::Series(batch(cursor.within(start, end), &mut unknown_encodings)?)),
                _ => content,
            };
        }
        let bytes = frame.len();
        // A message without content is valid protobuf and says nothing.
        Ok(Self { frame: content.unwrap_or_else(|| Frame::Series(Vec::new())), bytes, unknown_encodings })
    }
}

fn batch(mut cursor: Cursor<'_>, unknown: &mut Vec<i32>) -> Result<Vec<ChunkSeries>, FrameError> {
    let mut all = Vec::with_capacity(64);
    while let Some((number, field)) = cursor.field()? {
        if let (1, Field::Bytes(start, end)) = (number, field) {
            all.push(series(cursor.within(start, end), unknown)?);
        }
    }
    Ok(all)
}

fn series(mut cursor: Cursor<'_>, unknown: &mut Vec<i32>) -> Result<ChunkSeries, FrameError> {
    let at = cursor.at;
    let mut pairs: SmallVec<[(&str, &str); 24]> = SmallVec::new();
    let mut chunks = Vec::new();
    while let Some((number, field)) = cursor.field()? {
        match (number, field) {
            (1, Field::Bytes(start, end)) => pairs.push(label(cursor.within(start, end))?),
            (2, Field::Bytes(start, end)) => {
                if let Some(chunk) = aggr_chunk(cursor.within(start, end), unknown)? {
                    chunks.push(chunk);
                }
            }
            _ => {}
        }
    }
    let labels = Labels::from_sorted(pairs.iter().copied()).ok_or(FrameError {
        offset: at,
        len: cursor.frame.len(),
        reason: "the labels of a series are not sorted by name, or a name comes twice",
    })?;
    Ok(ChunkSeries { labels, chunks })
}

fn label<'a>(mut cursor: Cursor<'a>) -> Result<(&'a str, &'a str), FrameError> {
    let (mut name, mut value) = ("", "");
    while let Some((number, field)) = cursor.field()? {
        match (number, field) {
            (1, Field::Bytes(start, end)) => name = cursor.text(start, end)?,
            (2, Field::Bytes(start, end)) => value = cursor.text(start, end)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Returns `None` if every chunk in it has an encoding that cannot be read.
fn aggr_chunk(mut cursor: Cursor<'_>, unknown: &mut Vec<i32>) -> Result<Option<AggrChunk>, FrameError> {
    let (mut mint, mut maxt) = (0, 0);
    let mut raw = None;
    let mut aggregated: Option<Box<Aggregated>> = None;
    while let Some((number, field)) = cursor.field()? {
        match (number, field) {
            (1, Field::Varint(value)) => mint = value as i64,
            (2, Field::Varint(value)) => maxt = value as i64,
            (3..=8, Field::Bytes(start, end)) => {
                let Some(chunk) = chunk(cursor.within(start, end), unknown)? else { continue };
                if number == 3 {
                    raw = Some(chunk);
                    continue;
                }
                let aggregated = aggregated.get_or_insert_default();
                let slot = match number {
                    4 => &mut aggregated.count,
                    5 => &mut aggregated.sum,
                    6 => &mut aggregated.min,
                    7 => &mut aggregated.max,
                    _ => &mut aggregated.counter,
                };
                *slot = Some(chunk);
            }
            _ => {}
        }
    }
    if mint > maxt {
        return Err(cursor.error("a chunk ends before it begins"));
    }
    let data = match (raw, aggregated) {
        (Some(raw), _) => ChunkData::Raw(raw),
        (None, Some(aggregated)) => ChunkData::Aggregated(aggregated),
        (None, None) => return Ok(None),
    };
    Ok(Some(AggrChunk { mint, maxt, data }))
}

fn chunk(mut cursor: Cursor<'_>, unknown: &mut Vec<i32>) -> Result<Option<Chunk>, FrameError> {
    let (mut wire_type, mut data) = (0u64, Bytes::new());
    while let Some((number, field)) = cursor.field()? {
        match (number, field) {
            (1, Field::Varint(value)) => wire_type = value,
            (2, Field::Bytes(start, end)) => data = cursor.frame.slice(start..end),
            _ => {}
        }
    }
    // StoreAPI counts encodings from 0, Prometheus from 1.
    let encoding = u8::try_from(wire_type).ok().and_then(|n| n.checked_add(1)).and_then(Encoding::from_byte);
    match encoding {
        Some(encoding) => Ok(Some(Chunk { encoding, data })),
        None => {
            let number = wire_type as i32;
            if !unknown.contains(&number) {
                unknown.push(number);
            }
            Ok(None)
        }
    }
}

// === writing ===

fn varint_len(value: u64) -> usize {
    // 7 bits a byte; 0 takes one.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Size of a length-delimited field with a field number below 16.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

fn put_key_len(out: &mut BytesMut, number: u8, len: usize) {
    out.put_u8(number << 3 | 2);
    put_varint(out, len as u64);
}

fn optional_text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { field_len(text.len()) }
}

fn label_len(name: &str, value: &str) -> usize {
    optional_text_len(name) + optional_text_len(value)
}

fn wire_type(chunk: &Chunk) -> u64 {
    chunk.encoding as u64 - 1
}

fn chunk_len(chunk: &Chunk) -> usize {
    let kind = wire_type(chunk);
    let data = if chunk.data.is_empty() { 0 } else { field_len(chunk.data.len()) };
    (if kind == 0 { 0 } else { 1 + varint_len(kind) }) + data
}

fn put_chunk(out: &mut BytesMut, number: u8, chunk: &Chunk) {
    put_key_len(out, number, chunk_len(chunk));
    let kind = wire_type(chunk);
    if kind != 0 {
        out.put_u8(1 << 3);
        put_varint(out, kind);
    }
    if !chunk.data.is_empty() {
        put_key_len(out, 2, chunk.data.len());
        out.put_slice(&chunk.data);
    }
}

fn time_len(time: i64) -> usize {
    if time == 0 { 0 } else { 1 + varint_len(time as u64) }
}

/// Field number and chunk of everything that an aggregate chunk holds.
fn parts(chunk: &AggrChunk) -> SmallVec<[(u8, &Chunk); 5]> {
    match &chunk.data {
        ChunkData::Raw(raw) => SmallVec::from_iter([(3, raw)]),
        ChunkData::Aggregated(a) => {
            let all = [(4, &a.count), (5, &a.sum), (6, &a.min), (7, &a.max), (8, &a.counter)];
            all.into_iter().filter_map(|(number, chunk)| Some((number, chunk.as_ref()?))).collect()
        }
    }
}

fn aggr_chunk_len(chunk: &AggrChunk) -> usize {
    time_len(chunk.mint)
        + time_len(chunk.maxt)
        + parts(chunk).iter().map(|(_, chunk)| field_len(chunk_len(chunk))).sum::<usize>()
}

fn series_len(series: &ChunkSeries) -> usize {
    let labels: usize = series.labels.iter().map(|(name, value)| field_len(label_len(name, value))).sum();
    labels + series.chunks.iter().map(|chunk| field_len(aggr_chunk_len(chunk))).sum::<usize>()
}

fn put_series(out: &mut BytesMut, number: u8, series: &ChunkSeries) {
    put_key_len(out, number, series_len(series));
    for (name, value) in series.labels.iter() {
        put_key_len(out, 1, label_len(name, value));
        for (number, text) in [(1, name), (2, value)] {
            if !text.is_empty() {
                put_key_len(out, number, text.len());
                out.put_slice(text.as_bytes());
            }
        }
    }
    for chunk in &series.chunks {
        put_key_len(out, 2, aggr_chunk_len(chunk));
        for (number, time) in [(1, chunk.mint), (2, chunk.maxt)] {
            if time != 0 {
                out.put_u8(number << 3);
                put_varint(out, time as u64);
            }
        }
        for (number, part) in parts(chunk) {
            put_chunk(out, number, part);
        }
    }
}

impl Frame {
    /// Returns the size of the frame on the wire, bytes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Series(series) if series.len() == 1 => field_len(series_len(&series[0])),
            Self::Series(series) => field_len(batch_len(series)),
            Self::Warning(text) => field_len(text.len()),
            Self::Hints(any) => field_len(any.encoded_len()),
        }
    }

    /// Writes the frame as a `thanos.SeriesResponse`: one series as `series`, several as `batch`. Chunk bytes are copied
    /// once, from where they lie into `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        match self {
            Self::Series(series) if series.len() == 1 => put_series(out, 1, &series[0]),
            Self::Series(series) => {
                put_key_len(out, 4, batch_len(series));
                for series in series {
                    put_series(out, 1, series);
                }
            }
            Self::Warning(text) => {
                put_key_len(out, 2, text.len());
                out.put_slice(text.as_bytes());
            }
            Self::Hints(any) => {
                put_key_len(out, 3, any.encoded_len());
                any.encode(out).expect("a BytesMut grows as needed");
            }
        }
    }
}

fn batch_len(series: &[ChunkSeries]) -> usize {
    series.iter().map(|series| field_len(series_len(series))).sum()
}

#[cfg(test)]
#[path = "frame/tests.rs"]
mod tests;
