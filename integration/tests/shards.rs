//! Stores that divide the blocks by themselves: who comes takes its part, who goes leaves it to the others, and no answer suffers.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::Farview;
use farview_integration::history::{self, Metric, SERVICES};
use farview_integration::measure::free;
use farview_integration::world::common_port;
use farview_model::TimeRange;
use farview_objstore::{BucketConfig, BucketMetrics};
use farview_testkit::dns::DnsServer;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SERVICE: &str = "stores.test";
const CLUSTERS: usize = 4;
const DAY: i64 = 86_400_000;
const START: i64 = 1_790_000_000_000;
const DAYS: i64 = 60;
/// Slots of all stores together when each slot has two.
const COPIES: f64 = 256.0;

/// The stores, some of which may be down.
struct Stores {
    all: Vec<Farview>,
    up: Vec<bool>,
}

impl Stores {
    /// The sum of a metric over the stores that are up.
    async fn sum(&self, metric: &str) -> f64 {
        let mut sum = 0.0;
        for (store, _) in self.all.iter().zip(&self.up).filter(|(_, up)| **up) {
            let text = reqwest::get(format!("{}/metrics", store.url())).await.unwrap().text().await.unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{metric} ")));
            sum += line.map_or(0.0, |value| value.parse().unwrap());
        }
        sum
    }

