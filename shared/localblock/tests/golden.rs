//! The recorded blocks (`shared/golden` beside the checkout), asked with PromQL: the answers are those that Thanos' query gave over
//! Thanos' store of the same blocks.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

use farview_localblock::{LocalBlock, LocalBlockError, LocalBlocks, LocalBlocksConfig};
use farview_model::{Labels, MatchOp, Matcher, TimeRange};
use farview_promql::engine::{Engine, EngineOptions, QueryContext, Value};
use farview_testkit::golden;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

fn blocks(bucket: &Path) -> Vec<LocalBlock> {
    let entries = std::fs::read_dir(bucket.join("bucket")).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|folder| folder.join("meta.json").exists())
        .map(|folder| LocalBlock::open(&folder).unwrap())
        .collect()
}

/// Blocks as a store chooses them: for each time the coarsest that is fine enough.
fn at_resolution(bucket: &Path, max: i64) -> Vec<LocalBlock> {
    let mut chosen: Vec<LocalBlock> = Vec::new();
    let mut all = blocks(bucket);
    all.sort_by_key(|block| -block.meta().resolution);
    for block in all.into_iter().filter(|block| block.meta().resolution <= max) {
        let same = |other: &LocalBlock| {
            let (a, b) = (other.meta(), block.meta());
            a.external_labels == b.external_labels && a.range.overlaps(b.range)
        };
        if !chosen.iter().any(same) {
            chosen.push(block);
        }
    }
    chosen
}

type Matrix = BTreeMap<Labels, Vec<(i64, f64)>>;

fn expected(answer: &Json) -> Matrix {
    let series = answer["data"]["result"].as_array().unwrap().iter().map(|series| {
        let labels = series["metric"].as_object().unwrap().iter().map(|(name, value)| (name, value.as_str().unwrap()));
        let values = series["values"].as_array().unwrap().iter().map(|pair| {
            ((pair[0].as_f64().unwrap() * 1000.0).round() as i64, pair[1].as_str().unwrap().parse().unwrap())
        });
        (Labels::from_pairs(labels), values.collect())
    });
    series.collect()
}

fn found(value: Value) -> Matrix {
    let Value::Matrix(series) = value else { panic!("{value:?}") };
    let pairs = |series: &farview_promql::engine::Series| {
        series.timestamps.iter().copied().zip(series.values.iter().copied()).collect()
    };
    series.iter().map(|series| (series.labels.clone(), pairs(series))).collect()
}

/// Says where two answers differ first by more than `tolerance`, relative.
fn difference(expected: &Matrix, found: &Matrix, tolerance: f64) -> Option<String> {
    if expected.keys().ne(found.keys()) {
        return Some(format!("series {:?}, expected {:?}", found.keys(), expected.keys()));
    }
    for (labels, wanted) in expected {
        let got = &found[labels];
        if !wanted.iter().map(|(t, _)| t).eq(got.iter().map(|(t, _)| t)) {
            let at = wanted.iter().zip(got).position(|(a, b)| a.0 != b.0);
            return Some(format!("{labels}: {} steps, expected {}; first at {at:?}", got.len(), wanted.len()));
        }
        let near =
            |a: f64, b: f64| a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs()) || a.is_nan() && b.is_nan();
        if let Some((a, b)) = wanted.iter().zip(got).find(|(a, b)| !near(a.1, b.1)) {
            return Some(format!("{labels} at {}: {}, expected {}", a.0, b.1, a.1));
        }
    }
    None
}

