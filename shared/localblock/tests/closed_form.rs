//! The recorded blocks hold the closed-form world of `shared/golden/gen.py`: every sample and every aggregate is computed here again,
//! without any other system, and compared.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

use farview_localblock::LocalBlock;
use farview_model::{Labels, Samples, TimeRange};
use farview_series::{DedupFunc, SeriesReader};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const START: i64 = 1_767_225_600_000;
const DAY: f64 = 86_400.0;
const STEPS: i64 = 15 * 24 * 60;

/// The value at second `t` of a counter of `rate` per second that begins anew every `reset_days` days.
fn counter(t: f64, rate: f64, reset_days: f64) -> f64 {
    let since = t - (t / (reset_days * DAY)).floor() * reset_days * DAY;
    (since * rate).floor()
}

/// Whether a replica has scraped at step i.
fn scraped(replica: &str, i: i64) -> bool {
    let t = i * 60;
    match replica {
        "a" => !(3 * 86_400 + 36_000..3 * 86_400 + 37_200).contains(&t),
        _ => !((7 * 86_400..7 * 86_400 + 10_800).contains(&t) || i % 97 == 13),
    }
}

/// The value of a series at step i, `None` while there is no such series.
fn value(labels: &Labels, i: i64) -> Option<f64> {
    let label = |name: &str| labels.get(name).unwrap_or("");
    let t = (i * 60) as f64;
    Some(match labels.metric_name() {
        "istio_requests_total" => {
            let rate = match label("destination_service") {
                "reviews" => 3.7,
                "ratings" => 1.3,
                _ => 0.41,
            };
            let share = if label("response_code") == "200" { 1.0 } else { 0.013 };
            counter(t, rate * share, if label("destination_service") == "ratings" { 2.5 } else { 11.25 })
        }
        "node_load1" => {
            let phase = if label("node") == "n1" { 0.0 } else { 1.0 };
            let value: f64 = 2.0 + (t / 7200.0 + phase).sin() + 0.25 * (t / 611.0).sin();
            (value * 1e6).round() / 1e6
        }
        "envoy_cluster_upstream_cx_active" => match (label("pod"), t < 5.0 * DAY) {
            ("reviews-v1-7c", true) => (10 + i % 7) as f64,
            ("reviews-v3-1a", false) => (20 + i % 11) as f64,
            _ => return None,
        },
        name => {
            let count = counter(t, if label("pod") == "reviews-v1-7c" { 2.1 } else { 0.9 }, 6.0);
            let shares = [("5", 0.31), ("10", 0.55), ("25", 0.8), ("100", 0.95), ("1000", 0.995), ("+Inf", 1.0)];
            match shares.iter().find(|(le, _)| *le == label("le")) {
                Some((_, share)) => (count * share).floor(),
                None if name.ends_with("_sum") => count * 17.25,
                None => count,
            }
        }
    })
}

fn blocks() -> Vec<PathBuf> {
    let above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/golden/plain/bucket"));
    let Some(bucket) = above.into_iter().find(|folder| folder.is_dir()) else {
        println!("no folder shared/golden beside the checkout: the recorded blocks are not compared");
        return vec![];
    };
    let folders = std::fs::read_dir(bucket).unwrap().map(|entry| entry.unwrap().path());
    folders.filter(|folder| folder.join("meta.json").exists()).collect()
}

/// Every sample that a series of a block must have.
fn expected(block: &LocalBlock, labels: &Labels) -> Vec<(i64, f64)> {
    let replica = labels.get("replica").unwrap();
    let offset = if replica == "a" { 0 } else { 7_300 };
    let time = |i: i64| START + i * 60_000 + offset;
    let steps = (0..STEPS).filter(|i| block.meta().range.contains(time(*i)) && scraped(replica, *i));
    steps.filter_map(|i| Some((time(i), value(labels, i)?))).collect()
}

fn read(block: &LocalBlock, func: &str) -> BTreeMap<Labels, Samples> {
    let reader = SeriesReader::new(func, DedupFunc::Penalty);
    let series = block.series(&[], TimeRange::ALL, 1000).unwrap().into_iter().map(|series| {
        let mut samples = Samples::default();
        reader.read(&block.chunks(&series).unwrap(), TimeRange::ALL, &mut samples).unwrap();
        (series.labels, samples)
    });
    series.collect()
}

/// Sines of two libraries may differ in the last bit, and the rounding to six digits with them.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1.1e-6 + 1e-12 * b.abs()
}

