//! The members of one headless service, as one of them sees the others.

use std::path::PathBuf;
use std::sync::Arc;

use farview_discovery::{Discovery, DiscoveryConfig, DnsMetrics, Lookup, Target, Vitals};
use tokio::sync::watch;

use crate::{ChannelConfig, ClientTls, ClientTlsConfig, Dialer, FanOut, PeerConfig, PeerSet, Probe};

/// A peer for every address of some services, with the defaults of discovery and channels.
pub struct ServicePeers<I> {
    // Polls as long as it lives.
    _discovery: Discovery,
    peers: PeerSet<I>,
}

impl<I: Send + Sync + 'static> ServicePeers<I> {
    /// Starts to follow the members behind `services`. Needs a tokio runtime.
    pub fn follow<P: Probe<Identity = I>>(
        services: Vec<Target>,
        lookup: Arc<dyn Lookup>,
        tls: Option<Arc<ClientTls>>,
        dns: DnsMetrics,
        probe: P,
    ) -> Self {
        let vitals = Vitals::default();
        let discovery = Discovery::new(Arc::clone(&lookup), DiscoveryConfig::default(), vitals.clone(), dns);
        discovery.set_targets(services);
        let dialer = Arc::new(Dialer::new(ChannelConfig::default(), tls, lookup));
        let peers = PeerSet::follow(discovery.addresses(), dialer, probe, PeerConfig::default(), vitals);
        Self { _discovery: discovery, peers }
    }

    /// Returns the members now.
    pub fn peers(&self) -> FanOut<I> {
        self.peers.peers()
    }

    /// Returns a watch that changes with every member: see [`PeerSet::changes`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.peers.changes()
    }
}

impl ClientTls {
    /// Returns how a member of a service that is served with this certificate speaks with the others, which are served alike: over TLS if
    /// there is a certificate, and without checking theirs. Only for what is not acted on as if it were proven.
    ///
    /// # Errors
    /// Whatever makes the files unusable now.
    pub fn among_members(
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
    ) -> Result<Option<Arc<Self>>, farview_config::Error> {
        let Some(cert) = cert else { return Ok(None) };
        let config = ClientTlsConfig {
            cert_file: Some(cert.clone()),
            key_file: key.cloned(),
            insecure_skip_verify: true,
            ..ClientTlsConfig::default()
        };
        Self::new(config).map(|tls| Some(Arc::new(tls)))
    }
}
