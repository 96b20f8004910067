//! The flags of `farview store`: Thanos' names, verbatim, and a few of our own.

use clap::{Args, ValueEnum};
use farview_bootstrap::ServiceFlags;
use farview_config::{ByteSize, Error, Flags, PairSpec, PathOrContent, PromDuration, TimeOrDuration};
use farview_objstore::BucketFlag;
use std::path::PathBuf;

/// The configuration of a store.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    service: ServiceFlags,
    #[command(flatten)]
    pub(crate) bucket: BucketFlags,
    #[command(flatten)]
    pub(crate) shards: ShardFlags,
    #[command(flatten)]
    pub(crate) cache: CacheFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) web: WebFlags,
    #[command(flatten)]
    accepted: AcceptedFlags,
}

impl AsRef<ServiceFlags> for Config {
    fn as_ref(&self) -> &ServiceFlags {
        &self.service
    }
}

impl Flags for Config {
    const SERVICE: &'static str = "store";
    const ABOUT: &'static str = "Serves the blocks of a bucket over StoreAPI.";

    fn validate(&self) -> Result<(), Error> {
        if !self.bucket.objstore.is_set() {
            return Err(Error::Usage(
                "store needs a bucket: give --objstore.config or --objstore.config-file".to_owned(),
            ));
        }
        if self.shards.replicas == 0 {
            return Err(Error::Usage("--store.replicas=0: each block is served by one store at least".to_owned()));
        }
        Ok(())
    }
}

/// `--selector.relabel-config`
#[derive(Debug)]
pub(crate) struct SelectorConfig;

impl PairSpec for SelectorConfig {
    const NAME: &'static str = "selector.relabel-config";
    const ABOUT: &'static str =
        "YAML with relabelling rules that choose the blocks to serve by their labels and __block_id";
    const GROUP: &'static str = "Bucket";
    const EXPAND_ENV: bool = true;
}

/// Which part of the blocks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Shards")]
pub(crate) struct ShardFlags {
    /// auto: the stores behind one headless service divide the blocks among them. off: every store serves all that it may.
    #[arg(long = "store.shards", value_enum, default_value = "off")]
    pub(crate) shards: ShardMode,
    /// How many stores serve each block, with --store.shards=auto.
    #[arg(long = "store.replicas", default_value_t = 2)]
    pub(crate) replicas: usize,
    /// The headless service behind which this store and its like are, as dns+name:port. Repeatable. Without it the domain of the
    /// host's own name, as a StatefulSet gives it, and the gRPC port.
    #[arg(long = "farview.store-service", value_name = "dns+NAME:PORT")]
    pub(crate) services: Vec<String>,
    /// The name of this store among them, which must be its own and the same after a restart. Without it host name and gRPC port.
    #[arg(long = "farview.store-name")]
    pub(crate) name: Option<String>,
    /// How long a store that is gone is waited for before the others take over its blocks. What was handed on is served half
    /// as long after.
    #[arg(long = "store.shards-hold", default_value = "1m")]
    pub(crate) hold: PromDuration,
    /// Name servers to ask for the service instead of the system's, host:port. Repeatable.
    #[arg(long = "farview.dns-server", value_name = "ADDRESS")]
    pub(crate) dns_servers: Vec<std::net::SocketAddr>,
}

/// `--store.shards`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShardMode {
    /// The stores divide the blocks.
    Auto,
    /// They do not.
    Off,
}

/// `--index-cache.config`
#[derive(Debug)]
pub(crate) struct IndexCacheConfig;

impl PairSpec for IndexCacheConfig {
    const NAME: &'static str = "index-cache.config";
    const ABOUT: &'static str = "YAML with the index cache";
    const GROUP: &'static str = "Caches";
}

/// `--store.caching-bucket.config`
#[derive(Debug)]
pub(crate) struct CachingBucketConfig;

