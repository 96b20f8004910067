//! Who can be asked: every address that discovery found, what it announced, and what is missing.
//!
//! An endpoint is used only on a connection on which it has answered Info; what it announced there decides which queries go
//! to it. What was announced lately and is announced by nobody now is in the [`ledger`]: it makes an answer incomplete.

pub(crate) mod ledger;
pub(crate) mod selector;
pub(crate) mod sources;

use crate::config::EndpointFlags;
use farview_channels::{
    Channel, ChannelConfig, ClientMetrics, ClientTls, Dialer, Live, Peer, PeerConfig, PeerSet, PeerStatus, Probe,
};
use farview_discovery::{
    Address, Change, Discovery, DiscoveryConfig, DnsMetrics, FileStatus, Lookup, TargetStatus, Vitals,
};
use farview_model::{Labels, Matcher, TimeRange};
use farview_proto::thanos::info::InfoRequest;
use farview_proto::thanos::info::info_client::InfoClient;
use farview_storeapi::EndpointInfo;
use ledger::{Ledger, Missing};
use parking_lot::Mutex;
use selector::Selector;
use sources::Configured;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::Status;

/// Asks Info: who answers at an address, and what does it hold.
struct InfoProbe {
    calls: ClientMetrics,
    configured: Arc<Configured>,
    /// `--query.max-message-bytes`
    max_message_bytes: usize,
}

#[async_trait::async_trait]
impl Probe for InfoProbe {
    type Identity = EndpointInfo;

    async fn probe(&self, address: &Address, channel: Channel) -> Result<EndpointInfo, Status> {
        let mut client = InfoClient::new(self.calls.measure(channel)).max_decoding_message_size(self.max_message_bytes);
        let response = client.info(InfoRequest {}).await?;
        let mut info = EndpointInfo::from_proto(response.into_inner());
        // What stores of Farview say of themselves is said of others by configuring a group: they hold the same data.
        if let Some(group) = self.configured.group_of(address) {
            info.data_identity = group;
        }
        Ok(info)
    }

    fn is_same_party(&self, before: &EndpointInfo, now: &EndpointInfo) -> bool {
        // A process that restarts with the same data is the same party; another component or other labels are not.
        before.component == now.component
            && (before.label_sets == now.label_sets
                || (!now.instance_id.is_empty() && before.instance_id == now.instance_id))
    }
}

/// An endpoint at the moment of a query.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Its address, `host:port`.
    pub(crate) address: String,
    /// The connection in use, and what was announced on it; none while it cannot be asked.
    pub(crate) live: Option<Live<EndpointInfo>>,
    /// What it announced last, also while it cannot be asked.
    pub(crate) info: Option<Arc<EndpointInfo>>,
    /// Its health.
    pub(crate) status: PeerStatus,
    /// Whether it was configured as strict: never to be missed silently, even before it first answered.
    pub(crate) strict: bool,
    /// Its group, if it was configured as a member of one.
    pub(crate) group: Option<String>,
    /// What its series must match beside the query's matchers, because this query looks at some of its label sets only.
    pub(crate) narrowed: Vec<Matcher>,
}

impl Endpoint {
    fn new(peer: &Peer<EndpointInfo>, configured: &Configured) -> Self {
        let (strict, group) = configured.treatment(peer.address());
        Self {
            address: peer.address().to_string(),
            live: peer.live(),
            info: peer.identity(),
            status: peer.status(),
            strict,
            group,
            narrowed: Vec::new(),
        }
    }

    /// Returns what went wrong last, in words.
    pub(crate) fn problem(&self) -> String {
        let error = self.status.last_error.as_ref().map(|(_, text)| text.clone());
        error.unwrap_or_else(|| format!("it is {}", self.status.state.name()))
    }
}

/// All endpoints, followed by DNS and probed.
pub(crate) struct Endpoints {
    configured: Arc<Configured>,
    peers: PeerSet<EndpointInfo>,
    selector: Selector,
    ledger: Arc<Mutex<Ledger>>,
}

