//! The endpoint state machine. Pure: events and the time come in, the state and the next thing to do come out.
//!
//! ```text
//!            dialled           probed
//! Connecting ───────► Probing ───────► Healthy ◄──────────────┐
//!   ▲  │ refused 2×      │ failed 3×    │ ▲  first failure    │ probed
//!   │  │ failed 3×       │              ▼ │ probed            │
//!   │  └────────────► Ejected ◄─── Suspect (still used)       │
//!   │                  │   ▲ failed 3×                        │
//!   │ connection       │   └─────────────┐ failed once        │
//!   └─ lost in use     └────────────► Probation ──────────────┘
//! ```
//!
//! A new connection is probed before it is used. A refused connection is evidence of another weight than silence: two of them eject,
//! one retry interval apart. What is ejected is tried again after a back-off that doubles until the endpoint has stayed healthy for
//! as long.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::Instant;

use crate::PeerConfig;

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no connection: never was one, or it was lost while in use.
    Connecting,
    /// There is a connection that has not been probed.
    Probing,
    /// In use.
    Healthy,
    /// In use, but the last evidence speaks against it.
    Suspect {
        /// Failures in a row.
        failures: u32,
    },
    /// Out of use.
    Ejected {
        /// When it is tried again.
        until: Instant,
        /// The time out of use, before jitter.
        backoff: Duration,
    },
    /// Out of use, being tried once.
    Probation,
}

impl State {
    /// Tells whether calls may be sent to the endpoint.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Healthy | Self::Suspect { .. })
    }

    /// Returns a word for a metric label or a status page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Probing => "probing",
            Self::Healthy => "healthy",
            Self::Suspect { .. } => "suspect",
            Self::Ejected { .. } => "ejected",
            Self::Probation => "probation",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How something failed, as far as it matters to the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens at the address.
    Refused,
    /// No answer in time. The connection may be dead without having said so: the next attempt takes a new one.
    Silent,
    /// The connection broke. The next attempt takes a new one.
    Broken,
    /// The endpoint answered that it does not serve, or with an error.
    Answered,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A connection was made.
    Connected,
    /// A connection was not made.
    DialFailed(Failure),
    /// Health and identity were answered.
    ProbeSucceeded,
    /// They were not.
    ProbeFailed(Failure),
    /// A call on the connection in use was answered to its end.
    CallSucceeded,
    /// A call on the connection in use failed in a way that speaks against the endpoint.
    CallFailed(Failure),
    /// The connection in use ended.
    ConnectionLost,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Open a new connection.
    Dial,
    /// Probe the newest connection.
    Probe,
}

/// Calls that fail together are one piece of evidence.
const SAME_EVIDENCE: Duration = Duration::from_millis(100);

/// One endpoint's state. See the module for the picture.
#[derive(Debug)]
pub struct Machine {
    config: PeerConfig,
    state: State,
    next: Option<(Instant, Todo)>,
    probe_failures: u32,
    call_failures: u32,
    refusals: u32,
    last_call_failure: Option<Instant>,
    connected_at: Option<Instant>,
    healthy_since: Option<Instant>,
    last_backoff: Option<Duration>,
    rng: SmallRng,
}

