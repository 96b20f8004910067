//! Functions over ranges: one series' samples in, one value a step out.
//!
//! The samples are decoded once; indices move over them from step to step. What can be carried from window to window is
//! ([`float`]); compensated sums are computed anew for each window, in order, because they cannot be undone exactly. Windows
//! with histograms go through [`histogram`], those of `anchored` and `smoothed` through [`extended`].

use super::column::Column;
use crate::annotations::{Annotations, Note, Operation};
use crate::ast::{Extension, Span};
pub(crate) use crate::plan::Windows;
use farview_model::{Samples, is_stale_nan};
use std::sync::Arc;

mod extended;
mod float;
mod histogram;

pub(crate) use extended::{instant as smoothed_instant, points as extended_points};
pub(crate) use float::quantile;

/// The functions over ranges.
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
            "rate" | "xrate" => Self::Rate,
            "increase" | "xincrease" => Self::Increase,
            "delta" | "xdelta" => Self::Delta,
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

    /// Tells whether the windows may be `anchored`; if not, the functions that may be are named.
    pub(crate) fn allows(self, extension: Extension) -> Result<(), &'static str> {
        match extension {
            Extension::None => Ok(()),
            Extension::Anchored => match self {
                Self::Rate | Self::Increase | Self::Delta | Self::Changes | Self::Resets => Ok(()),
                _ => Err("changes, delta, increase, rate, resets"),
            },
            Extension::Smoothed => match self {
                Self::Rate | Self::Increase | Self::Delta => Ok(()),
                _ => Err("delta, increase, rate"),
            },
        }
    }
}

/// What is computed over the windows of every series.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) function: RangeFn,
    pub(crate) windows: Windows,
    /// The parameters, each for every step.
    pub(crate) params: Vec<Arc<[f64]>>,
    /// Start times tell resets.
    pub(crate) start_timestamps: bool,
    pub(crate) extension: Extension,
    /// How far `anchored` and `smoothed` look beyond the window, ms.
    pub(crate) lookback: i64,
}

impl Task {
    fn param(&self, i: usize, k: usize) -> f64 {
        self.params.get(i).map_or(f64::NAN, |values| values[k])
    }
}

/// What was met in the windows of one series.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Met {
    /// Samples of all windows together.
    pub(crate) samples: u64,
    pub(crate) mixed_types: bool,
    pub(crate) not_counter: bool,
    pub(crate) not_gauge: bool,
    pub(crate) mixed_schemas: bool,
    pub(crate) reconciled_addition: bool,
    pub(crate) reconciled_subtraction: bool,
    pub(crate) reconciled_aggregation: bool,
    pub(crate) conflicting_resets: bool,
    pub(crate) ignored_histograms: bool,
    pub(crate) start_overlaps: bool,
}

