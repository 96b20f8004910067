//! Functions over ranges: one series' samples in, one value a step out.
//!
//! The samples are decoded once; two indices move over them from step to step. What can be carried from window to window
//! is; compensated sums are computed anew for each window, in order, because they cannot be undone exactly.

use super::column::{Column, Grid};
use farview_model::sum::{Mean, Sum};
use farview_model::{Samples, is_stale_nan};

/// Where the window of each step lies: `(end - range, end]`, with `end` the step's time or a fixed one, less the offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) grid: Grid,
    pub(crate) at: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) range: i64,
}

impl Windows {
    pub(crate) fn end(self, k: usize) -> i64 {
        self.at.unwrap_or_else(|| self.grid.at(k)) - self.offset
    }
}

/// One window over the floats of a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    /// The window's last millisecond.
    pub(crate) end: i64,
    /// Its length, ms.
    pub(crate) range: i64,
}

/// The functions over ranges that need only floats and constant parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RangeFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    Changes,
    Resets,
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Stddev,
    Stdvar,
    Last,
    First,
    Present,
    Mad,
    TsOfMin,
    TsOfMax,
    TsOfLast,
    TsOfFirst,
    /// With the seconds to look ahead, a step each.
    PredictLinear,
    /// With the quantile, a step each.
    Quantile,
    /// With smoothing and trend factor, a step each.
    DoubleExponentialSmoothing,
}

impl RangeFn {
    pub(crate) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "rate" => Self::Rate,
            "increase" => Self::Increase,
            "delta" => Self::Delta,
            "irate" => Self::Irate,
            "idelta" => Self::Idelta,
            "deriv" => Self::Deriv,
            "changes" => Self::Changes,
            "resets" => Self::Resets,
            "sum_over_time" => Self::Sum,
            "avg_over_time" => Self::Avg,
            "min_over_time" => Self::Min,
            "max_over_time" => Self::Max,
            "count_over_time" => Self::Count,
            "stddev_over_time" => Self::Stddev,
            "stdvar_over_time" => Self::Stdvar,
            "last_over_time" => Self::Last,
            "first_over_time" => Self::First,
            "present_over_time" | "absent_over_time" => Self::Present,
            "mad_over_time" => Self::Mad,
            "ts_of_min_over_time" => Self::TsOfMin,
            "ts_of_max_over_time" => Self::TsOfMax,
            "ts_of_last_over_time" => Self::TsOfLast,
            "ts_of_first_over_time" => Self::TsOfFirst,
            "predict_linear" => Self::PredictLinear,
            "quantile_over_time" => Self::Quantile,
            "double_exponential_smoothing" => Self::DoubleExponentialSmoothing,
            _ => return None,
        })
    }

    /// Tells whether the result keeps the metric name.
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::Last | Self::First)
    }

    /// Tells whether the function takes the samples to be a counter's.
    pub(crate) fn is_counter(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }
}

/// Takes the stale markers out: a window does not see them.
pub(crate) fn drop_stale(samples: &mut Samples) {
    if samples.values.iter().any(|value| is_stale_nan(*value)) {
        let keep: Vec<bool> = samples.values.iter().map(|value| !is_stale_nan(*value)).collect();
        retain(&mut samples.timestamps, &keep);
        retain(&mut samples.values, &keep);
        retain(&mut samples.start_timestamps, &keep);
    }
    if samples.histograms.iter().any(|histogram| is_stale_nan(histogram.sum)) {
        let keep: Vec<bool> = samples.histograms.iter().map(|histogram| !is_stale_nan(histogram.sum)).collect();
        retain(&mut samples.histogram_timestamps, &keep);
        retain(&mut samples.histograms, &keep);
        retain(&mut samples.histogram_start_timestamps, &keep);
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| *keep.next().unwrap_or(&true));
}

/// Calls `each` with step and bounds (`lo..hi`) of every window that has samples at `times`.
pub(crate) fn each_window(windows: Windows, times: &[i64], mut each: impl FnMut(usize, usize, usize)) {
    let (mut lo, mut hi) = (0, 0);
    for k in 0..windows.grid.count {
        let end = windows.end(k);
        let start = end - windows.range;
        while hi < times.len() && times[hi] <= end {
            hi += 1;
        }
        while lo < hi && times[lo] <= start {
            lo += 1;
        }
        if lo < hi {
            each(k, lo, hi);
        }
    }
}

