//! Thanos' objstore YAML becomes a [`Bucket`].
//!
//! [`BucketConfig`] reads the YAML and builds a store of the `object_store` crate; [`Bucket`] is what the rest of Farview sees
//! of it: keys under a prefix, ranges whose length is checked, files uploaded in parts, every call counted.
//!
//! Who retries what: refused connections, 5xx, 408 and 429 are tried again by `object_store` within [`RETRY_TIMEOUT`], waiting as
//! long as `Retry-After` says ([`http`](self)); a body of another length than was asked for is fetched again by [`Bucket`].
//! Whoever calls bounds the whole by dropping the future. Reads that take longer than most did are hedged by a second one.
//!
//! Only this crate builds an object store.

mod bucket;
mod client;
mod config;
mod error;
mod hedge;
mod metrics;

pub use bucket::{Bucket, Object, Purpose};
pub use config::{BucketConfig, BucketFlag, RETRY_TIMEOUT};
pub use error::BucketError;
pub use metrics::BucketMetrics;
