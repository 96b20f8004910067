//! The engine: from text to answer.

use crate::annotations::Annotations;
use crate::ast::{Expr, Span, ValueType};
use crate::exec::{self, Grid};
use crate::parse::{self, ParseError};
use crate::source::{Queryable, SourceError};
use farview_model::{Budget, BudgetExceeded, ErrorKind, FloatHistogram, Labels, Reservation};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What an engine does, for every query.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads that decode and evaluate series.
    pub workers: usize,
    /// How far back an instant selector looks, ms.
    pub lookback_delta: i64,
    /// Inner step of subqueries that give none, ms.
    pub default_subquery_step: i64,
    /// Samples that a query may hold at a time.
    pub max_samples: usize,
    /// `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// What of the language is on.
    pub parse: parse::Options,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            lookback_delta: 300_000,
            default_subquery_step: 60_000,
            max_samples: 50_000_000,
            delayed_name_removal: false,
            parse: parse::Options::default(),
        }
    }
}

/// What goes with one query.
#[derive(Debug)]
pub struct QueryContext {
    /// Set from outside when nobody waits for the answer any more.
    pub cancelled: Arc<AtomicBool>,
    /// When the query must be done.
    pub deadline: Option<Instant>,
    /// Memory that the query may hold.
    pub budget: Arc<Budget>,
    /// Overrides [`EngineOptions::lookback_delta`], ms.
    pub lookback_delta: Option<i64>,
}

impl Default for QueryContext {
    /// No deadline and no bound on memory.
    fn default() -> Self {
        Self { cancelled: Arc::default(), deadline: None, budget: Budget::root("unlimited", 0), lookback_delta: None }
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is no query.
    #[error("invalid parameter \"query\": {0}")]
    Parse(ParseError),
    /// The query is valid but not for this kind of evaluation, or its parameters are not.
    #[error("{0}")]
    Invalid(String),
    /// The data do not allow it.
    #[error("{0}")]
    Execution(String),
    /// It would hold more than it may.
    #[error("{0}")]
    Limit(String),
    /// It took too long.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// Nobody waits for it.
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// The source of series failed.
    #[error("expanding series: {0}")]
    Source(SourceError),
}

impl PartialEq for SourceError {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.message == other.message
    }
}

impl Error {
    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::Invalid(_) => ErrorKind::Invalid,
            Self::Execution(_) => ErrorKind::Execution,
            Self::Limit(_) => ErrorKind::LimitExceeded,
            Self::Timeout => ErrorKind::Timeout,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Source(error) => error.kind,
        }
    }
}

impl From<SourceError> for Error {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<BudgetExceeded> for Error {
    fn from(error: BudgetExceeded) -> Self {
        Self::Limit(error.to_string())
    }
}

/// The samples of one series of an answer: floats and histograms in two lists, by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Times of the floats, ms.
    pub timestamps: Vec<i64>,
    /// The floats.
    pub values: Vec<f64>,
    /// The histograms with their times.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// What a query evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number at a time (ms).
    Scalar(i64, f64),
    /// A string at a time (ms).
    String(i64, Vec<u8>),
    /// Series with one sample each.
    Vector(Vec<Series>),
    /// Series with any number of samples, sorted by labels.
    Matrix(Vec<Series>),
}

/// What a query cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that selectors looked at, windows counted at each step.
    pub total_samples: u64,
    /// Samples read from the source, each once.
    pub samples_read: u64,
    /// Most samples held at a time.
    pub peak_samples: u64,
    /// Series read.
    pub series: u64,
}

/// The answer to a query.
#[derive(Debug)]
pub struct Answer {
    /// Its value.
    pub value: Value,
    /// What to mind.
    pub annotations: Annotations,
    /// What it cost.
    pub stats: Stats,
}

/// Evaluates queries. Shared by all of them: holds the workers.
#[derive(Debug)]
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) pool: rayon::ThreadPool,
}

/// Counters of a running evaluation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) total_samples: AtomicU64,
    pub(crate) samples_read: AtomicU64,
    pub(crate) series: AtomicU64,
    held: AtomicU64,
    peak: AtomicU64,
}

/// Everything that the operators of one evaluation share.
pub(crate) struct Run<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) query: &'a QueryContext,
    pub(crate) source: &'a dyn Queryable,
    pub(crate) annotations: Annotations,
    pub(crate) counters: Counters,
    pub(crate) lookback: i64,
    /// Grid of the whole query: `start()`, `end()`, `step()` and `range()` mean this one.
    pub(crate) outer: Grid,
    held: Mutex<Reservation>,
}

