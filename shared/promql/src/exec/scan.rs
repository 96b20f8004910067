//! The leaves: series come from the source compressed, and leave as columns.

use super::range_fn::{self, RangeFn, Windows};
use super::{Above, Column, Grid, Op, Operator, build, fixed_time, millis, named, scalar, without_name};
use crate::ast::*;
use crate::engine::{Error, Run, Series, Value};
use crate::source::{Select, SeriesStream, SourceSeries};
use farview_model::{METRIC_NAME, MatchOp, Matcher, Samples, TimeRange, is_stale_nan};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Opens the stream of a selector.
fn open(
    run: &Run<'_>,
    matchers: &Arc<[Matcher]>,
    range: TimeRange,
    window: i64,
    grid: Grid,
    above: &Above,
) -> Result<Box<dyn SeriesStream>, Error> {
    let select = Select {
        matchers: matchers.to_vec(),
        range,
        step: if grid.count > 1 { grid.step } else { 0 },
        window,
        func: above.func.clone(),
        grouping: above.grouping.clone(),
        by: above.by,
        labels_only: false,
        limit: 0,
    };
    Ok(run.source.select(&select)?)
}

/// What is made of the samples of a series.
enum Kernel {
    /// The newest sample within the lookback; its own time instead of its value if `timestamp`.
    Newest { at: Option<i64>, offset: i64, timestamp: bool },
    /// A function over windows, with its parameters at each step.
    Range { function: RangeFn, windows: Windows, params: Vec<Vec<f64>> },
}

struct Scan {
    stream: Box<dyn SeriesStream>,
    range: TimeRange,
    grid: Grid,
    kernel: Kernel,
    names: Names,
}

/// How the metric name goes away.
#[derive(Clone, Copy, PartialEq)]
enum Names {
    Keep,
    DropNow,
    DropLater,
}

fn names(run: &Run<'_>, keep: bool) -> Names {
    match (keep, run.engine.options.delayed_name_removal) {
        (true, _) => Names::Keep,
        (false, true) => Names::DropLater,
        (false, false) => Names::DropNow,
    }
}

/// Builds an instant selector.
pub(super) fn instant<'a>(
    run: &Run<'_>,
    selector: &'a VectorSelector,
    grid: Grid,
    above: &Above,
    timestamp: bool,
) -> Result<Op<'a>, Error> {
    if selector.extension != Extension::None {
        return Err(Error::Execution("smoothed instant selectors are not implemented".to_owned()));
    }
    let offset = selector.offset.as_ref().map_or(Ok(0), |offset| millis(run, offset, false))?;
    let at = fixed_time(run, selector.at);
    let (first, last) = at.map_or((grid.start, grid.end()), |t| (t, t));
    let range = TimeRange::new(first - offset - run.lookback + 1, last - offset);
    let stream = open(run, &selector.matchers, range, 0, grid, above)?;
    let kernel = Kernel::Newest { at, offset, timestamp };
    let scan = Scan { stream, range, grid, kernel, names: names(run, !timestamp) };
    Ok(if timestamp { unique(Box::new(scan), &selector.matchers) } else { Box::new(scan) })
}

