//! When a second read is worth sending: the first takes longer than most reads did, and few second reads were sent lately.

use parking_lot::Mutex;
use std::time::Duration;

/// Reads that are remembered.
const WINDOW: usize = 128;
/// Reads after which it is known what is usual.
const ENOUGH: usize = 32;
/// Nothing is gained by hedging what is faster than a new request would be.
const FLOOR: Duration = Duration::from_millis(20);
/// One second read is earned by so many first ones.
const EARNED_BY: u32 = 20;

/// Watches how long reads take.
#[derive(Debug)]
pub(crate) struct Hedge {
    /// Part of the reads that are faster than one that is hedged, 0 to 1.
    quantile: f64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    recent: Vec<Duration>,
    next: usize,
    credit: u32,
}

impl Hedge {
    pub(crate) fn new(quantile: f64) -> Self {
        Self { quantile: quantile.clamp(0.5, 0.999), seen: Mutex::default() }
    }

    /// Takes note of a read.
    pub(crate) fn took(&self, time: Duration) {
        let mut seen = self.seen.lock();
        if seen.recent.len() < WINDOW {
            seen.recent.push(time);
        } else {
            let at = seen.next;
            seen.recent[at] = time;
        }
        seen.next = (seen.next + 1) % WINDOW;
        seen.credit = (seen.credit + 1).min(10 * EARNED_BY);
    }

    /// Returns how long to wait for the first read; `None` while it is not known what is usual.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let seen = self.seen.lock();
        if seen.recent.len() < ENOUGH {
            return None;
        }
        let mut sorted = seen.recent.clone();
        sorted.sort_unstable();
        let at = (sorted.len() as f64 * self.quantile) as usize;
        Some(sorted[at.min(sorted.len() - 1)].max(FLOOR))
    }

    /// Takes the right to a second read, if one is earned.
    pub(crate) fn spend(&self) -> bool {
        let mut seen = self.seen.lock();
        let earned = seen.credit >= EARNED_BY;
        if earned {
            seen.credit -= EARNED_BY;
        }
        earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_the_quantile_of_what_was_seen_and_second_reads_are_few() {
        let hedge = Hedge::new(0.9);
        assert!(hedge.patience().is_none() && !hedge.spend());
        for i in 0..100 {
            hedge.took(Duration::from_millis(i * 10));
        }
        assert_eq!(hedge.patience(), Some(Duration::from_millis(900)));
        let spent = (0..100).filter(|_| hedge.spend()).count();
        assert_eq!(spent, 5);
        for _ in 0..WINDOW {
            hedge.took(Duration::from_micros(10));
        }
        assert_eq!(hedge.patience(), Some(FLOOR));
    }
}