    /// Waits until each slot is held by two stores and announced by both.
    async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let held = self.sum("farview_store_shard_slots_held").await;
            let announced = self.sum("farview_store_shard_slots_announced").await;
            if (held, announced) == (COPIES, COPIES) {
                return;
            }
            let log = || self.all.iter().map(Farview::log).collect::<String>();
            assert!(Instant::now() < deadline, "held {held}, announced {announced}\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn write_history(bucket: &Path, stage: &Path) -> usize {
    let config = format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", bucket.display());
    let metrics = BucketMetrics::register(&mut prometheus_client::registry::Registry::default());
    let bucket = BucketConfig::parse(&config, "test").unwrap().open(metrics).unwrap();
    let mut blocks = 0;
    for cluster in 0..CLUSTERS {
        let name = format!("c{cluster}");
        let range = TimeRange::new(START, START + DAYS * DAY);
        blocks += history::write(&bucket, stage, &[("cluster", &name)], 0, range).await.unwrap();
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn five_stores_four_stores_five_stores_under_queries() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = dir.path().join("bucket");
    let blocks = write_history(&bucket, &dir.path().join("stage")).await;
    let dns = DnsServer::start().await.unwrap();
    let addresses: Vec<IpAddr> = (1..=5).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 60, n))).collect();
    let port = common_port(&addresses).unwrap();
    dns.set_ttl(1);
    dns.set_addresses(SERVICE, addresses.clone());
    let binary = farview_integration::binary().unwrap();
    let server = format!("--farview.dns-server={}", dns.addr());
    let start = |n: usize| {
        let args = [
            format!("--objstore.config={{type: FILESYSTEM, config: {{directory: {}}}}}", bucket.display()),
            format!("--data-dir={}", dir.path().join(format!("data-{n}")).display()),
            "--store.shards=auto".to_owned(),
            "--store.shards-hold=8s".to_owned(),
            format!("--farview.store-service=dns+{SERVICE}:{port}"),
            format!("--farview.store-name=store-{n}"),
            server.clone(),
        ];
        let at = (free().unwrap(), SocketAddr::new(addresses[n], port));
        Farview::start(&binary, dir.path(), &format!("store-{n}"), "store", at, &args).unwrap()
    };
    let mut stores = Stores { all: (0..5).map(start).collect(), up: vec![true; 5] };
    for store in &mut stores.all {
        store.ready().await.unwrap();
    }
    stores.settled().await;
    let share = stores.sum("thanos_bucket_store_blocks_loaded").await;
    assert_eq!(share, 2.0 * blocks as f64, "each block is served by two");

    let args = [format!("--endpoint=dns+{SERVICE}:{port}"), server.clone(), "--endpoint.info-timeout=1s".to_owned()];
    let mut query =
        Farview::start(&binary, dir.path(), "query", "query", (free().unwrap(), free().unwrap()), &args).unwrap();
    query.ready().await.unwrap();
    query.until("count(up)", &[], "all stores are known", |answer| answer.is_complete()).await.unwrap();

    // Each block is asked of one store.
    let read = stores.sum("thanos_bucket_store_series_blocks_queried_sum").await;
    let params =
        [("start", seconds(START + DAY)), ("end", seconds(START + (DAYS - 1) * DAY)), ("step", "43200".into())];
    let params: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let text = format!("sum({})", Metric::Connections.name());
    let answer = query.get("/api/v1/query_range", &[&params[..], &[("query", &text)]].concat()).await.unwrap();
    assert!(answer.is_complete(), "{answer:?}");
    let read = stores.sum("thanos_bucket_store_series_blocks_queried_sum").await - read;
    assert!(read >= blocks as f64 - 2.0 * CLUSTERS as f64 && read <= 1.1 * blocks as f64, "{read} of {blocks} blocks");

    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = tokio::spawn(ask(query, Arc::clone(&stop), Arc::clone(&asked)));
    let loads = |stores: &Stores| {
        let stores = stores.all[..4].iter().map(|store| format!("{}/metrics", store.url())).collect::<Vec<_>>();
        async move {
            let mut sum = 0.0;
            for url in stores {
                let text = reqwest::get(url).await.unwrap().text().await.unwrap();
                let line = text.lines().find_map(|line| line.strip_prefix("thanos_bucket_store_block_loads_total "));
                sum += line.map_or(0.0, |value| value.parse::<f64>().unwrap());
            }
            sum
        }
    };
    let before = loads(&stores).await;
    stores.all[4].kill().await.unwrap();
    stores.up[4] = false;
    stores.settled().await;
    let taken = loads(&stores).await - before;
    stores.all[4].restart().unwrap();
    stores.all[4].ready().await.unwrap();
    stores.up[4] = true;
    stores.settled().await;
    let given = stores.sum("thanos_bucket_store_block_loads_total").await - loads(&stores).await;
    stop.store(true, Ordering::Relaxed);
    asking.await.unwrap();
    let asked = asked.load(Ordering::Relaxed);
    println!(
        "{blocks} blocks twice; 5 to 4 stores moved {taken}, 4 to 5 moved {given}; {asked} answers, all whole and right"
    );
    // What one of five had, and no more than chance adds.
    let most = 2.0 * blocks as f64 / 5.0 * 1.3;
    assert!(taken > 0.0 && taken <= most && given > 0.0 && given <= most, "{taken}, {given}");
    assert!(asked > 50, "{asked}");
}

fn seconds(millis: i64) -> String {
    (millis / 1_000).to_string()
}

/// Asks for values at changing times and compares them with what they must be.
async fn ask(query: Farview, stop: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let text = format!("sum({})", Metric::Connections.name());
    let mut day = 1;
    while !stop.load(Ordering::Relaxed) {
        day = day * 7 % 59 + 1;
        let t = START + day * DAY;
        let answer = query.query(&text, &[("time", &seconds(t))]).await.unwrap();
        let scraped = t.div_euclid(history::STEP) * history::STEP;
        let expected: f64 = (0..SERVICES).map(|i| Metric::Connections.value(i, scraped)).sum::<f64>() * CLUSTERS as f64;
        assert!(answer.is_complete() && answer.warnings().is_empty(), "{answer:?}");
        assert_eq!(
            answer.vector().first().map(|(_, value)| value.as_str()),
            Some(expected.to_string().as_str()),
            "{answer:?}"
        );
        asked.fetch_add(1, Ordering::Relaxed);
    }
}
