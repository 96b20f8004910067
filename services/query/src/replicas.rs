//! Stores that hold the same data: one answers, another is its hedge and its fail-over.
//!
//! They find each other by what they say of their data ([`EndpointInfo::data_identity`]); nothing is configured. Stores of Thanos say
//! nothing, so that each of them is asked.

use crate::endpoints::Endpoint;
use farview_channels::{Hedge, HedgeConfig};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why a replica is not asked.
pub(crate) const SPARED: &str = "another store with the same data is asked";

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
    /// Puts endpoints with the same data together, in the order in which to ask them: who has the least to do first.
    pub(crate) fn group(&self, endpoints: Vec<Endpoint>) -> Vec<Vec<Endpoint>> {
        let mut groups: Vec<Vec<Endpoint>> = Vec::new();
        let mut by_data: BTreeMap<String, usize> = BTreeMap::new();
        for endpoint in endpoints {
            let data = data(&endpoint);
            if data.is_empty() {
                groups.push(vec![endpoint]);
                continue;
            }
            let at = *by_data.entry(data).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[at].push(endpoint);
        }
        let in_flight = self.in_flight.lock();
        for group in groups.iter_mut().filter(|group| group.len() > 1) {
            // Those that have equally much to do take turns.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % group.len();
            group.rotate_left(turn);
            group.sort_by_key(|endpoint| in_flight.get(&endpoint.address).copied().unwrap_or_default());
        }
        groups
    }

    /// Counts a call for as long as the guard lives.
    pub(crate) fn enter(&self, address: &str) -> InFlight {
        *self.in_flight.lock().entry(address.to_owned()).or_default() += 1;
        InFlight { all: Arc::clone(&self.in_flight), address: address.to_owned() }
    }
}

fn data(endpoint: &Endpoint) -> String {
    let info = endpoint.live.as_ref().map(|live| &live.identity);
    // One that cannot leave out replica labels has its series in another order.
    let fit = info.filter(|info| info.store.as_ref().is_some_and(|store| store.supports_without_replica_labels));
    fit.map(|info| info.data_identity.clone()).unwrap_or_default()
}
