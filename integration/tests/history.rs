//! Months of data: what no Prometheus holds any more comes from the bucket, what is new is shipped there, and the answer is one.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::history::{self, Metric, SERVICES, service};
use farview_integration::measure::free;
use farview_integration::process::Answer;
use farview_integration::world::{Plan, World};
use farview_integration::{Farview, proof};
use farview_model::TimeRange;
use farview_objstore::{BucketConfig, BucketMetrics};
use std::collections::BTreeMap;
use std::path::Path;
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
    // What the clusters' queries have learned reaches the global one with their next Info.
    let both = |answer: &Answer| answer.is_complete() && answer.vector().len() == 2;
    world.global.until("count by (cluster) (up)", &[], "both clusters are known", both).await.unwrap();
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
    let at = at.to_string();
    let params = [("time", at.as_str())];
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

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_disk_is_full_goes_on_from_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (bucket, data) = (dir.path().join("bucket"), dir.path().join("data"));
    let config = format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", bucket.display());
    let objects = BucketConfig::parse(&config, "test").unwrap();
    let metrics = BucketMetrics::register(&mut prometheus_client::registry::Registry::default());
    let range = TimeRange::new(1_795_000_000_000, 1_795_400_000_000);
    let labels = [("cluster", "east"), ("replica", "a")];
    let bucket = objects.open(metrics).unwrap();
    let blocks = history::write(&bucket, &dir.path().join("stage"), &labels, 0, range).await.unwrap();
    let (http, grpc) = (free().unwrap(), free().unwrap());
    // No file may grow, as on a disk that is full; the log cannot be written either.
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
    let mut args =
        vec!["-c".to_owned(), limited.to_owned(), farview_integration::binary().unwrap().display().to_string()];
    args.extend(["store".to_owned(), format!("--objstore.config={config}"), format!("--data-dir={}", data.display())]);
    args.extend([format!("--http-address={http}"), format!("--grpc-address={grpc}")]);
    let shell = Path::new("/bin/sh");
    let mut store = Farview::start_as(shell, dir.path(), "store", (http, grpc), args, BTreeMap::new()).unwrap();
    store.ready().await.unwrap();
    let args = [format!("--endpoint={grpc}")];
    let addresses = (free().unwrap(), free().unwrap());
    let binary = farview_integration::binary().unwrap();
    let mut query = Farview::start(&binary, dir.path(), "query", "query", addresses, &args).unwrap();
    query.ready().await.unwrap();
    for t in [range.mint + 90_000_000, range.maxt - 90_000_000] {
        let text = format!("sum({})", Metric::Connections.name());
        let answer = query.query(&text, &[("time", &(t / 1_000).to_string())]).await.unwrap();
        // The last scrape before that time.
        let scraped = t.div_euclid(history::STEP) * history::STEP;
        let expected: f64 = (0..SERVICES).map(|i| Metric::Connections.value(i, scraped)).sum();
        assert!(answer.is_complete() && answer.vector()[0].1 == expected.to_string(), "{expected}: {answer:?}");
    }
    let folders = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let kept = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten()).filter_map(Result::ok);
    let whole = kept.filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0)).count();
    assert!(blocks >= 3 && whole == 0, "{blocks} blocks, {whole} files were kept on a full disk");
}
