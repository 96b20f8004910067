//! What there is to say about certificates.

use std::fmt;
use std::sync::Arc;

use farview_config::tls::TlsState;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Exports when certificates end and whether their files could be taken up, by the `use` of each.
#[derive(Debug, Clone, Default)]
pub struct TlsMetrics(Arc<Mutex<Vec<Used>>>);

/// A certificate's use and its state.
type Used = (String, Arc<TlsState>);

impl TlsMetrics {
    /// Registers the metrics, which are of nothing until something is added.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register_collector(Box::new(this.clone()));
        this
    }

    /// Adds what a certificate is used for: `http`, `grpc`, the name of an endpoint's configuration. Replaces what was
    /// known under the name.
    pub fn add(&self, name: &str, state: Arc<TlsState>) {
        let mut states = self.0.lock();
        states.retain(|(known, _)| known != name);
        states.push((name.to_owned(), state));
    }
}

/// Seconds since the epoch, and the like.
type Read = fn(&TlsState) -> Option<i64>;

impl Collector for TlsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        const METRICS: [(&str, &str, MetricType, Read); 5] = [
            (
                "farview_tls_certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, since unix epoch in seconds.",
                MetricType::Gauge,
                |s| s.not_after(),
            ),
            (
                "farview_tls_last_reload_success_timestamp_seconds",
                "When TLS files were last taken into use, since unix epoch in seconds.",
                MetricType::Gauge,
                |s| Some(s.last_success()),
            ),
            (
                "farview_tls_last_reload_successful",
                "Whether the TLS files as they are now could be taken into use, 1 or 0.",
                MetricType::Gauge,
                |s| Some(i64::from(s.is_current())),
            ),
            ("farview_tls_reloads", "How often changed TLS files were taken into use.", MetricType::Counter, |s| {
                i64::try_from(s.reloads()).ok()
            }),
            (
                "farview_tls_reload_failures",
                "How often changed TLS files could not be used.",
                MetricType::Counter,
                |s| i64::try_from(s.failures()).ok(),
            ),
        ];
        let states = self.0.lock();
        if states.is_empty() {
            return Ok(());
        }
        for (name, help, kind, read) in METRICS {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (used_for, state) in states.iter() {
                let Some(value) = read(state) else { continue };
                let labels = [("use", used_for.as_str())];
                let metric = family.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value.unsigned_abs()).encode(metric)?,
                    _ => ConstGauge::new(value).encode(metric)?,
                }
            }
        }
        Ok(())
    }
}
