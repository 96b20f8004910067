//! Windows whose ends are samples: `anchored` takes the newest sample at or before the start as the value there, `smoothed`
//! interpolates at both ends. Nothing is extrapolated. Both look one lookback beyond the window.

use super::{Met, RangeFn, Task, Windows};
use crate::ast::Extension;
use crate::exec::column::Column;
use farview_model::{CounterResetHint, FloatHistogram, HistogramError, Samples};
use std::ops::Range;
use std::sync::Arc;

/// Numbers and histograms, as far as differences between them need.
trait Quantity: Clone {
    /// Tells whether the two can be added up at all.
    fn goes_with(&self, other: &Self) -> bool;
    fn is_reset(&self, previous: &Self) -> bool;
    fn plus(&self, other: &Self, met: &mut Met) -> Result<Self, HistogramError>;
    fn minus(&self, other: &Self, met: &mut Met) -> Result<Self, HistogramError>;
    fn times(&self, factor: f64) -> Self;
    fn per(&self, seconds: f64) -> Self;
}

impl Quantity for f64 {
    fn goes_with(&self, _: &Self) -> bool {
        true
    }

    fn is_reset(&self, previous: &Self) -> bool {
        self < previous
    }

    fn plus(&self, other: &Self, _: &mut Met) -> Result<Self, HistogramError> {
        Ok(self + other)
    }

    fn minus(&self, other: &Self, _: &mut Met) -> Result<Self, HistogramError> {
        Ok(self - other)
    }

    fn times(&self, factor: f64) -> Self {
        self * factor
    }

    fn per(&self, seconds: f64) -> Self {
        self / seconds
    }
}

impl Quantity for Arc<FloatHistogram> {
    fn goes_with(&self, other: &Self) -> bool {
        self.uses_custom_buckets() == other.uses_custom_buckets()
    }

    fn is_reset(&self, previous: &Self) -> bool {
        self.detect_reset(previous)
    }

    fn plus(&self, other: &Self, met: &mut Met) -> Result<Self, HistogramError> {
        let combined = FloatHistogram::plus(self, other)?;
        met.reconciled_addition |= combined.bounds_reconciled;
        Ok(Self::new(combined.histogram))
    }

    fn minus(&self, other: &Self, met: &mut Met) -> Result<Self, HistogramError> {
        let combined = FloatHistogram::minus(self, other)?;
        met.reconciled_subtraction |= combined.bounds_reconciled;
        Ok(Self::new(combined.histogram))
    }

    fn times(&self, factor: f64) -> Self {
        let mut product = FloatHistogram::clone(self);
        product.multiply_by(factor);
        Self::new(product)
    }

    fn per(&self, seconds: f64) -> Self {
        let mut quotient = FloatHistogram::clone(self);
        quotient.divide_by(seconds);
        Self::new(quotient)
    }
}

/// Evaluates a function over the extended windows of a series.
pub(super) fn evaluate(task: &Task, samples: &Samples, out: &mut Column, met: &mut Met) {
    for k in 0..task.windows.grid.count {
        let (floats, histograms) = reach(task.windows, task.extension, task.lookback, samples, k);
        met.samples += (floats.len() + histograms.len()) as u64;
        if !floats.is_empty() && !histograms.is_empty() {
            met.mixed_types = true;
            continue;
        }
        let end = task.windows.end(k);
        if histograms.is_empty() {
            let (times, values) = (&samples.timestamps[floats.clone()], &samples.values[floats]);
            if let Some(value) = one(task, times, values, end, met) {
                out.set(k, value);
            }
        } else {
            let times = &samples.histogram_timestamps[histograms.clone()];
            let values = &samples.histograms[histograms];
            match task.function {
                RangeFn::Changes | RangeFn::Resets => {
                    if let Some(count) = count(task, times, values, end) {
                        out.set(k, count);
                    }
                }
                _ => histogram_hints(task, times, values, end, met),
            }
            if !matches!(task.function, RangeFn::Changes | RangeFn::Resets)
                && let Some(value) = difference(task, times, values, end, met)
            {
                let mut value = FloatHistogram::clone(&value);
                value.counter_reset_hint = CounterResetHint::Gauge;
                out.set_histogram(k, Arc::new(value.compacted()));
            }
        }
    }
}

