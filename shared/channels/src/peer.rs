//! One address kept connected, probed and known.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use farview_discovery::{Address, Vitals};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::channel::{Current, InUse};
use crate::connection::{Connection, Report};
use crate::dial::{DialError, Dialer};
use crate::probe::{self, Probe, ProbeError};
use crate::{Channel, Event, Machine, PeerConfig, State, Todo};

/// Reports of calls that may wait to be looked at.
const REPORTS: usize = 64;

/// What is known about an endpoint, for the status page and for warnings.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// The last thing that went wrong, with its time.
    pub last_error: Option<(SystemTime, String)>,
    /// When a probe last succeeded.
    pub last_healthy: Option<SystemTime>,
    /// Counts the parties that have answered at the address: it grows when another identity answers.
    pub generation: u64,
    /// How many connections have been made.
    pub connects: u64,
}

/// One change of state.
#[derive(Debug, Clone)]
pub struct Transition {
    /// When.
    pub at: SystemTime,
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
    /// What led to it.
    pub reason: String,
}

/// A way to an endpoint together with who answers there.
pub struct Live<I> {
    /// Bound to the party: it fails rather than reach another one.
    pub channel: Channel,
    /// The newest identity of this party.
    pub identity: Arc<I>,
    /// See [`PeerStatus::generation`].
    pub generation: u64,
}

impl<I> Clone for Live<I> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), identity: self.identity.clone(), generation: self.generation }
    }
}

/// One address. Clones share it; it is kept connected as long as its [`crate::PeerSet`] holds it.
pub struct Peer<I> {
    shared: Arc<Shared<I>>,
}

impl<I> Clone for Peer<I> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<I> fmt::Debug for Peer<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", self.address())
            .field("state", &self.status().state)
            .finish_non_exhaustive()
    }
}

struct Shared<I> {
    current: Arc<Current>,
    live: ArcSwapOption<Live<I>>,
    /// The last connection that was in use, also after an ejection.
    last: ArcSwapOption<Connection>,
    /// The last identity, kept while the endpoint is out of use.
    identity: ArcSwapOption<I>,
    status: watch::Sender<PeerStatus>,
    usable: watch::Sender<bool>,
    history: Mutex<VecDeque<Transition>>,
}

impl<I> Peer<I> {
    /// Returns the address.
    pub fn address(&self) -> &Address {
        &self.shared.current.address
    }

    /// Returns who answers at the address and a channel to it, or `None` while the endpoint is not in use.
    ///
    /// Servers end connections by age. Until the next one is dialled and probed, some milliseconds later, the endpoint stays in use
    /// and its channel waits; the first failed attempt ends that.
    pub fn live(&self) -> Option<Live<I>> {
        self.shared.live.load().as_deref().cloned()
    }

    /// Returns a channel that follows the peer from connection to connection. Prefer [`Peer::live`] where an answer is attributed to
    /// an identity.
    pub fn channel(&self) -> Channel {
        Channel::of_peer(self.shared.current.clone(), None)
    }

    /// Returns the last identity, also while the endpoint is out of use. `None` if it has never answered.
    pub fn identity(&self) -> Option<Arc<I>> {
        self.shared.identity.load_full()
    }

    /// Returns the status.
    pub fn status(&self) -> PeerStatus {
        self.shared.status.borrow().clone()
    }

    /// Returns a watch on the status. Every probe is a change.
    pub fn watch(&self) -> watch::Receiver<PeerStatus> {
        self.shared.status.subscribe()
    }

    /// Returns the last changes of state, oldest first.
    pub fn history(&self) -> Vec<Transition> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn usable(&self) -> watch::Receiver<bool> {
        self.shared.usable.subscribe()
    }

    /// Tells whether there is a connection at all, in use or not.
    pub(crate) fn is_connected(&self) -> bool {
        self.shared.last.load().as_ref().is_some_and(|connection| !connection.is_ended())
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// A channel for a group in panic: the last connection, even if the endpoint is out of use.
    pub(crate) fn last_channel(&self) -> Option<Channel> {
        self.shared.last.load_full().map(Channel::bound)
    }
}

/// Ends the peer's task when dropped.
pub(crate) struct Kept<I> {
    pub(crate) peer: Peer<I>,
    task: JoinHandle<()>,
}

impl<I> Drop for Kept<I> {
    fn drop(&mut self) {
        self.task.abort();
        self.peer.shared.live.store(None);
        self.peer.shared.last.store(None);
        self.peer.shared.current.in_use.send_replace(InUse::None("the endpoint has left the set".into()));
        self.peer.shared.usable.send_replace(false);
    }
}

/// What all peers of a set share.
pub(crate) struct Common<P> {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) probe: Arc<P>,
    pub(crate) config: PeerConfig,
    pub(crate) vitals: Vitals,
    /// Grows with every change of a peer.
    pub(crate) changes: watch::Sender<u64>,
    /// Set when a peer was probed; whoever takes it down tells.
    pub(crate) probed: AtomicBool,
}

