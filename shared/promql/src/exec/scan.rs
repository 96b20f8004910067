//! The leaves: series come from the source compressed, and leave as columns.

use super::range_fn::{self, RangeFn, Task, Windows};
use super::scalar::Params;
use super::{Column, Grid, Op, Operator, labels, without_name};
use crate::annotations::Note;
use crate::ast::*;
use crate::engine::{Error, Hold, Run};
use crate::plan::{self, Above};
use crate::source::{SeriesStream, SourceSeries};
use farview_model::{Labels, METRIC_NAME, MatchOp, Matcher, Samples, TimeRange};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the metric name goes away.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Names {
    Keep,
    DropNow,
    DropLater,
}

impl Names {
    pub(super) fn of(run: &Run<'_>, keep: bool) -> Self {
        match (keep, run.options().delayed_name_removal) {
            (true, _) => Self::Keep,
            (false, true) => Self::DropLater,
            (false, false) => Self::DropNow,
        }
    }

    pub(super) fn apply(self, column: &mut Column) {
        match self {
            Self::Keep => {}
            Self::DropNow => column.labels = without_name(&column.labels),
            Self::DropLater => column.drop_name = true,
        }
    }
}

/// What an instant selector makes of the samples of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Instant {
    /// The newest sample within the lookback.
    Newest,
    /// Its own time in seconds.
    Timestamp,
    /// Its start time in seconds, if it has one.
    StartTimestamp,
    /// The value interpolated at the step.
    Smoothed,
}

/// What is made of the samples of a series.
enum Kernel {
    Instant(Instant, Windows, Span),
    Range(RangeWork),
}

/// A function over ranges, and where it stands. Shared by the workers.
pub(super) struct RangeWork {
    pub(super) task: Task,
    /// The range vector.
    pub(super) argument: Span,
    /// The first argument.
    pub(super) first: Span,
}

impl RangeWork {
    /// Evaluates the parameters, once, before the first series.
    pub(super) fn ready(&mut self, run: &Run<'_>, params: &mut Params<'_>) -> Result<(), Error> {
        if let Some(params) = params.take(run)? {
            check_params(self.task.function, &params)?;
            self.task.params = params;
        }
        Ok(())
    }

    /// Evaluates one series, and says what there is to say of it.
    pub(super) fn evaluate(
        &self,
        run: &Run<'_>,
        labels: &Labels,
        samples: &Samples,
        scratch: &mut Vec<f64>,
        out: &mut Column,
    ) -> u64 {
        let met = range_fn::evaluate(&self.task, samples, scratch, out);
        let name = labels.metric_name();
        met.tell(&run.annotations, name, self.argument, self.first);
        if self.task.function == RangeFn::Quantile {
            // Said of windows with floats only: without any nothing is evaluated.
            let q = self.task.params.first().map_or(&[][..], |q| q);
            let bad = |k: &usize| q.get(*k).is_some_and(|q| !(0.0..=1.0).contains(q));
            out.present.iter().filter(bad).for_each(|k| run.note(self.first, Note::QuantileOutOfRange(q[k])));
        }
        if self.task.function.is_counter() && (0..out.len()).any(|k| out.float(k).is_some()) {
            perhaps_no_counter(run, self.first, labels);
        }
        met.samples
    }
}

fn perhaps_no_counter(run: &Run<'_>, span: Span, labels: &Labels) {
    let name = labels.metric_name();
    if run.options().type_and_unit_labels {
        let kind = labels.get("__type__").unwrap_or("");
        if kind != "counter" && kind != "histogram" {
            run.note(span, Note::PerhapsNoCounterType { kind, name });
        }
    } else if !name.is_empty() && !["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end)) {
        run.note(span, Note::PerhapsNoCounter(name));
    }
}

/// The parameters whose value is an error.
fn check_params(function: RangeFn, params: &[Arc<[f64]>]) -> Result<(), Error> {
    if function == RangeFn::DoubleExponentialSmoothing {
        for (i, name, short) in [(0, "smoothing", "sf"), (1, "trend", "tf")] {
            if let Some(bad) = params.get(i).and_then(|p| p.iter().find(|v| !(**v > 0.0 && **v < 1.0))) {
                let text = format!("invalid {name} factor. Expected: 0 < {short} < 1, got: {bad:.6}");
                return Err(Error::Execution(text));
            }
        }
    }
    Ok(())
}