/// Builds a function over a range selector or a subquery.
pub(super) fn range_call<'a>(run: &Run<'_>, call: &'a Call, function: RangeFn, grid: Grid) -> Result<Op<'a>, Error> {
    let matrix_at = call.args.iter().position(|arg| arg.value_type() == ValueType::Matrix).unwrap_or(0);
    let params = call.args.iter().enumerate().filter(|(i, _)| *i != matrix_at);
    let params: Vec<Vec<f64>> =
        params.map(|(_, arg)| scalar::build(run, arg, grid)?.eval(run)).collect::<Result<_, _>>()?;
    check_params(run, function, call, &params)?;
    let names = names(run, function.keeps_name());
    let matrix = call.args[matrix_at].unwrapped();
    match &matrix.node {
        Node::Matrix(matrix) => {
            if matrix.selector.extension != Extension::None {
                return Err(Error::Execution("anchored and smoothed range selectors are not implemented".to_owned()));
            }
            let windows = matrix_windows(run, matrix, grid)?;
            let range = bounds(windows);
            let stream = open(run, &matrix.selector.matchers, range, windows.range, grid, &named(call.func.name))?;
            let kernel = Kernel::Range { function, windows, params };
            let notes = CounterNote::new(run, function, call, &matrix.selector.matchers);
            let scan = Scan { stream, range, grid, kernel, names };
            let op: Op<'a> = Box::new(Noted { op: Box::new(scan), note: notes });
            Ok(if function.keeps_name() { op } else { unique(op, &matrix.selector.matchers) })
        }
        Node::Subquery(subquery) => {
            let (windows, inner_grid) = subquery_grid(run, subquery, grid)?;
            let op = build(run, &subquery.expr, inner_grid, &named(call.func.name))?;
            let op: Op<'a> = Box::new(SubqueryScan { op, inner_grid, function, windows, params, names });
            Ok(if function.keeps_name() { op } else { unique(op, &[]) })
        }
        _ => Err(Error::Invalid("expected a range vector".to_owned())),
    }
}

