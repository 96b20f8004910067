//! Remote read: the samples of Prometheus as compressed chunks, passed on without being decoded.
//!
//! The answer is a stream of frames, each with its length and checksum. A stream that breaks off within a frame, or that
//! the connection ends before its last chunk, is an error, never a short answer.

use super::{Prometheus, error, read_all, root_cause};
use bytes::{Buf, Bytes, BytesMut};
use farview_model::{ErrorKind, Labels, MatchOp, Matcher, Samples, TimeRange};
use farview_proto::prometheus as pb;
use farview_series::{AggrChunk, ChunkData, ChunkSeries};
use farview_storeapi::{QueryHints, StoreError};
use farview_tsdb::{Chunk, Encoding, MAX_SAMPLES};
use prost::Message;
use url::Url;

/// A frame is no larger than this, bytes; Prometheus cuts at 1 MiB by default.
const MAX_FRAME_BYTES: u64 = 64 << 20;

/// An answer of samples is no larger than this when unpacked, bytes.
const MAX_SAMPLES_BYTES: usize = 256 << 20;

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct ReadRequest<'a> {
    pub(crate) matchers: &'a [Matcher],
    pub(crate) range: TimeRange,
    pub(crate) hints: Option<&'a QueryHints>,
}

/// The series of an answer, as they arrive.
pub(crate) enum ReadStream {
    Chunks(Box<ChunkStream>),
    /// An old server answered with samples; they are all here.
    Samples(Option<Vec<ChunkSeries>>),
}

/// Frames of chunks.
pub(crate) struct ChunkStream {
    response: reqwest::Response,
    url: Url,
    buffer: BytesMut,
    ended: bool,
    /// A series that may go on in the next frame.
    open: Option<ChunkSeries>,
    unknown: Vec<u32>,
}

impl Prometheus {
    /// Asks for the series that match, with their chunks.
    ///
    /// # Errors
    /// [`StoreError`] if Prometheus refuses or cannot be reached.
    pub(crate) async fn remote_read(&self, request: ReadRequest<'_>) -> Result<ReadStream, StoreError> {
        let url = self.url("/api/v1/read");
        let message = to_proto(&request).encode_to_vec();
        let body = snap::raw::Encoder::new()
            .compress_vec(&message)
            .map_err(|cause| error(ErrorKind::Internal, format!("packing a remote-read request: {cause}")))?;
        let request = self
            .client
            .post(url.clone())
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0")
            .body(body);
        let response = self.send(request, &url).await?;
        let status = response.status();
        if !status.is_success() {
            let body = read_all(response, &url).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&body[..body.len().min(1_000)]).trim().to_owned();
            let kind = if status.as_u16() == 400 { ErrorKind::Invalid } else { ErrorKind::Unavailable };
            return Err(error(kind, format!("remote read at {url} answered {status}: {text}")));
        }
        let content_type =
            response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !has_an_end(&response) {
            // A connection that is cut could not be told from an answer that is complete.
            let text =
                format!("the answer of remote read at {url} has neither a length nor chunks: is a proxy in between?");
            return Err(error(ErrorKind::Unavailable, text));
        }
        if content_type.starts_with("application/x-streamed-protobuf") {
            let buffer = BytesMut::with_capacity(1 << 16);
            return Ok(ReadStream::Chunks(Box::new(ChunkStream {
                response,
                url,
                buffer,
                ended: false,
                open: None,
                unknown: Vec::new(),
            })));
        }
        if content_type.starts_with("application/x-protobuf") {
            let body = read_all(response, &url).await?;
            return Ok(ReadStream::Samples(Some(read_samples(&body, &url)?)));
        }
        Err(error(
            ErrorKind::Unavailable,
            format!("remote read at {url} answered with content of type {content_type:?}"),
        ))
    }
}

/// Tells whether the end of an answer can be told from a cut.
fn has_an_end(response: &reqwest::Response) -> bool {
    let headers = response.headers();
    let chunked = || {
        let encodings = headers.get_all("transfer-encoding").iter().filter_map(|value| value.to_str().ok());
        encodings.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
    };
    response.version() >= reqwest::Version::HTTP_2 || headers.contains_key("content-length") || chunked()
}