impl PairSpec for CachingBucketConfig {
    const NAME: &'static str = "store.caching-bucket.config";
    const ABOUT: &'static str = "YAML with the cache of chunks";
    const GROUP: &'static str = "Caches";
}

/// Which blocks.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bucket")]
pub(crate) struct BucketFlags {
    #[command(flatten)]
    pub(crate) objstore: PathOrContent<BucketFlag>,
    /// How often the bucket is listed for new blocks.
    #[arg(long = "sync-block-duration", default_value = "3m")]
    pub(crate) sync_interval: PromDuration,
    /// Descriptions of blocks that are read at a time.
    #[arg(long = "block-meta-fetch-concurrency", default_value_t = 32)]
    pub(crate) meta_concurrency: usize,
    /// Index headers that are made ready at a time.
    #[arg(long = "block-sync-concurrency", default_value_t = 20)]
    pub(crate) header_concurrency: usize,
    /// Start of the time range that is served: RFC 3339, or relative to now, such as -2w.
    #[arg(long = "min-time", default_value = "0000-01-01T00:00:00Z")]
    pub(crate) min_time: TimeOrDuration,
    /// End of the time range that is served.
    #[arg(long = "max-time", default_value = "9999-12-31T23:59:59Z")]
    pub(crate) max_time: TimeOrDuration,
    #[command(flatten)]
    pub(crate) selector: PathOrContent<SelectorConfig>,
    /// Age that a block must have before it is served; those made by compaction are served at once.
    #[arg(long = "consistency-delay", default_value = "0s")]
    pub(crate) consistency_delay: PromDuration,
    /// How long a block that is marked for deletion is still served. Must be less than the compactor's --delete-delay.
    #[arg(long = "ignore-deletion-marks-delay", default_value = "24h")]
    pub(crate) deletion_mark_delay: PromDuration,
}

/// What is kept near.
#[derive(Debug, Args)]
#[command(next_help_heading = "Caches")]
pub(crate) struct CacheFlags {
    /// Folder for index headers and descriptions of blocks. May be emptied while the store does not run.
    #[arg(long = "data-dir", default_value = "./data")]
    pub(crate) data_dir: PathBuf,
    /// Keep index headers in the folder.
    #[arg(long = "cache-index-header", default_value_t = true)]
    pub(crate) keep_headers: bool,
    /// Memory for index headers in use; the least recently used ones go first.
    #[arg(long = "store.index-header-memory", default_value = "256MiB")]
    pub(crate) header_memory: ByteSize,
    /// When index headers of new blocks are fetched: after the sync, or at the first query that needs one.
    #[arg(long = "store.index-header-lazy-download-strategy", value_enum, default_value = "eager")]
    pub(crate) header_download: HeaderDownload,
    /// Memory for posting lists, if there is no --index-cache.config.
    #[arg(long = "index-cache-size", default_value = "250MB")]
    pub(crate) index_cache_size: ByteSize,
    #[command(flatten)]
    pub(crate) index_cache: PathOrContent<IndexCacheConfig>,
    #[command(flatten)]
    pub(crate) caching_bucket: PathOrContent<CachingBucketConfig>,
}

/// `--store.index-header-lazy-download-strategy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeaderDownload {
    /// After the sync, in the background.
    Eager,
    /// At the first query.
    Lazy,
}

