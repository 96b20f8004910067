//! A peer for every address that discovery publishes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farview_discovery::{Address, Addresses, Vitals};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::peer::{self, Common, Kept};
use crate::{Dialer, Peer, PeerConfig, Probe};

/// Every peer of a set at one moment, sorted by address: each is its own store and is asked for itself.
pub struct FanOut<I> {
    peers: Arc<Vec<Peer<I>>>,
    settled: bool,
}

impl<I> FanOut<I> {
    /// Returns the peers, usable or not, sorted by address.
    pub fn peers(&self) -> &[Peer<I>] {
        &self.peers
    }

    /// Returns the peer at an address.
    pub fn get(&self, address: &Address) -> Option<&Peer<I>> {
        self.peers.binary_search_by(|peer| peer.address().cmp(address)).ok().map(|index| &self.peers[index])
    }

    /// Tells whether discovery had a positive answer for every target. Before that an empty set says nothing.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Tells whether discovery is settled and every peer has been tried: each is in use, or has been found wanting. What is reported
    /// missing from then on is missing.
    pub fn is_tried(&self) -> bool {
        self.settled
            && self.peers.iter().all(|peer| {
                let status = peer.status();
                status.state.is_usable() || status.last_error.is_some()
            })
    }
}

impl<I> Clone for FanOut<I> {
    fn clone(&self) -> Self {
        Self { peers: self.peers.clone(), settled: self.settled }
    }
}

impl<I> fmt::Debug for FanOut<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.peers.iter()).finish()
    }
}

/// Follows a set of addresses. Dropping it drops its peers; calls under way finish.
pub struct PeerSet<I> {
    peers: watch::Receiver<FanOut<I>>,
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl<I: Send + Sync + 'static> PeerSet<I> {
    /// Follows `addresses`. Signs of life go to `vitals`, which the discovery behind `addresses` should share.
    ///
    /// An address that leaves is out of [`PeerSet::peers`] at once, but its peer is kept for [`PeerConfig::drain`], so that an
    /// address that comes back finds its connection. Needs a tokio runtime.
    pub fn follow<P: Probe<Identity = I>>(
        addresses: watch::Receiver<Addresses>,
        dialer: Arc<Dialer>,
        probe: P,
        config: PeerConfig,
        vitals: Vitals,
    ) -> Self {
        let (out, peers) = watch::channel(FanOut { peers: Arc::default(), settled: false });
        let (changes, changed) = watch::channel(0);
        let common = Arc::new(Common {
            dialer,
            probe: Arc::new(probe),
            config,
            vitals,
            changes,
            probed: AtomicBool::new(false),
        });
        let follower = Follower { common, out, kept: BTreeMap::new(), draining: BTreeMap::new() };
        Self { peers, changes: changed, task: tokio::spawn(follower.run(addresses)) }
    }

    /// Returns the peers now.
    pub fn peers(&self) -> FanOut<I> {
        self.peers.borrow().clone()
    }

    /// Returns a watch on which peers there are. State changes of peers are not changes here: see [`PeerSet::changes`].
    pub fn watch(&self) -> watch::Receiver<FanOut<I>> {
        self.peers.clone()
    }

    /// Returns a watch that changes whenever a peer joins, leaves, changes state or answers as another party; that peers were probed
    /// and answered as before is told four times a second at most. Its value means nothing.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

impl<I> Drop for PeerSet<I> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A thousand peers are probed 200 times a second: whoever looks through all of them at each change must not do so that often.
const NEWS: Duration = Duration::from_millis(250);

struct Follower<P: Probe> {
    common: Arc<Common<P>>,
    out: watch::Sender<FanOut<P::Identity>>,
    kept: BTreeMap<Address, Kept<P::Identity>>,
    draining: BTreeMap<Address, (Instant, Kept<P::Identity>)>,
}

impl<P: Probe> Follower<P> {
    async fn run(mut self, mut addresses: watch::Receiver<Addresses>) {
        let mut news = tokio::time::interval(NEWS);
        news.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = addresses.borrow_and_update().clone();
        self.apply(&first);
        // Once discovery is gone, what it last said stays true for this set.
        let mut discovering = true;
        loop {
            let drained = self.draining.values().map(|(until, _)| *until).min();
            tokio::select! {
                changed = addresses.changed(), if discovering => match changed {
                    Ok(()) => {
                        let now = addresses.borrow_and_update().clone();
                        self.apply(&now);
                    }
                    Err(_) => discovering = false,
                },
                () = tokio::time::sleep_until(drained.unwrap_or_else(Instant::now)), if drained.is_some() => self.drain(),
                _ = news.tick() => {
                    if self.common.probed.swap(false, Ordering::Relaxed) {
                        self.common.changes.send_modify(|n| *n += 1);
                    }
                }
            }
        }
    }

    fn apply(&mut self, addresses: &Addresses) {
        let gone: Vec<Address> =
            self.kept.keys().filter(|address| !addresses.set.contains(*address)).cloned().collect();
        let mut changed = !gone.is_empty();
        for address in gone {
            if let Some(kept) = self.kept.remove(&address) {
                self.common.vitals.forget(&address);
                self.draining.insert(address, (Instant::now() + self.common.config.drain, kept));
            }
        }
        for address in addresses.set.iter() {
            if !self.kept.contains_key(address) {
                let kept = match self.draining.remove(address) {
                    Some((_, kept)) => kept,
                    None => peer::keep(address.clone(), self.common.clone()),
                };
                self.common.vitals.set(address, kept.peer.status().state.is_usable());
                self.kept.insert(address.clone(), kept);
                changed = true;
            }
        }
        if changed || self.out.borrow().settled != addresses.settled {
            let peers = Arc::new(self.kept.values().map(|kept| kept.peer.clone()).collect());
            self.out.send_replace(FanOut { peers, settled: addresses.settled });
            self.common.changes.send_modify(|n| *n += 1);
        }
    }

    fn drain(&mut self) {
        let now = Instant::now();
        self.draining.retain(|address, (until, _)| {
            let keep = *until > now;
            if !keep {
                self.common.vitals.forget(address);
            }
            keep
        });
    }
}
