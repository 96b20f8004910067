//! A block that is served.

use crate::chunk_cache::ChunkCache;
use crate::error::ReadError;
use crate::header::{Headers, Loaded};
use crate::index_cache::IndexCache;
use crate::metrics::Metrics;
use bytes::Bytes;
use farview_block::{BlockId, BlockMeta, BlockObjects, FetchedBlock};
use farview_model::{ExternalLabels, Slots, TimeRange};
use farview_objstore::{Bucket, Purpose};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Failures in a row after which a block is left alone for a while.
const PATIENCE: u32 = 3;
/// The first while; it doubles.
const FIRST_QUARANTINE: Duration = Duration::from_secs(30);
/// The longest.
const LONGEST_QUARANTINE: Duration = Duration::from_secs(15 * 60);

/// What all blocks share.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) bucket: Bucket,
    pub(crate) headers: Headers,
    pub(crate) cache: IndexCache,
    /// If chunks are kept.
    pub(crate) chunk_cache: Option<ChunkCache>,
    pub(crate) metrics: Metrics,
    /// Reads of the bucket at a time.
    pub(crate) reads: Arc<Semaphore>,
}

/// A block that is served. Nothing of it is in memory but what it says of itself.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) id: BlockId,
    pub(crate) meta: Arc<BlockMeta>,
    pub(crate) objects: Arc<BlockObjects>,
    pub(crate) external: ExternalLabels,
    pub(crate) range: TimeRange,
    pub(crate) resolution: i64,
    /// Among those in which stores divide blocks.
    pub(crate) slot: u8,
    access: Access,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    last_error: String,
    until: Option<Instant>,
}

/// Returns the slot of a block.
pub(crate) fn slot(meta: &BlockMeta) -> u8 {
    Slots::of_block(meta.external_labels().labels(), meta.range().mint)
}

impl Block {
    pub(crate) fn new(block: &FetchedBlock, access: Access) -> Self {
        let meta = Arc::clone(&block.meta);
        Self {
            id: meta.ulid,
            slot: slot(&meta),
            external: meta.external_labels(),
            range: meta.range(),
            resolution: meta.resolution(),
            objects: Arc::clone(&block.objects),
            meta,
            access,
            health: Mutex::default(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.access.metrics
    }

    pub(crate) fn cache(&self) -> &IndexCache {
        &self.access.cache
    }

    /// Returns its index header.
    pub(crate) async fn header(&self) -> Result<Arc<Loaded>, ReadError> {
        self.access.headers.get(self.id, &self.objects).await
    }

    /// Makes its index header ready on disk.
    pub(crate) async fn prepare(&self) -> Result<(), ReadError> {
        self.access.headers.prepare(self.id, &self.objects).await
    }

    /// Returns the key of its index.
    pub(crate) fn index(&self) -> String {
        format!("{}/index", self.id)
    }

    /// Returns the key of a segment, the first being 0.
    pub(crate) fn segment(&self, number: u32) -> String {
        format!("{}/chunks/{}", self.id, farview_tsdb::segment::file_name(number))
    }

    /// Returns the size of the object with this path in the block; huge if it is not known.
    pub(crate) fn size(&self, path: &str) -> u64 {
        self.objects.files.get(path).copied().unwrap_or(u64::MAX)
    }

    /// Reads a range of an object.
    pub(crate) async fn read(&self, purpose: Purpose, key: &str, range: Range<u64>) -> Result<Bytes, ReadError> {
        let path = key.split_once('/').map_or(key, |(_, path)| path);
        match &self.access.chunk_cache {
            // Aligned pieces end where the object ends.
            Some(cache) if purpose == Purpose::Chunks && self.size(path) >= range.end && self.size(path) < u64::MAX => {
                cache.read(key, self.size(path), range, |range| self.fetch(purpose, key, range)).await
            }
            _ => self.fetch(purpose, key, range).await,
        }
    }

    async fn fetch(&self, purpose: Purpose, key: &str, range: Range<u64>) -> Result<Bytes, ReadError> {
        // The semaphore is never closed.
        let _permit = self.access.reads.acquire().await.ok();
        Ok(self.access.bucket.purpose(purpose).get_range(key, range).await?)
    }

    /// Takes note that it was read without a fault.
    pub(crate) fn succeeded(&self) {
        *self.health.lock() = Health::default();
    }

    /// Takes note of a failure; after a few the block is left alone for a while. Whatever is kept of it may be at fault.
    pub(crate) async fn failed(&self, error: &ReadError) {
        if error.is_limit() {
            return;
        }
        self.access.metrics.block_failures.inc();
        tracing::warn!(block = %self.id, %error, "block cannot be read");
        {
            let mut health = self.health.lock();
            health.failures += 1;
            health.last_error = error.to_string();
            if health.failures >= PATIENCE {
                let wait = FIRST_QUARANTINE.saturating_mul(1 << (health.failures - PATIENCE).min(10));
                health.until = Some(Instant::now() + wait.min(LONGEST_QUARANTINE));
            }
        }
        if matches!(error, ReadError::Corrupt { .. }) {
            self.access.headers.forget(self.id).await;
            self.access.cache.clear();
            if let Some(chunks) = &self.access.chunk_cache {
                chunks.clear();
            }
        }
    }

    /// Returns why the block is not read now, if it is not.
    pub(crate) fn quarantined(&self) -> Option<String> {
        let health = self.health.lock();
        health.until.filter(|until| Instant::now() < *until)?;
        Some(format!("block {} has failed {} times, last: {}", self.id, health.failures, health.last_error))
    }

    /// Returns the last error and how many there were in a row.
    pub(crate) fn trouble(&self) -> Option<(u32, String)> {
        let health = self.health.lock();
        (health.failures > 0).then(|| (health.failures, health.last_error.clone()))
    }
}
