//! All targets of a process, and the one set of addresses they make.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::poller::Poller;
use crate::resolve::Prefer;
use crate::{
    Address, Answer, Change, DnsMetrics, HeldSet, History, HoldConfig, JoinReason, LeaveReason, Lookup, Movement,
};
use crate::{Target, TargetStatus, Vitals};

/// When DNS is asked, and what its answers may do.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// Time between two questions for the same name, ±20 %. Default 10 s.
    pub interval: Duration,
    /// The least time between two questions, whatever the TTL says and whoever asks for a refresh. Default 5 s.
    pub floor: Duration,
    /// The first wait after a failure, and for a name that never had addresses; it grows by 1.6 each time. Default 1 s.
    pub retry_first: Duration,
    /// The longest wait after a failure. Default 30 s.
    pub retry_last: Duration,
    /// Which addresses of a name with both families are endpoints.
    pub prefer: Prefer,
    /// How long absence is doubted.
    pub hold: HoldConfig,
    /// How many joins and leaves are kept for the status page. Default 512.
    pub history: usize,
}

impl Default for DiscoveryConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            floor: Duration::from_secs(5),
            retry_first: Duration::from_secs(1),
            retry_last: Duration::from_secs(30),
            prefer: Prefer::default(),
            hold: HoldConfig::default(),
            history: 512,
        }
    }
}

impl DiscoveryConfig {
    /// Asks for the same name at this interval.
    pub fn every(interval: Duration) -> Self {
        let config = Self::default();
        Self { interval, floor: config.floor.min(interval), ..config }
    }
}

/// The addresses of all targets at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Every address once, sorted.
    pub set: Arc<BTreeSet<Address>>,
    /// Whether every target had a positive answer at least once. Before that an empty set says nothing.
    pub settled: bool,
}

/// Follows a changeable list of targets. Dropping it ends its tasks.
pub struct Discovery {
    hub: Arc<Hub>,
    lookup: Arc<dyn Lookup>,
    refresh: watch::Sender<u64>,
}

impl Discovery {
    /// Makes a discovery without targets: see [`Discovery::set_targets`]. Needs a tokio runtime.
    pub fn new(lookup: Arc<dyn Lookup>, config: DiscoveryConfig, vitals: Vitals, metrics: DnsMetrics) -> Self {
        let history = History::new(config.history);
        let addresses = watch::Sender::new(Addresses::default());
        let hub = Hub { config, vitals, metrics, history, addresses, targets: Mutex::default() };
        Self { hub: Arc::new(hub), lookup, refresh: watch::Sender::new(0) }
    }

    /// Replaces the targets. Those that stay are not disturbed; the addresses of those that go leave at once.
    pub fn set_targets(&self, targets: impl IntoIterator<Item = Target>) {
        let wanted: BTreeSet<Target> = targets.into_iter().collect();
        let mut known = self.hub.targets();
        let gone: Vec<Target> = known.keys().filter(|t| !wanted.contains(*t)).cloned().collect();
        for target in gone {
            if let Some(entry) = known.remove(&target) {
                for address in entry.held.addresses() {
                    self.hub.record(&target, address, Movement::Left(LeaveReason::Unconfigured));
                }
                self.hub.metrics.forget(&target);
            }
        }
        for target in wanted {
            known.entry(target).or_insert_with_key(|target| self.start(target));
        }
        self.hub.publish(&known);
    }

    fn start(&self, target: &Target) -> Entry {
        let mut entry = Entry::default();
        if let Some(address) = target.address() {
            let answer = Answer::Found { records: vec![address.clone()], ttl: Duration::MAX, gap: crate::Gap::None };
            entry.held.apply(&answer, &self.hub.config.hold, |_| true, Instant::now());
            entry.last_answer = "configured".to_owned();
            self.hub.record(target, &address, Movement::Joined(JoinReason::Configured));
            self.hub.metrics.resolved(target, 1);
            return entry;
        }
        let poller = Poller {
            target: target.clone(),
            lookup: self.lookup.clone(),
            config: self.hub.config.clone(),
            hub: Arc::downgrade(&self.hub),
            refresh: self.refresh.subscribe(),
            deaths: self.hub.vitals.deaths(),
        };
        entry.task = Some(AbortOnDrop(tokio::spawn(poller.run())));
        entry
    }

    /// Returns a watch on the addresses of all targets. Every change of the set is one change of the watch.
    pub fn addresses(&self) -> watch::Receiver<Addresses> {
        self.hub.addresses.subscribe()
    }

