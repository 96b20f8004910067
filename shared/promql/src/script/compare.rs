//! Whether an answer is the one expected.

use super::evaluator::Outcome;
use super::histogram::buckets;
use super::parse::{AnnotationRule, Eval, Expected, Steps, When};
use super::series::{SeriesDescription, Value as Described};
use crate::engine::{Series, Value};
use farview_model::{CounterResetHint, FloatHistogram, Labels, Span, is_stale_nan};
use std::collections::BTreeMap;

/// Relative difference within which floats are equal.
const EPSILON: f64 = 1e-6;

/// Tells whether two floats are equal by the rules of scripts: both NaN, equal, or close relative to their size. The stale
/// marker equals only itself.
pub fn almost_equal(a: f64, b: f64) -> bool {
    if is_stale_nan(a) || is_stale_nan(b) {
        return is_stale_nan(a) && is_stale_nan(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

/// Tells whether two histograms are equal by the rules of scripts: empty buckets do not count, floats are compared as
/// [`almost_equal`] does.
pub fn equal_histograms(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let side = |a_spans: &[Span], a_counts: &[f64], b_spans: &[Span], b_counts: &[f64]| {
        let (a, b) = (buckets(a_spans, a_counts), buckets(b_spans, b_counts));
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && almost_equal(*a.1, *b.1))
    };
    let bits = |values: Option<&[f64]>| values.unwrap_or(&[]).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && bits(a.custom_values.as_deref()) == bits(b.custom_values.as_deref())
        && [(a.count, b.count), (a.sum, b.sum), (a.zero_count, b.zero_count)].iter().all(|(a, b)| almost_equal(*a, *b))
        && side(&a.positive_spans, &a.positive_buckets, &b.positive_spans, &b.positive_buckets)
        && side(&a.negative_spans, &a.negative_buckets, &b.negative_spans, &b.negative_buckets)
}

/// Judges the annotations of an answer.
///
/// # Errors
/// Says what is not as expected.
pub fn annotations(eval: &Eval, outcome: &Outcome) -> Result<(), String> {
    rule("warning", &eval.warn, &outcome.warnings)?;
    rule("info", &eval.info, &outcome.infos)
}

fn rule(kind: &str, rule: &AnnotationRule, got: &[String]) -> Result<(), String> {
    if rule.none && !got.is_empty() {
        return Err(format!("no {kind} is expected, got {got:?}"));
    }
    for wanted in &rule.some {
        if !got.iter().any(|text| wanted.allows(text)) {
            return Err(format!("expected {kind} {wanted:?}, got {got:?}"));
        }
    }
    match got.iter().find(|text| !rule.some.is_empty() && !rule.some.iter().any(|wanted| wanted.allows(text))) {
        Some(text) => Err(format!("unexpected {kind} {text:?}")),
        None => Ok(()),
    }
}

/// Judges the value of an answer.
///
/// # Errors
/// Says what is not as expected.
pub fn value(eval: &Eval, value: &Value) -> Result<(), String> {
    match (&eval.expected, value) {
        (Expected::Scalar(expected), Value::Scalar(_, got)) if almost_equal(*expected, *got) => Ok(()),
        (Expected::String(expected), Value::String(_, got)) if expected == got => Ok(()),
        (Expected::Series(expected, Some(steps)), Value::Matrix(got)) => matrix(expected, *steps, got),
        (Expected::Series(expected, None), Value::Vector(got)) => vector(expected, eval.ordered, got),
        (Expected::Series(expected, None), Value::Matrix(got)) => match eval.when {
            When::Range(steps) => matrix(expected, steps, got),
            When::Instant(_) => Err("a range of samples is answered, a vector is expected".to_owned()),
        },
        (expected, got) => Err(format!("expected {}, got {}", described(expected), shown(got))),
    }
}

fn described(expected: &Expected) -> String {
    match expected {
        Expected::Scalar(value) => format!("scalar {value}"),
        Expected::String(bytes) => format!("string {}", crate::quote::quote_bytes(bytes)),
        Expected::Series(series, _) => format!("{} series", series.len()),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Scalar(_, value) => format!("scalar {value}"),
        Value::String(_, bytes) => format!("string {}", crate::quote::quote_bytes(bytes)),
        Value::Vector(series) => format!("a vector of {}", series.len()),
        Value::Matrix(series) => format!("a matrix of {}", series.len()),
    }
}

/// The points of a series by time; floats and histograms together.
fn points(series: &Series) -> BTreeMap<i64, Described> {
    let floats = series.timestamps.iter().zip(&series.values).map(|(t, value)| (*t, Described::Float(*value)));
    let histograms = series
        .histograms
        .iter()
        .map(|(t, histogram)| (*t, Described::Histogram(Box::new((**histogram).clone()), true)));
    floats.chain(histograms).collect()
}

fn check_point(labels: &Labels, t: i64, expected: &Described, got: &Described) -> Result<(), String> {
    let equal = match (expected, got) {
        (Described::Float(a), Described::Float(b)) => almost_equal(*a, *b),
        (Described::Histogram(a, hint), Described::Histogram(b, _)) => {
            if *hint && a.counter_reset_hint != b.counter_reset_hint {
                let (a, b) = (hint_name(a.counter_reset_hint), hint_name(b.counter_reset_hint));
                return Err(format!("expected hint {a} for {labels} at {t}, got {b}"));
            }
            equal_histograms(a, b)
        }
        _ => false,
    };
    if equal {
        return Ok(());
    }
    Err(format!("expected {} for {labels} at {t}, got {}", point_text(expected), point_text(got)))
}

fn point_text(point: &Described) -> String {
    match point {
        Described::Float(value) => value.to_string(),
        Described::Histogram(histogram, _) => format!("{histogram:?}"),
    }
}

const fn hint_name(hint: CounterResetHint) -> &'static str {
    match hint {
        CounterResetHint::Unknown => "unknown",
        CounterResetHint::Reset => "reset",
        CounterResetHint::NotReset => "not_reset",
        CounterResetHint::Gauge => "gauge",
    }
}

fn vector(expected: &[SeriesDescription], ordered: bool, got: &[Series]) -> Result<(), String> {
    let mut missing: BTreeMap<&Labels, (usize, &SeriesDescription)> =
        expected.iter().enumerate().map(|(i, series)| (&series.labels, (i, series))).collect();
    for (i, series) in got.iter().enumerate() {
        let points = points(series);
        let Some((t, point)) = points.first_key_value() else {
            return Err(format!("{} is answered without a sample", series.labels));
        };
        let Some((place, wanted)) = missing.remove(&series.labels) else {
            return Err(format!("unexpected {} in the answer, value {}", series.labels, point_text(point)));
        };
        if ordered && place != i {
            return Err(format!("{} is expected at position {}, is at {}", series.labels, place + 1, i + 1));
        }
        match wanted.values.first() {
            Some(Some(wanted)) => check_point(&series.labels, *t, wanted, point)?,
            _ => return Err(format!("no sample is expected for {}", series.labels)),
        }
    }
    let mut wanted = missing.into_iter().filter(|(_, (_, series))| matches!(series.values.first(), Some(Some(_))));
    match wanted.next() {
        Some((labels, _)) => Err(format!("{labels} is missing; the answer has {} series", got.len())),
        None => Ok(()),
    }
}

fn matrix(expected: &[SeriesDescription], steps: Steps, got: &[Series]) -> Result<(), String> {
    if !got.is_sorted_by(|a, b| a.labels < b.labels) {
        return Err("series are not in the order of their labels, each once".to_owned());
    }
    let mut missing: BTreeMap<&Labels, &SeriesDescription> =
        expected.iter().map(|series| (&series.labels, series)).collect();
    for series in got {
        let Some(wanted) = missing.remove(&series.labels) else {
            return Err(format!("unexpected {} in the answer", series.labels));
        };
        let got = points(series);
        let wanted: BTreeMap<i64, &Described> = wanted
            .values
            .iter()
            .enumerate()
            .filter_map(|(i, value)| value.as_ref().map(|value| (steps.start + i as i64 * steps.step, value)))
            .collect();
        for (t, point) in &got {
            match wanted.get(t) {
                Some(wanted) => check_point(&series.labels, *t, wanted, point)?,
                None => {
                    return Err(format!("unexpected {} for {} at {t}", point_text(point), series.labels));
                }
            }
        }
        if let Some((t, point)) = wanted.iter().find(|(t, _)| !got.contains_key(t)) {
            return Err(format!("{} for {} at {t} is missing", point_text(point), series.labels));
        }
    }
    let mut wanted = missing.into_iter().filter(|(_, series)| series.values.iter().any(Option::is_some));
    match wanted.next() {
        Some((labels, _)) => Err(format!("{labels} is missing; the answer has {} series", got.len())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_compared_relative_to_their_size() {
        for (a, b, equal) in [
            (1.0, 1.000_001, true),
            (1.0, 1.000_01, false),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::NAN, f64::NAN, true),
            (f64::NAN, f64::from_bits(farview_model::STALE_NAN_BITS), false),
            (f64::INFINITY, f64::NEG_INFINITY, false),
            (f64::MAX, f64::MAX * 0.999_999_9, true),
        ] {
            assert_eq!(almost_equal(a, b), equal, "{a} {b}");
        }
    }
}
