//! One task per DNS target: ask, apply, wait.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::discovery::{DiscoveryConfig, Hub};
use crate::resolve::resolve_preferring;
use crate::{Address, Answer, Lookup, Target};

/// What is known about one target, for the status page.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// The target.
    pub target: Target,
    /// Its addresses, sorted.
    pub addresses: Vec<Address>,
    /// The last answer in words; empty before the first.
    pub last_answer: String,
    /// When DNS was last asked.
    pub last_lookup: Option<SystemTime>,
    /// When there last was a usable answer.
    pub last_success: Option<SystemTime>,
    /// Whether there ever was a positive answer.
    pub resolved: bool,
    /// Whether the addresses are older than may go unmentioned ([`crate::HoldConfig::stale_after`]).
    pub stale: bool,
}

pub(crate) struct Poller {
    pub(crate) target: Target,
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) config: DiscoveryConfig,
    /// The hub ends the poller by dropping its side, so the poller must not keep the hub.
    pub(crate) hub: Weak<Hub>,
    pub(crate) refresh: watch::Receiver<u64>,
    pub(crate) deaths: watch::Receiver<u64>,
}

impl Poller {
    pub(crate) async fn run(mut self) {
        let mut in_vain = 0;
        loop {
            let asked = Instant::now();
            let answer = resolve_preferring(&*self.lookup, &self.target, self.config.prefer).await;
            let Some(hub) = self.hub.upgrade() else { return };
            let resolved = hub.answered(&self.target, &answer, Instant::now());
            drop(hub);
            // A name that never had addresses is one that is about to be made, as when everything starts at once.
            let urgent = matches!(answer, Answer::Unavailable(_)) || !resolved;
            in_vain = if urgent { in_vain + 1 } else { 0 };
            let delay = self.delay(&answer, in_vain);
            if !self.wait(asked, delay).await {
                return;
            }
        }
    }

    /// The next question comes after the interval, or earlier when the records expire, but never below the floor: a TTL of 0 must
    /// not make a spin. After questions in vain it comes with growing distance.
    fn delay(&self, answer: &Answer<Vec<Address>>, in_vain: i32) -> Duration {
        let jitter = rand::rng().random_range(0.8..1.2);
        let regular = self.config.interval.mul_f64(jitter);
        let retry = || {
            let grown = self.config.retry_first.as_secs_f64() * 1.6_f64.powi(in_vain.clamp(1, 64) - 1);
            Duration::from_secs_f64(grown.min(self.config.retry_last.as_secs_f64()) * jitter)
        };
        match answer {
            Answer::Found { ttl, .. } => regular.min(*ttl).max(self.config.floor),
            Answer::Absent if in_vain > 0 => retry().min(self.config.floor),
            Answer::Absent => regular.max(self.config.floor),
            Answer::Unavailable(_) => retry(),
        }
    }

    /// Waits for the delay, or for a reason to ask earlier; that is granted once per floor.
    async fn wait(&mut self, asked: Instant, delay: Duration) -> bool {
        let due = Instant::now() + delay;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return true,
                changed = self.refresh.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                }
                changed = self.deaths.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    match self.hub.upgrade() {
                        Some(hub) if hub.has_dead(&self.target) => {}
                        Some(_) => continue,
                        None => return false,
                    }
                }
            }
            tokio::time::sleep_until((asked + self.config.floor).min(due)).await;
            return true;
        }
    }
}
