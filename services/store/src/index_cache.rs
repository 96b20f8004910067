//! The index cache: posting lists, and what matchers choose in a block.

use crate::metrics::Metrics;
use bytes::Bytes;
use farview_block::BlockId;
use farview_tsdb::index::SeriesRef;
use moka::sync::Cache;
use std::sync::Arc;

/// Beside its content an entry takes about so much, bytes.
const OVERHEAD: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The list at this offset of the block's index.
    Postings(BlockId, u64),
    /// What these matchers choose in the block.
    Expanded(BlockId, Arc<str>),
}

#[derive(Debug, Clone)]
enum Entry {
    Postings(Bytes),
    Expanded(Arc<[SeriesRef]>),
}

/// A cache in memory, within a budget.
#[derive(Debug, Clone)]
pub(crate) struct IndexCache {
    entries: Cache<Key, Entry>,
    metrics: Metrics,
}

impl IndexCache {
    pub(crate) fn new(max_bytes: u64, metrics: Metrics) -> Self {
        let weigh = |key: &Key, entry: &Entry| {
            let key = if let Key::Expanded(_, matchers) = key { matchers.len() } else { 0 };
            let content = match entry {
                Entry::Postings(bytes) => bytes.len(),
                Entry::Expanded(refs) => refs.len() * size_of::<SeriesRef>(),
            };
            u32::try_from(OVERHEAD + key + content).unwrap_or(u32::MAX)
        };
        metrics.cache_max_bytes.set(max_bytes as i64);
        Self { entries: Cache::builder().weigher(weigh).max_capacity(max_bytes).build(), metrics }
    }

    /// Returns the posting list at an offset.
    pub(crate) fn postings(&self, block: BlockId, offset: u64) -> Option<Bytes> {
        let found = match self.entries.get(&Key::Postings(block, offset)) {
            Some(Entry::Postings(bytes)) => Some(bytes),
            _ => None,
        };
        self.metrics.looked_up("Postings", found.is_some());
        found
    }

    /// Keeps a posting list. `bytes` must not be a slice of something much larger.
    pub(crate) fn keep_postings(&self, block: BlockId, offset: u64, bytes: Bytes) {
        self.entries.insert(Key::Postings(block, offset), Entry::Postings(bytes));
        self.metrics.cache_bytes.set(self.entries.weighted_size() as i64);
    }

    /// Returns what matchers choose, by their text.
    pub(crate) fn expanded(&self, block: BlockId, matchers: &Arc<str>) -> Option<Arc<[SeriesRef]>> {
        let found = match self.entries.get(&Key::Expanded(block, Arc::clone(matchers))) {
            Some(Entry::Expanded(refs)) => Some(refs),
            _ => None,
        };
        self.metrics.looked_up("ExpandedPostings", found.is_some());
        found
    }

    /// Keeps what matchers choose.
    pub(crate) fn keep_expanded(&self, block: BlockId, matchers: &Arc<str>, refs: Arc<[SeriesRef]>) {
        self.entries.insert(Key::Expanded(block, Arc::clone(matchers)), Entry::Expanded(refs));
        self.metrics.cache_bytes.set(self.entries.weighted_size() as i64);
    }

    /// Forgets everything; for a block whose bytes were found to be wrong.
    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
    }
}