/// The parameters whose value is an error or a warning.
fn check_params(run: &Run<'_>, function: RangeFn, call: &Call, params: &[Vec<f64>]) -> Result<(), Error> {
    match function {
        RangeFn::Quantile => {
            for q in params.iter().flatten().filter(|q| q.is_nan() || **q < 0.0 || **q > 1.0) {
                let q = farview_model::number::format_g(*q);
                run.warn(call.args[0].span, format!("quantile value should be between 0 and 1, got {q}"));
            }
        }
        RangeFn::DoubleExponentialSmoothing => {
            for (i, name, short) in [(0, "smoothing", "sf"), (1, "trend", "tf")] {
                if let Some(bad) = params.get(i).and_then(|p| p.iter().find(|v| !(**v > 0.0 && **v < 1.0))) {
                    let text = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {bad:.6}");
                    return Err(Error::Execution(text));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn matrix_windows(run: &Run<'_>, matrix: &MatrixSelector, grid: Grid) -> Result<Windows, Error> {
    let offset = matrix.selector.offset.as_ref().map_or(Ok(0), |offset| millis(run, offset, false))?;
    let range = millis(run, &matrix.range, true)?;
    Ok(Windows { grid, at: fixed_time(run, matrix.selector.at), offset, range })
}

/// All of time that the windows cover.
fn bounds(windows: Windows) -> TimeRange {
    let last = windows.grid.count.saturating_sub(1);
    TimeRange::new(windows.end(0) - windows.range + 1, windows.end(last))
}

/// Steps that a subquery may have: each is a sample of every inner series.
const MAX_SUBQUERY_STEPS: i64 = 50_000_000;

/// Returns the windows of a subquery and the grid on which its inner expression is evaluated: absolute multiples of the
/// inner step, whatever the outer steps are.
fn subquery_grid(run: &Run<'_>, subquery: &Subquery, grid: Grid) -> Result<(Windows, Grid), Error> {
    let offset = subquery.offset.as_ref().map_or(Ok(0), |offset| millis(run, offset, false))?;
    let range = millis(run, &subquery.range, true)?;
    let default = run.engine.options.default_subquery_step;
    let step = subquery.step.as_ref().map_or(Ok(default), |step| millis(run, step, true))?;
    let windows = Windows { grid, at: fixed_time(run, subquery.at), offset, range };
    let bounds = bounds(windows);
    // The first multiple of the step that lies after the window's open start.
    let first = (bounds.mint - 1).div_euclid(step) * step + step;
    let count = if bounds.maxt < first { 0 } else { (bounds.maxt - first) / step + 1 };
    if count > MAX_SUBQUERY_STEPS.min(run.engine.options.max_samples as i64) {
        let text = "query processing would load too many samples into memory in query execution";
        return Err(Error::Limit(text.to_owned()));
    }
    Ok((windows, Grid { start: first, step, count: count as usize }))
}

#[derive(Default)]
struct Scratch {
    samples: Samples,
}

impl Operator for Scan {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        let Some(batch) = self.stream.next()? else { return Ok(None) };
        run.counters.series.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let this = &*self;
        let (range, grid, kernel, names) = (this.range, this.grid, &this.kernel, this.names);
        let lookback = run.lookback;
        let counters = &run.counters;
        let one = |scratch: &mut Scratch, series: SourceSeries| -> Result<Option<Column>, Error> {
            scratch.samples.clear();
            series.samples.read(range, &mut scratch.samples)?;
            counters.samples_read.fetch_add(scratch.samples.len() as u64, Ordering::Relaxed);
            let mut column = Column::new(series.labels, grid.count);
            let seen = match kernel {
                Kernel::Newest { at, offset, timestamp } => {
                    newest(&scratch.samples, grid, *at, *offset, lookback, *timestamp, &mut column)
                }
                Kernel::Range { function, windows, params } => {
                    range_fn::drop_stale(&mut scratch.samples);
                    let samples = &scratch.samples;
                    super::range_fn::evaluate(
                        *function,
                        *windows,
                        &samples.timestamps,
                        &samples.values,
                        params,
                        &mut column,
                    )
                }
            };
            counters.total_samples.fetch_add(seen, Ordering::Relaxed);
            if column.present.is_empty() {
                return Ok(None);
            }
            rename(&mut column, names);
            Ok(Some(column))
        };
        let columns: Result<Vec<Option<Column>>, Error> = if batch.len() < 4 {
            let mut scratch = Scratch::default();
            batch.into_iter().map(|series| one(&mut scratch, series)).collect()
        } else {
            run.engine.pool.install(|| batch.into_par_iter().map_init(Scratch::default, one).collect())
        };
        Ok(Some(columns?.into_iter().flatten().collect()))
    }
}

fn rename(column: &mut Column, names: Names) {
    match names {
        Names::Keep => {}
        Names::DropNow => column.labels = without_name(&column.labels),
        Names::DropLater => column.drop_name = true,
    }
}

/// Fills a column with the newest sample of each step: `t - lookback < ts <= t`, nothing if it is stale.
fn newest(
    samples: &Samples,
    grid: Grid,
    at: Option<i64>,
    offset: i64,
    lookback: i64,
    timestamp: bool,
    out: &mut Column,
) -> u64 {
    let (mut float, mut histogram, mut seen) = (0, 0, 0);
    let (times, histogram_times) = (&samples.timestamps[..], &samples.histogram_timestamps[..]);
    for k in 0..grid.count {
        let t = at.unwrap_or_else(|| grid.at(k)) - offset;
        while float < times.len() && times[float] <= t {
            float += 1;
        }
        while histogram < histogram_times.len() && histogram_times[histogram] <= t {
            histogram += 1;
        }
        let newest_float = float.checked_sub(1).map(|i| times[i]);
        let newest_histogram = histogram.checked_sub(1).map(|i| histogram_times[i]);
        let Some(newest) = newest_float.max(newest_histogram) else { continue };
        if newest <= t - lookback {
            continue;
        }
        if newest_histogram == Some(newest) {
            let sample = &samples.histograms[histogram - 1];
            if is_stale_nan(sample.sum) {
                continue;
            }
            if timestamp {
                out.set(k, newest as f64 / 1_000.0);
            } else {
                out.set_histogram(k, Arc::clone(sample));
            }
        } else {
            let value = samples.values[float - 1];
            if is_stale_nan(value) {
                continue;
            }
            out.set(k, if timestamp { newest as f64 / 1_000.0 } else { value });
        }
        seen += 1;
    }
    seen
}

/// A function over the windows of a subquery: the inner column is the series.
struct SubqueryScan<'a> {
    op: Op<'a>,
    inner_grid: Grid,
    function: RangeFn,
    windows: Windows,
    params: Vec<Vec<f64>>,
    names: Names,
}

impl Operator for SubqueryScan<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let this = &*self;
        let (inner, windows, function, names) = (this.inner_grid, this.windows, this.function, this.names);
        let params = &this.params;
        let one = |inner_column: Column| {
            let samples = to_samples(&inner_column, inner);
            let mut column = Column::new(inner_column.labels, windows.grid.count);
            column.drop_name = inner_column.drop_name;
            let seen = range_fn::evaluate(function, windows, &samples.timestamps, &samples.values, params, &mut column);
            run.counters.total_samples.fetch_add(seen, Ordering::Relaxed);
            rename(&mut column, names);
            column
        };
        let columns: Vec<Column> = run.engine.pool.install(|| batch.into_par_iter().map(one).collect());
        Ok(Some(columns.into_iter().filter(|column| !column.present.is_empty()).collect()))
    }
}

fn to_samples(column: &Column, grid: Grid) -> Samples {
    let mut samples = Samples::default();
    for k in column.present.iter() {
        match column.histogram(k) {
            Some(histogram) => samples.push_histogram(grid.at(k), Arc::clone(histogram)),
            None => samples.push(grid.at(k), column.values[k]),
        }
    }
    samples
}

/// Tells whether all series of a selector have one name: without it they still differ.
fn one_name(matchers: &[Matcher]) -> bool {
    matchers.iter().any(|matcher| matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal)
}

/// Refuses series that have become equal by losing their names.
fn unique<'a>(op: Op<'a>, matchers: &[Matcher]) -> Op<'a> {
    if one_name(matchers) { op } else { Box::new(super::labels::Unique::new(op)) }
}

