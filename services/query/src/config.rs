//! The flags of `farview query`: Thanos' names, verbatim, and a few of our own.

use clap::{Args, ValueEnum};
use farview_bootstrap::{GrpcClientFlags, ServiceFlags};
use farview_config::{ByteSize, Error, Flags, PairSpec, PathOrContent, PromDuration};
use std::path::PathBuf;

/// The configuration of a query service.
#[derive(Debug, Args)]
pub struct Config {
    #[command(flatten)]
    service: ServiceFlags,
    #[command(flatten)]
    pub(crate) client: GrpcClientFlags,
    #[command(flatten)]
    pub(crate) endpoint: EndpointFlags,
    #[command(flatten)]
    pub(crate) query: QueryFlags,
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
    const SERVICE: &'static str = "query";
    const ABOUT: &'static str = "One PromQL view over all endpoints: fan-out, merge, deduplication, HTTP API.";
    const REMOVED: &'static [(&'static str, &'static str)] = &[
        ("store", "use --endpoint"),
        ("rule", "use --endpoint"),
        ("metadata", "use --endpoint"),
        ("exemplar", "use --endpoint"),
        ("target", "use --endpoint"),
        ("store-strict", "use --endpoint-strict"),
    ];

    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// `--endpoint.sd-config`
#[derive(Debug)]
pub(crate) struct EndpointConfig;

impl PairSpec for EndpointConfig {
    const NAME: &'static str = "endpoint.sd-config";
    const ABOUT: &'static str = "YAML with a list of endpoints and their client settings, re-read when it changes";
    const GROUP: &'static str = "Endpoints";
}

/// `--selector.relabel-config`
#[derive(Debug)]
pub(crate) struct SelectorConfig;

impl PairSpec for SelectorConfig {
    const NAME: &'static str = "selector.relabel-config";
    const ABOUT: &'static str = "YAML with relabelling rules that choose the label sets this query considers";
    const GROUP: &'static str = "Endpoints";
}

/// Whom to ask.
#[derive(Debug, Args)]
#[command(next_help_heading = "Endpoints")]
pub(crate) struct EndpointFlags {
    /// Address of a gRPC component: host:port, or a name to look up with dns+, dnssrv+ or dnssrvnoa+ in front. Repeatable.
    #[arg(long = "endpoint", value_name = "ADDRESS")]
    pub(crate) endpoints: Vec<String>,
    /// As --endpoint, never dropped: while it does not answer, every answer says so. No DNS prefix. Repeatable.
    #[arg(long = "endpoint-strict", value_name = "ADDRESS")]
    pub(crate) strict: Vec<String>,
    /// A name whose addresses are replicas of each other. Repeatable.
    #[arg(long = "endpoint-group", value_name = "ADDRESS")]
    pub(crate) groups: Vec<String>,
    /// As --endpoint-group, never dropped. Repeatable.
    #[arg(long = "endpoint-group-strict", value_name = "ADDRESS")]
    pub(crate) strict_groups: Vec<String>,
    #[command(flatten)]
    pub(crate) file: PathOrContent<EndpointConfig>,
    /// How often the endpoint file is read again, whether it is seen to change or not.
    #[arg(long = "endpoint.sd-config-reload-interval", default_value = "5m")]
    pub(crate) reload_interval: PromDuration,
    /// Prometheus file_sd files with addresses. Repeatable.
    #[arg(long = "store.sd-files", value_name = "PATH")]
    pub(crate) sd_files: Vec<String>,
    /// How often these files are read again.
    #[arg(long = "store.sd-interval", default_value = "5m")]
    pub(crate) sd_interval: PromDuration,
    /// Time between two DNS questions for the same name, varied by a fifth.
    #[arg(long = "store.sd-dns-interval", default_value = "10s")]
    pub(crate) dns_interval: PromDuration,
    /// Accepted for Thanos' sake: there is one resolver.
    #[arg(long = "store.sd-dns-resolver", default_value = "miekgdns", hide = true)]
    dns_resolver: String,
    /// Name servers to ask instead of the system's, host:port. Repeatable.
    #[arg(long = "farview.dns-server", value_name = "ADDRESS")]
    pub(crate) dns_servers: Vec<std::net::SocketAddr>,
    /// How often an endpoint is probed.
    #[arg(long = "endpoint.info-timeout", default_value = "5s", hide = true)]
    pub(crate) info_timeout: PromDuration,
    /// For how long what an endpoint announced is expected after it is gone: answers that lack it say so. 0s for Thanos'
    /// behaviour, which forgets at once.
    #[arg(long = "farview.expect-for", default_value = "15m")]
    pub(crate) expect_for: PromDuration,
    /// Accepted for Thanos' sake: how long failed endpoints are shown follows from --farview.expect-for.
    #[arg(long = "store.unhealthy-timeout", default_value = "5m", hide = true)]
    unhealthy_timeout: PromDuration,
    /// A label that this query announces on its own StoreAPI, name="value". Repeatable.
    #[arg(long = "selector-label", value_name = "NAME=\"VALUE\"")]
    pub(crate) selector_labels: Vec<String>,
    #[command(flatten)]
    pub(crate) selector: PathOrContent<SelectorConfig>,
}