/// Positions of the samples that the window of step `k` may use: one lookback more before it, and if smoothed after it.
fn reach(
    windows: Windows,
    extension: Extension,
    lookback: i64,
    samples: &Samples,
    k: usize,
) -> (Range<usize>, Range<usize>) {
    let end = windows.end(k);
    let from = end.saturating_sub(windows.range).saturating_sub(lookback);
    let to = if extension == Extension::Smoothed { end.saturating_add(lookback) } else { end };
    let within = |times: &[i64]| {
        let start = times.partition_point(|t| *t <= from);
        start..times.partition_point(|t| *t <= to).max(start)
    };
    (within(&samples.timestamps), within(&samples.histogram_timestamps))
}

fn one(task: &Task, times: &[i64], values: &[f64], end: i64, met: &mut Met) -> Option<f64> {
    match task.function {
        RangeFn::Changes | RangeFn::Resets => count(task, times, values, end),
        _ => difference(task, times, values, end, met),
    }
}

/// First and last sample that count: the newest at or before the start, and the last in the window or, smoothed, the first
/// at or after its end. `None` if nothing lies in the window.
fn ends(task: &Task, times: &[i64], end: i64) -> Option<(usize, usize)> {
    let start = end.saturating_sub(task.windows.range);
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|t| *t <= start).saturating_sub(1);
    if task.extension == Extension::Smoothed {
        last = times[..last].partition_point(|t| *t < end);
    }
    (times[last] > start && !(last == 0 && times[0] > end)).then_some((first, last))
}

fn count<T: Quantity + SameOrNan>(task: &Task, times: &[i64], values: &[T], end: i64) -> Option<f64> {
    let (first, last) = ends(task, times, end)?;
    let pairs = values[first..=last].windows(2);
    let events = match task.function {
        RangeFn::Resets => pairs.filter(|pair| pair[1].is_reset(&pair[0])).count(),
        _ => pairs.filter(|pair| !pair[1].same(&pair[0])).count(),
    };
    Some(events as f64)
}

trait SameOrNan {
    fn same(&self, other: &Self) -> bool;
}

impl SameOrNan for f64 {
    fn same(&self, other: &Self) -> bool {
        self == other || self.is_nan() && other.is_nan()
    }
}

