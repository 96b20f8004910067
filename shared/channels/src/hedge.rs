//! A second try beside a slow first one, for groups only: the replicas must be interchangeable.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a second try is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HedgeConfig {
    /// Never earlier than this. Default 1 s.
    pub after: Duration,
    /// Never earlier than this share of former calls took. Default 0.95.
    pub quantile: f64,
    /// At most this many second tries per call. Default 0.1.
    pub budget: f64,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self { after: Duration::from_secs(1), quantile: 0.95, budget: 0.1 }
    }
}

/// Former calls that count.
const WINDOW: usize = 256;

/// Sends a second try when the first is slow. Share one per group and kind of call.
#[derive(Debug)]
pub struct Hedge {
    config: HedgeConfig,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    latencies: Vec<Duration>,
    next: usize,
    tokens: f64,
}

impl Hedge {
    /// Makes a hedge without history.
    pub fn new(config: HedgeConfig) -> Self {
        Self { config, seen: Mutex::default() }
    }

    /// Runs `call`, and once more beside it if it is slow and the budget allows. The first success wins and the other is dropped; an
    /// error ends the run unless the other try is still under way.
    ///
    /// For a stream, `call` should return when the first frame is there.
    pub async fn run<T, E, F: Future<Output = Result<T, E>>>(&self, call: impl Fn() -> F) -> Result<T, E> {
        let started = Instant::now();
        let first = call();
        tokio::pin!(first);
        let first_result = tokio::select! {
            result = &mut first => Some(result),
            () = tokio::time::sleep(self.delay()) => None,
        };
        let result = match first_result {
            Some(result) => result,
            None if !self.spend() => first.await,
            None => {
                let second = call();
                tokio::pin!(second);
                tokio::select! {
                    result = &mut first => if result.is_ok() { result } else { second.await.or(result) },
                    result = &mut second => if result.is_ok() { result } else { first.await.or(result) },
                }
            }
        };
        self.record(started.elapsed());
        result
    }

    fn delay(&self) -> Duration {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted = seen.latencies.clone();
        sorted.sort_unstable();
        let index = (sorted.len() as f64 * self.config.quantile) as usize;
        sorted.get(index).or(sorted.last()).map_or(self.config.after, |latency| self.config.after.max(*latency))
    }

    fn spend(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = seen.tokens >= 1.0;
        if enough {
            seen.tokens -= 1.0;
        }
        enough
    }

    fn record(&self, latency: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Ten calls' worth may be saved up, so that a quiet time does not pay for a storm.
        seen.tokens = (seen.tokens + self.config.budget).min(10.0 * self.config.budget.max(0.1));
        let next = seen.next;
        match seen.latencies.get_mut(next) {
            Some(slot) => *slot = latency,
            None => seen.latencies.push(latency),
        }
        seen.next = (next + 1) % WINDOW;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    async fn calls(hedge: &Hedge, times: u32, took: Duration) -> u32 {
        let sent = AtomicU32::new(0);
        for _ in 0..times {
            let result: Result<(), ()> = hedge
                .run(|| async {
                    sent.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(took).await;
                    Ok(())
                })
                .await;
            assert_eq!(result, Ok(()));
        }
        sent.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn fast_calls_are_sent_once() {
        assert_eq!(calls(&Hedge::new(HedgeConfig::default()), 100, Duration::from_millis(900)).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_calls_cost_at_most_a_tenth_more() {
        let sent = calls(&Hedge::new(HedgeConfig::default()), 1000, Duration::from_millis(1500)).await;
        assert!(sent <= 1100, "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_try_overtakes_a_stuck_first() {
        let hedge = Hedge::new(HedgeConfig::default());
        calls(&hedge, 20, Duration::from_millis(10)).await;
        let tries = AtomicU32::new(0);
        let started = Instant::now();
        let result: Result<u32, ()> = hedge
            .run(|| async {
                let n = tries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(if n == 0 { 3600 } else { 0 })).await;
                Ok(n)
            })
            .await;
        assert_eq!(result, Ok(1));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_second_try_does_not_spoil_the_first() {
        let hedge = Hedge::new(HedgeConfig::default());
        calls(&hedge, 20, Duration::from_millis(10)).await;
        let tries = AtomicU32::new(0);
        let result = hedge
            .run(|| async {
                let n = tries.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(if n == 0 { 5 } else { 0 })).await;
                if n == 0 { Ok(n) } else { Err(n) }
            })
            .await;
        assert_eq!(result, Ok(0));
    }
}
