//! The recorded world (`shared/golden` beside the checkout) through a store and a query: range queries at every resolution answer as
//! Thanos' query over Thanos' store of the same blocks did.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

use farview_integration::measure::free;
use farview_integration::{Farview, binary};
use farview_testkit::golden;
use serde_json::Value;
use std::collections::BTreeMap;

type Matrix = BTreeMap<String, Vec<(String, f64)>>;

/// Samples by labels.
fn matrix(answer: &Value) -> Matrix {
    let series = answer["data"]["result"].as_array().unwrap().iter().map(|series| {
        let labels: BTreeMap<&String, &Value> = series["metric"].as_object().unwrap().iter().collect();
        let values = series["values"].as_array().unwrap().iter();
        let values = values.map(|pair| (pair[0].to_string(), pair[1].as_str().unwrap().parse().unwrap()));
        (format!("{labels:?}"), values.collect())
    });
    series.collect()
}

/// Says where two answers differ first, leaving out the first `skipped` steps of each series.
fn difference(wanted: &Matrix, got: &Matrix, skipped: usize) -> Option<String> {
    if wanted.keys().ne(got.keys()) {
        return Some(format!("{} series, expected {}", got.len(), wanted.len()));
    }
    let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-8 * a.abs().max(b.abs()) || a.is_nan() && b.is_nan();
    wanted.iter().find_map(|(labels, wanted)| {
        let got = &got[labels];
        if wanted.len() != got.len() {
            return Some(format!("{labels}: {} steps, expected {}", got.len(), wanted.len()));
        }
        let pairs = wanted.iter().zip(got).skip(skipped);
        let different = pairs.into_iter().find(|(a, b)| a.0 != b.0 || !near(a.1, b.1));
        different.map(|(a, b)| format!("{labels}: {b:?}, expected {a:?}"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn range_queries_over_a_store_answer_as_thanos_does() {
    let Some(golden) = golden() else { return };
    let binary = binary().unwrap();
    let (mut compared, mut differ) = (0, Vec::new());
    for world in ["plain", "dedup"] {
        let dir = tempfile::tempdir().unwrap();
        let bucket = golden.join(world).join("bucket");
        let args = [
            format!("--objstore.config=type: FILESYSTEM\nconfig: {{directory: {}}}\n", bucket.display()),
            format!("--data-dir={}", dir.path().join("data").display()),
        ];
        let addresses = (free().unwrap(), free().unwrap());
        let mut store = Farview::start(&binary, dir.path(), "store", "store", addresses, &args).unwrap();
        store.ready().await.unwrap();
        let args = [format!("--endpoint={}", store.grpc), "--query.replica-label=replica".to_owned()];
        let addresses = (free().unwrap(), free().unwrap());
        let mut query = Farview::start(&binary, dir.path(), "query", "query", addresses, &args).unwrap();
        query.ready().await.unwrap();
        let file = golden.join(world).join("query_range.json.gz");
        let recorded: Vec<Value> =
            serde_json::from_reader(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap())).unwrap();
        for entry in recorded {
            let params: Vec<(&str, String)> = entry["params"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
                .collect();
            let of = |name: &str| params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value.as_str());
            let raw = of("max_source_resolution") == "0s";
            // Thanos folds resets into raw data before the engine sees them, and counts none.
            if of("query").starts_with("resets") && raw {
                continue;
            }
            // It adjusts a counter at the first sample of a pair: the first step of a rate comes out too low.
            let skipped = usize::from(of("query").contains("rate(") && raw && of("dedup") == "true");
            let pairs: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = query.get("/api/v1/query_range", &pairs).await.unwrap();
            assert!(
                answer.status == 200 && answer.is_complete(),
                "{pairs:?}: {} {:?}",
                answer.status,
                answer.warnings()
            );
            compared += 1;
            if let Some(difference) = difference(&matrix(&entry["answer"]), &matrix(&answer.json), skipped) {
                differ.push(format!("{world} {pairs:?}: {difference}"));
            }
        }
    }
    println!("{compared} answers compared");
    assert!(compared >= 300 && differ.is_empty(), "{} of {compared} differ:\n{}", differ.len(), differ.join("\n"));
}
