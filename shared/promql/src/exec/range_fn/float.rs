//! Functions over windows of floats.

use super::{Extrapolation, Met, RangeFn, Task, began_anew, each_float_window, overlaps};
use crate::exec::column::Column;
use farview_model::Samples;
use farview_model::sum::{Mean, Sum, kahan_add};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Evaluates a function over the floats of a series without histograms. Each function has a loop of its own, so that
/// nothing is decided anew for a sample or a step.
pub(super) fn evaluate(task: &Task, samples: &Samples, scratch: &mut Vec<f64>, out: &mut Column, met: &mut Met) {
    let (times, values) = (&samples.timestamps[..], &samples.values[..]);
    let windows = task.windows;
    let mut seen = 0;
    // Calls a function of one window's times and values at each step.
    macro_rules! each {
        (|$k:ident, $lo:ident, $hi:ident| $value:expr) => {
            each_float_window(windows, times, |$k, $lo, $hi| {
                seen += ($hi - $lo) as u64;
                if let Some(value) = $value {
                    out.set($k, value);
                }
            })
        };
    }
    match task.function {
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta => seen = rates(task, samples, out, met),
        RangeFn::Changes => {
            let prefix = prefix_count(values, |i| {
                let (a, b) = (values[i - 1], values[i]);
                a != b && !(a.is_nan() && b.is_nan())
            });
            each!(|k, lo, hi| Some(f64::from(prefix[hi - 1] - prefix[lo])));
        }
        RangeFn::Resets => {
            let prefix = prefix_count(values, |i| values[i] < values[i - 1] || restarted(task, samples, i));
            each!(|k, lo, hi| Some(f64::from(prefix[hi - 1] - prefix[lo])));
        }
        RangeFn::Irate | RangeFn::Idelta => each!(|k, lo, hi| last_two(task, samples, lo, hi)),
        RangeFn::Count => each!(|k, lo, hi| Some((hi - lo) as f64)),
        RangeFn::Last => each!(|k, _lo, hi| Some(values[hi - 1])),
        RangeFn::First => each!(|k, lo, _hi| Some(values[lo])),
        RangeFn::Present => each!(|k, _lo, _hi| Some(1.0)),
        RangeFn::TsOfLast => each!(|k, _lo, hi| Some(times[hi - 1] as f64 / 1_000.0)),
        RangeFn::TsOfFirst => each!(|k, lo, _hi| Some(times[lo] as f64 / 1_000.0)),
        RangeFn::Sum => each!(|k, lo, hi| Some(sum(&values[lo..hi]))),
        RangeFn::Avg => each!(|k, lo, hi| Some(mean(&values[lo..hi]))),
        RangeFn::Min => {
            let mut queue = Extreme::new(|new, old| new < old);
            each!(|k, lo, hi| Some(queue.slide(values, lo, hi)));
        }
        RangeFn::Max => {
            let mut queue = Extreme::new(|new, old| new > old);
            each!(|k, lo, hi| Some(queue.slide(values, lo, hi)));
        }
        RangeFn::Quantile => {
            let mut sorted = SortedWindow::new(std::mem::take(scratch));
            each!(|k, lo, hi| {
                sorted.slide(values, lo, hi);
                Some(quantile_of_sorted(task.param(0, k), &sorted.values))
            });
            *scratch = sorted.values;
        }
        function => each!(|k, lo, hi| window_value(task, function, k, &times[lo..hi], &values[lo..hi], scratch)),
    }
    met.samples += seen;
}

/// Tells whether start times say that the counter began anew before sample `i`, which has one before it.
fn restarted(task: &Task, samples: &Samples, i: usize) -> bool {
    let starts = &samples.start_timestamps;
    task.start_timestamps
        && !starts.is_empty()
        && began_anew((starts[i - 1], samples.timestamps[i - 1]), (starts[i], samples.timestamps[i]))
}

/// `rate`, `increase` and `delta`: the difference over the window, extrapolated to its ends. The places of the resets are
/// found once for the series; a window adds what those within it took away, in their order.
fn rates(task: &Task, samples: &Samples, out: &mut Column, met: &mut Met) -> u64 {
    let (times, values) = (&samples.timestamps[..], &samples.values[..]);
    let windows = task.windows;
    let counter = task.function.is_counter();
    let starts = if task.start_timestamps && counter { &samples.start_timestamps[..] } else { &[] };
    let fell = |i: &usize| values[*i] < values[*i - 1] || (!starts.is_empty() && restarted(task, samples, *i));
    let resets: Vec<usize> = if counter { (1..values.len()).filter(fell).collect() } else { Vec::new() };
    let overlap = (1..starts.len()).filter(|i| overlaps((starts[i - 1], times[i - 1]), starts[*i]));
    let overlap: Vec<usize> = overlap.collect();
    let per_second = if task.function == RangeFn::Rate { windows.range as f64 / 1_000.0 } else { 1.0 };
    let (mut reset, mut seen) = (0, 0);
    each_float_window(windows, times, |k, lo, hi| {
        let n = hi - lo;
        seen += n as u64;
        let end = windows.end(k);
        let (first_t, last_t) = (times[lo], times[hi - 1]);
        let began = starts.get(lo).copied().filter(|t| *t != 0 && *t > end - windows.range && *t < first_t);
        if n < 2 && began.is_none() {
            return;
        }
        while reset < resets.len() && resets[reset] <= lo {
            reset += 1;
        }
        let first = values[lo];
        let mut result = if began.is_some() { values[hi - 1] } else { values[hi - 1] - first };
        for i in resets[reset..].iter().take_while(|i| **i < hi) {
            result += values[*i - 1];
        }
        let ends = Extrapolation { end, range: windows.range, first_t, last_t, count: n, began };
        let mut factor = ends.factor(counter.then_some((result, first)));
        if task.function == RangeFn::Rate {
            factor /= per_second;
        }
        out.set(k, result * factor);
        met.start_overlaps |= !overlap.is_empty() && overlap.iter().any(|i| (lo + 1..hi).contains(i));
    });
    seen
}