/// How queries are evaluated.
#[derive(Debug, Args)]
#[command(next_help_heading = "Queries")]
pub(crate) struct QueryFlags {
    /// Labels that tell replicas apart: removed where replicas are made one. Repeatable, or a comma list.
    #[arg(long = "query.replica-label", value_delimiter = ',', value_name = "LABEL")]
    pub(crate) replica_labels: Vec<String>,
    /// How replicas are made one.
    #[arg(long = "deduplication.func", value_enum, default_value = "penalty")]
    pub(crate) dedup: Dedup,
    /// Most time for a query.
    #[arg(long = "query.timeout", default_value = "2m")]
    pub(crate) timeout: PromDuration,
    /// Most queries evaluated at a time; more wait.
    #[arg(long = "query.max-concurrent", default_value_t = 20)]
    pub(crate) max_concurrent: usize,
    /// Folder for the file queries.active, which names the queries that run; those that did not finish are logged at the next start.
    #[arg(long = "query.active-query-path", value_name = "DIR")]
    pub(crate) active_query_path: Option<PathBuf>,
    /// Accepted for Thanos' sake: all selectors of a query are asked at once, within its memory.
    #[arg(long = "query.max-concurrent-select", default_value_t = 4)]
    max_concurrent_select: usize,
    /// Accepted: both names mean Farview's engine.
    #[arg(long = "query.promql-engine", value_enum, default_value = "prometheus")]
    promql_engine: PromqlEngine,
    /// Accepted: local evaluation only.
    #[arg(long = "query.mode", value_enum, default_value = "local")]
    mode: Mode,
    /// How far back an instant selector looks; 5m if not set.
    #[arg(long = "query.lookback-delta")]
    pub(crate) lookback_delta: Option<PromDuration>,
    /// Look further back on downsampled data.
    #[arg(long = "query.dynamic-lookback-delta", default_value_t = true, hide = true)]
    pub(crate) dynamic_lookback: bool,
    /// Take a fifth of the step as max_source_resolution where a query gives none.
    #[arg(long = "query.auto-downsampling")]
    pub(crate) auto_downsampling: bool,
    /// Answer with what there is, and say what is missing.
    #[arg(long = "query.partial-response", default_value_t = true)]
    pub(crate) partial_response: bool,
    /// Range of label and series requests that give none; 0s for everything.
    #[arg(long = "query.metadata.default-time-range", default_value = "0s")]
    pub(crate) metadata_range: PromDuration,
    /// Inner step of subqueries that give none.
    #[arg(long = "query.default-evaluation-interval", default_value = "1m")]
    pub(crate) default_interval: PromDuration,
    /// Least step of range queries that give none.
    #[arg(long = "query.default-step", default_value = "1s")]
    pub(crate) default_step: PromDuration,
    /// max_source_resolution of instant queries that give none.
    #[arg(long = "query.instant.default.max_source_resolution", default_value = "0s", hide = true)]
    pub(crate) instant_resolution: PromDuration,
    /// Parts of PromQL to switch on, as Prometheus names them. Repeatable, or a comma list.
    #[arg(long = "enable-feature", value_delimiter = ',')]
    pub(crate) features: Vec<String>,
    /// Switch on xrate, xincrease and xdelta.
    #[arg(long = "query.enable-x-functions")]
    pub(crate) x_functions: bool,
    /// Threads that decode and evaluate; 0 for one a core.
    #[arg(long = "query.workers", default_value_t = 0)]
    pub(crate) workers: usize,
}

/// What queries may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitFlags {
    /// Most queries that wait for their turn; more are refused at once with 503.
    #[arg(long = "query.max-queued", default_value_t = 1_000)]
    pub(crate) max_queued: usize,
    /// Most time that a query waits for its turn.
    #[arg(long = "query.max-queue-time", default_value = "10s")]
    pub(crate) max_queue_time: PromDuration,
    /// Most bytes of a query's text.
    #[arg(long = "query.max-text-bytes", default_value_t = 64 << 10)]
    pub(crate) max_text_bytes: usize,
    /// Most levels of nesting in a query.
    #[arg(long = "query.max-depth", default_value_t = 128)]
    pub(crate) max_depth: usize,
    /// Most terms in a chain of operators.
    #[arg(long = "query.max-terms", default_value_t = 2_000)]
    pub(crate) max_terms: usize,
    /// Most samples that a query may hold at a time.
    #[arg(long = "query.max-samples", default_value_t = 50_000_000)]
    pub(crate) max_samples: usize,
    /// Most series that a selector may select; 0 for all.
    #[arg(long = "query.max-series", default_value_t = 5_000_000)]
    pub(crate) max_series: u64,
    /// Most memory of one query.
    #[arg(long = "query.max-query-bytes", default_value = "1GiB")]
    pub(crate) max_query_bytes: ByteSize,
    /// Most memory of all queries together.
    #[arg(long = "query.max-total-bytes", default_value = "4GiB")]
    pub(crate) max_total_bytes: ByteSize,
    /// Largest message that an endpoint may send.
    #[arg(long = "query.max-message-bytes", default_value = "64MiB")]
    pub(crate) max_message_bytes: ByteSize,
    /// Most time until an endpoint sends its first frame.
    #[arg(long = "query.first-frame-timeout", default_value = "30s")]
    pub(crate) first_frame: PromDuration,
    /// Most time from frame to frame of an endpoint; 0ms for 30s.
    #[arg(long = "store.response-timeout", default_value = "0ms")]
    pub(crate) response_timeout: PromDuration,
    /// Most series in an answer of our own StoreAPI; 0 for all.
    #[arg(long = "store.limits.request-series", default_value_t = 0)]
    pub(crate) request_series: u64,
    /// Most samples in an answer of our own StoreAPI; 0 for all.
    #[arg(long = "store.limits.request-samples", default_value_t = 0)]
    pub(crate) request_samples: u64,
}

