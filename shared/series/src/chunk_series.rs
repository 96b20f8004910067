//! A series with its compressed chunks.

use farview_model::{Labels, TimeRange};
use farview_tsdb::Chunk;

/// A series and its chunks, sorted by [`AggrChunk::mint`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkSeries {
    /// The series' labels.
    pub labels: Labels,
    /// Its chunks; none if only labels were asked for.
    pub chunks: Vec<AggrChunk>,
}

/// A chunk of raw samples, or the aggregates that downsampling made of a time range.
#[derive(Debug, Clone, PartialEq)]
pub struct AggrChunk {
    /// Time of the first sample, ms.
    pub mint: i64,
    /// Time of the last sample, ms, inclusive.
    pub maxt: i64,
    /// The samples.
    pub data: ChunkData,
}

impl AggrChunk {
    /// Returns the range of time that the chunk covers.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.mint, self.maxt)
    }
}

/// What is in an [`AggrChunk`].
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkData {
    /// Samples as scraped.
    Raw(Chunk),
    /// Aggregates of downsampled data; of those only the ones that were asked for.
    Aggregated(Box<Aggregated>),
}

/// The aggregate chunks of one time range. Each has the same timestamps, but for the counter, which repeats its last raw
/// value at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Aggregated {
    /// Samples per window.
    pub count: Option<Chunk>,
    /// Sum per window.
    pub sum: Option<Chunk>,
    /// Least per window.
    pub min: Option<Chunk>,
    /// Greatest per window.
    pub max: Option<Chunk>,
    /// Counter total per window, resets folded in.
    pub counter: Option<Chunk>,
}
