//! What a block is in a bucket (Thanos `docs/storage.md`, `pkg/block`).
//!
//! A block is a folder named by its [`BlockId`] that holds segments of chunks, an index, and `meta.json`, which is written last: a
//! block is there when its [`BlockMeta`] is. [`list`] finds what there is by one listing, [`MetaFetcher`] reads what is new, and
//! [`filter`] says which of it to use. [`upload`] puts a block there, [`delete`] takes it away again, [marks](DeletionMark) say what
//! is to become of it. A [`Shipper`] uploads what a Prometheus writes.

mod error;
mod fetcher;
pub mod filter;
mod id;
mod listing;
mod marks;
mod meta;
mod shipper;
mod transfer;

pub use error::BlockError;
pub use fetcher::{Fetched, FetchedBlock, MetaFetcher};
pub use id::BlockId;
pub use listing::{BlockObjects, Listing, list};
pub use marks::{DeletionMark, MarkFile, NoCompactMark, NoDownsampleMark};
pub use meta::{BlockFile, BlockMeta, Compaction, Downsample, IndexStats, Parent, Source, Stats, ThanosMeta};
pub use shipper::{Shipped, Shipper, ShipperConfig, ShipperMetrics};
pub use transfer::{delete, describe, upload};