fn to_proto(request: &ReadRequest<'_>) -> pb::ReadRequest {
    use pb::label_matcher::Type;
    let matchers = request.matchers.iter().map(|matcher| pb::LabelMatcher {
        r#type: match matcher.op() {
            MatchOp::Equal => Type::Eq,
            MatchOp::NotEqual => Type::Neq,
            MatchOp::Regex => Type::Re,
            MatchOp::NotRegex => Type::Nre,
        }
        .into(),
        name: matcher.name().to_owned(),
        value: matcher.value().to_owned(),
    });
    let hints = request.hints.map(|hints| {
        let (by, grouping) = hints.grouping.clone().unwrap_or_default();
        pb::ReadHints {
            step_ms: hints.step,
            func: hints.func.clone(),
            start_ms: request.range.mint,
            end_ms: request.range.maxt,
            grouping,
            by,
            range_ms: hints.range,
        }
    });
    let query = pb::Query {
        start_timestamp_ms: request.range.mint,
        end_timestamp_ms: request.range.maxt,
        matchers: matchers.collect(),
        hints,
    };
    let streamed = pb::read_request::ResponseType::StreamedXorChunks.into();
    pb::ReadRequest { queries: vec![query], accepted_response_types: vec![streamed] }
}

impl ReadStream {
    /// Returns the next series, sorted by their labels as Prometheus holds them; `None` at the end of a whole answer.
    ///
    /// # Errors
    /// [`StoreError`] if the stream breaks off or is malformed.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<ChunkSeries>>, StoreError> {
        match self {
            Self::Samples(series) => Ok(series.take()),
            Self::Chunks(stream) => stream.next().await,
        }
    }

    /// Returns the chunk encodings that could not be read, each once.
    pub(crate) fn take_unknown(&mut self) -> Vec<u32> {
        match self {
            Self::Samples(_) => Vec::new(),
            Self::Chunks(stream) => std::mem::take(&mut stream.unknown),
        }
    }
}

impl ChunkStream {
    fn malformed(&self, what: &str) -> StoreError {
        error(ErrorKind::Corrupt, format!("remote read at {}: {what}", self.url))
    }

    async fn next(&mut self) -> Result<Option<Vec<ChunkSeries>>, StoreError> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer).map_err(|what| self.malformed(&what))? {
                let series = self.read_frame(frame)?;
                if !series.is_empty() {
                    return Ok(Some(series));
                }
                continue;
            }
            if self.ended {
                if !self.buffer.is_empty() {
                    return Err(self.malformed("the answer ends within a frame"));
                }
                return Ok(self.open.take().map(|series| vec![series]));
            }
            let chunk = self.response.chunk().await.map_err(|cause| {
                error(ErrorKind::Unavailable, format!("remote read at {} broke off: {}", self.url, root_cause(&cause)))
            })?;
            match chunk {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }

    /// Reads the series of a frame. The last one is held back: its chunks may go on in the next frame.
    fn read_frame(&mut self, frame: Bytes) -> Result<Vec<ChunkSeries>, StoreError> {
        let message = pb::ChunkedReadResponse::decode(frame).map_err(|cause| self.malformed(&cause.to_string()))?;
        let mut complete = Vec::with_capacity(message.chunked_series.len());
        for series in message.chunked_series {
            let pairs = series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
            let labels =
                Labels::from_sorted(pairs).ok_or_else(|| self.malformed("the labels of a series are not sorted"))?;
            let mut chunks = Vec::with_capacity(series.chunks.len());
            for chunk in series.chunks {
                match u8::try_from(chunk.r#type).ok().and_then(Encoding::from_byte) {
                    Some(encoding) => chunks.push(AggrChunk {
                        mint: chunk.min_time_ms,
                        maxt: chunk.max_time_ms,
                        data: ChunkData::Raw(Chunk { encoding, data: chunk.data }),
                    }),
                    None if !self.unknown.contains(&chunk.r#type) => self.unknown.push(chunk.r#type),
                    None => {}
                }
            }
            match &mut self.open {
                Some(open) if open.labels == labels => open.chunks.extend(chunks),
                open => complete.extend(open.replace(ChunkSeries { labels, chunks })),
            }
        }
        Ok(complete)
    }
}