/// Builds an instant selector.
pub(super) fn instant<'a>(
    run: &Run<'_>,
    selector: &'a VectorSelector,
    span: Span,
    grid: Grid,
    above: &Above,
    what: Instant,
) -> Result<Op<'a>, Error> {
    let what = match (selector.extension, what) {
        (Extension::Smoothed, Instant::Newest) => Instant::Smoothed,
        (Extension::Anchored, _) => {
            return Err(Error::Execution("anchored modifier can only be used with range selectors".to_owned()));
        }
        (_, what) => what,
    };
    let windows = plan::lookback_windows(run, selector, grid)?;
    let mut range = windows.bounds();
    if what == Instant::Smoothed {
        range.maxt = range.maxt.saturating_add(run.lookback);
    }
    let names = Names::of(run, matches!(what, Instant::Newest | Instant::Smoothed));
    let stream = run.source.select(&plan::select(&selector.matchers, range, 0, grid, above))?;
    let leaf = Leaf { range, grid, kernel: Kernel::Instant(what, windows, span), names, lost_metadata: Arc::default() };
    let scan = Scan { stream, params: Params::none(), leaf, hold: None };
    Ok(if names == Names::Keep { Box::new(scan) } else { unique(scan, &selector.matchers) })
}

/// Builds a function over a range selector.
pub(super) fn range<'a>(
    run: &Run<'_>,
    work: RangeWork,
    params: Params<'a>,
    matrix: &'a MatrixSelector,
    above: &Above,
    names: Names,
) -> Result<Op<'a>, Error> {
    let windows = work.task.windows;
    let range = extended_bounds(run, work.task.extension, windows);
    let select = plan::select(&matrix.selector.matchers, range, windows.range, windows.grid, above);
    let stream = run.source.select(&select)?;
    let leaf = Leaf { range, grid: windows.grid, kernel: Kernel::Range(work), names, lost_metadata: Arc::default() };
    let scan = Scan { stream, params, leaf, hold: None };
    Ok(if names == Names::Keep { Box::new(scan) } else { unique(scan, &matrix.selector.matchers) })
}

/// All of time that windows need: extended ones look beyond their ends.
pub(super) fn extended_bounds(run: &Run<'_>, extension: Extension, windows: Windows) -> TimeRange {
    let mut range = windows.bounds();
    if extension != Extension::None {
        range.mint = range.mint.saturating_sub(run.lookback);
    }
    if extension == Extension::Smoothed {
        range.maxt = range.maxt.saturating_add(run.lookback);
    }
    range
}

/// Refuses series that have become equal by losing their names. Series of one name still differ without it, unless they
/// lose metadata labels too.
fn unique<'a>(scan: Scan<'a>, matchers: &[Matcher]) -> Op<'a> {
    let one_name = matchers.iter().any(|matcher| matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal);
    let lost = one_name.then(|| Arc::clone(&scan.leaf.lost_metadata));
    Box::new(labels::Unique::of_ranges(Box::new(scan), lost))
}

struct Scan<'a> {
    stream: Box<dyn SeriesStream>,
    params: Params<'a>,
    leaf: Leaf,
    /// The batch that was given away last.
    hold: Option<Hold>,
}

/// What is done with each series. Shared by the workers.
struct Leaf {
    range: TimeRange,
    grid: Grid,
    kernel: Kernel,
    names: Names,
    /// Set once a series lost metadata labels with its name.
    lost_metadata: Arc<AtomicBool>,
}

/// Memory that a worker uses again for the next series.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) samples: Samples,
    pub(super) values: Vec<f64>,
}

/// Compressed bytes below which a batch is evaluated on the calling thread: sending it to the workers costs more.
const SMALL_BATCH_BYTES: usize = 64 << 10;

/// How many bytes of columns a compressed byte may become: samples take from 1.3 bytes up, decoded 16.
const EXPANSION: u64 = 12;

impl Operator for Scan<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        self.hold = None;
        if let Kernel::Range(work) = &mut self.leaf.kernel {
            work.ready(run, &mut self.params)?;
        }
        let Some(batch) = self.stream.next()? else { return Ok(None) };
        run.counters.series.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let sizes = batch.iter().map(|series| series.samples.size_bytes());
        let (total, largest) = sizes.fold((0, 0), |(sum, most), bytes| (sum + bytes, bytes.max(most)));
        // Charged first: the columns of the batch, and for each worker the decoded samples of its series.
        let columns = batch.len() as u64 * Column::bytes_for(self.leaf.grid.count);
        let decoded = largest as u64 * EXPANSION * run.options().workers.min(batch.len()) as u64;
        self.hold = Some(run.hold(columns + decoded, 0)?);
        let leaf = &self.leaf;
        let one = |scratch: &mut Scratch, series: SourceSeries| leaf.one(run, scratch, series);
        let columns: Result<Vec<Option<Column>>, Error> = if total < SMALL_BATCH_BYTES || run.options().workers < 2 {
            let mut scratch = Scratch::default();
            batch.into_iter().map(|series| one(&mut scratch, series)).collect()
        } else {
            run.engine.pool.install(|| batch.into_par_iter().map_init(Scratch::default, one).collect())
        };
        Ok(Some(columns?.into_iter().flatten().collect()))
    }
}

