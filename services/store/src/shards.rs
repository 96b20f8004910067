//! How stores behind one headless service divide the blocks: who owns which slots, and how a slot changes hands.
//!
//! Each store finds the others by DNS, asks them for Info, and computes the owners of every slot by itself. A new owner announces a
//! slot when it has its blocks; an old one lets go of it only when all owners announce it, and serves it for a while after, because
//! queries learn of it late. Nothing is agreed upon: stores that see each other differently serve a slot once too often, never too
//! rarely.

use crate::metrics::Metrics;
use farview_bootstrap::CancellationToken;
use farview_channels::{Channel, ClientTls, Probe, ServicePeers};
use farview_discovery::{Address, DnsMetrics, Lookup, Target};
use farview_model::Slots;
use farview_proto::thanos::info::{InfoRequest, info_client::InfoClient};
use farview_storeapi::{EndpointInfo, ShardsInfo};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, async_trait};

/// How long the start waits for the others: a store that thinks it is alone loads everything.
const FIRST_LOOK: Duration = Duration::from_secs(15);
/// Without news it is looked again after this time, because holds and drains end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who a store is among those that divide the blocks.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Equal for stores that divide the same blocks.
    pub(crate) group: String,
    /// Its name, the same after a restart.
    pub(crate) name: String,
    /// `--store.replicas`
    pub(crate) replicas: usize,
    /// How long a store that is gone is waited for before others take its slots. For half as long a slot is served after it was
    /// let go: queries ask for Info every few seconds.
    pub(crate) hold: Duration,
}

/// Another store.
#[derive(Debug, Clone, PartialEq)]
struct Other {
    announced: Slots,
    seen: Instant,
    live: bool,
}

/// What a store does with its slots. Pure: told what is seen, it says what to hold.
#[derive(Debug)]
struct Division {
    member: Member,
    others: BTreeMap<String, Other>,
    /// Blocks of these are loaded, or to be.
    held: Slots,
    /// Blocks of these are loaded.
    loaded: Slots,
    announced: Slots,
    /// Let go, and served until then.
    draining: BTreeMap<u8, Instant>,
}

impl Division {
    fn new(member: Member) -> Self {
        Self {
            member,
            others: BTreeMap::new(),
            held: Slots::NONE,
            loaded: Slots::NONE,
            announced: Slots::NONE,
            draining: BTreeMap::new(),
        }
    }

    /// Notes which stores answer now, by name, and what they announce.
    fn see(&mut self, live: BTreeMap<String, Slots>, now: Instant) {
        self.others.values_mut().for_each(|other| other.live = false);
        for (name, announced) in live {
            self.others.insert(name, Other { announced, seen: now, live: true });
        }
        let hold = self.member.hold;
        self.others.retain(|_, other| other.live || now.duration_since(other.seen) < hold);
    }

    fn owned_by(&self, name: &str) -> Slots {
        let members = self.others.keys().map(String::as_str).chain([self.member.name.as_str()]);
        Slots::owned_by(name, members, self.member.replicas)
    }

    /// Takes up what is ours now and lets go of what others have taken over.
    fn step(&mut self, now: Instant) {
        let own = self.owned_by(&self.member.name);
        self.held = self.held.union(own);
        let going = self.held.difference(own);
        let mut taken = going;
        for (name, other) in &self.others {
            let theirs = self.owned_by(name);
            // A slot is taken over when each of its owners answers and announces it.
            taken = taken.difference(theirs.difference(if other.live { other.announced } else { Slots::NONE }));
        }
        // An owner that is gone again leaves the slot to us.
        self.draining.retain(|slot, _| taken.contains(*slot));
        for slot in taken.intersection(self.loaded).iter() {
            self.draining.entry(slot).or_insert(now + self.member.hold / 2);
        }
        let served: Slots = self.draining.iter().filter(|(_, until)| **until > now).map(|(slot, _)| *slot).collect();
        self.held = self.held.difference(taken.difference(served));
        self.draining.retain(|slot, _| served.contains(*slot));
        let draining: Slots = self.draining.keys().copied().collect();
        self.loaded = self.loaded.intersection(self.held);
        self.announced = self.loaded.difference(draining);
    }
}

