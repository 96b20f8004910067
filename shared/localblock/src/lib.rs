//! Blocks that lie in local folders.
//!
//! [`LocalBlock`] reads one folder as Prometheus or Thanos wrote it, by positioned reads: in memory are only its symbols and its
//! postings offset table. [`LocalBlocks`] answers the engine from several of them. [`LocalBlockWriter`] writes one.

mod block;
mod error;
mod meta;
mod postings;
mod queryable;
mod writer;

pub use block::{LocalBlock, LocalSeries};
pub use error::LocalBlockError;
pub use meta::LocalMeta;
pub use queryable::{LocalBlocks, LocalBlocksConfig};
pub use writer::{BlockSummary, LocalBlockWriter};
