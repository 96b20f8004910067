//! Keeps what is known of Prometheus current: whether it answers, its external labels, its oldest sample, its label names.

use crate::metrics::Metrics;
use crate::prometheus::Prometheus;
use crate::state::State;
use crate::store::now;
use farview_bootstrap::CancellationToken;
use farview_model::{ErrorKind, TimeRange};
use farview_storeapi::StoreError;
use farview_telemetry::Latch;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The longest wait before Prometheus is tried again.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Asks Prometheus, again and again.
pub(crate) struct Heartbeat {
    pub(crate) prometheus: Prometheus,
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Metrics,
    pub(crate) latch: Latch,
    /// How often to ask whether it is there.
    pub(crate) interval: Duration,
    /// How often to read its configuration and labels.
    pub(crate) config_interval: Duration,
    pub(crate) config_timeout: Duration,
    /// How long it may be away before that is an error.
    pub(crate) ready_timeout: Duration,
}

impl Heartbeat {
    /// Runs until told to stop; never gives up.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut failures = 0u32;
        let mut down_since: Option<Instant> = Some(Instant::now());
        let mut complained = false;
        let mut configured: Option<Instant> = None;
        loop {
            let stale = configured.is_none_or(|at| at.elapsed() >= self.config_interval);
            let result = if stale || failures > 0 { self.learn().await } else { self.knock().await };
            match result {
                Ok(()) => {
                    if failures > 0 || down_since.is_some() {
                        tracing::info!(url = %self.prometheus.base(), labels = %self.state.get().external, "Prometheus answers");
                    }
                    if stale || failures > 0 {
                        configured = Some(Instant::now());
                    }
                    (failures, down_since, complained) = (0, None, false);
                    self.metrics.prometheus_up.set(1);
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    self.metrics.last_heartbeat.set(now.as_secs_f64());
                    self.state.update(|snapshot| snapshot.down = None);
                    self.latch.open();
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "Prometheus does not answer");
                    }
                    failures += 1;
                    let since = *down_since.get_or_insert_with(Instant::now);
                    if !complained && since.elapsed() >= self.ready_timeout {
                        complained = true;
                        tracing::error!(%error, "Prometheus has not been ready for {:?}", self.ready_timeout);
                    }
                    self.metrics.prometheus_up.set(0);
                    let text = error.to_string();
                    self.state.update(|snapshot| snapshot.down = Some(text.clone()));
                    self.latch.close(text);
                }
            }
            let wait = self.interval.saturating_mul(1 << failures.min(6)).min(LONGEST_WAIT.max(self.interval));
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                () = self.state.doubted() => configured = None,
            }
        }
    }

    async fn knock(&self) -> Result<(), StoreError> {
        self.prometheus.ready(self.config_timeout).await
    }

    /// Reads everything that is to be known.
    async fn learn(&self) -> Result<(), StoreError> {
        let timeout = self.config_timeout;
        self.prometheus.ready(timeout).await?;
        let external = self.prometheus.external_labels(timeout).await?;
        if external.is_empty() {
            let text = "Prometheus has no external labels: set global.external_labels in its configuration, such that no two Prometheus have the same";
            return Err(StoreError::new(ErrorKind::Invalid, text));
        }
        if self.state.get().external.is_empty() {
            let version = self.prometheus.version(timeout).await?;
            let flags = self.prometheus.flags(timeout).await?;
            let retention = flags.get("storage.tsdb.retention.time").map_or("", String::as_str);
            tracing::info!(version, retention, "found Prometheus");
        }
        let mint = match self.prometheus.lowest_timestamp(timeout).await {
            // A Prometheus that has just begun must not pass for one that holds whatever is asked for.
            Ok(Some(i64::MAX)) => now(),
            Ok(lowest) => lowest.unwrap_or(i64::MIN),
            Err(error) => {
                tracing::debug!(%error, "the oldest sample is not known");
                i64::MIN
            }
        };
        let (names, _) = self.prometheus.label_names(&[], TimeRange::ALL, timeout).await?;
        self.state.update(|snapshot| {
            if snapshot.external != external {
                if !snapshot.external.is_empty() {
                    tracing::warn!(before = %snapshot.external, now = %external, "the external labels of Prometheus have changed");
                }
                snapshot.generation += 1;
                snapshot.external = external.clone();
            }
            snapshot.mint = mint;
            snapshot.label_names = names.iter().cloned().collect();
        });
        Ok(())
    }
}
