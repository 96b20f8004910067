//! The flags of `farview sidecar`: Thanos' names, verbatim, and a few of our own.

use clap::{Args, ValueEnum};
use farview_bootstrap::ServiceFlags;
use farview_config::{ByteSize, Flags, PairSpec, PathOrContent, PromDuration, TimeOrDuration};
use std::path::PathBuf;
use url::Url;

/// The configuration of a sidecar.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    service: ServiceFlags,
    #[command(flatten)]
    pub(crate) prometheus: PrometheusFlags,
    #[command(flatten)]
    pub(crate) store: StoreFlags,
    #[command(flatten)]
    pub(crate) reloader: ReloaderFlags,
    #[command(flatten)]
    pub(crate) upload: UploadFlags,
}

impl AsRef<ServiceFlags> for Config {
    fn as_ref(&self) -> &ServiceFlags {
        &self.service
    }
}

impl Flags for Config {
    const SERVICE: &'static str = "sidecar";
    const ABOUT: &'static str = "Stands beside one Prometheus: serves its data over StoreAPI, uploads its finished blocks, renders and reloads its configuration.";
}

/// `--prometheus.http-client`
#[derive(Debug)]
pub(crate) struct HttpClient;

impl PairSpec for HttpClient {
    const NAME: &'static str = "prometheus.http-client";
    const ABOUT: &'static str = "YAML with the settings of the HTTP client for Prometheus: authentication and TLS";
    const GROUP: &'static str = "Prometheus";
}

/// `--objstore.config`
#[derive(Debug)]
pub(crate) struct ObjectStore;

impl PairSpec for ObjectStore {
    const NAME: &'static str = "objstore.config";
    const ABOUT: &'static str = "YAML with the object store that finished blocks are uploaded to";
    const GROUP: &'static str = "Upload";
}

/// The Prometheus beside us.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prometheus")]
pub(crate) struct PrometheusFlags {
    /// URL at which to reach Prometheus' API. For better performance use the local network.
    #[arg(long = "prometheus.url", default_value = "http://localhost:9090")]
    pub(crate) url: Url,
    /// How long Prometheus may take to become ready before that is called an error; it is waited for in any case.
    #[arg(long = "prometheus.ready_timeout", default_value = "10m")]
    pub(crate) ready_timeout: PromDuration,
    /// How often Prometheus' configuration is read.
    #[arg(long = "prometheus.get_config_interval", default_value = "30s")]
    pub(crate) config_interval: PromDuration,
    /// How long reading it may take.
    #[arg(long = "prometheus.get_config_timeout", default_value = "30s")]
    pub(crate) config_timeout: PromDuration,
    #[command(flatten)]
    pub(crate) http_client: PathOrContent<HttpClient>,
    /// The headless service behind which this sidecar and its like are, as dns+name:port; others with equal external labels
    /// are reported. Repeatable.
    #[arg(long = "farview.sidecar-service", value_name = "dns+NAME:PORT")]
    pub(crate) sidecar_services: Vec<String>,
    /// Name servers to ask for it instead of the system's, host:port. Repeatable.
    #[arg(long = "farview.dns-server", value_name = "ADDRESS")]
    pub(crate) dns_servers: Vec<std::net::SocketAddr>,
    /// How often Prometheus is asked whether it is there.
    #[arg(long = "farview.heartbeat-interval", default_value = "1s")]
    pub(crate) heartbeat: PromDuration,
}

/// What is served.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreFlags {
    /// Start of the time range that is served: RFC 3339, or relative to now, such as -2w.
    #[arg(long = "min-time", default_value = "0000-01-01T00:00:00Z")]
    pub(crate) min_time: TimeOrDuration,
    /// Most series in an answer; 0 for all.
    #[arg(long = "store.limits.request-series", default_value_t = 0)]
    pub(crate) request_series: u64,
    /// Most samples in an answer, counted as 120 a chunk; 0 for all.
    #[arg(long = "store.limits.request-samples", default_value_t = 0)]
    pub(crate) request_samples: u64,
    /// Most memory that one request may hold to restore the order of its series.
    #[arg(long = "store.limits.request-bytes", default_value = "256MiB")]
    pub(crate) request_bytes: ByteSize,
    /// The same for all requests together.
    #[arg(long = "store.limits.total-bytes", default_value = "1GiB")]
    pub(crate) total_bytes: ByteSize,
    /// How long Prometheus may take for an answer that is read whole.
    #[arg(long = "farview.request-timeout", default_value = "2m")]
    pub(crate) request_timeout: PromDuration,
}