impl SameOrNan for Arc<FloatHistogram> {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

fn histogram_hints(task: &Task, times: &[i64], values: &[Arc<FloatHistogram>], end: i64, met: &mut Met) {
    let Some((first, last)) = ends(task, times, end) else { return };
    let is_gauge = |h: &Arc<FloatHistogram>| h.counter_reset_hint == CounterResetHint::Gauge;
    if task.function.is_counter() {
        met.not_counter |= values[first..=last].iter().any(is_gauge);
    } else {
        met.not_gauge |= !(is_gauge(&values[first]) && is_gauge(&values[last]));
    }
}

/// `rate`, `increase` and `delta`: right end less left end, plus what the resets between them took away.
fn difference<T: Quantity>(task: &Task, times: &[i64], values: &[T], end: i64, met: &mut Met) -> Option<T> {
    let (first, last) = ends(task, times, end)?;
    let start = end.saturating_sub(task.windows.range);
    let counter = task.function.is_counter();
    let smoothed = task.extension == Extension::Smoothed;
    let left_between = smoothed && times[first] < start && first < last;
    let right_between = smoothed && last > 0 && times[last] > end;
    let mut run = || -> Result<T, HistogramError> {
        let left = match left_between {
            true => between(times, values, first, start, counter, met)?,
            false => values[first].clone(),
        };
        let right = match right_between {
            true => between(times, values, last - 1, end, counter, met)?,
            false => values[last].clone(),
        };
        let mut result = right.minus(&left, met)?;
        if counter {
            for i in first + 1..=last {
                // A reset across the left end has been allowed for already: the line there began at zero.
                if values[i].is_reset(&values[i - 1]) && !(left_between && i == first + 1) {
                    result = result.plus(&values[i - 1], met)?;
                }
            }
        }
        Ok(result)
    };
    match run() {
        Ok(result) if task.function == RangeFn::Rate => Some(result.per(task.windows.range as f64 / 1_000.0)),
        Ok(result) => Some(result),
        Err(_) => {
            met.mixed_schemas = true;
            None
        }
    }
}

/// The value at `t` on the line from sample `i` to the next; over a counter reset the line begins at zero.
fn between<T: Quantity>(
    times: &[i64],
    values: &[T],
    i: usize,
    t: i64,
    counter: bool,
    met: &mut Met,
) -> Result<T, HistogramError> {
    let (a, b) = (&values[i], &values[i + 1]);
    if !a.goes_with(b) {
        return Err(HistogramError::MixedSchemas);
    }
    let part = (t - times[i]) as f64 / (times[i + 1] - times[i]) as f64;
    if counter && b.is_reset(a) {
        return Ok(b.times(part));
    }
    b.minus(a, met)?.times(part).plus(a, met)
}

/// A `smoothed` instant selector: at each step the sample at that time, or the point on the line between its neighbours, or
/// the last one if there is none after it.
pub(crate) fn instant(windows: Windows, lookback: i64, samples: &Samples, out: &mut Column) -> Met {
    let mut met = Met::default();
    let point = Windows { range: 0, ..windows };
    for k in 0..windows.grid.count {
        let t = point.end(k);
        let (floats, histograms) = reach(point, Extension::Smoothed, lookback, samples, k);
        if !floats.is_empty() && !histograms.is_empty() {
            met.mixed_types = true;
            continue;
        }
        let (times, values) = (&samples.timestamps[floats.clone()], &samples.values[floats]);
        if let Some(value) = at(times, values, t, false, &mut met) {
            met.samples += 1;
            out.set(k, value);
        }
        let (times, values) = (&samples.histogram_timestamps[histograms.clone()], &samples.histograms[histograms]);
        if let Some(value) = at(times, values, t, true, &mut met) {
            met.samples += 1;
            out.set_histogram(k, value);
        }
    }
    met
}

fn at<T: Quantity>(times: &[i64], values: &[T], t: i64, counter: bool, met: &mut Met) -> Option<T> {
    let next = times.partition_point(|time| *time < t);
    if times.get(next) == Some(&t) {
        return Some(values[next].clone());
    }
    let before = next.checked_sub(1)?;
    if next == times.len() {
        return Some(values[before].clone());
    }
    let value = between(times, values, before, t, counter, met);
    met.mixed_schemas |= value.is_err();
    value.ok()
}

/// The points of an extended window itself: exactly at its ends, and the samples between. Floats only.
pub(crate) fn points(windows: Windows, extension: Extension, lookback: i64, samples: &Samples) -> (Vec<i64>, Vec<f64>) {
    let task =
        Task { function: RangeFn::Delta, windows, params: Vec::new(), start_timestamps: false, extension, lookback };
    let (floats, _) = reach(windows, extension, lookback, samples, 0);
    let (times, values) = (&samples.timestamps[floats.clone()], &samples.values[floats]);
    let end = windows.end(0);
    let start = end.saturating_sub(windows.range);
    let Some((first, last)) = ends(&task, times, end) else { return Default::default() };
    let smoothed = extension == Extension::Smoothed;
    let mut met = Met::default();
    let mut line = |i: usize, t: i64| between(times, values, i, t, false, &mut met).unwrap_or(f64::NAN);
    let left = if smoothed && times[first] < start && first < last { line(first, start) } else { values[first] };
    let right = if smoothed && last > 0 && times[last] > end { line(last - 1, end) } else { values[last] };
    let inner = (first + 1).min(last)..last;
    let times = [&[start], &times[inner.clone()], &[end]].concat();
    let values = [&[left], &values[inner], &[right]].concat();
    (times, values)
}