/// The slots of this store.
#[derive(Clone)]
pub(crate) struct Shards(Arc<Inner>);

struct Inner {
    division: Mutex<Division>,
    /// Which blocks to hold; none before the others were looked for.
    held: watch::Sender<Option<Slots>>,
}

impl Shards {
    pub(crate) fn new(member: Member) -> Self {
        let held = watch::Sender::new(None);
        Self(Arc::new(Inner { division: Mutex::new(Division::new(member)), held }))
    }

    /// Returns a watch on which blocks to hold; none before that is known.
    pub(crate) fn held(&self) -> watch::Receiver<Option<Slots>> {
        self.0.held.subscribe()
    }

    /// Notes that all blocks of these slots are here.
    pub(crate) fn has_loaded(&self, slots: Slots) {
        let mut division = self.0.division.lock();
        division.loaded = slots.intersection(division.held);
        division.step(Instant::now());
    }

    /// Returns what to announce, without the blocks.
    pub(crate) fn info(&self) -> ShardsInfo {
        let division = self.0.division.lock();
        let Member { group, name, .. } = division.member.clone();
        ShardsInfo { group, member: name, slots: division.announced, identities: Vec::new() }
    }

    fn look(&self, live: BTreeMap<String, Slots>, metrics: &Metrics) {
        let mut division = self.0.division.lock();
        let now = Instant::now();
        division.see(live, now);
        let (held, members) = (division.held, division.others.len() + 1);
        division.step(now);
        metrics.shard_members.set(members as i64);
        metrics.shard_slots_held.set(i64::from(division.held.len()));
        metrics.shard_slots_announced.set(i64::from(division.announced.len()));
        let (before, held) = (held, division.held);
        drop(division);
        if before != held {
            let (took, left) = (held.difference(before).len(), before.difference(held).len());
            tracing::info!(members, held = held.len(), took, left, "the slots of this store have changed");
        }
        self.0.held.send_if_modified(|known| known.replace(held) != Some(held));
    }
}

struct InfoProbe;

#[async_trait]
impl Probe for InfoProbe {
    type Identity = EndpointInfo;

    async fn probe(&self, _: &Address, channel: Channel) -> Result<EndpointInfo, Status> {
        Ok(EndpointInfo::from_proto(InfoClient::new(channel).info(InfoRequest {}).await?.into_inner()))
    }

    fn is_same_party(&self, before: &EndpointInfo, now: &EndpointInfo) -> bool {
        before.instance_id == now.instance_id
    }
}

/// Looks for the other stores.
pub(crate) struct Siblings {
    peers: ServicePeers<EndpointInfo>,
    shards: Shards,
    instance_id: String,
    metrics: Metrics,
}

