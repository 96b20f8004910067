//! The engine: from text to answer.

use crate::annotations::{Annotations, Note};
use crate::ast::{Expr, Span, ValueType};
pub use crate::exec::OperatorNode;
use crate::exec::{self, Grid, Profile};
use crate::parse::{self, ParseError};
use crate::source::{Queryable, SourceError};
use farview_model::{Budget, BudgetExceeded, ErrorKind, FloatHistogram, Labels, Reservation};
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
    /// `use-start-timestamps`: start times tell resets, and where a counter began.
    pub start_timestamps: bool,
    /// `type-and-unit-labels`: what a counter is tells the label `__type__`, not the end of the name.
    pub type_and_unit_labels: bool,
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
            start_timestamps: false,
            type_and_unit_labels: false,
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
    /// Whether the answer tells what each operator cost.
    pub analyze: bool,
}

impl Default for QueryContext {
    /// No deadline and no bound on memory.
    fn default() -> Self {
        Self {
            cancelled: Arc::default(),
            deadline: None,
            budget: Budget::root("unlimited", 0),
            lookback_delta: None,
            analyze: false,
        }
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
    /// What each operator cost, if that was asked for.
    pub analysis: Option<OperatorNode>,
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
    pub(crate) counters: Arc<Counters>,
    pub(crate) lookback: i64,
    /// Grid of the whole query: `start()`, `end()`, `step()` and `range()` mean this one.
    pub(crate) outer: Grid,
    /// The query is evaluated at one time, not over a range.
    pub(crate) instant: bool,
    pub(crate) profile: Profile,
}

/// Memory that an operator holds: charged to the query's budget, and its samples to their limit, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    bytes: Reservation,
    samples: u64,
    counters: Arc<Counters>,
}

impl Hold {
    /// Adds to what is held.
    pub(crate) fn grow(&mut self, run: &Run<'_>, bytes: u64, samples: u64) -> Result<(), Error> {
        self.bytes.grow(bytes)?;
        self.samples += samples;
        run.count_held(samples)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.counters.held.fetch_sub(self.samples, Ordering::Relaxed);
    }
}

