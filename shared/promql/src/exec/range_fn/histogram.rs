//! Functions over windows that may hold native histograms beside floats.

use super::float::{self, window_value};
use super::{Extrapolation, Met, RangeFn, Task, Window, began_anew, each_window, overlaps};
use crate::exec::column::Column;
use farview_model::histogram::{HistogramMean, HistogramSum};
use farview_model::{CounterResetHint, FloatHistogram, HistogramError, Samples};
use std::sync::Arc;

/// Evaluates a function over a series with histograms, window by window.
pub(super) fn evaluate(task: &Task, samples: &Samples, scratch: &mut Vec<f64>, out: &mut Column, met: &mut Met) {
    let events = match task.function {
        RangeFn::Changes | RangeFn::Resets => Events::count(task, samples),
        _ => Events::default(),
    };
    each_window(task.windows, samples, |window| {
        let histograms = &samples.histograms[window.hlo..window.hhi];
        let weights = histograms.iter().map(|histogram| histogram.sample_count() as u64);
        met.samples += (window.hi - window.lo) as u64 + weights.sum::<u64>();
        let value = one(task, samples, window, &events, scratch, met);
        match value {
            Some(Value::Float(value)) => out.set(window.k, value),
            Some(Value::Histogram(histogram)) => out.set_histogram(window.k, histogram),
            None => {}
        }
    });
}

enum Value {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// What a histogram's reading of resets finds between neighbours, counted from the start of the series.
#[derive(Default)]
struct Events {
    /// Time of each sample of either kind, and how many events there were up to it.
    counts: Vec<(i64, u32)>,
}

impl Events {
    /// Counts resets or changes over both kinds of samples in time order; a switch of the kind is an event too.
    fn count(task: &Task, samples: &Samples) -> Self {
        let (times, histogram_times) = (&samples.timestamps, &samples.histogram_timestamps);
        let mut counts = Vec::with_capacity(samples.len());
        let (mut f, mut h, mut total) = (0, 0, 0);
        let mut previous: Option<(bool, usize)> = None;
        while f < times.len() || h < histogram_times.len() {
            let float = h >= histogram_times.len() || (f < times.len() && times[f] < histogram_times[h]);
            let i = if float { f } else { h };
            if let Some((was_float, j)) = previous {
                let event = match (was_float, float) {
                    (true, true) => float_event(task, samples, j, i),
                    (false, false) if task.function == RangeFn::Changes => {
                        samples.histograms[i] != samples.histograms[j]
                    }
                    (false, false) => is_reset(task, samples, j, i),
                    _ => true,
                };
                total += u32::from(event);
            }
            previous = Some((float, i));
            counts.push((if float { times[i] } else { histogram_times[i] }, total));
            if float { f += 1 } else { h += 1 }
        }
        Self { counts }
    }