impl Run<'_> {
    /// Ends the evaluation if nobody waits for it or its time is over. Cheap enough for every batch.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.query.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match self.query.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Error::Timeout),
            _ => Ok(()),
        }
    }

    /// Charges columns that stay until the end of the query.
    pub(crate) fn hold(&self, bytes: u64, samples: usize) -> Result<(), Error> {
        self.held.lock().grow(bytes)?;
        let held = self.counters.held.fetch_add(samples as u64, Ordering::Relaxed) + samples as u64;
        self.counters.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.engine.options.max_samples as u64 {
            let text = "query processing would load too many samples into memory in query execution";
            return Err(Error::Limit(text.to_owned()));
        }
        Ok(())
    }

    pub(crate) fn warn(&self, span: Span, text: impl Into<String>) {
        self.annotations.warn(span, text);
    }

    pub(crate) fn info(&self, span: Span, text: impl Into<String>) {
        self.annotations.info(span, text);
    }
}

/// Stack of the thread that drives a query: trees may be as high as the parser's limits allow.
const STACK_BYTES: usize = 64 << 20;

impl Engine {
    /// Makes an engine and starts its workers.
    ///
    /// # Errors
    /// [`std::io::Error`] if the threads cannot be started.
    pub fn new(options: EngineOptions) -> std::io::Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.workers.max(1))
            .thread_name(|i| format!("promql-{i}"))
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Self { options, pool })
    }

    /// Returns what the engine does for every query.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Reads a query by the engine's options.
    ///
    /// # Errors
    /// [`Error::Parse`].
    pub fn parse(&self, query: &str) -> Result<Expr, Error> {
        parse::parse(query, &self.options.parse).map_err(Error::Parse)
    }

    /// Evaluates `query` at time `t` (ms). Blocks the thread.
    ///
    /// # Errors
    /// [`Error`].
    pub fn instant(&self, cx: &QueryContext, source: &dyn Queryable, query: &str, t: i64) -> Result<Answer, Error> {
        let expr = self.parse(query)?;
        self.evaluate(cx, source, &expr, Grid::instant(t), true)
    }

    /// Evaluates `query` at every step from `start` to `end`, both inclusive (ms). Blocks the thread.
    ///
    /// # Errors
    /// [`Error`].
    pub fn range(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        query: &str,
        start: i64,
        end: i64,
        step: i64,
    ) -> Result<Answer, Error> {
        let expr = self.parse(query)?;
        if step <= 0 {
            return Err(Error::Invalid("zero or negative query resolution step widths are not accepted".to_owned()));
        }
        if end < start {
            return Err(Error::Invalid("end timestamp must not be before start time".to_owned()));
        }
        let kind = expr.value_type();
        if !matches!(kind, ValueType::Vector | ValueType::Scalar) {
            let kind = crate::quote::quote(kind.text());
            let text = format!("invalid expression type {kind} for range query, must be Scalar or instant Vector");
            return Err(Error::Invalid(text));
        }
        let count = usize::try_from((end - start) / step + 1).unwrap_or(usize::MAX);
        self.evaluate(cx, source, &expr, Grid { start, step, count }, false)
    }

    fn evaluate(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        expr: &Expr,
        grid: Grid,
        instant: bool,
    ) -> Result<Answer, Error> {
        // A thread of its own costs some ten microseconds and has a stack that the highest tree cannot overflow.
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("promql-query".to_owned()).stack_size(STACK_BYTES);
            let run = || self.evaluate_here(cx, source, expr, grid, instant);
            let thread = worker
                .spawn_scoped(scope, run)
                .map_err(|error| Error::Limit(format!("no thread for the query: {error}")))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn evaluate_here(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        expr: &Expr,
        grid: Grid,
        instant: bool,
    ) -> Result<Answer, Error> {
        let run = Run {
            engine: self,
            query: cx,
            source,
            annotations: Annotations::default(),
            counters: Counters::default(),
            lookback: cx.lookback_delta.filter(|delta| *delta > 0).unwrap_or(self.options.lookback_delta),
            outer: grid,
            held: Mutex::new(cx.budget.reserve(0)?),
        };
        let value = exec::evaluate(&run, expr, grid, instant)?;
        let stats = Stats {
            total_samples: run.counters.total_samples.load(Ordering::Relaxed),
            samples_read: run.counters.samples_read.load(Ordering::Relaxed),
            peak_samples: run.counters.peak.load(Ordering::Relaxed),
            series: run.counters.series.load(Ordering::Relaxed),
        };
        Ok(Answer { value, annotations: run.annotations, stats })
    }
}

impl QueryContext {
    /// Makes a context whose query must be done within `timeout`.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { deadline: Some(Instant::now() + timeout), ..Self::default() }
    }
}
