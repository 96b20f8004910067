//! The chunk cache: pieces of segments, aligned, in memory (`--store.caching-bucket.config`).
//!
//! Without it every query reads its chunks from the bucket. Pieces are aligned so that queries for other times or other series of the
//! same part find them too; what is missing between two pieces that are there is read in one request.

use crate::error::ReadError;
use crate::metrics::Metrics;
use bytes::{Bytes, BytesMut};
use moka::sync::Cache;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

/// Beside its content an entry takes about so much, bytes.
const OVERHEAD: usize = 128;

/// A cache in memory, within a budget.
#[derive(Debug, Clone)]
pub(crate) struct ChunkCache {
    pieces: Cache<(Arc<str>, u64), Bytes>,
    /// Size of a piece, bytes.
    piece: u64,
    metrics: Metrics,
}

impl ChunkCache {
    pub(crate) fn new(max_bytes: u64, piece: u64, metrics: Metrics) -> Self {
        let weigh = |key: &(Arc<str>, u64), bytes: &Bytes| {
            u32::try_from(OVERHEAD + key.0.len() + bytes.len()).unwrap_or(u32::MAX)
        };
        Self { pieces: Cache::builder().weigher(weigh).max_capacity(max_bytes).build(), piece: piece.max(1), metrics }
    }

    /// Returns `range` of the object `key` of `size` bytes; what is not here comes from `fetch`, which is called for aligned ranges.
    pub(crate) async fn read<F: Future<Output = Result<Bytes, ReadError>>>(
        &self,
        key: &str,
        size: u64,
        range: Range<u64>,
        fetch: impl Fn(Range<u64>) -> F,
    ) -> Result<Bytes, ReadError> {
        let key: Arc<str> = key.into();
        let (first, end) = (range.start / self.piece, range.end.div_ceil(self.piece));
        let mut pieces: Vec<Option<Bytes>> =
            (first..end).map(|piece| self.pieces.get(&(Arc::clone(&key), piece))).collect();
        let hits = pieces.iter().flatten().count();
        self.metrics.chunk_cache(pieces.len(), hits);
        let mut at = 0;
        while at < pieces.len() {
            let missing = pieces[at..].iter().take_while(|piece| piece.is_none()).count();
            if missing == 0 {
                at += 1;
                continue;
            }
            let start = (first + at as u64) * self.piece;
            let bytes = fetch(start..(start + missing as u64 * self.piece).min(size)).await?;
            for i in 0..missing {
                let from = (i * self.piece as usize).min(bytes.len());
                let piece = bytes.slice(from..(from + self.piece as usize).min(bytes.len()));
                // A slice would keep all that was fetched with it.
                let kept = Bytes::copy_from_slice(&piece);
                self.pieces.insert((Arc::clone(&key), first + (at + i) as u64), kept);
                pieces[at + i] = Some(piece);
            }
            at += missing;
        }
        let within = |piece: usize| {
            let start = (first + piece as u64) * self.piece;
            (range.start.saturating_sub(start) as usize, (range.end - start).min(self.piece) as usize)
        };
        let part = |(i, bytes): (usize, Bytes)| {
            let (from, to) = within(i);
            // An object that is shorter than it was: whoever wants the bytes tells.
            bytes.slice(from.min(bytes.len())..to.min(bytes.len()))
        };
        let mut parts = pieces.into_iter().flatten().enumerate().map(part);
        if end - first <= 1 {
            return Ok(parts.next().unwrap_or_default());
        }
        let mut all = BytesMut::with_capacity((range.end - range.start) as usize);
        parts.for_each(|part| all.extend_from_slice(&part));
        Ok(all.freeze())
    }

    /// Forgets everything; for a block whose bytes were found to be wrong.
    pub(crate) fn clear(&self) {
        self.pieces.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use proptest::prelude::*;

    fn object(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 31 % 251) as u8).collect()
    }

    fn cache(max_bytes: u64, piece: u64) -> ChunkCache {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        ChunkCache::new(max_bytes, piece, metrics)
    }

    proptest! {
        #[test]
        fn whatever_is_cached_the_bytes_are_those_of_the_object(
            piece in 1_u64..40,
            max_bytes in prop::sample::select(vec![0_u64, 500, 100_000]),
            ranges in prop::collection::vec((0_u64..200, 0_u64..120), 1..20),
        ) {
            let (object, cache) = (object(230), cache(max_bytes, piece));
            let fetched = Mutex::new(Vec::new());
            for (start, len) in ranges {
                let range = start..(start + len).min(230);
                let fetch = |range: Range<u64>| {
                    fetched.lock().push(range.clone());
                    let bytes = Bytes::copy_from_slice(&object[range.start as usize..range.end as usize]);
                    async move { Ok(bytes) }
                };
                let read = futures::executor::block_on(cache.read("b/chunks/000001", 230, range.clone(), fetch)).unwrap();
                prop_assert_eq!(&read[..], &object[range.start as usize..range.end as usize]);
            }
            prop_assert!(fetched.lock().iter().all(|range| range.start % piece == 0 && range.start < range.end));
        }
    }

    #[test]
    fn what_was_read_once_is_not_fetched_again_and_gaps_are_fetched_alone() {
        let (object, cache) = (object(100), cache(100_000, 10));
        let fetched = Mutex::new(Vec::new());
        let read = |range: Range<u64>| {
            let fetch = |range: Range<u64>| {
                fetched.lock().push(range.clone());
                let bytes = Bytes::copy_from_slice(&object[range.start as usize..range.end as usize]);
                async move { Ok(bytes) }
            };
            futures::executor::block_on(cache.read("k", 100, range, fetch)).unwrap()
        };
        read(12..25);
        read(51..55);
        assert_eq!(std::mem::take(&mut *fetched.lock()), [10..30, 50..60]);
        assert_eq!(read(11..59)[..], object[11..59]);
        assert_eq!(std::mem::take(&mut *fetched.lock()), vec![30..50; 1]);
        assert_eq!(read(10..60)[..], object[10..60]);
        assert_eq!(read(95..100)[..], object[95..100]);
        assert_eq!(*fetched.lock(), vec![90..100; 1]);
    }
}