impl Leaf {
    fn one(&self, run: &Run<'_>, scratch: &mut Scratch, series: SourceSeries) -> Result<Option<Column>, Error> {
        run.check()?;
        let Scratch { samples, values } = scratch;
        samples.clear();
        series.samples.read(self.range, samples)?;
        drop(series.samples);
        run.counters.samples_read.fetch_add(samples.len() as u64, Ordering::Relaxed);
        let mut column = Column::new(series.labels, self.grid.count);
        let seen = match &self.kernel {
            Kernel::Instant(Instant::Smoothed, windows, span) => {
                range_fn::drop_stale(samples);
                let met = range_fn::smoothed_instant(*windows, run.lookback, samples, &mut column);
                met.tell(&run.annotations, column.labels.metric_name(), *span, *span);
                met.samples
            }
            Kernel::Instant(what, windows, _) => newest(samples, *windows, *what, &mut column),
            Kernel::Range(work) => {
                range_fn::drop_stale(samples);
                let labels = column.labels.clone();
                work.evaluate(run, &labels, samples, values, &mut column)
            }
        };
        run.counters.total_samples.fetch_add(seen, Ordering::Relaxed);
        if column.present.is_empty() {
            return Ok(None);
        }
        if self.names == Names::DropNow && ["__type__", "__unit__"].iter().any(|name| column.labels.get(name).is_some())
        {
            self.lost_metadata.store(true, Ordering::Relaxed);
        }
        self.names.apply(&mut column);
        Ok(Some(column))
    }
}

/// Fills a column with the newest sample of each step: `t - lookback < ts <= t`, nothing if it is stale.
pub(super) fn newest(samples: &Samples, windows: Windows, what: Instant, out: &mut Column) -> u64 {
    if samples.histograms.is_empty() && what == Instant::Newest {
        return newest_float(samples, windows, out);
    }
    let (mut float, mut histogram, mut seen) = (0, 0, 0);
    let (times, histogram_times) = (&samples.timestamps[..], &samples.histogram_timestamps[..]);
    for k in 0..windows.grid.count {
        let t = windows.end(k);
        while float < times.len() && times[float] <= t {
            float += 1;
        }
        while histogram < histogram_times.len() && histogram_times[histogram] <= t {
            histogram += 1;
        }
        let newest_float = float.checked_sub(1).map(|i| times[i]);
        let newest_histogram = histogram.checked_sub(1).map(|i| histogram_times[i]);
        let Some(newest) = newest_float.max(newest_histogram) else { continue };
        if newest <= t.saturating_sub(windows.range) {
            continue;
        }
        let is_histogram = newest_histogram == Some(newest);
        let stale = match is_histogram {
            true => samples.histograms[histogram - 1].is_stale(),
            false => farview_model::is_stale_nan(samples.values[float - 1]),
        };
        if stale {
            continue;
        }
        seen += if is_histogram { samples.histograms[histogram - 1].sample_count() as u64 } else { 1 };
        match what {
            Instant::Timestamp => out.set(k, newest as f64 / 1_000.0),
            Instant::StartTimestamp => {
                let start = match is_histogram {
                    true => samples.histogram_start_timestamps.get(histogram - 1),
                    false => samples.start_timestamps.get(float - 1),
                };
                if let Some(start) = start.filter(|start| **start != 0) {
                    out.set(k, *start as f64 / 1_000.0);
                }
            }
            _ if is_histogram => out.set_histogram(k, Arc::clone(&samples.histograms[histogram - 1])),
            _ => out.set(k, samples.values[float - 1]),
        }
    }
    seen
}

fn newest_float(samples: &Samples, windows: Windows, out: &mut Column) -> u64 {
    let (times, values) = (&samples.timestamps[..], &samples.values[..]);
    let (mut next, mut seen) = (0, 0);
    for k in 0..windows.grid.count {
        let t = windows.end(k);
        while next < times.len() && times[next] <= t {
            next += 1;
        }
        if next > 0 && times[next - 1] > t.saturating_sub(windows.range) {
            let value = values[next - 1];
            if !farview_model::is_stale_nan(value) {
                out.set(k, value);
                seen += 1;
            }
        }
    }
    seen
}
