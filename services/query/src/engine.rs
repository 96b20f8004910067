//! Admission and evaluation: how many queries run at a time, how long they may take, and what ends them early.

use crate::active::ActiveQueries;
use crate::fanout::Fanout;
use crate::metrics::Metrics;
use crate::querier::FanoutQueryable;
use crate::run::QueryRun;
use farview_model::{Budget, ErrorKind};
use farview_promql::engine::{Answer, Engine, Error, QueryContext};
use farview_promql::parse;
use farview_series::DedupFunc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// A query that may be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// PromQL.
    pub(crate) text: String,
    /// When: one time, or a range with its step; ms.
    pub(crate) when: When,
    /// Coarsest resolution that will do, ms.
    pub(crate) max_resolution: i64,
    /// Overrides the lookback, ms.
    pub(crate) lookback_delta: Option<i64>,
    /// Whether the answer tells what each operator cost.
    pub(crate) analyze: bool,
}

/// The times of a query, ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

/// Evaluates queries over all endpoints.
pub(crate) struct QueryEngine {
    pub(crate) engine: Arc<Engine>,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) dedup: DedupFunc,
    pub(crate) gate: Gate,
    pub(crate) process_budget: Arc<Budget>,
    pub(crate) query_bytes: u64,
    pub(crate) metrics: Metrics,
    /// Where it is written which queries run.
    pub(crate) active: Option<ActiveQueries>,
    /// Lookback by the resolution of the data (`--query.dynamic-lookback-delta`).
    pub(crate) dynamic_lookback: bool,
}

/// Lets so many queries run and so many wait; the rest is refused at once.
pub(crate) struct Gate {
    running: Semaphore,
    max_running: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

/// There is no room for another query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "too many queries: {running} run (--query.max-concurrent) and {waiting} wait (--query.max-queued); try again later"
)]
pub(crate) struct Refused {
    running: usize,
    waiting: usize,
}

impl Gate {
    pub(crate) fn new(running: usize, max_waiting: usize, max_wait: Duration) -> Self {
        let max_running = running.max(1);
        Self { running: Semaphore::new(max_running), max_running, waiting: AtomicUsize::new(0), max_waiting, max_wait }
    }

    async fn enter(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
        if let Ok(permit) = self.running.try_acquire() {
            return Ok(permit);
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let leave = Leave(&self.waiting);
        let refused = || Refused { running: self.max_running - self.running.available_permits(), waiting };
        if waiting >= self.max_waiting {
            return Err(refused());
        }
        let permit = tokio::time::timeout(self.max_wait, self.running.acquire()).await;
        drop(leave);
        permit.map_err(|_| refused())?.map_err(|_| refused())
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends a query when whoever waits for it goes away, whichever way that happens.
struct CancelOnDrop {
    run: Arc<QueryRun>,
    engine: Arc<AtomicBool>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.engine.store(true, Ordering::Relaxed);
        self.run.cancelled.cancel();
    }
}

/// Why a query has no answer.
#[derive(Debug)]
pub(crate) enum QueryError {
    Refused(Refused),
    Engine(Error),
}

/// Limits that stand in errors by name.
const NAMED: [&str; 6] = [
    "--query.max-query-bytes",
    "--query.max-total-bytes",
    "--query.max-series",
    "--query.max-text-bytes",
    "--query.max-depth",
    "--query.max-terms",
];

impl QueryError {
    /// Returns the flag of the limit that the query has hit, if it has.
    pub(crate) fn limit(&self) -> Option<&'static str> {
        let named = |text: &str| NAMED.into_iter().find(|name| text.contains(name));
        match self {
            Self::Refused(_) => Some("--query.max-queued"),
            Self::Engine(Error::Timeout) => Some("--query.timeout"),
            Self::Engine(Error::Limit(text)) => named(text).or(Some("--query.max-samples")),
            Self::Engine(Error::Source(error)) if error.kind == ErrorKind::LimitExceeded => named(&error.message),
            Self::Engine(Error::Parse(error)) => error.limit.map(|limit| match limit {
                parse::Limit::Bytes => "--query.max-text-bytes",
                parse::Limit::Depth => "--query.max-depth",
                parse::Limit::Height => "--query.max-terms",
            }),
            Self::Engine(_) => None,
        }
    }
}

impl QueryEngine {
    /// Returns the budget of a new query.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        self.process_budget.child("--query.max-query-bytes", self.query_bytes)
    }

    /// Evaluates a query.
    ///
    /// # Cancellation
    /// Dropping the future ends the evaluation and every call to an endpoint.
    pub(crate) async fn evaluate(&self, run: &Arc<QueryRun>, query: Query) -> Result<Answer, QueryError> {
        let evaluated = self.try_evaluate(run, query).await;
        if let Some(limit) = evaluated.as_ref().err().and_then(QueryError::limit) {
            self.metrics.limit_hit(limit);
        }
        evaluated
    }

    async fn try_evaluate(&self, run: &Arc<QueryRun>, query: Query) -> Result<Answer, QueryError> {
        let waited = Instant::now();
        let _permit = self.gate.enter().await.map_err(QueryError::Refused)?;
        self.metrics.gate_waited(waited.elapsed());
        let _running = self.metrics.running();
        let _active = self.active.as_ref().map(|active| active.enter(&query.text));
        let cancelled = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop { run: Arc::clone(run), engine: Arc::clone(&cancelled) };
        let lookback = query.lookback_delta.or_else(|| self.lookback(query.max_resolution));
        let context = QueryContext {
            cancelled,
            deadline: Some(run.deadline),
            budget: Arc::clone(&run.budget),
            lookback_delta: lookback,
            analyze: query.analyze,
        };
        let source = FanoutQueryable {
            fanout: Arc::clone(&self.fanout),
            run: Arc::clone(run),
            dedup: self.dedup,
            max_resolution: query.max_resolution,
            runtime: tokio::runtime::Handle::current(),
        };
        let engine = Arc::clone(&self.engine);
        let evaluated = tokio::task::spawn_blocking(move || match query.when {
            When::Instant(t) => engine.instant(&context, &source, &query.text, t),
            When::Range { start, end, step } => engine.range(&context, &source, &query.text, start, end, step),
        });
        // The engine looks at its deadline only between batches; a source that is silent is cut here.
        let answer = tokio::select! {
            answer = evaluated => answer,
            () = tokio::time::sleep_until(run.deadline.into()) => {
                return Err(QueryError::Engine(Error::Timeout));
            }
        };
        drop(guard);
        let answer = answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        answer.map_err(QueryError::Engine)
    }

    /// Downsampled data lie further apart than the usual lookback reaches.
    fn lookback(&self, max_resolution: i64) -> Option<i64> {
        let configured = self.engine.options().lookback_delta;
        if !self.dynamic_lookback || max_resolution <= configured {
            return None;
        }
        let least = if max_resolution > 300_000.max(configured) { 3_600_000 } else { 300_000 };
        Some(configured.max(least))
    }
}
