//! Whether the process should be sent traffic, and if not, what is missing.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// Ready when every latch is open and nobody is shutting down. Cheap to clone.
///
/// `/-/ready`, gRPC health and `thanos_status` all read this one value.
#[derive(Clone)]
pub struct Readiness(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    latches: Vec<(String, Option<String>)>,
    notes: Vec<(String, String)>,
    shutting_down: bool,
}

/// One part's say: closed when made, until the part opens it. It may close again, as when Prometheus goes away.
///
/// Dropping it changes nothing: a part that dies before it was ready never makes the process ready.
#[derive(Clone)]
pub struct Latch {
    index: usize,
    readiness: Readiness,
}

impl Readiness {
    /// Makes a readiness without latches, which is ready.
    pub fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), ready: watch::Sender::new(true) }))
    }

    /// Adds a latch; `name` says what has to happen ("first update of endpoints").
    pub fn latch(&self, name: impl Into<String>) -> Latch {
        let mut state = self.0.state.lock();
        state.latches.push((name.into(), Some("not yet".to_owned())));
        let index = state.latches.len() - 1;
        self.publish(&state);
        drop(state);
        Latch { index, readiness: self.clone() }
    }

    /// Sets (or with `None` takes back) a remark that `/-/ready` shows whether ready or not, such as a duplicated identity.
    pub fn note(&self, name: &str, text: Option<String>) {
        let mut state = self.0.state.lock();
        state.notes.retain(|(n, _)| n != name);
        if let Some(text) = text {
            state.notes.push((name.to_owned(), text));
        }
    }

    /// Makes the process not ready for good.
    pub fn shut_down(&self) {
        let mut state = self.0.state.lock();
        state.shutting_down = true;
        self.publish(&state);
    }

    /// Tells whether traffic should come.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Returns a receiver that sees every change.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// Returns what is missing, a line for each, and the remarks.
    pub fn report(&self) -> (Vec<String>, Vec<String>) {
        let state = self.0.state.lock();
        let shutdown = state.shutting_down.then(|| "shutting down".to_owned());
        let closed = state.latches.iter().filter_map(|(name, why)| why.as_ref().map(|why| format!("{name}: {why}")));
        let missing = shutdown.into_iter().chain(closed).collect();
        (missing, state.notes.iter().map(|(name, text)| format!("{name}: {text}")).collect())
    }

    /// Registers `thanos_status{check,component}`.
    pub fn register(&self, registry: &mut Registry, component: &str) {
        registry
            .register_collector(Box::new(StatusCollector { readiness: self.clone(), component: component.to_owned() }));
    }

    fn set(&self, index: usize, why: Option<String>) -> bool {
        let mut state = self.0.state.lock();
        let Some((_, slot)) = state.latches.get_mut(index) else { return false };
        let changed = slot.is_some() != why.is_some();
        *slot = why;
        self.publish(&state);
        changed
    }

    fn publish(&self, state: &State) {
        let ready = !state.shutting_down && state.latches.iter().all(|(_, why)| why.is_none());
        self.0.ready.send_if_modified(|current| std::mem::replace(current, ready) != ready);
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("ready", &self.is_ready()).finish_non_exhaustive()
    }
}

impl Latch {
    /// Says that what the latch waited for is there; tells whether that is news.
    pub fn open(&self) -> bool {
        self.readiness.set(self.index, None)
    }

    /// Says that it is not there (any more), and why; tells whether that is news.
    pub fn close(&self, why: impl Into<String>) -> bool {
        self.readiness.set(self.index, Some(why.into()))
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").field("index", &self.index).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct StatusCollector {
    readiness: Readiness,
    component: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    check: &'static str,
    component: String,
}

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = ConstGauge::new(i64::from(self.readiness.is_ready()));
        let help = "Whether the check of the component succeeds, 1 or 0.";
        let mut family = encoder.encode_descriptor("thanos_status", help, None, ready.metric_type())?;
        let labels = |check| StatusLabels { check, component: self.component.clone() };
        ConstGauge::new(1i64).encode(family.encode_family(&labels("healthy"))?)?;
        ready.encode(family.encode_family(&labels("ready"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exposition, RootRegistry};

    #[test]
    fn ready_when_all_latches_are_open_and_not_when_one_closes_again() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (a, b) = (readiness.latch("a"), readiness.latch("b"));
        assert!(!readiness.is_ready());
        assert!(a.open() && !a.open());
        b.close("no answer yet");
        assert_eq!(readiness.report().0, ["b: no answer yet"]);
        b.open();
        assert!(readiness.is_ready());
        a.close("gone");
        drop(a);
        assert_eq!(readiness.report().0, ["a: gone"]);
    }

    #[test]
    fn shutting_down_is_final() {
        let readiness = Readiness::new();
        let seen = readiness.subscribe();
        readiness.shut_down();
        readiness.latch("late").open();
        assert!(!readiness.is_ready() && !*seen.borrow());
        assert_eq!(readiness.report().0, ["shutting down"]);
    }

    #[test]
    fn status_is_a_metric() {
        let (registry, readiness) = (RootRegistry::empty(), Readiness::new());
        registry.register(|r| readiness.register(r, "query"));
        let latch = readiness.latch("x");
        let text = registry.render(Exposition::Prometheus);
        assert!(text.contains("thanos_status{check=\"ready\",component=\"query\"} 0\n"), "{text}");
        latch.open();
        let text = registry.render(Exposition::Prometheus);
        assert!(text.contains("thanos_status{check=\"ready\",component=\"query\"} 1\n"), "{text}");
        assert!(text.contains("thanos_status{check=\"healthy\",component=\"query\"} 1\n"), "{text}");
    }
}