    /// Events between the samples of a window: after `start`, up to `end`.
    fn within(&self, start: i64, end: i64) -> f64 {
        let first = self.counts.partition_point(|(t, _)| *t <= start);
        let last = self.counts.partition_point(|(t, _)| *t <= end);
        if last <= first { 0.0 } else { f64::from(self.counts[last - 1].1 - self.counts[first].1) }
    }
}

fn float_event(task: &Task, samples: &Samples, before: usize, now: usize) -> bool {
    let (a, b) = (samples.values[before], samples.values[now]);
    if task.function == RangeFn::Changes {
        return a != b && !(a.is_nan() && b.is_nan());
    }
    let starts = &samples.start_timestamps;
    let anew = task.start_timestamps
        && !starts.is_empty()
        && began_anew((starts[before], samples.timestamps[before]), (starts[now], samples.timestamps[now]));
    b < a || anew
}

/// Tells whether the counters of a histogram were reset, by its buckets or its start time.
fn is_reset(task: &Task, samples: &Samples, before: usize, now: usize) -> bool {
    let starts = &samples.histogram_start_timestamps;
    let times = &samples.histogram_timestamps;
    let anew = task.start_timestamps
        && !starts.is_empty()
        && began_anew((starts[before], times[before]), (starts[now], times[now]));
    anew || samples.histograms[now].detect_reset(&samples.histograms[before])
}

fn one(
    task: &Task,
    samples: &Samples,
    window: Window,
    events: &Events,
    scratch: &mut Vec<f64>,
    met: &mut Met,
) -> Option<Value> {
    let Window { k, lo, hi, hlo, hhi } = window;
    let (times, values) = (&samples.timestamps[lo..hi], &samples.values[lo..hi]);
    let (histogram_times, histograms) = (&samples.histogram_timestamps[hlo..hhi], &samples.histograms[hlo..hhi]);
    let mixed = lo < hi && hlo < hhi;
    let last_is_float = hhi == hlo || (hi > lo && times[hi - lo - 1] > histogram_times[hhi - hlo - 1]);
    let first_is_float = hhi == hlo || (hi > lo && times[0] < histogram_times[0]);
    let seconds = |t: i64| Value::Float(t as f64 / 1_000.0);
    let end = task.windows.end(k);
    match task.function {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => {
            if mixed {
                met.mixed_types = true;
                return None;
            }
            if hlo == hhi { float_rate(task, samples, window, met) } else { rate(task, samples, window, met) }
        }
        RangeFn::Irate | RangeFn::Idelta => last_two(task, samples, window, met),
        RangeFn::Changes | RangeFn::Resets => Some(Value::Float(events.within(end - task.windows.range, end))),
        RangeFn::Count => Some(Value::Float((hi - lo + hhi - hlo) as f64)),
        RangeFn::Present => Some(Value::Float(1.0)),
        RangeFn::Last => Some(match last_is_float {
            true => Value::Float(values[hi - lo - 1]),
            false => Value::Histogram(Arc::clone(&histograms[hhi - hlo - 1])),
        }),
        RangeFn::First => Some(match first_is_float {
            true => Value::Float(values[0]),
            false => Value::Histogram(Arc::clone(&histograms[0])),
        }),
        RangeFn::TsOfLast => {
            Some(seconds(if last_is_float { times[hi - lo - 1] } else { histogram_times[hhi - hlo - 1] }))
        }
        RangeFn::TsOfFirst => Some(seconds(if first_is_float { times[0] } else { histogram_times[0] })),
        RangeFn::Sum | RangeFn::Avg => {
            if mixed {
                met.mixed_types = true;
                return None;
            }
            match (task.function, lo < hi) {
                (RangeFn::Sum, true) => Some(Value::Float(float::sum(values))),
                (_, true) => Some(Value::Float(float::mean(values))),
                (RangeFn::Sum, false) => sum(histograms, met).map(Value::Histogram),
                (_, false) => mean(histograms, met).map(Value::Histogram),
            }
        }
        // The rest knows only floats; a window of histograms alone has no result, and nothing is said.
        function => {
            met.ignored_histograms |= mixed;
            if lo == hi {
                return None;
            }
            window_value(task, function, k, times, values, scratch).map(Value::Float)
        }
    }
}

fn sum(histograms: &[Arc<FloatHistogram>], met: &mut Met) -> Option<Arc<FloatHistogram>> {
    let (first, rest) = histograms.split_first()?;
    let mut sum = HistogramSum::new(first);
    let added = rest.iter().try_for_each(|histogram| sum.add(histogram));
    met.conflicting_resets |= sum.conflicting_resets();
    met.reconciled_aggregation |= sum.bounds_reconciled();
    combined(added.map(|()| sum.histogram()), met)
}

fn mean(histograms: &[Arc<FloatHistogram>], met: &mut Met) -> Option<Arc<FloatHistogram>> {
    let (first, rest) = histograms.split_first()?;
    let mut mean = HistogramMean::new(first);
    let added = rest.iter().try_for_each(|histogram| mean.add(histogram));
    met.conflicting_resets |= mean.conflicting_resets();
    met.reconciled_aggregation |= mean.bounds_reconciled();
    combined(added.map(|()| mean.histogram()), met)
}

fn combined(result: Result<FloatHistogram, HistogramError>, met: &mut Met) -> Option<Arc<FloatHistogram>> {
    match result {
        Ok(histogram) => Some(Arc::new(histogram)),
        Err(_) => {
            met.mixed_schemas = true;
            None
        }
    }
}

/// The rate of a window of floats in a series that has histograms elsewhere.
fn float_rate(task: &Task, samples: &Samples, window: Window, met: &mut Met) -> Option<Value> {
    let (lo, hi) = (window.lo, window.hi);
    let starts = &samples.start_timestamps;
    let floats = Samples {
        timestamps: samples.timestamps[lo..hi].to_vec(),
        values: samples.values[lo..hi].to_vec(),
        start_timestamps: starts.get(lo..hi).map_or_else(Vec::new, <[i64]>::to_vec),
        ..Samples::default()
    };
    let grid = crate::exec::Grid { start: task.windows.grid.at(window.k), step: 1, count: 1 };
    let single = Task { windows: super::Windows { grid, ..task.windows }, ..task.clone() };
    let mut column = Column::new(farview_model::Labels::empty(), 1);
    let mut here = Met::default();
    float::evaluate(&single, &floats, &mut Vec::new(), &mut column, &mut here);
    met.start_overlaps |= here.start_overlaps;
    column.float(0).map(Value::Float)
}

/// `rate`, `increase` and `delta` of histograms.
fn rate(task: &Task, samples: &Samples, window: Window, met: &mut Met) -> Option<Value> {
    let (lo, hi) = (window.hlo, window.hhi);
    let times = &samples.histogram_timestamps;
    let counter = task.function.is_counter();
    let starts = if task.start_timestamps && counter { &samples.histogram_start_timestamps[..] } else { &[] };
    let end = task.windows.end(window.k);
    let (first_t, last_t) = (times[lo], times[hi - 1]);
    let began = starts.get(lo).copied().filter(|t| *t != 0 && *t > end - task.windows.range && *t < first_t);
    if hi - lo < 2 && began.is_none() {
        return None;
    }
    if !starts.is_empty() {
        met.start_overlaps |= (lo + 1..hi).any(|i| overlaps((starts[i - 1], times[i - 1]), starts[i]));
    }
    let mut result = difference(task, samples, lo, hi, began.is_some(), met)?;
    let ends = Extrapolation { end, range: task.windows.range, first_t, last_t, count: hi - lo, began };
    let first = samples.histograms[lo].count;
    let mut factor = ends.factor(counter.then_some((result.count, first)));
    if task.function == RangeFn::Rate {
        factor /= task.windows.range as f64 / 1_000.0;
    }
    result.multiply_by(factor);
    Some(Value::Histogram(Arc::new(result)))
}

/// The last histogram of a window less its first, and plus what resets between them took away (`histogramRate`).
fn difference(
    task: &Task,
    samples: &Samples,
    lo: usize,
    hi: usize,
    from_zero: bool,
    met: &mut Met,
) -> Option<FloatHistogram> {
    let points = &samples.histograms[lo..hi];
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let counter = task.function.is_counter();
    let is_gauge = |histogram: &FloatHistogram| histogram.counter_reset_hint == CounterResetHint::Gauge;
    met.not_counter |= counter && points.iter().any(|point| is_gauge(point));
    met.not_gauge |= !(counter || is_gauge(first) && is_gauge(last));
    // After a reset nothing of the first sample matters, not even its layout.
    let reset_at_once = counter && points.len() > 1 && is_reset(task, samples, lo, lo + 1);
    let from_empty = from_zero || reset_at_once;
    let base = if from_empty { &points[usize::from(reset_at_once && !from_zero).min(points.len() - 1)] } else { first };
    let custom = base.uses_custom_buckets();
    let mixed = last.uses_custom_buckets() != custom
        || (counter && points[1..].iter().any(|point| point.uses_custom_buckets() != custom));
    if mixed {
        met.mixed_schemas = true;
        return None;
    }
    let inner = if counter { &points[1..] } else { &points[points.len() - 1..] };
    let schema = inner.iter().map(|point| point.schema).min().unwrap_or(last.schema).min(base.schema);
    let mut result = PlainDifference { total: last.reduced_to(schema), failed: false };
    if !from_empty {
        met.reconciled_subtraction |= result.combine(first, FloatHistogram::minus);
    }
    if counter {
        let skipped = usize::from(reset_at_once && !from_zero);
        for i in lo + 1 + skipped..hi {
            if is_reset(task, samples, i - 1, i) {
                met.reconciled_addition |= result.combine(&samples.histograms[i - 1], FloatHistogram::plus);
            }
        }
    }
    if result.failed {
        met.mixed_schemas = true;
        return None;
    }
    result.total.counter_reset_hint = CounterResetHint::Gauge;
    result.total.compact();
    Some(result.total)
}

struct PlainDifference {
    total: FloatHistogram,
    failed: bool,
}

type Combine = fn(&FloatHistogram, &FloatHistogram) -> Result<farview_model::histogram::Combined, HistogramError>;

impl PlainDifference {
    /// Adds or takes away; tells whether custom bounds had to be reconciled.
    fn combine(&mut self, other: &FloatHistogram, combine: Combine) -> bool {
        match combine(&self.total, other) {
            Ok(combined) => {
                self.total = combined.histogram;
                combined.bounds_reconciled
            }
            Err(_) => {
                self.failed = true;
                false
            }
        }
    }
}

/// `irate` and `idelta`: of the last two samples, of whatever kind.
fn last_two(task: &Task, samples: &Samples, window: Window, met: &mut Met) -> Option<Value> {
    let Window { lo, hi, hlo, hhi, .. } = window;
    if hi - lo + hhi - hlo < 2 {
        return None;
    }
    let times = &samples.timestamps;
    let histogram_times = &samples.histogram_timestamps;
    let mut last: Vec<(i64, bool, usize)> = (lo.max(hi.saturating_sub(2))..hi).map(|i| (times[i], true, i)).collect();
    last.extend((hlo.max(hhi.saturating_sub(2))..hhi).map(|i| (histogram_times[i], false, i)));
    last.sort_unstable();
    let [(before_t, before_is_float, before), (t, is_float, now)] = last[last.len() - 2..] else { return None };
    let is_rate = task.function == RangeFn::Irate;
    let interval = (t - before_t) as f64 / 1_000.0;
    if interval == 0.0 {
        return None;
    }
    if before_is_float != is_float {
        met.mixed_types = true;
        return None;
    }
    if is_float {
        let reset = is_rate && float_event(&Task { function: RangeFn::Resets, ..task.clone() }, samples, before, now);
        let (a, b) = (samples.values[before], samples.values[now]);
        let difference = if reset { b } else { b - a };
        return Some(Value::Float(if is_rate { difference / interval } else { difference }));
    }
    let (a, b) = (&samples.histograms[before], &samples.histograms[now]);
    let gauges = [a, b].iter().filter(|h| h.counter_reset_hint == CounterResetHint::Gauge).count();
    met.not_counter |= is_rate && gauges > 0;
    met.not_gauge |= !is_rate && gauges < 2;
    let mut result = if is_rate && is_reset(task, samples, before, now) {
        FloatHistogram::clone(b)
    } else {
        match b.minus(a) {
            Ok(combined) => {
                met.reconciled_subtraction |= combined.bounds_reconciled;
                combined.histogram
            }
            Err(_) => {
                met.mixed_schemas = true;
                return None;
            }
        }
    };
    result.counter_reset_hint = CounterResetHint::Gauge;
    result.compact();
    if is_rate {
        result.divide_by(interval);
    }
    Some(Value::Histogram(Arc::new(result)))
}