/// Evaluates `function` over the floats of a series; `params` holds its parameters, each for every step. Returns how many
/// samples the windows had in all.
pub(crate) fn evaluate(
    function: RangeFn,
    windows: Windows,
    times: &[i64],
    values: &[f64],
    params: &[Vec<f64>],
    out: &mut Column,
) -> u64 {
    let mut seen = 0;
    let resets = match function {
        RangeFn::Rate | RangeFn::Increase => counter_resets(values),
        _ => Vec::new(),
    };
    let prefix = match function {
        RangeFn::Changes => prefix_count(values, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        RangeFn::Resets => prefix_count(values, |a, b| b < a),
        _ => Vec::new(),
    };
    let mut reset = 0;
    let mut scratch = Vec::new();
    each_window(windows, times, |k, lo, hi| {
        seen += (hi - lo) as u64;
        let window =
            Window { times: &times[lo..hi], values: &values[lo..hi], end: windows.end(k), range: windows.range };
        let value = match function {
            RangeFn::Rate | RangeFn::Increase => {
                while reset < resets.len() && resets[reset] <= lo {
                    reset += 1;
                }
                let lost: f64 = resets[reset..].iter().take_while(|i| **i < hi).fold(0.0, |sum, i| sum + values[i - 1]);
                extrapolated(window, lost, true, function == RangeFn::Rate)
            }
            RangeFn::Delta => extrapolated(window, 0.0, false, false),
            RangeFn::Changes | RangeFn::Resets => Some(f64::from(prefix[hi - 1] - prefix[lo])),
            _ => window_value(
                function,
                window,
                |param| params.get(param).map_or(f64::NAN, |p| p[k]),
                windows.grid.at(k),
                &mut scratch,
            ),
        };
        if let Some(value) = value {
            out.set(k, value);
        }
    });
    seen
}

/// Indices at which the counter fell.
fn counter_resets(values: &[f64]) -> Vec<usize> {
    values.windows(2).enumerate().filter(|(_, pair)| pair[1] < pair[0]).map(|(i, _)| i + 1).collect()
}

fn prefix_count(values: &[f64], counts: impl Fn(f64, f64) -> bool) -> Vec<u32> {
    let mut total = 0;
    let mut prefix = Vec::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        total += u32::from(i > 0 && counts(values[i - 1], *value));
        prefix.push(total);
    }
    prefix
}

/// `rate`, `increase` and `delta`: the difference over the window, extrapolated to its ends (`promql/functions.go`,
/// `extrapolatedRate`). `lost` is what the resets within the window took away.
fn extrapolated(window: Window<'_>, lost: f64, counter: bool, per_second: bool) -> Option<f64> {
    let n = window.times.len();
    if n < 2 {
        return None;
    }
    let (first_t, last_t) = (window.times[0], window.times[n - 1]);
    let first = window.values[0];
    let mut result = window.values[n - 1] - first;
    if counter {
        result += lost;
    }
    let factor = extrapolation(window.end, window.range, first_t, last_t, n, counter.then_some((result, first)));
    let factor = if per_second { factor / (window.range as f64 / 1_000.0) } else { factor };
    Some(result * factor)
}

/// By what the difference between first and last sample must be multiplied. For counters the difference and the first value
/// are given: a counter cannot have been below zero.
pub(crate) fn extrapolation(
    end: i64,
    range: i64,
    first_t: i64,
    last_t: i64,
    count: usize,
    counter: Option<(f64, f64)>,
) -> f64 {
    let seconds = |millis: i64| millis as f64 / 1_000.0;
    let mut to_start = seconds(first_t - (end - range));
    let mut to_end = seconds(end - last_t);
    let sampled = seconds(last_t - first_t);
    let average = sampled / (count - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if let Some((result, first)) = counter
        && result > 0.0
        && first >= 0.0
    {
        let to_zero = sampled * (first / result);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    (sampled + to_start + to_end) / sampled
}

fn window_value(
    function: RangeFn,
    window: Window<'_>,
    param: impl Fn(usize) -> f64,
    step_t: i64,
    scratch: &mut Vec<f64>,
) -> Option<f64> {
    let Window { times, values, .. } = window;
    let n = values.len();
    let last = n - 1;
    Some(match function {
        RangeFn::Irate | RangeFn::Idelta => {
            if n < 2 {
                return None;
            }
            let interval = times[last] - times[last - 1];
            if interval == 0 {
                return None;
            }
            let (now, before) = (values[last], values[last - 1]);
            if function == RangeFn::Idelta {
                now - before
            } else {
                let increase = if now < before { now } else { now - before };
                increase / (interval as f64 / 1_000.0)
            }
        }
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
            let (slope, intercept) = regression(times, values, step_t);
            slope * param(0) + intercept
        }
        RangeFn::Sum => {
            let mut sum = Sum::default();
            values.iter().for_each(|value| sum.add(*value));
            sum.value()
        }
        RangeFn::Avg => {
            let mut mean = Mean::new(values[0]);
            values[1..].iter().for_each(|value| mean.add(*value));
            mean.value()
        }
        RangeFn::Min => {
            values[1..].iter().fold(values[0], |least, v| if *v < least || least.is_nan() { *v } else { least })
        }
        RangeFn::Max => {
            values[1..].iter().fold(values[0], |most, v| if *v > most || most.is_nan() { *v } else { most })
        }
        RangeFn::Count => n as f64,
        RangeFn::Stdvar => variance(values),
        RangeFn::Stddev => variance(values).sqrt(),
        RangeFn::Last => values[last],
        RangeFn::First => values[0],
        RangeFn::Present => 1.0,
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
        RangeFn::TsOfLast => times[last] as f64 / 1_000.0,
        RangeFn::TsOfFirst => times[0] as f64 / 1_000.0,
        RangeFn::Quantile => {
            scratch.clear();
            scratch.extend_from_slice(values);
            quantile(param(0), scratch)
        }
        RangeFn::DoubleExponentialSmoothing => {
            if n < 2 {
                return None;
            }
            smoothed(values, param(0), param(1))
        }
        RangeFn::Rate | RangeFn::Increase | RangeFn::Delta | RangeFn::Changes | RangeFn::Resets => return None,
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
    use farview_model::sum::kahan_add as add;
    let (mut count, mut mean, mut c_mean, mut aux, mut c_aux) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let delta = value - (mean + c_mean);
        (mean, c_mean) = add(delta / count, mean, c_mean);
        (aux, c_aux) = add(delta * (value - (mean + c_mean)), aux, c_aux);
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

/// The quantile of values, which are sorted by it: NaN first, then linear between neighbours.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(|a, b| {
        b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal))
    });
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
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