/// Says once per metric that it is perhaps no counter.
struct CounterNote {
    span: Span,
    name: Option<String>,
}

impl CounterNote {
    fn new(_: &Run<'_>, function: RangeFn, call: &Call, matchers: &[Matcher]) -> Option<Self> {
        let name =
            matchers.iter().find(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal).map(|m| m.value().to_owned());
        function.is_counter().then(|| Self { span: call.args[0].span, name })
    }
}

struct Noted<'a> {
    op: Op<'a>,
    note: Option<CounterNote>,
}

impl Operator for Noted<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let batch = self.op.next(run)?;
        if let Some(note) = &self.note
            && let Some(columns) = &batch
            && !columns.is_empty()
        {
            let name = note.name.as_deref().unwrap_or("");
            let counter = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
            if !name.is_empty() && !counter {
                let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
                run.info(note.span, format!("{text} {}", crate::quote::quote(name)));
            }
        }
        Ok(batch)
    }
}

/// Evaluates a range vector itself: the samples of its one window.
pub(super) fn raw(run: &Run<'_>, expr: &Expr, grid: Grid) -> Result<Value, Error> {
    let mut series = Vec::new();
    match &expr.unwrapped().node {
        Node::Matrix(matrix) => {
            let windows = matrix_windows(run, matrix, grid)?;
            let range = bounds(windows);
            let mut stream = open(run, &matrix.selector.matchers, range, windows.range, grid, &Above::default())?;
            while let Some(batch) = stream.next()? {
                run.check()?;
                for source in batch {
                    let mut samples = Samples::default();
                    source.samples.read(range, &mut samples)?;
                    range_fn::drop_stale(&mut samples);
                    run.hold((samples.len() * 16) as u64, samples.len())?;
                    series.push(Series {
                        labels: source.labels,
                        timestamps: samples.timestamps,
                        values: samples.values,
                        histograms: samples.histogram_timestamps.into_iter().zip(samples.histograms).collect(),
                    });
                }
            }
        }
        Node::Subquery(subquery) => {
            let (_, inner_grid) = subquery_grid(run, subquery, grid)?;
            let mut op = build(run, &subquery.expr, inner_grid, &Above::default())?;
            let columns = super::finish_names(super::collect(&mut op, run)?)?;
            series.extend(columns.into_iter().map(|column| super::to_series(column, inner_grid)));
        }
        _ => return Err(Error::Invalid("expected a range vector".to_owned())),
    }
    series.retain(|series| !series.timestamps.is_empty() || !series.histograms.is_empty());
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}
