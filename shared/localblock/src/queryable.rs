//! The engine's view of several blocks.

use crate::{LocalBlock, LocalBlockError, LocalSeries};
use farview_model::{Labels, Samples, TimeRange};
use farview_promql::{Queryable, SampleSource, Select, SeriesStream, SourceError, SourceSeries};
use farview_series::{AggrChunk, ChunkData, DedupFunc, SeriesReader};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Series in one batch of a stream.
const BATCH: usize = 64;

/// How blocks are asked.
#[derive(Debug, Clone)]
pub struct LocalBlocksConfig {
    /// Series that one selector may match, of all blocks together. Their labels and the places of their chunks are held while
    /// it is answered, about 1 KiB each.
    pub max_series: usize,
    /// Labels that tell replicas apart; they are taken off, and replicas become one series. None: nothing is deduplicated.
    pub replica_labels: Vec<String>,
    /// How replicas become one.
    pub dedup: DedupFunc,
}

impl Default for LocalBlocksConfig {
    fn default() -> Self {
        Self { max_series: 1_000_000, replica_labels: vec![], dedup: DedupFunc::default() }
    }
}

/// Answers the engine from several blocks.
#[derive(Debug, Clone)]
pub struct LocalBlocks {
    blocks: Arc<[LocalBlock]>,
    config: LocalBlocksConfig,
}

impl LocalBlocks {
    /// Takes the blocks.
    ///
    /// # Errors
    /// [`LocalBlockError::Resolutions`] if two of them hold the same time of the same source at different resolutions.
    pub fn new(blocks: Vec<LocalBlock>, config: LocalBlocksConfig) -> Result<Self, LocalBlockError> {
        for (i, a) in blocks.iter().enumerate() {
            let clashes = |b: &&LocalBlock| {
                let (a, b) = (a.meta(), b.meta());
                a.resolution != b.resolution && a.external_labels == b.external_labels && a.range.overlaps(b.range)
            };
            if let Some(b) = blocks[i + 1..].iter().find(clashes) {
                return Err(LocalBlockError::Resolutions { a: a.folder().to_owned(), b: b.folder().to_owned() });
            }
        }
        Ok(Self { blocks: blocks.into(), config })
    }

    /// Returns the time that the blocks cover, ms; empty without blocks.
    pub fn range(&self) -> TimeRange {
        self.blocks.iter().map(|block| block.meta().range).fold(TimeRange::new(i64::MAX, i64::MIN), |all, range| {
            TimeRange::new(all.mint.min(range.mint), all.maxt.max(range.maxt))
        })
    }

    /// Returns the matching series of all blocks by labels, each with the numbers of the blocks that have it.
    fn matching(&self, select: &Select) -> Result<BTreeMap<Labels, Pieces>, LocalBlockError> {
        let mut found: BTreeMap<Labels, Pieces> = BTreeMap::new();
        let mut pieces = 0;
        for (number, block) in self.blocks.iter().enumerate() {
            if !block.meta().range.overlaps(select.range) {
                continue;
            }
            let series = block.series(&select.matchers, select.range, self.config.max_series - pieces);
            // The limit that was asked for is that of all blocks.
            let series = series.map_err(|error| match error {
                LocalBlockError::TooManySeries { .. } => {
                    LocalBlockError::TooManySeries { limit: self.config.max_series }
                }
                error => error,
            })?;
            pieces += series.len();
            for series in series {
                let labels = series.labels.without(|name| self.config.replica_labels.iter().any(|label| label == name));
                found.entry(labels).or_default().push((number, series));
            }
        }
        Ok(found)
    }
}

/// Parts of one series, with the numbers of their blocks.
type Pieces = Vec<(usize, LocalSeries)>;

impl Queryable for LocalBlocks {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        let found = self.matching(select)?;
        let limit = if select.limit == 0 { usize::MAX } else { select.limit };
        // Without deduplication, overlapping chunks of one series come from blocks that hold the same samples.
        let dedup = if self.config.replica_labels.is_empty() { DedupFunc::Chain } else { self.config.dedup };
        Ok(Box::new(Stream {
            blocks: self.blocks.clone(),
            series: found.into_iter().take(limit).collect::<Vec<_>>().into_iter(),
            reader: SeriesReader::new(&select.func, dedup),
            labels_only: select.labels_only,
        }))
    }
}

struct Stream {
    blocks: Arc<[LocalBlock]>,
    series: std::vec::IntoIter<(Labels, Pieces)>,
    reader: SeriesReader,
    labels_only: bool,
}

impl Stream {
    fn chunks(&self, pieces: &Pieces) -> Result<Vec<AggrChunk>, LocalBlockError> {
        let mut chunks = Vec::new();
        for (block, series) in pieces.iter().filter(|_| !self.labels_only) {
            chunks.extend(self.blocks[*block].chunks(series)?);
        }
        // As the merge of streams does: of chunks that begin together, the shorter is first, and equal ones are there once.
        chunks.sort_by_key(|chunk: &AggrChunk| (chunk.mint, chunk.maxt));
        chunks.dedup();
        Ok(chunks)
    }
}

impl SeriesStream for Stream {
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError> {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some((labels, pieces)) = self.series.next()
        {
            let samples = Box::new(Chunks { chunks: self.chunks(&pieces)?, reader: self.reader });
            batch.push(SourceSeries { labels, samples });
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

/// The chunks of one series, of all blocks that have it.
struct Chunks {
    chunks: Vec<AggrChunk>,
    reader: SeriesReader,
}

impl SampleSource for Chunks {
    fn read(&self, range: TimeRange, out: &mut Samples) -> Result<(), SourceError> {
        self.reader
            .read(&self.chunks, range, out)
            .map_err(|error| SourceError { kind: error.kind(), message: error.to_string() })
    }

    fn size_bytes(&self) -> usize {
        let size = |chunk: &AggrChunk| match &chunk.data {
            ChunkData::Raw(raw) => raw.data.len(),
            ChunkData::Aggregated(parts) => [&parts.count, &parts.sum, &parts.min, &parts.max, &parts.counter]
                .into_iter()
                .flatten()
                .map(|chunk| chunk.data.len())
                .sum(),
        };
        self.chunks.iter().map(size).sum()
    }
}
