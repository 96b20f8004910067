//! The other sidecars behind the same headless service: two of them with equal external labels are a fault of configuration
//! that nobody else can see, because every answer of theirs looks right.
//!
//! Found by `--farview.sidecar-service`, asked for Info as any endpoint is. What is found is said by log, metric, `/-/ready`
//! and Info until it is no longer so. A sidecar knows itself by its instance id.

use crate::metrics::Metrics;
use crate::state::State;
use farview_bootstrap::CancellationToken;
use farview_channels::{Channel, ClientTls, Probe, ServicePeers};
use farview_discovery::{Address, DnsMetrics, Lookup, Target};
use farview_proto::thanos::info::{InfoRequest, info_client::InfoClient};
use farview_storeapi::{Component, EndpointInfo};
use farview_telemetry::Readiness;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Status, async_trait};

/// Without news from the siblings it is looked again after this time: the own labels may have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

struct InfoProbe;

#[async_trait]
impl Probe for InfoProbe {
    type Identity = EndpointInfo;

    async fn probe(&self, _: &Address, channel: Channel) -> Result<EndpointInfo, Status> {
        Ok(EndpointInfo::from_proto(InfoClient::new(channel).info(InfoRequest {}).await?.into_inner()))
    }

    fn is_same_party(&self, before: &EndpointInfo, now: &EndpointInfo) -> bool {
        before.instance_id == now.instance_id && before.label_sets == now.label_sets
    }
}

/// Watches the other sidecars.
pub(crate) struct Siblings {
    peers: ServicePeers<EndpointInfo>,
    own: Own,
}

/// This sidecar: what it announces, and where it says what it has found.
pub(crate) struct Own {
    pub(crate) state: Arc<State>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) instance_id: String,
}

impl Siblings {
    /// Starts to follow the sidecars behind `services`. Needs a tokio runtime.
    pub(crate) fn follow(
        services: Vec<Target>,
        lookup: Arc<dyn Lookup>,
        tls: Option<Arc<ClientTls>>,
        dns: DnsMetrics,
        own: Own,
    ) -> Self {
        let peers = ServicePeers::follow(services, lookup, tls, dns, InfoProbe);
        Self { peers, own }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.peers.changes();
        let mut told = Vec::new();
        loop {
            let twins = self.twins();
            if twins != told {
                self.tell(&twins);
                told = twins;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Returns the addresses of the sidecars that announce our labels, one for each that runs.
    fn twins(&self) -> Vec<String> {
        let own = self.own.state.get().external.clone();
        let mut twins: BTreeMap<String, String> = BTreeMap::new();
        for peer in self.peers.peers().peers() {
            let Some(live) = peer.live() else { continue };
            let info = &live.identity;
            let other = info.component == Component::SIDECAR && info.instance_id != self.own.instance_id;
            if other && !own.is_empty() && info.label_sets.contains(&own) {
                let address = peer.address().to_string();
                let known_by = if info.instance_id.is_empty() { address.clone() } else { info.instance_id.clone() };
                twins.entry(known_by).or_insert(address);
            }
        }
        let mut addresses: Vec<String> = twins.into_values().collect();
        addresses.sort_unstable();
        addresses
    }

    fn tell(&self, twins: &[String]) {
        self.own.metrics.duplicated_identity.set(twins.len() as i64);
        let text = (!twins.is_empty()).then(|| {
            let own = self.own.state.get().external.clone();
            format!(
                "{} announces the same external labels {own}: samples of two Prometheus are taken for one; give each its own",
                twins.join(", ")
            )
        });
        match &text {
            Some(text) => tracing::error!("{text}"),
            None => tracing::info!("no other sidecar announces the same external labels any more"),
        }
        self.own.readiness.note("duplicated identity", text.clone());
        self.own.state.update(|snapshot| snapshot.duplicated = text.clone());
    }
}