/// Takes a whole frame off the buffer: length as LEB128, CRC-32C big-endian, content. `None` if more bytes are needed; else
/// what is wrong.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let mut len = 0u64;
    let mut head = 0;
    loop {
        let Some(byte) = buffer.get(head) else { return Ok(None) };
        if head == 9 {
            return Err("the length of a frame does not end".to_owned());
        }
        len |= u64::from(byte & 0x7f) << (7 * head);
        head += 1;
        if byte < &0x80 {
            break;
        }
    }
    if len > MAX_FRAME_BYTES {
        return Err(format!("a frame of {len} bytes is larger than {MAX_FRAME_BYTES}"));
    }
    let len = len as usize;
    if buffer.len() < head + 4 + len {
        return Ok(None);
    }
    buffer.advance(head);
    let expected = buffer.get_u32();
    let content = buffer.split_to(len).freeze();
    let actual = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &content) as u32;
    if actual != expected {
        return Err(format!("the checksum of a frame is {actual:08x}, not {expected:08x}"));
    }
    Ok(Some(content))
}

/// Reads an answer of samples and packs them into chunks.
fn read_samples(body: &[u8], url: &Url) -> Result<Vec<ChunkSeries>, StoreError> {
    let corrupt = |what: String| error(ErrorKind::Corrupt, format!("remote read at {url}: {what}"));
    // The packed form says how large it becomes: that is checked before it is believed.
    let len = snap::raw::decompress_len(body).map_err(|cause| corrupt(cause.to_string()))?;
    if len > MAX_SAMPLES_BYTES {
        return Err(error(
            ErrorKind::LimitExceeded,
            format!("remote read at {url}: {len} bytes of samples are over {MAX_SAMPLES_BYTES}"),
        ));
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|cause| corrupt(cause.to_string()))?;
    let message = pb::ReadResponse::decode(Bytes::from(plain)).map_err(|cause| corrupt(cause.to_string()))?;
    let mut all = Vec::new();
    for series in message.results.into_iter().flat_map(|result| result.timeseries) {
        let labels = Labels::from_pairs(series.labels.iter().map(|label| (label.name.as_str(), label.value.as_str())));
        let mut samples = Samples::default();
        for sample in &series.samples {
            samples.push(sample.timestamp, sample.value);
        }
        let chunks = samples.timestamps.chunks(MAX_SAMPLES).zip(samples.values.chunks(MAX_SAMPLES));
        let chunks = chunks.map(|(times, values)| AggrChunk {
            mint: times[0],
            maxt: times[times.len() - 1],
            data: ChunkData::Raw(Chunk::encode_xor(times, values)),
        });
        all.push(ChunkSeries { labels, chunks: chunks.collect() });
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn framed(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        out.put_u32(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content) as u32);
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_allocated() {
        let mut huge = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x7f][..]);
        assert!(take_frame(&mut huge).unwrap_err().contains("larger than"));
        assert!(huge.capacity() < 1_000);
        let mut endless = BytesMut::from(&[0xff; 20][..]);
        assert!(take_frame(&mut endless).unwrap_err().contains("does not end"));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6),
            step in 1usize..50,
        ) {
            let stream: Vec<u8> = contents.iter().flat_map(|content| framed(content)).collect();
            let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
            for part in stream.chunks(step) {
                buffer.extend_from_slice(part);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(got, contents);
        }

        #[test]
        fn a_flipped_bit_of_the_content_is_an_error(content in proptest::collection::vec(any::<u8>(), 1..300), at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let mut bytes = framed(&content);
            let head = bytes.len() - content.len();
            let at = head + at.index(content.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(take_frame(&mut BytesMut::from(&bytes[..])).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = take_frame(&mut buffer) {
                let _ = pb::ChunkedReadResponse::decode(frame);
            }
            let _ = read_samples(&bytes, &Url::parse("http://x/").unwrap());
        }
    }
}