impl Endpoints {
    /// Starts to follow the configured endpoints. `tls` is for those that no file gives settings of their own. Needs a tokio runtime.
    pub(crate) fn start(
        flags: &EndpointFlags,
        channel: ChannelConfig,
        tls: Option<Arc<ClientTls>>,
        lookup: Arc<dyn Lookup>,
        metrics: DnsMetrics,
        calls: ClientMetrics,
    ) -> anyhow::Result<Self> {
        let vitals = Vitals::default();
        let interval = Duration::from(flags.dns_interval);
        let config = DiscoveryConfig::every(interval);
        let discovery = Discovery::new(Arc::clone(&lookup), config, vitals.clone(), metrics);
        let addresses = discovery.addresses();
        let configured = Configured::start(flags, discovery, tls)?;
        let max_message_bytes = channel.max_message;
        let sources = Arc::clone(&configured);
        let dialer = Arc::new(Dialer::by_address(channel, Box::new(move |address| sources.tls(address)), lookup));
        let probe_interval = Duration::from(flags.info_timeout);
        let peer_config = PeerConfig { probe_interval, ..PeerConfig::default() };
        let probe = InfoProbe { calls, configured: Arc::clone(&configured), max_message_bytes };
        let peers = PeerSet::follow(addresses, dialer, probe, peer_config, vitals);
        let ledger = Arc::new(Mutex::new(Ledger::new(flags.expect_for.into())));
        let selector = Selector::new(flags.selector.parse()?.unwrap_or_default())?;
        let this = Self { configured, peers, selector, ledger };
        this.keep_ledger();
        Ok(this)
    }

    /// Writes down what is announced, whenever a peer changes.
    fn keep_ledger(&self) {
        let (mut changes, mut set) = (self.peers.changes(), self.peers.watch());
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move {
            loop {
                {
                    let peers = set.borrow_and_update().clone();
                    let mut ledger = ledger.lock();
                    for peer in peers.peers() {
                        if let Some(live) = peer.live() {
                            ledger.seen(&peer.address().to_string(), &live.identity, SystemTime::now());
                        }
                    }
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    changed = set.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    /// Returns every endpoint in the set.
    pub(crate) fn all(&self) -> Vec<Endpoint> {
        self.peers.peers().peers().iter().map(|peer| Endpoint::new(peer, &self.configured)).collect()
    }

    /// Tells whether every name has been looked up and every address been tried.
    pub(crate) fn is_tried(&self) -> bool {
        self.peers.peers().is_tried()
    }

    /// Returns how many endpoints and names are configured.
    pub(crate) fn configured(&self) -> usize {
        self.configured.count()
    }

    /// Returns the files that name endpoints, and how they were read last.
    pub(crate) fn files(&self) -> Vec<(&'static str, FileStatus)> {
        self.configured.files()
    }

    /// Returns the joins and leaves, oldest first.
    pub(crate) fn history(&self) -> Vec<Change> {
        self.configured.discovery().history()
    }

    /// Returns what is known of each name.
    pub(crate) fn targets(&self) -> Vec<TargetStatus> {
        self.configured.discovery().targets()
    }

    /// Returns the changes of state of every endpoint.
    pub(crate) fn transitions(&self, address: &str) -> Vec<farview_channels::Transition> {
        let peers = self.peers.peers();
        let peer = peers.peers().iter().find(|peer| peer.address().to_string() == address);
        peer.map(Peer::history).unwrap_or_default()
    }

    /// Returns what is expected, whether it can be asked now or not: label sets and their times.
    pub(crate) fn expected(&self) -> Vec<(Labels, TimeRange)> {
        let mut expected = self.ledger.lock().expected();
        expected.retain(|(labels, _)| self.selector.keeps(labels));
        expected
    }

    /// Tells whether this query looks at series with these external labels.
    pub(crate) fn keeps(&self, labels: &Labels) -> bool {
        self.selector.keeps(labels)
    }

    /// Returns a watch that changes with every peer.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.peers.changes()
    }

    /// Chooses whom a query asks, and says who is missing.
    pub(crate) fn matching(&self, wanted: &Wanted<'_>) -> Matching {
        let all = self.all();
        let live: Vec<(String, Arc<EndpointInfo>)> = all
            .iter()
            .filter_map(|endpoint| Some((endpoint.address.clone(), Arc::clone(&endpoint.live.as_ref()?.identity))))
            .collect();
        let mut missing = self.ledger.lock().missing(&live, wanted, SystemTime::now());
        missing.retain(|missing| self.selector.keeps(&missing.labels));
        for missing in &mut missing {
            if let Some(endpoint) = all.iter().find(|endpoint| endpoint.address == missing.address) {
                missing.problem = if endpoint.live.is_some() {
                    "it does not announce these labels any more".to_owned()
                } else {
                    endpoint.problem()
                };
            } else if let Some(change) =
                self.history().iter().rev().find(|change| change.address.to_string() == missing.address)
            {
                missing.problem = change.movement.to_string();
            }
        }
        // An endpoint that is expected and never answered may hold anything, unless another of its group answers for it.
        for endpoint in
            all.iter().filter(|endpoint| endpoint.info.is_none() && wanted.allows_address(&endpoint.address))
        {
            let stands_in =
                |(_, info): &(String, Arc<EndpointInfo>)| endpoint.group.as_ref() == Some(&info.data_identity);
            if (endpoint.status.last_error.is_some() || endpoint.strict) && !live.iter().any(stands_in) {
                missing.push(Missing {
                    address: endpoint.address.clone(),
                    component: String::new(),
                    labels: Labels::empty(),
                    since: endpoint.status.since,
                    problem: endpoint.problem(),
                    replica_answers: false,
                    unknown: true,
                });
            }
        }
        for (target, problem) in self.configured.empty_strict_groups() {
            let address = target.to_string();
            if wanted.allows_address(&address) {
                let (since, labels) = (SystemTime::now(), Labels::empty());
                let (component, replica_answers, unknown) = ("group".to_owned(), false, true);
                missing.push(Missing { address, component, labels, since, problem, replica_answers, unknown });
            }
        }
        let known = all.len();
        let mut skipped = Vec::new();
        let mut chosen = Vec::new();
        for mut endpoint in all {
            let Some(live) = &endpoint.live else { continue };
            if let Some(reason) = wanted.refuses(&endpoint.address, &live.identity) {
                skipped.push((endpoint.address, reason));
                continue;
            }
            match self.selector.narrow(&live.identity.label_sets) {
                None => skipped.push((endpoint.address, "excluded by --selector.relabel-config")),
                Some(narrowed) => {
                    endpoint.narrowed = narrowed;
                    chosen.push(endpoint);
                }
            }
        }
        let stale =
            self.targets().into_iter().filter(|target| target.stale).map(|target| target.target.to_string()).collect();
        Matching { chosen, missing, skipped, known, stale }
    }
}

/// What a query wants of an endpoint.
pub(crate) struct Wanted<'a> {
    pub(crate) range: TimeRange,
    pub(crate) matchers: &'a [Matcher],
    /// Of `storeMatch[]`: any of these must match the address; empty for all.
    pub(crate) store_matchers: &'a [Vec<Matcher>],
    /// Labels that tell replicas apart, when they are to be made one.
    pub(crate) replica_labels: &'a [String],
    /// Which API.
    pub(crate) api: Api,
}

/// The APIs that an endpoint may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Store,
    Rules,
    Targets,
    Metadata,
    Exemplars,
    Status,
}

impl Api {
    /// Tells whether an endpoint offers the API.
    pub(crate) fn offered_by(self, info: &EndpointInfo) -> bool {
        match self {
            Self::Store => info.store.is_some(),
            Self::Rules => info.rules,
            Self::Targets => info.targets,
            Self::Metadata => info.metric_metadata,
            Self::Exemplars => info.exemplars.is_some(),
            Self::Status => info.status,
        }
    }
}

impl Wanted<'_> {
    fn allows_address(&self, address: &str) -> bool {
        let matches = |set: &Vec<Matcher>| set.iter().all(|matcher| matcher.matches(address));
        self.store_matchers.is_empty() || self.store_matchers.iter().any(matches)
    }