/// The HTTP API and who may ask.
#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub(crate) struct WebFlags {
    /// Path under which API and UI are served.
    #[arg(long = "web.route-prefix", default_value = "")]
    pub(crate) route_prefix: String,
    /// Path under which a proxy shows API and UI to users.
    #[arg(long = "web.external-prefix", default_value = "")]
    external_prefix: String,
    /// Header in which a proxy tells the prefix it has removed.
    #[arg(long = "web.prefix-header", default_value = "")]
    prefix_header: String,
    /// Send no CORS headers.
    #[arg(long = "web.disable-cors")]
    pub(crate) disable_cors: bool,
    /// Base of the links of alerts.
    #[arg(long = "alert.query-url", default_value = "")]
    alert_query_url: String,
    /// Header that names the tenant.
    #[arg(long = "query.tenant-header", default_value = "THANOS-TENANT")]
    pub(crate) tenant_header: String,
    /// Tenant of requests that name none.
    #[arg(long = "query.default-tenant-id", default_value = "default-tenant")]
    pub(crate) default_tenant: String,
    /// Field of the client certificate that names the tenant. Refused: only the header is read.
    #[arg(long = "query.tenant-certificate-field")]
    pub(crate) tenant_certificate_field: Option<String>,
    /// Show a tenant only its own series.
    #[arg(long = "query.enforce-tenancy")]
    pub(crate) enforce_tenancy: bool,
    /// Label that names the tenant of a series.
    #[arg(long = "query.tenant-label-name", default_value = "tenant_id")]
    pub(crate) tenant_label: String,
}

/// Flags of Thanos that have no meaning here; accepted so that manifests work.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted")]
struct AcceptedFlags {
    /// Accepted: labels that split data between engines.
    #[arg(long = "query.partition-label", hide = true)]
    partition_labels: Vec<String>,
    /// Accepted: there is no other engine to fall back to.
    #[arg(long = "query.disable-fallback", hide = true)]
    disable_fallback: bool,
    /// Accepted: frames are read ahead within fixed bounds.
    #[arg(long = "grpc.proxy-strategy", default_value = "eager", hide = true)]
    proxy_strategy: String,
    /// Accepted: frames are read ahead within fixed bounds.
    #[arg(long = "query.lazy-retrieval-max-buffered-responses", default_value_t = 20, hide = true)]
    lazy_buffered: usize,
    /// Accepted: connections are counted by external labels and type.
    #[arg(long = "query.conn-metric.label", hide = true)]
    conn_metric_labels: Vec<String>,
    /// Accepted: edges of a histogram.
    #[arg(long = "query.telemetry.request-duration-seconds-quantiles", hide = true)]
    telemetry_duration: Vec<f64>,
    /// Accepted: edges of a histogram.
    #[arg(long = "query.telemetry.request-samples-quantiles", hide = true)]
    telemetry_samples: Vec<f64>,
    /// Accepted: edges of a histogram.
    #[arg(long = "query.telemetry.request-series-seconds-quantiles", hide = true)]
    telemetry_series: Vec<f64>,
    /// Accepted: partial answers follow --query.partial-response.
    #[arg(long = "rule.partial-response", hide = true)]
    rule_partial: bool,
    /// Accepted: partial answers follow --query.partial-response.
    #[arg(long = "target.partial-response", hide = true)]
    target_partial: bool,
    /// Accepted: partial answers follow --query.partial-response.
    #[arg(long = "metric-metadata.partial-response", hide = true)]
    metadata_partial: bool,
    /// Accepted: partial answers follow --query.partial-response.
    #[arg(long = "exemplar.partial-response", hide = true)]
    exemplar_partial: bool,
    /// Accepted: partial answers follow --query.partial-response.
    #[arg(long = "status.partial-response", hide = true)]
    status_partial: bool,
    /// Accepted: regular expressions are compiled once a query.
    #[arg(long = "matcher-cache-size", default_value_t = 0, hide = true)]
    matcher_cache_size: usize,
}

/// `--deduplication.func`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dedup {
    /// Stay on one replica, bridge its gaps with another.
    Penalty,
    /// Every sample of every replica.
    Chain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PromqlEngine {
    Prometheus,
    Thanos,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Local,
    Distributed,
}
