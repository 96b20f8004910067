//! What the sidecar knows about its Prometheus, kept current by the heartbeat and read by every request.

use arc_swap::ArcSwap;
use farview_model::{Labels, TimeRange};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What was learned in the last round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    /// Whether the last round succeeded; what is wrong if it did not.
    pub(crate) down: Option<String>,
    /// The external labels; empty until they are known.
    pub(crate) external: Labels,
    /// Oldest sample, ms; `i64::MIN` if Prometheus does not say.
    pub(crate) mint: i64,
    /// Names of all labels that Prometheus holds, by which it is known whether external labels disturb the order.
    pub(crate) label_names: BTreeSet<String>,
    /// What an operator should know.
    pub(crate) notices: Vec<String>,
    /// Which other sidecars announce the same labels, in words; none if none does.
    pub(crate) duplicated: Option<String>,
    /// Goes up when the external labels change.
    pub(crate) generation: u64,
}

/// The current snapshot, shared.
#[derive(Debug, Default)]
pub(crate) struct State {
    snapshot: ArcSwap<Snapshot>,
    stale: tokio::sync::Notify,
}

impl State {
    /// Returns what is known now.
    pub(crate) fn get(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Says that an answer of Prometheus contradicts what is known: it is to be asked anew, now.
    pub(crate) fn doubt(&self) {
        self.stale.notify_one();
    }

    /// Waits for a doubt.
    pub(crate) async fn doubted(&self) {
        self.stale.notified().await;
    }

    /// Changes what is known.
    pub(crate) fn update(&self, change: impl Fn(&mut Snapshot)) {
        self.snapshot.rcu(|snapshot| {
            let mut next = Snapshot::clone(snapshot);
            change(&mut next);
            next
        });
    }
}

impl Snapshot {
    /// Tells whether requests can be answered.
    pub(crate) fn is_ready(&self) -> bool {
        self.down.is_none() && !self.external.is_empty()
    }

    /// Returns the times that are announced: from the oldest sample on, without an end, since samples keep coming.
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.mint, i64::MAX)
    }
}
