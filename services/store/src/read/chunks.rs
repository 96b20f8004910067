//! From the places of chunks to their bytes.

use crate::block::Block;
use crate::error::ReadError;
use crate::ranges;
use crate::read::series::{Place, Series};
use bytes::Bytes;
use farview_model::{Aggregate, Budget, Reservation};
use farview_objstore::Purpose;
use farview_series::chunk_series::Aggregated;
use farview_series::{AggrChunk, ChunkData, ChunkSeries};
use farview_tsdb::segment::{self, SegmentChunk, StoredChunk};
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;
use std::sync::Arc;

/// The last chunk of a series mostly takes less, bytes; one that takes more is read again.
const GUESS: u64 = 1 << 10;
/// No guess is larger: blocks may claim anything.
const LARGEST_GUESS: u64 = 16 << 10;
/// Memory of a chunk beside its bytes, about.
const CHUNK_COST: u64 = 128;
/// Reads of chunks at a time, for one block.
const READS_AT_ONCE: usize = 8;

/// Series with their chunks, and the memory that they hold.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) series: Vec<ChunkSeries>,
    /// Bytes of chunks that are wanted.
    pub(crate) needed: u64,
    /// Bytes of chunks that were fetched.
    pub(crate) fetched: u64,
    pub(crate) held: Reservation,
    /// Memory of the list of series that this is a part of.
    pub(crate) listed: Option<Arc<Reservation>>,
}

/// Returns how many bytes a chunk is taken to have.
pub(crate) fn size(place: &Place, guess: u64) -> u64 {
    place.next.map_or(guess, |next| u64::from(next - place.meta.reference.offset()))
}

/// Returns what the last chunk of a series is taken to have, bytes.
pub(crate) fn guess(block: &Block) -> u64 {
    match block.meta.index_stats().chunk_max_size {
        0 => GUESS,
        known => known.min(LARGEST_GUESS),
    }
}

/// Where one of the wanted chunks is.
struct Wanted {
    segment: u32,
    range: Range<u64>,
    series: usize,
    chunk: usize,
}

/// Reads the chunks of a batch of series.
pub(crate) async fn read(
    block: &Block,
    series: Vec<Series>,
    aggregates: &[Aggregate],
    budget: &Arc<Budget>,
) -> Result<Batch, ReadError> {
    let guess = guess(block);
    let mut wanted: Vec<Wanted> = Vec::new();
    for (i, one) in series.iter().enumerate() {
        for (j, place) in one.chunks.iter().enumerate() {
            let start = u64::from(place.meta.reference.offset());
            let range = start..start + size(place, guess);
            wanted.push(Wanted { segment: place.meta.reference.segment(), range, series: i, chunk: j });
        }
    }
    wanted.sort_by_key(|wanted| (wanted.segment, wanted.range.start));
    let mut reads: Vec<(u32, Range<u64>, Range<usize>)> = Vec::new();
    let mut from = 0;
    for run in wanted.chunk_by(|a, b| a.segment == b.segment) {
        let number = run[0].segment;
        let size = block.size(&format!("chunks/{}", segment::file_name(number)));
        let ranges: Vec<Range<u64>> = run.iter().map(|w| w.range.start.min(size)..w.range.end.min(size)).collect();
        for part in ranges::join(&ranges, ranges::GAP, ranges::LONGEST) {
            reads.push((number, part.range, from + part.wanted.start..from + part.wanted.end));
        }
        from += run.len();
    }
    let bytes: u64 = reads.iter().map(|(_, range, _)| range.end - range.start).sum();
    // Before anything is fetched.
    let held = budget.reserve(bytes + CHUNK_COST * wanted.len() as u64)?;
    let mut chunks: Vec<Vec<Option<AggrChunk>>> = series.iter().map(|one| vec![None; one.chunks.len()]).collect();
    let fetches = reads.into_iter().map(|(number, range, which)| async move {
        let bytes = block.read(Purpose::Chunks, &block.segment(number), range.clone()).await?;
        Ok::<_, ReadError>((number, range, which, bytes))
    });
    let mut fetches = stream::iter(fetches).buffer_unordered(READS_AT_ONCE);
    let mut needed = 0;
    while let Some((number, range, which, bytes)) = fetches.try_next().await? {
        for wanted in &wanted[which] {
            let place = &series[wanted.series].chunks[wanted.chunk];
            let at = (wanted.range.start - range.start) as usize;
            let stored = one(block, number, wanted.range.start, at, &bytes).await?;
            needed += stored.len as u64;
            let opened =
                stored.open().map_err(|error| ReadError::chunk(block.segment(number), wanted.range.start, error))?;
            chunks[wanted.series][wanted.chunk] =
                choose(opened, aggregates).map(|data| AggrChunk { mint: place.meta.mint, maxt: place.meta.maxt, data });
        }
    }
    drop(fetches);
    let series = series.into_iter().zip(chunks).map(|(one, chunks)| {
        let mut chunks: Vec<AggrChunk> = chunks.into_iter().flatten().collect();
        chunks.sort_by_key(|chunk| (chunk.mint, chunk.maxt));
        ChunkSeries { labels: one.labels, chunks }
    });
    Ok(Batch { series: series.collect(), needed, fetched: bytes, held, listed: None })
}

/// Returns the chunk at `at` of `bytes`, reading it again if it is longer than was thought.
async fn one(block: &Block, number: u32, offset: u64, at: usize, bytes: &Bytes) -> Result<SegmentChunk, ReadError> {
    let key = || block.segment(number);
    let based = |error: farview_tsdb::FormatError| ReadError::format(key(), error.based(offset - at as u64));
    match segment::read(bytes, at) {
        Err(error) if error.is_truncated() => {
            block.metrics().chunk_refetches.inc();
            let size = block.size(&format!("chunks/{}", segment::file_name(number)));
            let head = match bytes.get(at..) {
                Some(head) if head.len() >= 5 => bytes.slice(at..at + 5),
                _ => block.read(Purpose::Chunks, &key(), offset.min(size)..offset.saturating_add(5).min(size)).await?,
            };
            let again = |error: farview_tsdb::FormatError| ReadError::format(key(), error.based(offset));
            let len = segment::encoded_len(&head).map_err(again)? as u64;
            if offset.saturating_add(len) > size {
                let reason = format!("the chunk at byte {offset} reaches beyond the end");
                return Err(ReadError::Corrupt { object: key(), reason });
            }
            let bytes = block.read(Purpose::Chunks, &key(), offset..offset + len).await?;
            segment::read(&bytes, 0).map_err(again)
        }
        found => found.map_err(based),
    }
}

/// Returns what is wanted of a chunk: raw data as they are, of aggregates those that were asked for.
fn choose(stored: StoredChunk, wanted: &[Aggregate]) -> Option<ChunkData> {
    match stored {
        StoredChunk::Raw(chunk) => Some(ChunkData::Raw(chunk)),
        StoredChunk::Aggregated([count, sum, min, max, counter]) => {
            let has = |aggregate: Aggregate| wanted.contains(&aggregate);
            let chosen = Aggregated {
                count: count.filter(|_| has(Aggregate::Count)),
                sum: sum.filter(|_| has(Aggregate::Sum)),
                min: min.filter(|_| has(Aggregate::Min)),
                max: max.filter(|_| has(Aggregate::Max)),
                counter: counter.filter(|_| has(Aggregate::Counter)),
            };
            (chosen != Aggregated::default()).then(|| ChunkData::Aggregated(Box::new(chosen)))
        }
    }
}