/// `irate` and `idelta`: of the last two samples.
fn last_two(task: &Task, samples: &Samples, lo: usize, hi: usize) -> Option<f64> {
    if hi - lo < 2 {
        return None;
    }
    let (i, is_rate) = (hi - 1, task.function == RangeFn::Irate);
    let interval = samples.timestamps[i] - samples.timestamps[i - 1];
    let (now, before) = (samples.values[i], samples.values[i - 1]);
    if !is_rate {
        return Some(now - before);
    }
    let increase = if now < before || restarted(task, samples, i) { now } else { now - before };
    Some(increase / (interval as f64 / 1_000.0))
}

fn prefix_count(values: &[f64], counts: impl Fn(usize) -> bool) -> Vec<u32> {
    let mut total = 0;
    let mut prefix = Vec::with_capacity(values.len());
    for i in 0..values.len() {
        total += u32::from(i > 0 && counts(i));
        prefix.push(total);
    }
    prefix
}

pub(super) fn sum(values: &[f64]) -> f64 {
    let mut sum = Sum::default();
    values.iter().for_each(|value| sum.add(*value));
    sum.value()
}

pub(super) fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::new(values[0]);
    values[1..].iter().for_each(|value| mean.add(*value));
    mean.value()
}

/// The least or greatest value of a moving window: positions of the values that may still become it, best first. NaN loses
/// against every number; of equals the earliest stays.
struct Extreme<F> {
    better: F,
    queue: VecDeque<usize>,
    next: usize,
}

impl<F: Fn(f64, f64) -> bool> Extreme<F> {
    fn new(better: F) -> Self {
        Self { better, queue: VecDeque::new(), next: 0 }
    }

    fn slide(&mut self, values: &[f64], lo: usize, hi: usize) -> f64 {
        self.next = self.next.max(lo);
        while self.queue.front().is_some_and(|i| *i < lo) {
            self.queue.pop_front();
        }
        for i in self.next..hi {
            let value = values[i];
            while let Some(&last) = self.queue.back() {
                let beaten = values[last].is_nan() || (self.better)(value, values[last]);
                if !beaten {
                    break;
                }
                self.queue.pop_back();
            }
            // A NaN after a number can become the extreme only when all numbers are gone.
            self.queue.push_back(i);
        }
        self.next = hi.max(self.next);
        self.queue.front().map_or(f64::NAN, |i| values[*i])
    }
}

/// NaN first, then by value.
fn nan_first(a: &f64, b: &f64) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then_with(|| a.total_cmp(b))
}

/// The values of a moving window in order.
struct SortedWindow {
    values: Vec<f64>,
    lo: usize,
    hi: usize,
}

impl SortedWindow {
    fn new(mut values: Vec<f64>) -> Self {
        values.clear();
        Self { values, lo: 0, hi: 0 }
    }

    fn slide(&mut self, all: &[f64], lo: usize, hi: usize) {
        let leaving = lo.saturating_sub(self.lo).min(self.values.len());
        let coming = hi - self.hi.max(lo);
        // Each single insertion moves half of the window: with many of them sorting anew is cheaper.
        if leaving + coming > 8.max((hi - lo) / 8) || self.hi < lo {
            self.values.clear();
            self.values.extend_from_slice(&all[lo..hi]);
            self.values.sort_unstable_by(nan_first);
        } else {
            for value in &all[self.lo..lo] {
                let at = self.values.partition_point(|other| nan_first(other, value).is_lt());
                self.values.remove(at);
            }
            for value in &all[self.hi..hi] {
                let at = self.values.partition_point(|other| nan_first(other, value).is_lt());
                self.values.insert(at, *value);
            }
        }
        (self.lo, self.hi) = (lo, hi);
    }
}

/// The quantile of values, which are sorted by it: NaN first, then linear between neighbours.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    values.sort_unstable_by(nan_first);
    quantile_of_sorted(q, values)
}

