//! Descriptions to samples, as they come back out of a TSDB.

use super::histogram::{buckets, spans};
use super::parse::{Load, LoadSeries};
use super::series::Value;
use farview_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use farview_model::{CounterResetHint, FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, Samples, is_stale_nan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Returns the series of a block with their samples.
///
/// # Errors
/// What is wrong with the buckets of a classic histogram that is to be converted.
pub fn samples(load: &Load) -> Result<Vec<(Labels, Samples)>, String> {
    let mut out: Vec<(Labels, Samples)> = load
        .series
        .iter()
        .map(|series| (series.description.labels.clone(), of_series(series, load.interval)))
        .collect();
    if load.nhcb {
        out.extend(custom_histograms(load)?);
    }
    Ok(out)
}

fn of_series(series: &LoadSeries, interval: i64) -> Samples {
    let mut out = Samples::default();
    let mut previous: Option<Arc<FloatHistogram>> = None;
    for (i, value) in series.description.values.iter().enumerate() {
        let t = i as i64 * interval;
        let start = series.starts.get(i).copied().flatten().map_or(0, |offset| t + offset);
        match value {
            None => {}
            Some(Value::Float(value)) => {
                out.timestamps.push(t);
                out.values.push(*value);
                out.start_timestamps.push(start);
                previous = None;
            }
            Some(Value::Histogram(histogram, _)) => {
                let mut histogram = (**histogram).clone();
                histogram.counter_reset_hint = stored_hint(previous.as_deref(), &histogram);
                let histogram = Arc::new(histogram);
                out.histogram_timestamps.push(t);
                out.histograms.push(histogram.clone());
                out.histogram_start_timestamps.push(start);
                previous = Some(histogram);
            }
        }
    }
    for starts in [&mut out.start_timestamps, &mut out.histogram_start_timestamps] {
        if starts.iter().all(|start| *start == 0) {
            starts.clear();
        }
    }
    out
}

/// Returns the hint with which a TSDB gives a histogram back: it keeps none for single samples, only one for each chunk, and
/// begins a chunk where counters were reset or the layout changed.
fn stored_hint(previous: Option<&FloatHistogram>, histogram: &FloatHistogram) -> CounterResetHint {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    match (histogram.counter_reset_hint, previous) {
        (Gauge, _) => Gauge,
        (Reset, _) => Reset,
        (_, None) => Unknown,
        (_, Some(before)) if before.counter_reset_hint == Gauge => Unknown,
        (_, Some(_)) if is_stale_nan(histogram.sum) => NotReset,
        (_, Some(before)) if is_stale_nan(before.sum) => Unknown,
        (_, Some(before)) if histogram.count < before.count => Reset,
        (_, Some(before)) => {
            let (a, b) = (before, histogram);
            let same_bounds = a.custom_values.as_deref() == b.custom_values.as_deref();
            if a.schema != b.schema || a.zero_threshold.to_bits() != b.zero_threshold.to_bits() || !same_bounds {
                return Unknown;
            }
            let fell = |a: BTreeMap<i64, f64>, b: BTreeMap<i64, f64>| {
                a.into_iter().any(|(index, count)| b.get(&index).copied().unwrap_or(0.0) < count)
            };
            let reset = b.zero_count < a.zero_count
                || fell(
                    buckets(&a.positive_spans, &a.positive_buckets),
                    buckets(&b.positive_spans, &b.positive_buckets),
                )
                || fell(
                    buckets(&a.negative_spans, &a.negative_buckets),
                    buckets(&b.negative_spans, &b.negative_buckets),
                );
            if reset { Reset } else { NotReset }
        }
    }
}

/// What is known of a classic histogram at one time.
#[derive(Default)]
struct Classic {
    /// Cumulative counts by upper bound; the key is the bound in an order that compares.
    buckets: BTreeMap<OrderedBound, f64>,
    count: Option<f64>,
    sum: f64,
}

#[derive(Clone, Copy, PartialEq)]
struct OrderedBound(f64);

impl Eq for OrderedBound {}

impl PartialOrd for OrderedBound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedBound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

fn custom_histograms(load: &Load) -> Result<Vec<(Labels, Samples)>, String> {
    let mut all: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for series in &load.series {
        let labels = &series.description.labels;
        let name = labels.metric_name();
        let Some((base, part)) =
            ["_bucket", "_count", "_sum"].into_iter().find_map(|part| name.strip_suffix(part).map(|base| (base, part)))
        else {
            continue;
        };
        let bound = labels.get("le").and_then(farview_model::number::parse_float);
        if part == "_bucket" && bound.is_none() {
            continue;
        }
        let mut builder = LabelsBuilder::new(labels);
        let histograms = all.entry(builder.set(METRIC_NAME, base).delete("le").build()).or_default();
        for (i, value) in series.description.values.iter().enumerate() {
            let Some(Value::Float(value)) = value else { continue };
            let classic = histograms.entry(i as i64 * load.interval).or_default();
            match (part, bound) {
                ("_bucket", Some(bound)) => {
                    classic.buckets.insert(OrderedBound(bound), *value);
                }
                ("_count", _) => classic.count = Some(*value),
                _ => classic.sum = *value,
            }
        }
    }
    all.into_iter()
        .map(|(labels, histograms)| {
            let values: Result<Vec<_>, _> =
                histograms.into_iter().map(|(t, classic)| custom(classic).map(|histogram| (t, histogram))).collect();
            let mut out = Samples::default();
            let mut previous: Option<Arc<FloatHistogram>> = None;
            for (t, mut histogram) in values.map_err(|error| format!("{labels}: {error}"))? {
                histogram.counter_reset_hint = stored_hint(previous.as_deref(), &histogram);
                let histogram = Arc::new(histogram);
                out.push_histogram(t, histogram.clone());
                previous = Some(histogram);
            }
            Ok((labels, out))
        })
        .collect()
}

fn custom(mut classic: Classic) -> Result<FloatHistogram, &'static str> {
    let highest = classic.buckets.last_key_value().map_or(0.0, |(_, count)| *count);
    let count = classic.count.unwrap_or(highest);
    let infinite = *classic.buckets.entry(OrderedBound(f64::INFINITY)).or_insert(count);
    if infinite != count {
        return Err("the count is not that of the highest bucket");
    }
    let mut below = 0.0;
    let mut counts = BTreeMap::new();
    for (i, cumulative) in classic.buckets.values().enumerate() {
        if *cumulative < below {
            return Err("counts of buckets fall");
        }
        if *cumulative != below {
            counts.insert(i as i64, cumulative - below);
        }
        below = *cumulative;
    }
    let (positive_spans, positive_buckets) = spans(&counts);
    let bounds: Vec<f64> = classic.buckets.keys().map(|bound| bound.0).filter(|bound| bound.is_finite()).collect();
    Ok(FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: classic.sum,
        positive_spans,
        positive_buckets,
        custom_values: Some(bounds.into()),
        ..FloatHistogram::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse::{Command, parse_script};

    fn loaded(text: &str) -> Vec<(Labels, Samples)> {
        let commands = parse_script(text).unwrap();
        let [Command::Load(load)] = &commands[..] else { panic!() };
        samples(load).unwrap()
    }

    #[test]
    fn classic_histograms_become_native_ones_with_custom_buckets() {
        let text = "load_with_nhcb 1m\n h_bucket{le=\"1\",a=\"b\"} 1 2\n h_bucket{le=\"+Inf\",a=\"b\"} 1 5\n h_sum{a=\"b\"} 2 9\n other 1";
        let series = loaded(text);
        let (labels, samples) = series.last().unwrap();
        assert_eq!(labels, &Labels::from_pairs([("__name__", "h"), ("a", "b")]));
        let last = &samples.histograms[1];
        assert_eq!((last.count, last.sum, last.positive_buckets.as_slice()), (5.0, 9.0, &[2.0, 3.0][..]));
        assert_eq!(last.custom_values.as_deref(), Some(&[1.0][..]));
        assert_eq!(last.counter_reset_hint, CounterResetHint::NotReset);
    }

    #[test]
    fn hints_come_back_as_a_tsdb_keeps_them() {
        use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
        let text = "load 1m\n h {{count:1 buckets:[1]}} {{count:2 buckets:[2]}} {{count:1 buckets:[1]}} 5 {{count:2 buckets:[2] counter_reset_hint:not_reset}} {{counter_reset_hint:gauge}} {{count:9}} {{schema:1 count:9}}";
        let hints: Vec<_> = loaded(text)[0].1.histograms.iter().map(|histogram| histogram.counter_reset_hint).collect();
        assert_eq!(hints, [Unknown, NotReset, Reset, Unknown, Gauge, Unknown, Unknown]);
    }

    #[test]
    fn start_times_are_relative_to_their_samples() {
        let series = loaded("load 1m\n a@st _ -30s 0\n a 1 2 3");
        assert_eq!(series[0].1.start_timestamps, [0, 30_000, 120_000]);
    }
}
