//! What the query service counts, under the names that Thanos' dashboards and alerts read, and some of its own.

use crate::engine::When;
use farview_storeapi::EndpointInfo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::time::Duration;

/// The metrics of the query service.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    gate_max: Gauge,
    gate_in_flight: Gauge,
    gate_total: Counter,
    gate_duration: Histogram,
    timespan: Histogram,
    duration: Histogram,
    endpoints: Gauge,
    endpoints_in_use: Gauge,
    missing: Gauge,
    connections: Family<Connections, Gauge>,
    limits_hit: Family<Limit, Counter>,
}

/// A limit by the flag that sets it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

/// Endpoints that announce the same, as Thanos groups them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Connections {
    external_labels: String,
    store_type: String,
}

/// Counts a query as running until it is dropped.
pub(crate) struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, max_concurrent: usize) -> Self {
        let metrics = Self {
            gate_max: Gauge::default(),
            gate_in_flight: Gauge::default(),
            gate_total: Counter::default(),
            gate_duration: Histogram::new([0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0]),
            timespan: Histogram::new([60.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0, 7_776_000.0]),
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            endpoints: Gauge::default(),
            endpoints_in_use: Gauge::default(),
            missing: Gauge::default(),
            connections: Family::default(),
            limits_hit: Family::default(),
        };
        metrics.gate_max.set(max_concurrent as i64);
        let gate = "thanos_query_concurrent_gate_queries";
        registry.register(format!("{gate}_max"), "Queries that may run at a time", metrics.gate_max.clone());
        registry.register(format!("{gate}_in_flight"), "Queries that run now", metrics.gate_in_flight.clone());
        registry.register(gate, "Queries that have run", metrics.gate_total.clone());
        registry.register(
            format!("{gate}_duration_seconds"),
            "Time that queries waited for their turn",
            metrics.gate_duration.clone(),
        );
        registry.register(
            "thanos_query_range_requested_timespan_duration_seconds",
            "Time spans of range queries",
            metrics.timespan.clone(),
        );
        registry.register(
            "farview_query_duration_seconds",
            "Time that evaluated queries took",
            metrics.duration.clone(),
        );
        registry.register("farview_query_endpoints", "Endpoints that discovery lists", metrics.endpoints.clone());
        registry.register(
            "farview_query_endpoints_in_use",
            "Endpoints that answer and are asked",
            metrics.endpoints_in_use.clone(),
        );
        registry.register(
            "farview_query_missing_sources",
            "Sources that were announced lately and are announced by nobody now",
            metrics.missing.clone(),
        );
        registry.register(
            "farview_query_limits_hit",
            "Queries that were refused or ended because of a limit, by its flag",
            metrics.limits_hit.clone(),
        );
        registry.register(
            "thanos_store_nodes_grpc_connections",
            "Endpoints that are connected, by their external labels and kind",
            metrics.connections.clone(),
        );
        metrics
    }

    pub(crate) fn gate_waited(&self, waited: Duration) {
        self.gate_total.inc();
        self.gate_duration.observe(waited.as_secs_f64());
    }

    pub(crate) fn limit_hit(&self, limit: &'static str) {
        self.limits_hit.get_or_create(&Limit { limit }).inc();
    }

    pub(crate) fn running(&self) -> Running {
        self.gate_in_flight.inc();
        Running(self.gate_in_flight.clone())
    }

    pub(crate) fn observe(&self, when: When, took: Duration) {
        self.duration.observe(took.as_secs_f64());
        if let When::Range { start, end, .. } = when {
            self.timespan.observe((end - start) as f64 / 1_000.0);
        }
    }

    pub(crate) fn set_endpoints(&self, all: usize, in_use: usize, missing: usize) {
        self.endpoints.set(all as i64);
        self.endpoints_in_use.set(in_use as i64);
        self.missing.set(missing as i64);
    }

    /// Counts the endpoints that are connected.
    pub(crate) fn set_connections<'a>(&self, live: impl Iterator<Item = &'a EndpointInfo>) {
        let mut counts: BTreeMap<Connections, i64> = BTreeMap::new();
        for info in live {
            let external_labels = info.label_sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            *counts.entry(Connections { external_labels, store_type: info.component.clone() }).or_default() += 1;
        }
        self.connections.clear();
        for (of, count) in counts {
            self.connections.get_or_create_owned(&of).set(count);
        }
    }
}
