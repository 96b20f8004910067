//! The container of downsampled chunks (Thanos `pkg/compact/downsample/aggr.go`, encoding byte 0xff in a block).
//!
//! Five chunks in the order of [`AGGREGATES`]: the length of the data, and if it is not 0, the encoding byte and the data.
//! A length of 0 says that the aggregate is absent.

use crate::chunk::{Chunk, ChunkError, Encoding};
use crate::format::put_uvarint;
use bytes::Bytes;
use farview_model::Aggregate;

/// The encoding byte by which a block marks the container. It is no encoding of samples.
pub const AGGR_ENCODING: u8 = 0xff;

/// The aggregates in the order in which the container holds them.
pub const AGGREGATES: [Aggregate; 5] =
    [Aggregate::Count, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Counter];

/// Takes a container apart; the chunks, in the order of [`AGGREGATES`], are slices of `data`.
///
/// # Errors
/// [`ChunkError`] if a length is more than there is, or an encoding unknown.
pub fn decode(data: &Bytes) -> Result<[Option<Chunk>; 5], ChunkError> {
    let mut chunks = [const { None }; 5];
    let mut at = 0;
    for chunk in &mut chunks {
        let len = uvarint(data, &mut at)?;
        if len == 0 {
            continue;
        }
        let truncated = ChunkError::Truncated { offset: at, len: data.len() };
        let encoding = *data.get(at).ok_or(truncated.clone())?;
        let encoding = Encoding::from_byte(encoding)
            .ok_or(ChunkError::Malformed { offset: at, reason: "encoding of an aggregate is unknown" })?;
        at += 1;
        let end = usize::try_from(len).ok().and_then(|len| at.checked_add(len)).filter(|end| *end <= data.len());
        let end = end.ok_or(truncated)?;
        *chunk = Some(Chunk { encoding, data: data.slice(at..end) });
        at = end;
    }
    Ok(chunks)
}

/// Puts chunks, in the order of [`AGGREGATES`], into a container.
pub fn encode(chunks: &[Option<Chunk>; 5]) -> Bytes {
    let len = chunks.iter().flatten().map(|chunk| chunk.data.len() + 11).sum::<usize>();
    let mut out = Vec::with_capacity(len + chunks.len());
    for chunk in chunks {
        put_uvarint(&mut out, chunk.as_ref().map_or(0, |chunk| chunk.data.len() as u64));
        if let Some(chunk) = chunk.as_ref().filter(|chunk| !chunk.data.is_empty()) {
            out.push(chunk.encoding as u8);
            out.extend_from_slice(&chunk.data);
        }
    }
    out.into()
}

fn uvarint(data: &[u8], at: &mut usize) -> Result<u64, ChunkError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at).ok_or(ChunkError::Truncated { offset: *at, len: data.len() })?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(ChunkError::Malformed { offset: *at, reason: "a length has more than ten bytes" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_again_and_no_part_of_it_does() {
        let xor = |n: i64| Some(Chunk::encode_xor(&[n, n + 1], &[1.5, 2.5]));
        let chunks = [xor(1), None, xor(200_000), None, xor(3)];
        let data = encode(&chunks);
        assert_eq!(decode(&data), Ok(chunks));
        for cut in 0..data.len() {
            assert!(decode(&data.slice(..cut)).is_err(), "{cut}");
        }
    }
}
