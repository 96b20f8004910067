//! Serves the blocks of a bucket over StoreAPI.
//!
//! [`sync`] keeps the set of blocks current ([`block_set`]), each of which ([`block`]) has in memory no more than its description; its
//! [index header](header) is loaded when a request needs it. [`select`] answers requests: [`read`] goes from posting lists over series
//! to chunks, whose bytes go into frames as they are. [`index_cache`] keeps posting lists, [`chunk_cache`] pieces of segments. [`info`] announces what there is, [`pages`]
//! shows it. Several stores may divide the blocks ([`shards`]).
//!
//! The store never writes to the bucket.

mod app;
mod block;
mod block_set;
mod chunk_cache;
mod config;
mod error;
mod header;
mod index_cache;
mod info;
mod metrics;
mod pages;
mod ranges;
mod read;
mod select;
mod shards;
mod sync;

pub use app::App;
pub use config::Config;
