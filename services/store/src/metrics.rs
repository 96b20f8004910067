//! What the store counts about itself, under Thanos' names where it has them.

use farview_block::filter::Excluded;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ItemType {
    item_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheOperation {
    config: &'static str,
    operation: &'static str,
}

/// Of the chunk cache.
const CHUNKS: CacheOperation = CacheOperation { config: "chunks", operation: "get_range" };

/// The store's own metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) syncs: Counter,
    pub(crate) sync_failures: Counter,
    pub(crate) sync_duration: Histogram,
    synced: Family<State, Gauge>,
    pub(crate) blocks_loaded: Gauge,
    pub(crate) shard_members: Gauge,
    pub(crate) shard_slots_held: Gauge,
    pub(crate) shard_slots_announced: Gauge,
    pub(crate) block_loads: Counter,
    pub(crate) block_load_failures: Counter,
    pub(crate) block_drops: Counter,
    pub(crate) quarantined: Gauge,
    pub(crate) block_failures: Counter,
    pub(crate) series_blocks_queried: Histogram,
    pub(crate) series_sent: Counter,
    pub(crate) chunks_sent: Counter,
    pub(crate) chunk_bytes_needed: Counter,
    pub(crate) chunk_refetches: Counter,
    pub(crate) series_refetches: Counter,
    pub(crate) lazy_postings: Counter,
    dropped: Family<Reason, Counter>,
    pub(crate) gate_in_flight: Gauge,
    pub(crate) gate_max: Gauge,
    pub(crate) gate_duration: Histogram,
    cache_requests: Family<ItemType, Counter>,
    cache_hits: Family<ItemType, Counter>,
    chunk_cache_requests: Family<CacheOperation, Counter>,
    chunk_cache_hits: Family<CacheOperation, Counter>,
    pub(crate) cache_bytes: Gauge,
    pub(crate) cache_max_bytes: Gauge,
    pub(crate) header_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        const SECONDS: [f64; 8] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
        const BLOCKS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 128.0, 512.0];
        let this = Self {
            syncs: Counter::default(),
            sync_failures: Counter::default(),
            sync_duration: Histogram::new(SECONDS),
            synced: Family::default(),
            blocks_loaded: Gauge::default(),
            shard_members: Gauge::default(),
            shard_slots_held: Gauge::default(),
            shard_slots_announced: Gauge::default(),
            block_loads: Counter::default(),
            block_load_failures: Counter::default(),
            block_drops: Counter::default(),
            quarantined: Gauge::default(),
            block_failures: Counter::default(),
            series_blocks_queried: Histogram::new(BLOCKS),
            series_sent: Counter::default(),
            chunks_sent: Counter::default(),
            chunk_bytes_needed: Counter::default(),
            chunk_refetches: Counter::default(),
            series_refetches: Counter::default(),
            lazy_postings: Counter::default(),
            dropped: Family::default(),
            gate_in_flight: Gauge::default(),
            gate_max: Gauge::default(),
            gate_duration: Histogram::new([0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0]),
            cache_requests: Family::default(),
            cache_hits: Family::default(),
            chunk_cache_requests: Family::default(),
            chunk_cache_hits: Family::default(),
            cache_bytes: Gauge::default(),
            cache_max_bytes: Gauge::default(),
            header_bytes: Gauge::default(),
        };
        let meta = registry.sub_registry_with_prefix("thanos_blocks_meta");
        meta.register("syncs", "Times the blocks of the bucket were looked for", this.syncs.clone());
        meta.register("sync_failures", "Times that failed", this.sync_failures.clone());
        meta.register("sync_duration_seconds", "Time that it took", this.sync_duration.clone());
        meta.register("synced", "Blocks of the bucket by what is done with them", this.synced.clone());
        let store = registry.sub_registry_with_prefix("thanos_bucket_store");
        store.register("blocks_loaded", "Blocks that are served", this.blocks_loaded.clone());
        let farview = registry.sub_registry_with_prefix("farview_store");
        farview.register("shard_members", "Stores that divide the blocks, this one too", this.shard_members.clone());
        farview.register("shard_slots_held", "Slots whose blocks are here, of 128", this.shard_slots_held.clone());
        farview.register(
            "shard_slots_announced",
            "Slots that this store is asked for, of 128",
            this.shard_slots_announced.clone(),
        );
        let store = registry.sub_registry_with_prefix("thanos_bucket_store");
        store.register("block_loads", "Blocks that were taken up", this.block_loads.clone());
        store.register(
            "block_load_failures",
            "Blocks whose index could not be read when it was to be made ready",
            this.block_load_failures.clone(),
        );
        store.register("block_drops", "Blocks that were given up", this.block_drops.clone());
        store.register("series_blocks_queried", "Blocks that a request touched", this.series_blocks_queried.clone());
        store.register("series_refetches", "Series that were longer than expected", this.series_refetches.clone());
        store.register("chunk_refetches", "Chunks that were longer than expected", this.chunk_refetches.clone());
        store.register(
            "lazy_expanded_postings",
            "Requests to blocks that tested matchers on series instead of fetching their lists",
            this.lazy_postings.clone(),
        );
        store.register("queries_dropped", "Requests that were refused, by limit", this.dropped.clone());
        store.register(
            "series_gate_queries_in_flight",
            "Series requests that are answered",
            this.gate_in_flight.clone(),
        );
        store.register("series_gate_queries_max", "Most that are answered at a time", this.gate_max.clone());
        store.register(
            "series_gate_duration_seconds",
            "Time that requests waited for their turn",
            this.gate_duration.clone(),
        );
        let cache = registry.sub_registry_with_prefix("thanos_store_index_cache");
        cache.register("requests", "Look-ups in the index cache", this.cache_requests.clone());
        cache.register("hits", "Look-ups that found something", this.cache_hits.clone());
        cache.register("total_size_bytes", "Bytes in the index cache", this.cache_bytes.clone());
        cache.register("max_size_bytes", "Most bytes in it", this.cache_max_bytes.clone());
        let cache = registry.sub_registry_with_prefix("thanos_store_bucket_cache_operation");
        cache.register("requests", "Pieces that were looked for in the cache", this.chunk_cache_requests.clone());
        cache.register("hits", "Pieces that were in it", this.chunk_cache_hits.clone());
        let own = registry.sub_registry_with_prefix("farview_store");
        own.register(
            "quarantined_blocks",
            "Blocks that are not read for now because they failed",
            this.quarantined.clone(),
        );
        own.register("block_failures", "Reads of blocks that failed", this.block_failures.clone());
        own.register("series_sent", "Series sent over StoreAPI", this.series_sent.clone());
        own.register("chunks_sent", "Chunks sent over StoreAPI", this.chunks_sent.clone());
        own.register(
            "chunk_bytes_needed",
            "Bytes of chunks that answers were made of",
            this.chunk_bytes_needed.clone(),
        );
        own.register("index_header_bytes", "Memory of the index headers in use", this.header_bytes.clone());
        this
    }

    pub(crate) fn set_synced(&self, state: &'static str, blocks: usize) {
        self.synced.get_or_create(&State { state }).set(blocks as i64);
    }

    pub(crate) fn set_excluded(&self, why: Excluded, blocks: usize) {
        self.set_synced(why.word(), blocks);
    }

    pub(crate) fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn looked_up(&self, item_type: &'static str, hit: bool) {
        self.cache_requests.get_or_create(&ItemType { item_type }).inc();
        self.cache_hits.get_or_create(&ItemType { item_type }).inc_by(u64::from(hit));
    }

    pub(crate) fn chunk_cache(&self, pieces: usize, hits: usize) {
        self.chunk_cache_requests.get_or_create(&CHUNKS).inc_by(pieces as u64);
        self.chunk_cache_hits.get_or_create(&CHUNKS).inc_by(hits as u64);
    }
}