impl Machine {
    /// Makes a machine for an endpoint that is to be dialled at once. `seed` drives the jitter.
    pub fn new(config: PeerConfig, seed: u64, now: Instant) -> Self {
        Self {
            config,
            state: State::Connecting,
            next: Some((now, Todo::Dial)),
            probe_failures: 0,
            call_failures: 0,
            refusals: 0,
            last_call_failure: None,
            connected_at: None,
            healthy_since: None,
            last_backoff: None,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns what to do next and when. `None` while an attempt is under way.
    pub fn next(&self) -> Option<(Instant, Todo)> {
        self.next
    }

    /// Takes up what [`Machine::next`] returned. Its outcome must come back as an event.
    pub fn begin(&mut self) -> Option<Todo> {
        let (_, todo) = self.next.take()?;
        if matches!(self.state, State::Ejected { .. }) {
            self.state = State::Probation;
        }
        Some(todo)
    }

    /// Takes in what happened.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => {
                self.refusals = 0;
                self.connected_at = Some(now);
                if self.state == State::Connecting {
                    self.state = State::Probing;
                }
                self.next = Some((now, Todo::Probe));
            }
            Event::ProbeSucceeded => self.healthy(now),
            Event::DialFailed(failure) | Event::ProbeFailed(failure) => self.failed(failure, now),
            Event::CallSucceeded => self.call_succeeded(),
            Event::CallFailed(failure) => self.call_failed(failure, now),
            Event::ConnectionLost => self.lost(now),
        }
    }

    fn healthy(&mut self, now: Instant) {
        (self.probe_failures, self.call_failures, self.refusals) = (0, 0, 0);
        if self.state != State::Healthy {
            self.healthy_since.get_or_insert(now);
        }
        self.state = State::Healthy;
        let interval = self.config.probe_interval.mul_f64(self.rng.random_range(0.8..1.2));
        self.next = Some((now + interval, Todo::Probe));
    }

    /// An attempt of our own failed.
    fn failed(&mut self, failure: Failure, now: Instant) {
        self.probe_failures += 1;
        self.refusals = if failure == Failure::Refused { self.refusals + 1 } else { 0 };
        let enough = self.failures() >= self.config.failures || self.refusals >= self.config.refusals;
        match self.state {
            State::Probation => self.eject(now),
            State::Ejected { .. } => {}
            _ if enough => self.eject(now),
            State::Connecting | State::Probing => {
                self.state = State::Connecting;
                self.next = Some((now + self.config.retry_interval, Todo::Dial));
            }
            State::Healthy | State::Suspect { .. } => {
                self.state = State::Suspect { failures: self.failures() };
                let todo = if failure == Failure::Answered { Todo::Probe } else { Todo::Dial };
                self.next = Some((now + self.config.retry_interval, todo));
            }
        }
    }

    fn call_failed(&mut self, failure: Failure, now: Instant) {
        if !self.state.is_usable()
            || self.last_call_failure.is_some_and(|last| now.duration_since(last) < SAME_EVIDENCE)
        {
            return;
        }
        self.last_call_failure = Some(now);
        self.call_failures += 1;
        if self.failures() >= self.config.failures {
            self.eject(now);
            return;
        }
        self.state = State::Suspect { failures: self.failures() };
        // A probe that is under way will tell; otherwise ask now.
        if self.next.is_some() {
            let todo = if failure == Failure::Answered { Todo::Probe } else { Todo::Dial };
            self.next = Some((now, todo));
        }
    }

    fn call_succeeded(&mut self) {
        self.call_failures = 0;
        if let State::Suspect { .. } = self.state {
            self.state = match self.probe_failures {
                0 => State::Healthy,
                failures => State::Suspect { failures },
            };
        }
    }

    /// A connection in use ended: by itself no evidence against the endpoint, servers close connections by age. But one that ends as
    /// soon as it is made must not be dialled in a spin.
    fn lost(&mut self, now: Instant) {
        let short = self.connected_at.take().is_some_and(|at| now.duration_since(at) < self.config.retry_interval);
        if !self.state.is_usable() {
            return;
        }
        self.state = State::Connecting;
        let at = if short { now + self.config.retry_interval } else { now };
        self.next = Some((at, Todo::Dial));
    }

    fn eject(&mut self, now: Instant) {
        let proven = self.healthy_since.take().map(|since| now.duration_since(since));
        let backoff = match (self.last_backoff, proven) {
            (Some(last), Some(proven)) if proven >= last => self.config.backoff_first,
            (Some(last), _) => (last * 2).min(self.config.backoff_last),
            (None, _) => self.config.backoff_first,
        };
        self.last_backoff = Some(backoff);
        let until = now + backoff.mul_f64(self.rng.random_range(1.0..1.5));
        self.state = State::Ejected { until, backoff };
        self.next = Some((until, Todo::Dial));
    }

    fn failures(&self) -> u32 {
        self.probe_failures + self.call_failures
    }
}

#[cfg(test)]
mod tests;