/// The configuration reloader.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reloader")]
pub(crate) struct ReloaderFlags {
    /// Configuration file to watch.
    #[arg(id = "reloader_config_file", long = "reloader.config-file", default_value = "")]
    pub(crate) config_file: String,
    /// Where the configuration goes with $(VARIABLES) replaced.
    #[arg(long = "reloader.config-envsubst-file", default_value = "")]
    pub(crate) envsubst_file: String,
    /// Directory with rules to watch. Repeatable.
    #[arg(long = "reloader.rule-dir")]
    pub(crate) rule_dirs: Vec<PathBuf>,
    /// How often everything watched is looked at in any case; 0 to apply it once.
    #[arg(long = "reloader.watch-interval", default_value = "3m")]
    pub(crate) watch_interval: PromDuration,
    /// How long to wait before a failed reload is tried again.
    #[arg(long = "reloader.retry-interval", default_value = "5s")]
    pub(crate) retry_interval: PromDuration,
    /// How Prometheus is told to reload.
    #[arg(long = "reloader.method", value_enum, default_value = "http")]
    pub(crate) method: ReloadMethod,
    /// Name of the process that gets the signal.
    #[arg(long = "reloader.process-name", default_value = "prometheus")]
    pub(crate) process_name: String,
}

/// `--reloader.method`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReloadMethod {
    /// A request to `/-/reload`.
    Http,
    /// SIGHUP.
    Signal,
}

/// Upload of finished blocks; none without an object store.
#[derive(Debug, Args)]
#[command(next_help_heading = "Upload")]
pub(crate) struct UploadFlags {
    #[command(flatten)]
    pub(crate) objstore: PathOrContent<ObjectStore>,
    /// Data directory of Prometheus.
    #[arg(long = "tsdb.path", default_value = "./data")]
    pub(crate) tsdb_path: PathBuf,
    /// Name of the state file in the data directory.
    #[arg(long = "shipper.meta-file-name", default_value = "thanos.shipper.json")]
    pub(crate) meta_file_name: String,
    /// Upload the blocks that Prometheus has compacted, too; for moving old data.
    #[arg(long = "shipper.upload-compacted")]
    pub(crate) upload_compacted: bool,
    /// Files of a block that are uploaded at a time; 0 for four.
    #[arg(long = "shipper.upload-concurrency", default_value_t = 0)]
    pub(crate) upload_concurrency: usize,
    /// When the sidecar stops in order, upload what Prometheus has not made a block of yet, too. Needs Prometheus to run with
    /// --web.enable-admin-api and to stop after the sidecar. What Prometheus makes of the same samples later overlaps this block.
    #[arg(long = "shipper.flush-on-shutdown")]
    pub(crate) flush_on_shutdown: bool,
    /// Do not insist on Prometheus' local compaction being off.
    #[arg(long = "shipper.ignore-unequal-block-size", hide = true)]
    pub(crate) ignore_unequal_block_size: bool,
    /// Go on with other blocks after one has failed.
    #[arg(long = "shipper.allow-out-of-order-uploads", hide = true)]
    pub(crate) allow_out_of_order_uploads: bool,
    /// Leave out corrupted blocks.
    #[arg(long = "shipper.skip-corrupted-blocks", hide = true)]
    pub(crate) skip_corrupted_blocks: bool,
    /// Hash function for the files of a block: empty or SHA256.
    #[arg(long = "hash-func", default_value = "", value_parser = ["", "SHA256"])]
    pub(crate) hash_func: String,
}
