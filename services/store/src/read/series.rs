//! From references of series to their labels and the places of their chunks.

use crate::block::Block;
use crate::error::ReadError;
use crate::header::Loaded;
use crate::ranges;
use bytes::Bytes;
use farview_model::{Labels, Matcher, TimeRange};
use farview_objstore::Purpose;
use farview_tsdb::index::{ChunkMeta, SeriesEntry, SeriesRef, series};
use futures::{StreamExt, TryStreamExt, stream};
use std::ops::Range;

/// A series mostly takes less, bytes; one that takes more is read again.
const GUESS: u64 = 4 << 10;
/// No guess is larger: blocks may claim anything.
const LARGEST_GUESS: u64 = 64 << 10;
/// Of chunks that lie farther apart, bytes, the first does not reach to the second.
const FARTHEST: u64 = 1 << 20;
/// Reads of series at a time, for one block.
const READS_AT_ONCE: usize = 8;

/// A series of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    /// Its own labels.
    pub(crate) labels: Labels,
    /// Its chunks that overlap the time that is wanted, by mint.
    pub(crate) chunks: Vec<Place>,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) meta: ChunkMeta,
    /// Where the next chunk of the series begins in the same segment, which is where this one ends, if there is one.
    pub(crate) next: Option<u32>,
}

/// What of the series is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) range: TimeRange,
    /// Matchers that are still to be tested.
    pub(crate) untested: &'a [Matcher],
}

/// Reads a batch of series, which must rise. Those that fail a matcher or have nothing in the range are left out.
pub(crate) async fn read(
    block: &Block,
    loaded: &Loaded,
    refs: &[SeriesRef],
    wanted: Wanted<'_>,
) -> Result<Vec<Series>, ReadError> {
    let version = loaded.header.version;
    let (key, size) = (block.index(), block.size("index"));
    let guess = match block.meta.index_stats().series_max_size {
        0 => GUESS,
        // With its length and checksum.
        known => (known + 16).min(LARGEST_GUESS),
    };
    let ranges: Vec<Range<u64>> = refs
        .iter()
        .map(|series| {
            let start = series.offset(version);
            start..start.saturating_add(guess).min(size)
        })
        .collect();
    let parts = ranges::join(&ranges, ranges::GAP / 8, ranges::LONGEST);
    let reads = parts.into_iter().map(|part| async {
        let bytes = block.read(Purpose::Series, &key, part.range.clone()).await?;
        Ok::<_, ReadError>((part, bytes))
    });
    let mut reads = stream::iter(reads).buffered(READS_AT_ONCE);
    let mut out = Vec::with_capacity(refs.len());
    let mut decoder = Decoder { loaded, key: &key, entry: SeriesEntry::default() };
    while let Some((part, bytes)) = reads.try_next().await? {
        for series in &refs[part.wanted] {
            let start = series.offset(version);
            let bytes = bytes.slice((start - part.range.start).min(bytes.len() as u64) as usize..);
            let found = match decoder.decode(&bytes, start)? {
                Decoded::Whole => decoder.series(start, wanted)?,
                Decoded::Cut(len) => {
                    block.metrics().series_refetches.inc();
                    let end = start.saturating_add(len).min(size);
                    let bytes = block.read(Purpose::Series, &key, start..end).await?;
                    match decoder.decode(&bytes, start)? {
                        Decoded::Whole => decoder.series(start, wanted)?,
                        Decoded::Cut(_) => {
                            let reason = format!("the series at byte {start} reaches beyond the end");
                            return Err(ReadError::Corrupt { object: key.clone(), reason });
                        }
                    }
                }
            };
            out.extend(found);
        }
    }
    Ok(out)
}

enum Decoded {
    Whole,
    /// It takes so many bytes.
    Cut(u64),
}

/// Decodes series of one index.
struct Decoder<'a> {
    loaded: &'a Loaded,
    key: &'a str,
    entry: SeriesEntry,
}

impl Decoder<'_> {
    fn decode(&mut self, bytes: &Bytes, start: u64) -> Result<Decoded, ReadError> {
        let corrupt = |error: farview_tsdb::FormatError| ReadError::format(self.key.to_owned(), error.based(start));
        match series::decode(bytes, TimeRange::ALL, &mut self.entry) {
            Ok(_) => Ok(Decoded::Whole),
            Err(error) if error.is_truncated() => {
                // With fewer than ten bytes not even the length may be there.
                Ok(Decoded::Cut(series::encoded_len(bytes).unwrap_or(GUESS)))
            }
            Err(error) => Err(corrupt(error)),
        }
    }

    /// Returns what was decoded, if it is wanted.
    fn series(&self, start: u64, wanted: Wanted<'_>) -> Result<Option<Series>, ReadError> {
        let all = &self.entry.chunks;
        let mut chunks = Vec::new();
        for (i, meta) in all.iter().enumerate() {
            if !TimeRange::new(meta.mint, meta.maxt).overlaps(wanted.range) {
                continue;
            }
            let next = all.get(i + 1).map(|next| next.reference);
            let near = meta.reference.0 + 1..meta.reference.0 + FARTHEST;
            let next = next.filter(|next| next.segment() == meta.reference.segment() && near.contains(&next.0));
            chunks.push(Place { meta: *meta, next: next.map(|next| next.offset()) });
        }
        if chunks.is_empty() {
            return Ok(None);
        }
        let mut pairs = Vec::with_capacity(self.entry.labels.len());
        for (name, value) in &self.entry.labels {
            let text = |symbol: &u32| {
                let symbol = self.loaded.header.symbols.get(*symbol);
                symbol.map_err(|error| ReadError::format(self.key.to_owned(), error))
            };
            pairs.push((text(name)?, text(value)?));
        }
        let labels = Labels::from_sorted(pairs).ok_or_else(|| ReadError::Corrupt {
            object: self.key.to_owned(),
            reason: format!("the labels of the series at byte {start} are not sorted"),
        })?;
        let passes = |matcher: &Matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default());
        Ok(wanted.untested.iter().all(passes).then_some(Series { labels, chunks }))
    }
}