#[test]
fn answers_are_those_of_thanos_over_the_same_blocks() {
    let Some(golden) = golden() else { return };
    let engine = Engine::new(EngineOptions { workers: 2, ..EngineOptions::default() }).unwrap();
    let (mut compared, mut differ) = (0, Vec::new());
    for bucket in ["plain", "dedup"].map(|bucket| golden.join(bucket)) {
        let file = std::fs::File::open(bucket.join("query_range.json.gz")).unwrap();
        let recorded: Vec<Json> = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
        for entry in recorded {
            let params = &entry["params"];
            let max = match params["max_source_resolution"].as_str().unwrap() {
                "0s" => 0,
                "5m" => 300_000,
                "1h" => 3_600_000,
                _ => continue,
            };
            let query = params["query"].as_str().unwrap();
            // Thanos folds resets into raw data before the engine sees them: it counts none, and where a window begins with a
            // reset it takes the counter for an old one. Ours are as Prometheus counts them.
            if query.starts_with("resets") && max == 0 {
                continue;
            }
            let tolerance = if query.contains("increase") && max == 0 { 1e-8 } else { 1e-9 };
            // A rate needs two samples in its window.
            let source_max = if query.contains("[10m]") { max.min(300_000) } else { max };
            let dedup = params["dedup"] == "true";
            let replica_labels = if dedup { vec!["replica".to_owned()] } else { vec![] };
            let config = LocalBlocksConfig { replica_labels, ..LocalBlocksConfig::default() };
            let source = LocalBlocks::new(at_resolution(&bucket, source_max), config).unwrap();
            let lookback_delta = (max > 300_000).then_some(3_600_000);
            let cx = QueryContext { lookback_delta, ..QueryContext::default() };
            let ms = |name: &str| params[name].as_i64().unwrap() * 1000;
            let answer = engine.range(&cx, &source, query, ms("start"), ms("end"), ms("step")).unwrap();
            let (wanted, mut got) = (expected(&entry["answer"]), found(answer.value));
            if dedup && max == 0 && query.contains("rate(") {
                // Thanos adjusts a counter already at the first sample of a pair: the first step of a range, and any instant, comes
                // out too low, here by 9 %, where the second replica begins earlier. The right value is about the one that a longer
                // range has there; not quite, as it sees other samples of `b`, which have the values of `a` 7.3 s later.
                let (start, step) = (ms("start"), ms("step"));
                let longer = found(engine.range(&cx, &source, query, start - step, start, step).unwrap().value);
                for (labels, points) in &longer {
                    let first = &mut got.get_mut(labels).unwrap()[0];
                    let right = points.last().unwrap();
                    assert!(
                        first.0 == right.0 && (first.1 / right.1 - 1.0).abs() < 0.02,
                        "{labels}: {first:?} {right:?}"
                    );
                    *first = wanted[labels][0];
                }
            }
            compared += 1;
            if let Some(difference) = difference(&wanted, &got, tolerance) {
                differ.push(format!("{params}: {difference}"));
            }
        }
    }
    println!("{compared} answers compared");
    assert!(compared > 200 && differ.is_empty(), "{} of {compared} differ:\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn resets_of_raw_data_are_counted() {
    let Some(golden) = golden() else { return };
    let source = LocalBlocks::new(at_resolution(&golden.join("dedup"), 0), LocalBlocksConfig::default()).unwrap();
    let engine = Engine::new(EngineOptions::default()).unwrap();
    // This counter begins anew each 2.5 days.
    let query = r#"resets(istio_requests_total{destination_service="ratings",response_code="200"}[3d])"#;
    let (start, day) = (1_767_225_600_000, 86_400_000);
    for (days, resets) in [(2, 0.0), (3, 1.0), (5, 2.0), (6, 1.0), (10, 2.0), (14, 1.0)] {
        // A little later, so that a reset of the day itself is in.
        let at = start + days * day + day / 100;
        let answer = engine.instant(&QueryContext::default(), &source, query, at).unwrap();
        let Value::Vector(series) = answer.value else { panic!("{:?}", answer.value) };
        assert_eq!(series.iter().map(|series| series.values[0]).collect::<Vec<_>>(), [resets], "day {days}");
    }
}

#[test]
fn matchers_choose_series_of_a_block() {
    let Some(golden) = golden() else { return };
    let block = at_resolution(&golden.join("plain"), 0).into_iter().next().unwrap();
    let all = block.series(&[], TimeRange::ALL, 1000).unwrap();
    assert!(all.len() > 20 && all.is_sorted_by(|a, b| a.labels < b.labels));
    let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let values = ["", "200", "reviews", "rev.*", ".*", ".+", "200|503", "|200", "a", "no such", "1?0|5"];
    for name in ["response_code", "destination_service", "le", "replica", "no_such", "__name__"] {
        for matcher in ops.into_iter().flat_map(|op| values.map(|value| Matcher::new(op, name, value).unwrap())) {
            for other in [Matcher::equal("pod", ""), Matcher::new(MatchOp::NotEqual, "cluster", "west").unwrap()] {
                let matchers = [matcher.clone(), other];
                let wanted: Vec<&Labels> = all
                    .iter()
                    .map(|series| &series.labels)
                    .filter(|labels| matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or(""))))
                    .collect();
                let found = block.series(&matchers, TimeRange::ALL, 1000).unwrap();
                assert_eq!(found.iter().map(|series| &series.labels).collect::<Vec<_>>(), wanted, "{matchers:?}");
            }
        }
    }
    assert!(matches!(block.series(&[], TimeRange::ALL, 5), Err(LocalBlockError::TooManySeries { limit: 5 })));
    assert_eq!(block.series(&[], TimeRange::new(0, 1000), 5).unwrap(), []);
}

#[test]
fn resolutions_of_the_same_time_are_not_mixed() {
    let Some(golden) = golden() else { return };
    let result = LocalBlocks::new(blocks(&golden.join("dedup")), LocalBlocksConfig::default());
    assert!(matches!(result, Err(LocalBlockError::Resolutions { .. })), "{result:?}");
}
