//! Stores that hold the same data: one answers, another is its hedge and its fail-over.
//!
//! They find each other by what they say of their data ([`EndpointInfo::data_identity`]); nothing is configured. Stores of Thanos say
//! nothing, so that each of them is asked.

use crate::endpoints::Endpoint;
use farview_channels::{Hedge, HedgeConfig};
use farview_model::Slots;
use farview_storeapi::ShardsInfo;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why a replica is not asked.
pub(crate) const SPARED: &str = "another store with the same data is asked";

/// Endpoints of which one is asked.
pub(crate) struct Group {
    /// In the order in which to ask them.
    pub(crate) replicas: Vec<Endpoint>,
    /// Only blocks of these slots are asked for.
    pub(crate) slots: Option<Slots>,
}

/// Chooses among replicas.
pub(crate) struct Replicas {
    in_flight: Arc<Mutex<BTreeMap<String, usize>>>,
    turn: AtomicUsize,
    /// When a second one is asked beside a slow first one.
    pub(crate) hedge: Hedge,
}

impl Default for Replicas {
    fn default() -> Self {
        let hedge = Hedge::new(HedgeConfig::default());
        Self { in_flight: Arc::default(), turn: AtomicUsize::new(0), hedge }
    }
}

/// A call that is under way.
pub(crate) struct InFlight {
    all: Arc<Mutex<BTreeMap<String, usize>>>,
    address: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.all.lock().entry(std::mem::take(&mut self.address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Replicas {
    /// Puts endpoints with the same data together, in the order in which to ask them: who has the least to do first. Stores that
    /// divide blocks are put together once for each part that several of them have.
    pub(crate) fn group(&self, endpoints: Vec<Endpoint>) -> Vec<Group> {
        let (divided, whole): (Vec<_>, Vec<_>) = endpoints.into_iter().partition(|endpoint| shards(endpoint).is_some());
        let mut groups = parts(&divided);
        let mut by_data: BTreeMap<String, usize> = BTreeMap::new();
        for endpoint in whole {
            let data = data(&endpoint);
            if data.is_empty() {
                groups.push(Group { replicas: vec![endpoint], slots: None });
                continue;
            }
            let at = *by_data.entry(data).or_insert_with(|| {
                groups.push(Group { replicas: Vec::new(), slots: None });
                groups.len() - 1
            });
            groups[at].replicas.push(endpoint);
        }
        let in_flight = self.in_flight.lock();
        for Group { replicas, .. } in groups.iter_mut().filter(|group| group.replicas.len() > 1) {
            // Those that have equally much to do take turns.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % replicas.len();
            replicas.rotate_left(turn);
            replicas.sort_by_key(|endpoint| in_flight.get(&endpoint.address).copied().unwrap_or_default());
        }
        groups
    }

    /// Counts a call for as long as the guard lives.
    pub(crate) fn enter(&self, address: &str) -> InFlight {
        *self.in_flight.lock().entry(address.to_owned()).or_default() += 1;
        InFlight { all: Arc::clone(&self.in_flight), address: address.to_owned() }
    }
}

fn shards(endpoint: &Endpoint) -> Option<&ShardsInfo> {
    endpoint.live.as_ref()?.identity.shards.as_ref()
}

/// Divides the slots among those that serve them, so that no block is asked of two.
fn parts(stores: &[Endpoint]) -> Vec<Group> {
    // Who has the same blocks in a slot, for each slot. Who knows of another block than the others is asked too.
    let mut by_slot: BTreeMap<(&str, u8, u64), Vec<usize>> = BTreeMap::new();
    for (at, store) in stores.iter().enumerate() {
        let Some(shards) = shards(store) else { continue };
        for (slot, identity) in shards.slots.iter().zip(&shards.identities).filter(|(_, identity)| **identity != 0) {
            by_slot.entry((&shards.group, slot, *identity)).or_default().push(at);
        }
    }
    let mut parts: BTreeMap<Vec<usize>, Slots> = BTreeMap::new();
    for ((_, slot, _), holders) in by_slot {
        parts.entry(holders).or_default().insert(slot);
    }
    let group = |(holders, slots): (Vec<usize>, Slots)| Group {
        replicas: holders.into_iter().map(|at| stores[at].clone()).collect(),
        slots: Some(slots),
    };
    parts.into_iter().map(group).collect()
}

fn data(endpoint: &Endpoint) -> String {
    let info = endpoint.live.as_ref().map(|live| &live.identity);
    // One that cannot leave out replica labels has its series in another order.
    let fit = info.filter(|info| info.store.as_ref().is_some_and(|store| store.supports_without_replica_labels));
    fit.map(|info| info.data_identity.clone()).unwrap_or_default()
}
