//! What the sidecar counts about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The sidecar's own metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// Whether Prometheus answers.
    pub(crate) prometheus_up: Gauge,
    /// When it last did, seconds since the epoch.
    pub(crate) last_heartbeat: Gauge<f64, std::sync::atomic::AtomicU64>,
    /// Other sidecars that announce the same external labels.
    pub(crate) duplicated_identity: Gauge,
    /// Series sent over StoreAPI.
    pub(crate) series_sent: Counter,
    /// Chunks sent over StoreAPI.
    pub(crate) chunks_sent: Counter,
    /// Bytes of chunks sent over StoreAPI.
    pub(crate) chunk_bytes_sent: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "thanos_sidecar_prometheus_up",
            "Whether the sidecar can talk to Prometheus",
            metrics.prometheus_up.clone(),
        );
        registry.register(
            "thanos_sidecar_last_heartbeat_success_time_seconds",
            "Time of the last successful heartbeat",
            metrics.last_heartbeat.clone(),
        );
        registry.register(
            "farview_sidecar_duplicated_identity",
            "Other sidecars that announce the same external labels",
            metrics.duplicated_identity.clone(),
        );
        registry.register("farview_sidecar_series_sent", "Series sent over StoreAPI", metrics.series_sent.clone());
        registry.register("farview_sidecar_chunks_sent", "Chunks sent over StoreAPI", metrics.chunks_sent.clone());
        registry.register(
            "farview_sidecar_chunk_bytes_sent",
            "Bytes of chunks sent over StoreAPI",
            metrics.chunk_bytes_sent.clone(),
        );
        metrics
    }
}

/// The reloader's metrics, under Thanos' names.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReloaderMetrics {
    pub(crate) reloads: Counter,
    pub(crate) reload_failures: Counter,
    last_successful: Gauge,
    last_success_time: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) applies: Counter,
    pub(crate) apply_failures: Counter,
    pub(crate) expansion_errors: Gauge,
    pub(crate) watches: Gauge,
    pub(crate) watch_events: Counter,
    pub(crate) watch_errors: Counter,
}

impl ReloaderMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let registry = registry.sub_registry_with_prefix("thanos_sidecar_reloader");
        registry.register("reloads", "Requests to Prometheus to reload", this.reloads.clone());
        registry.register("reloads_failed", "Requests to reload that failed", this.reload_failures.clone());
        registry.register("last_reload_successful", "Whether the last reload worked", this.last_successful.clone());
        registry.register(
            "last_reload_success_timestamp_seconds",
            "Time of the last reload that worked",
            this.last_success_time.clone(),
        );
        registry.register(
            "config_apply_operations",
            "Times the configuration was rendered and compared",
            this.applies.clone(),
        );
        registry.register("config_apply_operations_failed", "Times that failed", this.apply_failures.clone());
        registry.register(
            "config_environment_variable_expansion_errors",
            "Variables of the configuration that were not set",
            this.expansion_errors.clone(),
        );
        registry.register("watches", "Directories that are watched", this.watches.clone());
        registry.register("watch_events", "File events", this.watch_events.clone());
        registry.register("watch_errors", "Errors of watching files", this.watch_errors.clone());
        this
    }

    pub(crate) fn reloaded(&self, worked: bool) {
        self.last_successful.set(i64::from(worked));
        if worked {
            let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
            self.last_success_time.set(now.unwrap_or_default().as_secs_f64());
        }
    }
}