    /// Asks every name early; granted at most once per [`DiscoveryConfig::floor`] and name.
    pub fn refresh(&self) {
        self.refresh.send_modify(|n| *n += 1);
    }

    /// Returns what is known about each target.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let now = Instant::now();
        let known = self.hub.targets();
        let status = |(target, entry): (&Target, &Entry)| TargetStatus {
            target: target.clone(),
            addresses: entry.held.addresses().iter().cloned().collect(),
            last_answer: entry.last_answer.clone(),
            last_lookup: entry.last_lookup,
            last_success: entry.last_success,
            resolved: entry.held.is_resolved(),
            stale: entry.held.is_stale(&self.hub.config.hold, now),
        };
        known.iter().map(status).collect()
    }

    /// Returns the targets that an address belongs to now.
    pub fn targets_of(&self, address: &Address) -> Vec<Target> {
        let known = self.hub.targets();
        let of = known.iter().filter(|(_, entry)| entry.held.addresses().contains(address));
        of.map(|(target, _)| target.clone()).collect()
    }

    /// Returns the last joins and leaves, oldest first.
    pub fn history(&self) -> Vec<Change> {
        self.hub.history.changes()
    }
}

/// What discovery and its pollers share.
pub(crate) struct Hub {
    config: DiscoveryConfig,
    vitals: Vitals,
    metrics: DnsMetrics,
    history: History,
    addresses: watch::Sender<Addresses>,
    targets: Mutex<BTreeMap<Target, Entry>>,
}

#[derive(Default)]
struct Entry {
    held: HeldSet,
    last_answer: String,
    last_lookup: Option<SystemTime>,
    last_success: Option<SystemTime>,
    task: Option<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hub {
    /// Returns whether the target ever had a positive answer.
    pub(crate) fn answered(&self, target: &Target, answer: &Answer<Vec<Address>>, now: Instant) -> bool {
        self.metrics.answered(answer);
        let mut known = self.targets();
        let Some(entry) = known.get_mut(target) else { return false };
        let moves = entry.held.apply(answer, &self.config.hold, |a| self.vitals.is_alive(a), now);
        let words = in_words(answer);
        if words != entry.last_answer {
            match answer {
                Answer::Found { .. } => tracing::debug!(%target, answer = words, "DNS answered"),
                _ => {
                    tracing::warn!(%target, answer = words, kept = entry.held.addresses().len(), "DNS lists no addresses")
                }
            }
        }
        entry.last_answer = words;
        entry.last_lookup = Some(SystemTime::now());
        if !matches!(answer, Answer::Unavailable(_)) {
            entry.last_success = entry.last_lookup;
        }
        self.metrics.resolved(target, entry.held.addresses().len());
        let resolved = entry.held.is_resolved();
        for (address, movement) in &moves {
            self.record(target, address, *movement);
        }
        self.publish(&known);
        resolved
    }

    /// Tells whether an address of the target does not answer its probes.
    pub(crate) fn has_dead(&self, target: &Target) -> bool {
        self.targets().get(target).is_some_and(|entry| entry.held.addresses().iter().any(|a| !self.vitals.is_alive(a)))
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<Target, Entry>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, target: &Target, address: &Address, movement: Movement) {
        tracing::info!(%target, %address, %movement, "endpoint address changed");
        let change = Change { at: SystemTime::now(), target: target.to_string(), address: address.clone(), movement };
        self.history.push(change);
    }

    fn publish(&self, known: &BTreeMap<Target, Entry>) {
        let set = known.values().flat_map(|entry| entry.held.addresses().iter().cloned()).collect();
        let next = Addresses { set: Arc::new(set), settled: known.values().all(|entry| entry.held.is_resolved()) };
        self.addresses.send_if_modified(|current| {
            let changed = *current != next;
            if changed {
                *current = next;
            }
            changed
        });
    }
}

fn in_words(answer: &Answer<Vec<Address>>) -> String {
    match answer {
        Answer::Found { records, gap: crate::Gap::None, .. } => format!("{} addresses", records.len()),
        Answer::Found { records, .. } => {
            format!("{} addresses, perhaps not all: a part of the question was not answered", records.len())
        }
        Answer::Absent => "no addresses (the name or its records do not exist)".to_owned(),
        Answer::Unavailable(why) => format!("not known: {why}"),
    }
}