    /// Returns why an endpoint is not asked; none if it is.
    fn refuses(&self, address: &str, info: &EndpointInfo) -> Option<&'static str> {
        if !self.api.offered_by(info) {
            return Some("does not offer this API");
        }
        if !self.allows_address(address) {
            return Some("excluded by storeMatch[]");
        }
        if self.api == Api::Store && info.store.as_ref().is_some_and(|store| !store.range.overlaps(self.range)) {
            return Some("has no data in this time range");
        }
        if !info.label_sets.is_empty() && !info.label_sets.iter().any(|labels| self.may_match(labels)) {
            return Some("its external labels do not match");
        }
        None
    }

    /// Tells whether series with these external labels may match.
    pub(crate) fn may_match(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| labels.get(matcher.name()).is_none_or(|value| matcher.matches(value)))
    }
}

/// Whom a query asks.
pub(crate) struct Matching {
    /// Who is asked.
    pub(crate) chosen: Vec<Endpoint>,
    /// What was announced lately and cannot be asked now.
    pub(crate) missing: Vec<Missing>,
    /// Who is not asked and why.
    pub(crate) skipped: Vec<(String, &'static str)>,
    /// How many endpoints there are at all.
    pub(crate) known: usize,
    /// Names whose addresses have not been confirmed for long.
    pub(crate) stale: Vec<String>,
}