impl Siblings {
    /// Starts to follow the stores behind `services`. Needs a tokio runtime.
    pub(crate) fn follow(
        services: Vec<Target>,
        lookup: Arc<dyn Lookup>,
        tls: Option<Arc<ClientTls>>,
        dns: DnsMetrics,
        shards: Shards,
        instance_id: String,
        metrics: Metrics,
    ) -> Self {
        let peers = ServicePeers::follow(services, lookup, tls, dns, InfoProbe);
        Self { peers, shards, instance_id, metrics }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.peers.changes();
        let patience = Instant::now() + FIRST_LOOK;
        loop {
            if self.peers.peers().is_tried() || Instant::now() >= patience {
                self.shards.look(self.live(), &self.metrics);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Returns the other stores of the group that answer, by name.
    fn live(&self) -> BTreeMap<String, Slots> {
        let own = self.shards.info();
        let mut live = BTreeMap::new();
        for peer in self.peers.peers().peers() {
            let Some(answered) = peer.live() else { continue };
            let info = &answered.identity;
            let Some(shards) = &info.shards else { continue };
            if info.instance_id == self.instance_id || shards.group != own.group {
                continue;
            }
            if shards.member == own.member {
                tracing::error!(
                    address = %peer.address(),
                    "another store has the name {} too, both serve the same slots; give each its own by --farview.store-name",
                    own.member
                );
                continue;
            }
            live.insert(shards.member.clone(), shards.slots);
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(60);

    fn member(name: &str) -> Member {
        Member { group: "g".to_owned(), name: name.to_owned(), replicas: 2, hold: HOLD }
    }

    /// Several stores that see each other at once and load at once, unless told otherwise.
    struct World {
        now: Instant,
        stores: BTreeMap<&'static str, Division>,
        /// Blocks that were loaded, counted as slots.
        moved: u32,
    }

    impl World {
        fn new() -> Self {
            Self { now: Instant::now(), stores: BTreeMap::new(), moved: 0 }
        }

        fn start(&mut self, name: &'static str) {
            self.stores.insert(name, Division::new(member(name)));
        }

        /// One round; returns slots that nobody announces.
        fn round(&mut self, load: bool) -> Slots {
            self.now += Duration::from_secs(5);
            let announced: BTreeMap<String, Slots> =
                self.stores.iter().map(|(name, store)| ((*name).to_owned(), store.announced)).collect();
            for (name, store) in &mut self.stores {
                let mut live = announced.clone();
                live.remove(*name);
                store.see(live, self.now);
                store.step(self.now);
                if load {
                    self.moved += store.held.difference(store.loaded).len();
                    store.loaded = store.held;
                    store.step(self.now);
                }
            }
            Slots::ALL.difference(self.stores.values().fold(Slots::NONE, |all, store| all.union(store.announced)))
        }

        /// Rounds until nothing moves any more.
        fn settle(&mut self) {
            for _ in 0..30 {
                assert!(self.round(true).is_empty(), "a slot is served by nobody");
            }
        }
    }

    #[test]
    fn a_store_that_is_alone_serves_everything_and_shares_with_those_that_come() {
        let mut world = World::new();
        world.start("a");
        world.settle();
        assert_eq!(world.stores["a"].announced, Slots::ALL);
        for name in ["b", "c", "d"] {
            world.start(name);
            world.settle();
        }
        for slot in 0..Slots::COUNT {
            let holders = world.stores.values().filter(|store| store.held.contains(slot)).count();
            assert_eq!(holders, 2, "slot {slot}");
        }
    }

    #[test]
    fn nothing_is_let_go_before_the_new_owner_has_it() {
        let mut world = World::new();
        world.start("a");
        world.settle();
        world.start("b");
        world.start("c");
        for _ in 0..50 {
            assert!(world.round(false).is_empty(), "the new ones have not loaded yet");
        }
        assert_eq!(world.stores["a"].announced, Slots::ALL);
        world.settle();
        assert_ne!(world.stores["a"].held, Slots::ALL);
    }

    #[test]
    fn five_stores_four_stores_five_stores() {
        let mut world = World::new();
        for name in ["a", "b", "c", "d", "e"] {
            world.start(name);
            world.settle();
        }
        let copies = 2 * u32::from(Slots::COUNT);
        let most = copies * 13 / 50;
        world.moved = 0;
        world.stores.remove("e");
        for _ in 0..11 {
            assert!(world.round(true).is_empty(), "each slot has a second store");
        }
        assert_eq!(world.moved, 0, "a store that is away for a moment is waited for");
        world.settle();
        assert!(world.moved > 0 && world.moved <= most, "{} of {copies} moved", world.moved);
        world.moved = 0;
        world.start("e");
        world.settle();
        assert!(world.moved > 0 && world.moved <= most, "{} of {copies} moved", world.moved);
    }

    #[test]
    fn what_was_let_go_is_served_until_queries_know() {
        let mut world = World::new();
        world.start("a");
        world.settle();
        world.start("b");
        world.start("c");
        world.round(true);
        world.round(true);
        let store = &world.stores["a"];
        assert!(!store.draining.is_empty());
        let draining: Slots = store.draining.keys().copied().collect();
        assert!(store.loaded.contains_all(draining) && store.announced.intersection(draining).is_empty());
    }
}
