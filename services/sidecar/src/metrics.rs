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