pub(crate) fn keep<P: Probe>(address: Address, common: Arc<Common<P>>) -> Kept<P::Identity> {
    let now = SystemTime::now();
    let status = PeerStatus {
        state: State::Connecting,
        since: now,
        last_error: None,
        last_healthy: None,
        generation: 0,
        connects: 0,
    };
    let in_use = watch::Sender::new(InUse::None("connecting".into()));
    let current = Arc::new(Current { address: address.clone(), in_use });
    let shared = Arc::new(Shared {
        current,
        live: ArcSwapOption::empty(),
        last: ArcSwapOption::empty(),
        identity: ArcSwapOption::empty(),
        status: watch::Sender::new(status),
        usable: watch::Sender::new(false),
        history: Mutex::default(),
    });
    let (report, reports) = mpsc::channel(REPORTS);
    let keeper = Keeper {
        address,
        machine: Machine::new(common.config, rand::random(), Instant::now()),
        common,
        shared: shared.clone(),
        candidate: None,
        connection: None,
        report,
        reports,
        generation: 0,
        probes: 0,
        replacing: false,
    };
    Kept { peer: Peer { shared }, task: tokio::spawn(keeper.run()) }
}

/// The task behind a peer.
struct Keeper<P: Probe> {
    address: Address,
    common: Arc<Common<P>>,
    shared: Arc<Shared<P::Identity>>,
    machine: Machine,
    /// A new connection that has not been probed.
    candidate: Option<Arc<Connection>>,
    /// The connection in use.
    connection: Option<Arc<Connection>>,
    report: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    generation: u64,
    probes: u32,
    /// The last connection has just ended, and nothing has failed since.
    replacing: bool,
}

enum Outcome<I> {
    Dialled(Result<Connection, DialError>),
    Probed(Result<I, ProbeError>),
}

type Attempt<I> = Pin<Box<dyn Future<Output = Outcome<I>> + Send>>;

impl<P: Probe> Keeper<P> {
    async fn run(mut self) {
        let mut attempt: Option<Attempt<P::Identity>> = None;
        loop {
            // An event that set something new to do has made the attempt under way pointless.
            if self.machine.next().is_some() {
                attempt = None;
            }
            let due = self.machine.next().map(|(at, _)| at);
            let connection = self.connection.clone();
            tokio::select! {
                () = sleep_until(due), if due.is_some() => attempt = self.begin(),
                outcome = under_way(&mut attempt), if attempt.is_some() => {
                    attempt = None;
                    self.finished(outcome);
                }
                () = ended(connection.as_ref()), if connection.is_some() => self.lost(),
                Some(report) = self.reports.recv() => self.reported(report),
            }
        }
    }

    fn begin(&mut self) -> Option<Attempt<P::Identity>> {
        let before = self.machine.state();
        let todo = self.machine.begin()?;
        self.publish(before, "the time out of use has passed");
        let (address, common) = (self.address.clone(), self.common.clone());
        // The identity alone proves life. Asked beside it every time, health would double what a thousand idle endpoints cost.
        self.probes = self.probes.wrapping_add(1);
        let with_health = self.candidate.is_some() || before != State::Healthy || self.probes.is_multiple_of(2);
        let connection = self.candidate.clone().or_else(|| self.connection.clone());
        Some(match (todo, connection) {
            (Todo::Probe, Some(connection)) => Box::pin(async move {
                let (channel, limit) = (Channel::bound(connection), common.config.probe_timeout);
                Outcome::Probed(probe::probe(&*common.probe, &address, channel, with_health, limit).await)
            }),
            (Todo::Dial, _) | (Todo::Probe, None) => {
                Box::pin(async move { Outcome::Dialled(common.dialer.dial(&address).await) })
            }
        })
    }

    fn finished(&mut self, outcome: Outcome<P::Identity>) {
        match outcome {
            Outcome::Dialled(Ok(connection)) => {
                self.candidate = Some(Arc::new(connection));
                self.shared.status.send_modify(|status| status.connects += 1);
                self.on(Event::Connected, "connected");
            }
            Outcome::Dialled(Err(error)) => {
                self.note(error.to_string());
                self.on(Event::DialFailed(error.failure()), &error.to_string());
            }
            Outcome::Probed(Ok(identity)) => self.probed(identity),
            Outcome::Probed(Err(error)) => {
                self.candidate = None;
                self.note(error.problem.clone());
                self.on(Event::ProbeFailed(error.failure), &error.problem);
            }
        }
    }

