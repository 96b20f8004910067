//! The rule that turns answers into joins and leaves. Pure: signs of life and the time are arguments.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Address, Answer, JoinReason, LeaveReason, Movement};

/// How long absence is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldConfig {
    /// For how long a living endpoint outlasts negative answers. CoreDNS answers NXDOMAIN for a headless service without a ready
    /// pod, so "none" is often a hiccup of readiness, not the end of the endpoints. Default 5 min.
    pub hold: Duration,
    /// After how many negative answers in a row endpoints that do not answer their probes are let go. Default 2.
    pub negatives: u32,
    /// After how long without any usable answer the set counts as stale. Default 1 h.
    pub stale_after: Duration,
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self { hold: Duration::from_secs(300), negatives: 2, stale_after: Duration::from_secs(3600) }
    }
}

/// The addresses of one target as they are believed in.
///
/// A positive answer is the set. A negative answer lets go what does not answer its probes once it has been repeated, and everything
/// once it has lasted for the hold. "Not known" changes nothing. An address that falls in a [`crate::Gap`] of a positive answer
/// stays.
#[derive(Debug, Default)]
pub struct HeldSet {
    known: BTreeSet<Address>,
    negatives: u32,
    negative_since: Option<Instant>,
    unknown_since: Option<Instant>,
    resolved: bool,
}

impl HeldSet {
    /// Returns the addresses believed in, sorted.
    pub fn addresses(&self) -> &BTreeSet<Address> {
        &self.known
    }

    /// Tells whether there ever was a positive answer.
    pub fn is_resolved(&self) -> bool {
        self.resolved
    }

    /// Returns since when every answer was "not known", if the last one was.
    pub fn unknown_since(&self) -> Option<Instant> {
        self.unknown_since
    }

    /// Tells whether the set is older than may go unmentioned.
    pub fn is_stale(&self, config: &HoldConfig, now: Instant) -> bool {
        self.unknown_since.is_some_and(|since| now.duration_since(since) >= config.stale_after)
    }

    /// Takes in one answer and returns what it changed.
    pub fn apply(
        &mut self,
        answer: &Answer<Vec<Address>>,
        config: &HoldConfig,
        alive: impl Fn(&Address) -> bool,
        now: Instant,
    ) -> Vec<(Address, Movement)> {
        match answer {
            Answer::Found { records, gap, .. } => {
                self.resolved = true;
                (self.negatives, self.negative_since, self.unknown_since) = (0, None, None);
                let listed: BTreeSet<_> = records.iter().cloned().collect();
                let joined = listed.difference(&self.known).map(|a| (a.clone(), Movement::Joined(JoinReason::Answer)));
                let left = self.known.iter().filter(|a| !listed.contains(*a) && !gap.may_hide(a));
                let left = left.map(|a| (a.clone(), Movement::Left(LeaveReason::Answer)));
                let moves: Vec<_> = joined.chain(left).collect();
                self.carry_out(moves)
            }
            Answer::Absent => {
                self.unknown_since = None;
                self.negatives = self.negatives.saturating_add(1);
                let since = *self.negative_since.get_or_insert(now);
                let expired = now.duration_since(since) >= config.hold;
                let repeated = self.negatives >= config.negatives;
                let gone = self.known.iter().filter_map(|address| {
                    let reason = match expired {
                        true => LeaveReason::HoldExpired,
                        false if repeated && !alive(address) => LeaveReason::AbsentAndDead,
                        false => return None,
                    };
                    Some((address.clone(), Movement::Left(reason)))
                });
                let moves = gone.collect();
                self.carry_out(moves)
            }
            Answer::Unavailable(_) => {
                self.unknown_since.get_or_insert(now);
                Vec::new()
            }
        }
    }