fn quantile_of_sorted(q: f64, values: &[f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Functions whose every window is looked at as a whole.
pub(super) fn window_value(
    task: &Task,
    function: RangeFn,
    k: usize,
    times: &[i64],
    values: &[f64],
    scratch: &mut Vec<f64>,
) -> Option<f64> {
    let n = values.len();
    Some(match function {
        RangeFn::Deriv => {
            if n < 2 {
                return None;
            }
            regression(times, values, times[0]).0
        }
        RangeFn::PredictLinear => {
            if n < 2 {
                return None;
            }
            let (slope, intercept) = regression(times, values, task.windows.grid.at(k));
            slope * task.param(0, k) + intercept
        }
        RangeFn::Sum => sum(values),
        RangeFn::Avg => mean(values),
        RangeFn::Min => {
            values[1..].iter().fold(values[0], |least, v| if *v < least || least.is_nan() { *v } else { least })
        }
        RangeFn::Max => {
            values[1..].iter().fold(values[0], |most, v| if *v > most || most.is_nan() { *v } else { most })
        }
        RangeFn::Stdvar => variance(values),
        RangeFn::Stddev => variance(values).sqrt(),
        RangeFn::Mad => {
            if values.iter().any(|value| value.is_nan()) {
                return Some(f64::NAN);
            }
            scratch.clear();
            scratch.extend_from_slice(values);
            let median = quantile(0.5, scratch);
            scratch.iter_mut().for_each(|value| *value = (*value - median).abs());
            quantile(0.5, scratch)
        }
        RangeFn::TsOfMin => time_of(times, values, |value, least| value <= least || least.is_nan()),
        RangeFn::TsOfMax => time_of(times, values, |value, most| value >= most || most.is_nan()),
        RangeFn::Quantile => {
            scratch.clear();
            scratch.extend_from_slice(values);
            quantile(task.param(0, k), scratch)
        }
        RangeFn::DoubleExponentialSmoothing => {
            if n < 2 {
                return None;
            }
            smoothed(values, task.param(0, k), task.param(1, k))
        }
        _ => return None,
    })
}

fn time_of(times: &[i64], values: &[f64], better: impl Fn(f64, f64) -> bool) -> f64 {
    let mut best = 0;
    for (i, value) in values.iter().enumerate().skip(1) {
        if better(*value, values[best]) {
            best = i;
        }
    }
    times[best] as f64 / 1_000.0
}

/// Welford's variance with compensated sums.
fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut c_mean, mut aux, mut c_aux) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + c_mean);
        (mean, c_mean) = kahan_add(delta / count, mean, c_mean);
        (aux, c_aux) = kahan_add(delta * (value - (mean + c_mean)), aux, c_aux);
    }
    (aux + c_aux) / count
}

/// Least squares over seconds since `origin` (ms): slope and value at the origin.
fn regression(times: &[i64], values: &[f64], origin: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut x2_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    for (t, y) in times.iter().zip(values) {
        let x = (t - origin) as f64 / 1_000.0;
        x_sum.add(x);
        y_sum.add(*y);
        xy_sum.add(x * y);
        x2_sum.add(x * x);
    }
    let n = values.len() as f64;
    let (x, y, xy, x2) = (x_sum.value(), y_sum.value(), xy_sum.value(), x2_sum.value());
    let covariance = xy - x * y / n;
    let variance = x2 - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// Holt-Winters smoothing without season.
fn smoothed(values: &[f64], sf: f64, tf: f64) -> f64 {
    let (mut s0, mut s1, mut b) = (0.0, values[0], values[1] - values[0]);
    for (i, value) in values.iter().enumerate().skip(1) {
        let x = sf * value;
        if i > 1 {
            b = tf * (s1 - s0) + (1.0 - tf) * b;
        }
        let y = (1.0 - sf) * (s1 + b);
        (s0, s1) = (s1, x + y);
    }
    s1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![(-50i32..50).prop_map(f64::from), Just(f64::NAN), Just(-0.0), Just(f64::INFINITY)]
    }

    fn same(a: f64, b: f64) -> bool {
        a == b || a.is_nan() && b.is_nan()
    }

    proptest! {
        #[test]
        fn sliding_windows_equal_windows_computed_anew(
            values in prop::collection::vec(value(), 1..80),
            moves in prop::collection::vec((0usize..9, 1usize..30), 1..30),
            q in 0.0f64..1.0,
        ) {
            let mut least = Extreme::new(|new, old| new < old);
            let mut most = Extreme::new(|new, old| new > old);
            let mut sorted = SortedWindow::new(Vec::new());
            let (mut lo, mut hi) = (0, 0);
            for (step, width) in moves {
                lo = (lo + step).min(values.len() - 1);
                hi = (lo + width).min(values.len()).max(hi);
                let window = &values[lo..hi];
                let naive_min =
                    window.iter().copied().fold(f64::NAN, |a, v| if v < a || a.is_nan() { v } else { a });
                let naive_max =
                    window.iter().copied().fold(f64::NAN, |a, v| if v > a || a.is_nan() { v } else { a });
                prop_assert!(same(least.slide(&values, lo, hi), naive_min));
                prop_assert!(same(most.slide(&values, lo, hi), naive_max));
                sorted.slide(&values, lo, hi);
                prop_assert!(same(quantile_of_sorted(q, &sorted.values), quantile(q, &mut window.to_vec())));
            }
        }
    }
}