    fn probed(&mut self, identity: P::Identity) {
        if let Some(candidate) = self.candidate.take() {
            // Reports about the former connection say nothing about this one.
            while self.reports.try_recv().is_ok() {}
            candidate.report_to(self.report.clone());
            self.connection = Some(candidate);
        }
        let Some(connection) = &self.connection else { return };
        let before = self.shared.identity.load_full();
        let new_party = before.as_ref().is_none_or(|before| !self.common.probe.is_same_party(before, &identity));
        if new_party {
            self.generation += 1;
            if before.is_some() {
                tracing::warn!(address = %self.address, generation = self.generation, "another identity answers at the address");
            }
        }
        let identity = Arc::new(identity);
        let generation = self.generation;
        let channel = Channel::of_peer(self.shared.current.clone(), Some(generation));
        let live = Live { channel, identity: identity.clone(), generation };
        self.shared.identity.store(Some(identity));
        self.shared.live.store(Some(Arc::new(live)));
        self.shared.last.store(Some(connection.clone()));
        self.shared.status.send_modify(|status| {
            status.last_healthy = Some(SystemTime::now());
            status.generation = generation;
        });
        self.on(Event::ProbeSucceeded, "probe answered");
        match new_party {
            true => self.common.changes.send_modify(|n| *n += 1),
            false => self.common.probed.store(true, Ordering::Relaxed),
        }
    }

    fn lost(&mut self) {
        self.connection = None;
        self.note("connection lost".to_owned());
        self.on(Event::ConnectionLost, "connection lost");
    }

    fn reported(&mut self, report: Report) {
        if self.connection.as_ref().is_some_and(|connection| connection.id() == report.connection) {
            self.on(report.event, "calls fail");
        }
    }

    fn note(&self, problem: String) {
        self.shared.status.send_modify(|status| status.last_error = Some((SystemTime::now(), problem)));
    }

    fn on(&mut self, event: Event, reason: &str) {
        let before = self.machine.state();
        let now = Instant::now();
        self.machine.on(event, now);
        self.replacing = match event {
            // A connection that ended as soon as it was made is not replaced at once: its endpoint is missing meanwhile.
            Event::ConnectionLost => before.is_usable() && self.machine.next().is_some_and(|(at, _)| at <= now),
            Event::Connected | Event::CallSucceeded | Event::CallFailed(_) => self.replacing,
            Event::ProbeSucceeded | Event::ProbeFailed(_) | Event::DialFailed(_) => false,
        };
        self.publish(before, reason);
    }

    /// Makes the way to the endpoint what the state says.
    fn open_or_close(&self, reason: &str) {
        let state = self.machine.state();
        let in_use = match &self.connection {
            Some(connection) if state.is_usable() => InUse::Connection(connection.clone(), self.generation),
            _ if self.replacing => InUse::Replacing,
            _ => {
                self.shared.live.store(None);
                InUse::None(format!("{state}: {reason}").into())
            }
        };
        self.shared.current.in_use.send_if_modified(|current| {
            let changed = !current.is_same(&in_use);
            *current = in_use;
            changed
        });
        self.common.vitals.set(&self.address, state.is_usable() || self.replacing);
    }

    /// Tells everybody about the state, if it is another one.
    fn publish(&self, from: State, reason: &str) {
        self.open_or_close(reason);
        let to = self.machine.state();
        if from == to {
            return;
        }
        match to {
            State::Ejected { .. } if from != State::Probation => {
                tracing::warn!(address = %self.address, %from, reason, "endpoint ejected");
            }
            State::Healthy if !from.is_usable() => tracing::info!(address = %self.address, %from, "endpoint healthy"),
            _ => tracing::debug!(address = %self.address, %from, %to, reason, "endpoint state"),
        }
        let at = SystemTime::now();
        let transition = Transition { at, from, to, reason: reason.to_owned() };
        {
            let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
            if history.len() >= self.common.config.history {
                history.pop_front();
            }
            history.push_back(transition);
        }
        self.shared.usable.send_if_modified(|usable| std::mem::replace(usable, to.is_usable()) != to.is_usable());
        self.shared.status.send_modify(|status| (status.state, status.since) = (to, at));
        self.common.changes.send_modify(|n| *n += 1);
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

async fn ended(connection: Option<&Arc<Connection>>) {
    if let Some(connection) = connection {
        connection.ended().await;
    }
}

async fn under_way<I>(attempt: &mut Option<Attempt<I>>) -> Outcome<I> {
    match attempt {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}