impl Met {
    /// Writes down what is worth telling; `argument` is the range vector, `first` the first argument.
    pub(crate) fn tell(&self, to: &Annotations, name: &str, argument: Span, first: Span) {
        let notes = [
            (self.mixed_types, Note::MixedTypes(name)),
            (self.not_counter, Note::NotCounter(name)),
            (self.not_gauge, Note::NotGauge(name)),
            (self.mixed_schemas, Note::MixedSchemas(name)),
            (self.reconciled_addition, Note::Reconciled(Operation::Addition)),
            (self.reconciled_subtraction, Note::Reconciled(Operation::Subtraction)),
            (self.reconciled_aggregation, Note::Reconciled(Operation::Aggregation)),
            (self.conflicting_resets, Note::ConflictingResets(Operation::Aggregation)),
            (self.start_overlaps, Note::StartOverlaps { name, times: 1 }),
        ];
        notes.into_iter().filter(|(met, _)| *met).for_each(|(_, note)| note.add(to, argument));
        if self.ignored_histograms {
            Note::IgnoredInRange(name).add(to, first);
        }
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
    if samples.histograms.iter().any(|histogram| histogram.is_stale()) {
        let keep: Vec<bool> = samples.histograms.iter().map(|histogram| !histogram.is_stale()).collect();
        retain(&mut samples.histogram_timestamps, &keep);
        retain(&mut samples.histograms, &keep);
        retain(&mut samples.histogram_start_timestamps, &keep);
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| *keep.next().unwrap_or(&true));
}

/// The samples of one window: floats `lo..hi` and histograms `hlo..hhi` of the series.
#[derive(Debug, Clone, Copy)]
struct Window {
    k: usize,
    lo: usize,
    hi: usize,
    hlo: usize,
    hhi: usize,
}

/// Moves the bounds of a window forward over rising times: those in `(start, end]`.
#[inline(always)]
fn advance(times: &[i64], start: i64, end: i64, lo: &mut usize, hi: &mut usize) {
    while *hi < times.len() && times[*hi] <= end {
        *hi += 1;
    }
    while *lo < *hi && times[*lo] <= start {
        *lo += 1;
    }
}

/// Calls `each` with step and bounds of every window that has samples at `times`.
#[inline(always)]
fn each_float_window(windows: Windows, times: &[i64], mut each: impl FnMut(usize, usize, usize)) {
    let (mut lo, mut hi) = (0, 0);
    for k in 0..windows.grid.count {
        let end = windows.end(k);
        advance(times, end.saturating_sub(windows.range), end, &mut lo, &mut hi);
        if lo < hi {
            each(k, lo, hi);
        }
    }
}

/// Calls `each` with every window that has samples of any kind.
fn each_window(windows: Windows, samples: &Samples, mut each: impl FnMut(Window)) {
    let (mut lo, mut hi, mut hlo, mut hhi) = (0, 0, 0, 0);
    for k in 0..windows.grid.count {
        let end = windows.end(k);
        let start = end.saturating_sub(windows.range);
        advance(&samples.timestamps, start, end, &mut lo, &mut hi);
        advance(&samples.histogram_timestamps, start, end, &mut hlo, &mut hhi);
        if lo < hi || hlo < hhi {
            each(Window { k, lo, hi, hlo, hhi });
        }
    }
}

/// Evaluates a function over the windows of one series, whose stale markers are gone.
pub(crate) fn evaluate(task: &Task, samples: &Samples, scratch: &mut Vec<f64>, out: &mut Column) -> Met {
    let mut met = Met::default();
    if task.extension != Extension::None {
        extended::evaluate(task, samples, out, &mut met);
    } else if samples.histograms.is_empty() {
        float::evaluate(task, samples, scratch, out, &mut met);
    } else {
        histogram::evaluate(task, samples, scratch, out, &mut met);
    }
    met
}

/// Tells whether the counter began anew between two samples, by their start times `(start, t)`: the later began after the
/// earlier one was taken, or just when it was taken while that one had begun before. Start times of 0 are not known, those
/// that do not lie before their sample are not valid.
fn began_anew((previous_start, previous_t): (i64, i64), (start, t): (i64, i64)) -> bool {
    let continues = previous_start == 0 || previous_start >= previous_t;
    start != 0 && start < t && (start > previous_t || (start == previous_t && !continues))
}

/// Tells whether a sample claims to have begun within the time of the one before, which began at another time.
fn overlaps((previous_start, previous_t): (i64, i64), start: i64) -> bool {
    start != 0 && start < previous_t && start != previous_start
}

/// How a difference over a window is extrapolated to its ends (`promql/functions.go`, `extrapolatedRate`).
#[derive(Debug, Clone, Copy)]
struct Extrapolation {
    /// Last millisecond and length of the window.
    end: i64,
    range: i64,
    first_t: i64,
    last_t: i64,
    /// Samples in the window.
    count: usize,
    /// When the counter began, if that lies within the window before its first sample: there it was zero.
    began: Option<i64>,
}

impl Extrapolation {
    /// By what the difference must be multiplied. For counters the difference and the first value are given: a counter cannot
    /// have been below zero.
    #[inline(always)]
    fn factor(self, counter: Option<(f64, f64)>) -> f64 {
        let seconds = |millis: i64| millis as f64 / 1_000.0;
        let mut to_start = seconds(self.first_t - (self.end - self.range));
        let mut to_end = seconds(self.end - self.last_t);
        let mut sampled = seconds(self.last_t - self.first_t);
        let average = if self.count > 1 { sampled / (self.count - 1) as f64 } else { 0.0 };
        let threshold = average * 1.1;
        if let Some(began) = self.began {
            sampled = seconds(self.last_t - began);
            to_start = 0.0;
        } else {
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
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        (sampled + to_start + to_end) / sampled
    }
}