#[test]
fn raw_blocks_hold_every_sample() {
    let mut compared = 0;
    for block in blocks().iter().map(|folder| LocalBlock::open(folder).unwrap()) {
        for (labels, samples) in read(&block, "").into_iter().filter(|_| block.meta().resolution == 0) {
            let wanted = expected(&block, &labels);
            assert!(samples.timestamps.iter().eq(wanted.iter().map(|(t, _)| t)), "{labels} of {:?}", block.folder());
            let differs = samples.values.iter().zip(&wanted).find(|(value, (_, wanted))| !near(**value, *wanted));
            assert_eq!(differs, None, "{labels} of {:?}", block.folder());
            compared += wanted.len();
        }
    }
    println!("{compared} samples compared");
    assert!(compared == 0 || compared > 900_000, "{compared}");
}

/// Samples of one window of downsampled data: each aggregate, computed.
#[derive(Debug, Clone, Copy)]
struct Window {
    end: i64,
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
}

/// Adds a window to a list, or to the last of the list if it is the same.
fn joined(mut list: Vec<Window>, next: Window) -> Vec<Window> {
    match list.last_mut() {
        Some(last) if last.end == next.end => {
            last.count += next.count;
            last.sum += next.sum;
            last.min = last.min.min(next.min);
            last.max = last.max.max(next.max);
        }
        _ => list.push(next),
    }
    list
}

#[test]
fn downsampled_blocks_hold_the_aggregates_of_every_window() {
    let mut compared = 0;
    for block in blocks().iter().map(|folder| LocalBlock::open(folder).unwrap()) {
        let resolution = block.meta().resolution;
        if resolution == 0 {
            continue;
        }
        let [count, sum, min, max, average] =
            ["count_over_time", "sum_over_time", "min", "max", "avg"].map(|func| read(&block, func));
        for labels in count.keys() {
            let all = [&count[labels], &sum[labels], &min[labels], &max[labels]];
            assert!(all.iter().all(|samples| samples.timestamps == all[0].timestamps), "{labels}");
            // A window in which a chunk ends is in two parts, the first of which ends with its last sample.
            let parts = (0..all[0].timestamps.len()).map(|i| {
                let [count, sum, min, max] = all.map(|samples| samples.values[i]);
                assert!(near(average[labels].values[i], sum / count), "{labels} {i}");
                let t = all[0].timestamps[i];
                Window { end: t - t % resolution + resolution - 1, count, sum, min, max }
            });
            let found = parts.fold(Vec::new(), joined);
            let samples = expected(&block, labels).into_iter();
            let samples = samples.map(|(t, v)| Window {
                end: t - t % resolution + resolution - 1,
                count: 1.0,
                sum: v,
                min: v,
                max: v,
            });
            let wanted = samples.fold(Vec::new(), joined);
            assert_eq!(found.len(), wanted.len(), "{labels}");
            for (found, wanted) in found.iter().zip(&wanted) {
                let of = |w: &Window| [w.end as f64, w.count, w.sum, w.min, w.max];
                assert!(
                    of(found).iter().zip(of(wanted)).all(|(a, b)| (a - b).abs() <= 1e-4 + 1e-12 * b.abs()),
                    "{labels}: {found:?} {wanted:?}"
                );
            }
            compared += wanted.len();
        }
    }
    println!("{compared} aggregates compared");
    assert!(compared == 0 || compared > 100_000, "{compared}");
}

#[test]
fn downsampled_counters_grow_by_what_was_counted() {
    let mut compared = 0;
    for block in blocks().iter().map(|folder| LocalBlock::open(folder).unwrap()) {
        if block.meta().resolution == 0 {
            continue;
        }
        for (labels, samples) in read(&block, "rate") {
            if !labels.metric_name().ends_with("_total") {
                continue;
            }
            let raw = expected(&block, &labels);
            let mut total = raw[0].1;
            let totals: Vec<(i64, f64)> = std::iter::once((raw[0].0, total))
                .chain(raw.windows(2).map(|pair| {
                    total += if pair[1].1 >= pair[0].1 { pair[1].1 - pair[0].1 } else { pair[1].1 };
                    (pair[1].0, total)
                }))
                .collect();
            for (t, value) in samples.timestamps.iter().zip(&samples.values) {
                let wanted = totals[totals.partition_point(|(at, _)| at <= t) - 1].1;
                assert!((value - wanted).abs() < 1e-6, "{labels} at {t}: {value}, {wanted}");
            }
            compared += samples.timestamps.len();
        }
    }
    assert!(compared == 0 || compared > 1_000, "{compared}");
}
