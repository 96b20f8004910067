//! What discovery says about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::{Answer, Target};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddrLabel {
    addr: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Counts lookups under the names that Thanos' alerts and dashboards read.
///
/// `Default` makes unregistered metrics, for tests. Clones share the counts.
#[derive(Debug, Clone, Default)]
pub struct DnsMetrics {
    lookups: Counter,
    failures: Counter,
    reasons: Family<ReasonLabel, Counter>,
    results: Family<AddrLabel, Gauge>,
}

impl DnsMetrics {
    /// Registers `<prefix>_dns_{lookups_total,failures_total,provider_results}` and `<prefix>_dns_failures_by_reason_total` once per
    /// prefix. Thanos renamed its prefix from `thanos_query_store_apis` to `thanos_query_endpoints`, while its published alerts read
    /// the former: give both.
    pub fn register(registry: &mut Registry, prefixes: &[&str]) -> Self {
        let metrics = Self::default();
        for prefix in prefixes {
            let name = |rest: &str| format!("{prefix}_dns_{rest}");
            registry.register(
                name("lookups"),
                "The number of DNS lookups resolutions attempts",
                metrics.lookups.clone(),
            );
            registry.register(name("failures"), "The number of DNS lookup failures", metrics.failures.clone());
            let help = "The number of DNS lookup failures by the reason why it is not known which addresses there are";
            registry.register(name("failures_by_reason"), help, metrics.reasons.clone());
            let help = "The number of resolved endpoints for each configured address";
            registry.register(name("provider_results"), help, metrics.results.clone());
        }
        metrics
    }

    pub(crate) fn answered<T>(&self, answer: &Answer<T>) {
        self.lookups.inc();
        if let Answer::Unavailable(why) = answer {
            self.failures.inc();
            self.reasons.get_or_create(&ReasonLabel { reason: why.label() }).inc();
        }
    }

    pub(crate) fn resolved(&self, target: &Target, count: usize) {
        let label = AddrLabel { addr: target.to_string() };
        self.results.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn forget(&self, target: &Target) {
        self.results.remove(&AddrLabel { addr: target.to_string() });
    }
}
