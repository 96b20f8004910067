//! Months of data: what no Prometheus holds any more comes from the bucket, what is new is shipped there, and the answer is one.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::history::{Metric, SERVICES, service};
use farview_integration::proof;
use farview_integration::world::{Plan, World};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_one_answer_over_buckets_and_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { history_days: 12, ..Plan::east_and_west() };
    let mut world = World::start(&farview_integration::binary().unwrap(), dir.path(), plan).await.unwrap();
    proof::shipped(&world).await.unwrap();
    let checked = proof::history(&world).await.unwrap();
    assert!(checked > 10_000, "{checked}");

    // A store dies: the other has the same blocks.
    world.archive.as_mut().unwrap().stores[0].kill().await.unwrap();
    let archive = world.archive.as_ref().unwrap();
    let at = (archive.archived.mint + 86_400_000) / 1_000;
    let query = format!("sum(rate({}[1h]))", Metric::Requests.name());
    let expected: f64 = (0..SERVICES).map(|i| Metric::Requests.per_second(i)).sum::<f64>() * 2.0;
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let answer = world.global.query(&query, &[("time", &at.to_string())]).await.unwrap();
        let value: f64 = answer.vector()[0].1.parse().unwrap();
        assert!((value - expected).abs() < 1e-6 * expected, "{answer:?}");
    }
    assert_eq!(service(0), "service-0");
}