/// What a request may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitFlags {
    /// Series requests that are answered at a time; more wait.
    #[arg(long = "store.grpc.series-max-concurrency", default_value_t = 20)]
    pub(crate) series_concurrency: usize,
    /// Most series in an answer; 0 for all.
    #[arg(long = "store.limits.request-series", default_value_t = 0)]
    pub(crate) request_series: u64,
    /// Most samples in an answer, counted as 120 a chunk; 0 for all.
    #[arg(long = "store.limits.request-samples", default_value_t = 0)]
    pub(crate) request_samples: u64,
    /// Most bytes that one request may fetch from the bucket; 0 for all.
    #[arg(long = "store.grpc.downloaded-bytes-limit", default_value = "0")]
    pub(crate) downloaded_bytes: ByteSize,
    /// Former name of --store.limits.request-series.
    #[arg(long = "store.grpc.touched-series-limit", default_value_t = 0, hide = true)]
    pub(crate) touched_series: u64,
    /// Former name of --store.limits.request-samples.
    #[arg(long = "store.grpc.series-sample-limit", default_value_t = 0, hide = true)]
    pub(crate) sample_limit: u64,
    /// Most memory that one request may hold.
    #[arg(long = "store.limits.request-bytes", default_value = "256MiB")]
    pub(crate) request_bytes: ByteSize,
    /// The same for all requests together.
    #[arg(long = "chunk-pool-size", default_value = "2GB")]
    pub(crate) total_bytes: ByteSize,
    /// Most time for a request.
    #[arg(long = "store.request-timeout", default_value = "5m")]
    pub(crate) request_timeout: PromDuration,
    /// Fetch a posting list only if it is shorter than this many times the series it could save.
    #[arg(long = "store.posting-group-max-key-series-ratio", default_value_t = 100.0)]
    pub(crate) max_key_series_ratio: f64,
    /// Test the matchers with the longest posting lists on the series themselves where that is cheaper.
    #[arg(long = "store.enable-lazy-expanded-postings", default_value_t = true)]
    pub(crate) lazy_postings: bool,
}

/// The HTTP pages.
#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub(crate) struct WebFlags {
    /// Do not serve the pages and the API about blocks.
    #[arg(long = "web.disable")]
    pub(crate) disable: bool,
    /// Accepted for Thanos' sake.
    #[arg(long = "web.external-prefix", default_value = "", hide = true)]
    external_prefix: String,
    /// Accepted for Thanos' sake.
    #[arg(long = "web.prefix-header", default_value = "", hide = true)]
    prefix_header: String,
    /// Accepted for Thanos' sake.
    #[arg(long = "web.disable-cors", hide = true)]
    disable_cors: bool,
    /// Accepted for Thanos' sake.
    #[arg(long = "bucket-web-label", default_value = "", hide = true)]
    label: String,
    /// Accepted for Thanos' sake: a store never changes the bucket.
    #[arg(long = "disable-admin-operations", hide = true)]
    disable_admin: bool,
}

/// Flags of Thanos that say how its store works inside.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted for Thanos' sake")]
#[allow(dead_code, reason = "accepted so that manifests written for Thanos work")]
pub(crate) struct AcceptedFlags {
    /// There is one way: one listing.
    #[arg(long = "block-discovery-strategy", default_value = "concurrent", hide = true)]
    discovery: String,
    /// Headers are always loaded at first use.
    #[arg(long = "store.enable-index-header-lazy-reader", hide = true)]
    lazy_reader: bool,
    /// See --store.index-header-memory.
    #[arg(long = "store.index-header-lazy-reader-idle-timeout", default_value = "5m", hide = true)]
    lazy_reader_idle: PromDuration,
    /// Fixed.
    #[arg(long = "store.index-header-posting-offsets-in-mem-sampling", default_value_t = 32, hide = true)]
    sampling: usize,
    /// Follows from the memory of a request.
    #[arg(long = "debug.series-batch-size", default_value_t = 10_000, hide = true)]
    series_batch: usize,
    /// Follows from what was seen.
    #[arg(long = "debug.estimated-max-series-size", default_value = "0", hide = true)]
    max_series_size: ByteSize,
    /// Follows from what was seen.
    #[arg(long = "debug.estimated-max-chunk-size", default_value = "0", hide = true)]
    max_chunk_size: ByteSize,
    /// Regular expressions are compiled once a request.
    #[arg(long = "matcher-cache-size", default_value_t = 0, hide = true)]
    matcher_cache: usize,
}
