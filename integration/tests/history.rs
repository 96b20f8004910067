//! Months of data: what no Prometheus holds any more comes from the bucket, what is new is shipped there, and the answer is one.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::history::{Metric, SERVICES, service};
use farview_integration::proof;
use farview_integration::world::{Plan, World};
use std::time::Duration;

/// Series requests that each store has had.
async fn requests(world: &World) -> Vec<f64> {
    let mut counts = Vec::new();
    for store in &world.archive.as_ref().unwrap().stores {
        let text = reqwest::get(format!("{}/metrics", store.url())).await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("thanos_bucket_store_series_blocks_queried_count "));
        counts.push(line.map_or(0.0, |count| count.parse().unwrap()));
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_one_answer_over_buckets_and_prometheus() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { history_days: 12, ..Plan::east_and_west() };
    let mut world = World::start(&farview_integration::binary().unwrap(), dir.path(), plan).await.unwrap();
    proof::shipped(&world).await.unwrap();
    let checked = proof::history(&world).await.unwrap();
    assert!(checked > 10_000, "{checked}");

    // The stores hold the same blocks: each query asks one of them, and they take turns.
    let long_ago = (world.archive.as_ref().unwrap().archived.mint / 1_000 + 86_400).to_string();
    let before = requests(&world).await;
    for _ in 0..10 {
        let answer = world.global.query("count(mesh_requests_total)", &[("time", &long_ago)]).await.unwrap();
        assert!(answer.is_complete(), "{answer:?}");
    }
    let more: Vec<f64> = requests(&world).await.iter().zip(before).map(|(now, before)| now - before).collect();
    // A slow one may be helped out.
    assert!(more.iter().all(|count| *count >= 1.0) && more.iter().sum::<f64>() <= 12.0, "{more:?}");

    // A store dies: the other has the same blocks.
    world.archive.as_mut().unwrap().stores[0].kill().await.unwrap();
    let archive = world.archive.as_ref().unwrap();
    let at = (archive.archived.mint + 86_400_000) / 1_000;
    let query = format!("sum(rate({}[1h]))", Metric::Requests.name());
    let expected: f64 = (0..SERVICES).map(|i| Metric::Requests.per_second(i)).sum::<f64>() * 2.0;
    let params = [("time", at.to_string())];
    let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let answer = world.global.query(&query, &params).await.unwrap();
        let value: f64 = answer.vector()[0].1.parse().unwrap();
        assert!((value - expected).abs() < 1e-6 * expected, "{answer:?}");
        assert!(answer.is_complete() && answer.warnings().is_empty(), "{answer:?}");
    }
    // The other one, too: the sidecars announce the same labels, but do not hold the same time.
    world.archive.as_mut().unwrap().stores[1].kill().await.unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let answer = world.global.query(&query, &params).await.unwrap();
        assert!(!answer.is_complete() && !answer.warnings().is_empty(), "{answer:?}");
    }
    // What Prometheus itself holds is complete without them.
    let answer = world.global.query("count by (cluster) (up)", &[]).await.unwrap();
    assert!(answer.is_complete() && answer.vector().len() == 2, "{answer:?}");
    assert_eq!(service(0), "service-0");
}