/// The error of a query that holds, or would hold, more samples than it may.
pub(crate) fn too_many_samples() -> Error {
    Error::Limit("query processing would load too many samples into memory in query execution".to_owned())
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

    /// Charges memory and samples, before they are there.
    pub(crate) fn hold(&self, bytes: u64, samples: u64) -> Result<Hold, Error> {
        let mut hold = Hold { bytes: self.query.budget.reserve(0)?, samples: 0, counters: Arc::clone(&self.counters) };
        hold.grow(self, bytes, samples)?;
        Ok(hold)
    }

    fn count_held(&self, samples: u64) -> Result<(), Error> {
        let held = self.counters.held.fetch_add(samples, Ordering::Relaxed) + samples;
        self.counters.peak.fetch_max(held, Ordering::Relaxed);
        if held > self.engine.options.max_samples as u64 { Err(too_many_samples()) } else { Ok(()) }
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.engine.options
    }

    /// Step and length of the query, ms; 0 if it is an instant query.
    pub(crate) fn step_and_range(&self) -> (i64, i64) {
        if self.instant { (0, 0) } else { (self.outer.step, self.outer.end() - self.outer.start) }
    }

    pub(crate) fn note(&self, span: Span, note: Note<'_>) {
        note.add(&self.annotations, span);
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
        self.instant_expr(cx, source, &self.parse(query)?, t)
    }

    /// As [`Engine::instant`], of an expression that is parsed already.
    ///
    /// # Errors
    /// [`Error`].
    pub fn instant_expr(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        expr: &Expr,
        t: i64,
    ) -> Result<Answer, Error> {
        self.evaluate(cx, source, expr, Grid::instant(t), true)
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
        self.range_expr(cx, source, &self.parse(query)?, start, end, step)
    }

    /// As [`Engine::range`], of an expression that is parsed already.
    ///
    /// # Errors
    /// [`Error`].
    pub fn range_expr(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        expr: &Expr,
        start: i64,
        end: i64,
        step: i64,
    ) -> Result<Answer, Error> {
        let grid = range_grid(expr, start, end, step)?;
        self.evaluate(cx, source, expr, grid, false)
    }

    /// Returns the operators that `expr` would be evaluated by, without evaluating it. `step` 0 stands for an instant query
    /// at `start`.
    ///
    /// # Errors
    /// [`Error`] if the query cannot be evaluated, whatever the data are.
    pub fn explain(&self, expr: &Expr, start: i64, end: i64, step: i64) -> Result<OperatorNode, Error> {
        let grid = if step == 0 { Grid::instant(start) } else { range_grid(expr, start, end, step)? };
        let cx = QueryContext::default();
        let tree = self.with_stack(|| {
            let run = self.run(&cx, &Nothing, grid, step == 0, Profile::recording(false))?;
            exec::build_only(&run, expr, grid)?;
            Ok(run.profile.tree())
        })?;
        Ok(tree.unwrap_or_default())
    }

    fn evaluate(
        &self,
        cx: &QueryContext,
        source: &dyn Queryable,
        expr: &Expr,
        grid: Grid,
        instant: bool,
    ) -> Result<Answer, Error> {
        if grid.count > self.options.max_samples {
            return Err(too_many_samples());
        }
        self.with_stack(|| {
            let profile = if cx.analyze { Profile::recording(true) } else { Profile::default() };
            let run = self.run(cx, source, grid, instant, profile)?;
            run.check()?;
            let value = exec::evaluate(&run, expr, grid)?;
            let stats = Stats {
                total_samples: run.counters.total_samples.load(Ordering::Relaxed),
                samples_read: run.counters.samples_read.load(Ordering::Relaxed),
                peak_samples: run.counters.peak.load(Ordering::Relaxed),
                series: run.counters.series.load(Ordering::Relaxed),
            };
            Ok(Answer { value, stats, analysis: run.profile.tree(), annotations: run.annotations })
        })
    }

    fn run<'r>(
        &'r self,
        query: &'r QueryContext,
        source: &'r dyn Queryable,
        outer: Grid,
        instant: bool,
        profile: Profile,
    ) -> Result<Run<'r>, Error> {
        let lookback = query.lookback_delta.filter(|delta| *delta > 0).unwrap_or(self.options.lookback_delta);
        let (annotations, counters) = Default::default();
        Ok(Run { engine: self, query, source, annotations, counters, lookback, outer, instant, profile })
    }

    /// Calls `run` on a thread of its own: that costs some ten microseconds, and its stack is one that the highest tree
    /// cannot overflow.
    fn with_stack<T: Send>(&self, run: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new().name("promql-query".to_owned()).stack_size(STACK_BYTES);
            let thread = worker
                .spawn_scoped(scope, run)
                .map_err(|error| Error::Limit(format!("no thread for the query: {error}")))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Checks the times of a range query, and that its expression has a value at each step.
fn range_grid(expr: &Expr, start: i64, end: i64, step: i64) -> Result<Grid, Error> {
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
    let steps = end.checked_sub(start).and_then(|range| (range / step).checked_add(1));
    let count = steps.and_then(|steps| usize::try_from(steps).ok()).ok_or_else(too_many_samples)?;
    Ok(Grid { start, step, count })
}

/// A source without series, for queries that are only explained.
struct Nothing;

impl Queryable for Nothing {
    fn select(&self, _: &crate::Select) -> Result<Box<dyn crate::SeriesStream>, SourceError> {
        Ok(Box::new(Self))
    }
}

impl crate::SeriesStream for Nothing {
    fn next(&mut self) -> Result<Option<Vec<crate::SourceSeries>>, SourceError> {
        Ok(None)
    }
}

impl QueryContext {
    /// Makes a context whose query must be done within `timeout`.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { deadline: Some(Instant::now() + timeout), ..Self::default() }
    }
}
