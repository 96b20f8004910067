//! Sorted series in, sorted series out.
//!
//! A series with its compressed chunks is a [`ChunkSeries`]. Query merges streams of them from many endpoints, store merges
//! blocks, compact will too; all of them deduplicate by the same rules. No I/O, no clock, no runtime.

pub mod chunk_series;
pub mod counter;
pub mod dedup;
pub mod merge;
pub mod reader;
pub mod relabel;

pub use chunk_series::{AggrChunk, ChunkData, ChunkSeries};
pub use dedup::DedupFunc;
pub use merge::{Merge, OrderError};
pub use reader::{Reading, SeriesReader};
pub use relabel::{Relabel, RelabelError};
