//! The engine against Prometheus' own over the same data. More of this: `./justw fuzz-promql`.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::differential::{Pair, Questions};

const QUERIES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_queries_have_the_answers_of_prometheus() {
    let pair = Pair::start(1).await.unwrap();
    let differences = pair.run(Questions::new(1).take(QUERIES)).await.unwrap();
    let shown: Vec<String> = differences.iter().take(5).map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{} of {QUERIES}:\n{}", differences.len(), shown.join("\n\n"));
}