    fn carry_out(&mut self, moves: Vec<(Address, Movement)>) -> Vec<(Address, Movement)> {
        for (address, movement) in &moves {
            match movement {
                Movement::Joined(_) => self.known.insert(address.clone()),
                Movement::Left(_) => self.known.remove(address),
            };
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gap, Unavailable};

    const A: &str = "10.0.0.1:1";
    const B: &str = "10.0.0.2:1";

    fn found(addresses: &[&str], gap: Gap) -> Answer<Vec<Address>> {
        let records = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Answer::Found { records, ttl: Duration::from_secs(5), gap }
    }

    fn listed(set: &HeldSet) -> Vec<String> {
        set.addresses().iter().map(ToString::to_string).collect()
    }

    struct Stage {
        set: HeldSet,
        now: Instant,
        alive: Vec<&'static str>,
    }

    impl Stage {
        fn new() -> Self {
            let mut stage = Self { set: HeldSet::default(), now: Instant::now(), alive: vec![A] };
            stage.answer(&found(&[A, B], Gap::None));
            stage
        }

        fn answer(&mut self, answer: &Answer<Vec<Address>>) -> Vec<(Address, Movement)> {
            let alive = self.alive.clone();
            self.now += Duration::from_secs(10);
            self.set.apply(answer, &HoldConfig::default(), |a| alive.contains(&a.to_string().as_str()), self.now)
        }
    }

    #[test]
    fn positive_answers_are_the_set() {
        let mut stage = Stage::new();
        let moves = stage.answer(&found(&[B, "10.0.0.3:1"], Gap::None));
        assert_eq!(listed(&stage.set), [B, "10.0.0.3:1"]);
        assert_eq!(moves.len(), 2);
    }

    #[test]
    fn not_known_changes_nothing_for_ever_and_becomes_stale() {
        let mut stage = Stage::new();
        for _ in 0..1000 {
            assert!(stage.answer(&Answer::Unavailable(Unavailable::ServFail)).is_empty());
        }
        assert_eq!(listed(&stage.set), [A, B]);
        assert!(stage.set.is_stale(&HoldConfig::default(), stage.now));
        stage.answer(&found(&[A], Gap::None));
        assert!(!stage.set.is_stale(&HoldConfig::default(), stage.now));
    }

    #[test]
    fn one_negative_answer_changes_nothing_two_let_the_dead_go() {
        let mut stage = Stage::new();
        assert!(stage.answer(&Answer::Absent).is_empty());
        let moves = stage.answer(&Answer::Absent);
        assert_eq!(moves, [(B.parse().unwrap(), Movement::Left(LeaveReason::AbsentAndDead))]);
        assert_eq!(listed(&stage.set), [A]);
    }

    #[test]
    fn the_living_outlast_negative_answers_for_the_hold_and_no_longer() {
        let mut stage = Stage::new();
        for _ in 0..30 {
            stage.answer(&Answer::Absent);
            assert!(stage.set.addresses().contains(&A.parse().unwrap()));
        }
        let moves = stage.answer(&Answer::Absent);
        assert_eq!(moves, [(A.parse().unwrap(), Movement::Left(LeaveReason::HoldExpired))]);
    }

    #[test]
    fn a_positive_answer_ends_the_hold() {
        let mut stage = Stage::new();
        for _ in 0..25 {
            stage.answer(&Answer::Absent);
        }
        stage.answer(&found(&[A], Gap::None));
        for _ in 0..25 {
            stage.answer(&Answer::Absent);
        }
        assert_eq!(listed(&stage.set), [A]);
    }

    #[test]
    fn what_a_gap_may_hide_stays() {
        let mut stage = Stage::new();
        stage.answer(&found(&[A, "[::1]:1"], Gap::None));
        stage.answer(&found(&["10.0.0.9:1"], Gap::V6));
        assert_eq!(listed(&stage.set), ["10.0.0.9:1", "[::1]:1"]);
        stage.answer(&found(&["10.0.0.8:1"], Gap::Any));
        assert_eq!(listed(&stage.set), ["10.0.0.8:1", "10.0.0.9:1", "[::1]:1"]);
    }
}
