//! What can go wrong with a bucket does, and no answer is wrong without saying so.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed step fails the test")]

#[allow(dead_code, reason = "shared by the tests of this folder")]
mod stage;

use farview_block::BlockId;
use farview_model::{Labels, Matcher, TimeRange};
use farview_series::ChunkSeries;
use farview_storeapi::{PartialResponse, SelectRequest};
use farview_testkit::s3::{Fault, S3Server};
use stage::blocks::{self, BLOCK};
use stage::{Stage, until};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Chunks by series.
type Content = BTreeMap<Labels, Vec<String>>;

fn content(series: Vec<ChunkSeries>) -> Content {
    let series = series.into_iter().map(|one| {
        let mut chunks: Vec<String> =
            one.chunks.iter().map(|chunk| format!("{} {} {:?}", chunk.mint, chunk.maxt, chunk.data)).collect();
        chunks.sort();
        (one.labels, chunks)
    });
    series.collect()
}

/// Tells whether all of `found` is right.
fn is_part_of(found: &Content, truth: &Content) -> bool {
    found.iter().all(|(labels, chunks)| {
        truth.get(labels).is_some_and(|right| chunks.iter().all(|chunk| right.binary_search(chunk).is_ok()))
    })
}

fn everything() -> SelectRequest {
    SelectRequest::new(TimeRange::ALL, vec![Matcher::equal("__name__", "requests_total")])
}

fn directory(folder: &Path) -> String {
    format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", folder.display())
}

/// A bucket of three blocks in a folder.
fn bucket(root: &Path, series: usize) -> Vec<BlockId> {
    (0..3).map(|number| blocks::write(&root.join("bucket"), number, series, &[("cluster", "east")])).collect()
}

/// Asks for everything; whatever comes must be right, and if it is not all that must be said. Tells whether it was all.
async fn honest(stage: &Stage, truth: &Content, what: &str) -> bool {
    match stage.select(&everything()).await {
        Ok(answer) => {
            let found = content(answer.series);
            assert!(is_part_of(&found, truth), "{what}: wrong samples");
            let whole = found == *truth;
            assert!(whole || !answer.warnings.is_empty(), "{what}: not all, and nothing is said");
            whole
        }
        Err(error) => {
            assert!(!error.message.is_empty(), "{what}");
            false
        }
    }
}

/// Pseudo-random numbers (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// How many bits to flip: `FARVIEW_FLIPS`, or enough for every run.
fn flips() -> u64 {
    std::env::var("FARVIEW_FLIPS").map_or(300, |flips| flips.parse().unwrap())
}

#[tokio::test]
async fn a_flipped_bit_of_a_block_never_makes_a_wrong_sample() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 12);
    let folder = root.path().join("bucket");
    let truth = content(Stage::start(&directory(&folder), &[]).await.select(&everything()).await.unwrap().series);
    assert_eq!(truth.len(), 12);
    // Nothing vouches for the bits of meta.json; tombstones are not read.
    let read = |path: &PathBuf| !path.ends_with("meta.json") && !path.ends_with("tombstones");
    let files: Vec<PathBuf> = files_below(&folder).into_iter().filter(read).collect();
    assert_eq!(files.len(), 6);
    let mut random = Random(0x5eed);
    let mut noticed = 0;
    for round in 0..flips() {
        let file = &files[random.below(files.len() as u64) as usize];
        let good = std::fs::read(file).unwrap();
        let bit = random.below(good.len() as u64 * 8);
        let mut bad = good.clone();
        bad[(bit / 8) as usize] ^= 1 << (bit % 8);
        std::fs::write(file, bad).unwrap();
        let stage = Stage::start(&directory(&folder), &[]).await;
        noticed += u64::from(!honest(&stage, &truth, &format!("{round}: bit {bit} of {}", file.display())).await);
        std::fs::write(file, good).unwrap();
    }
    println!("{noticed} of {} flips were noticed, the others were not in what was read", flips());
    assert!(noticed > flips() / 2);
}

#[tokio::test]
async fn a_flipped_bit_of_what_is_kept_is_healed() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 12);
    let folder = root.path().join("bucket");
    let stage = Stage::start(&directory(&folder), &[]).await;
    let truth = content(stage.select(&everything()).await.unwrap().series);
    let kept = |stage: &Stage| files_below(stage.data.path());
    until("the index headers are kept", async || kept(&stage).len() >= 6).await;
    let mut data = stage.into_data().await;
    let mut random = Random(0xca5e);
    for round in 0..flips() / 3 {
        let files = files_below(data.path());
        let file = files[random.below(files.len() as u64) as usize].clone();
        let good = std::fs::read(&file).unwrap();
        let bit = random.below(good.len() as u64 * 8);
        let mut bad = good.clone();
        bad[(bit / 8) as usize] ^= 1 << (bit % 8);
        std::fs::write(&file, bad).unwrap();
        let stage = Stage::start_unready(&directory(&folder), &[], data).await;
        until("the store is ready", async || stage.is_ready()).await;
        let what = format!("{round}: bit {bit} of {}", file.display());
        if !file.ends_with("meta.json") {
            // The first answer may lack the block, the next ones may not.
            let whole = honest(&stage, &truth, &what).await;
            assert!(whole || honest(&stage, &truth, &what).await, "{what}: not healed");
        }
        data = stage.into_data().await;
        std::fs::write(&file, good).unwrap();
    }
}

#[tokio::test]
async fn a_bucket_that_refuses_is_said_to_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 20);
    let server = S3Server::start(root.path()).await.unwrap();
    let stage = Stage::start(&server.yaml("bucket"), &[]).await;
    let truth = content(stage.select(&everything()).await.unwrap().series);
    // A short storm is ridden out: every second request for a chunk is told to slow down.
    let turn = std::sync::atomic::AtomicU64::new(0);
    server.inject(move |_, path| {
        let odd =
            path.contains("/chunks/") && turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
        odd.then_some(Fault::Refuse(503, None))
    });
    assert!(honest(&stage, &truth, "a storm").await);
    let faults: [(&str, Fault); 4] = [
        ("gone", Fault::NotFound),
        ("forbidden", Fault::Refuse(403, None)),
        ("a byte is missing", Fault::Short(1)),
        ("all but nothing", Fault::Short(1 << 20)),
    ];
    for (what, fault) in faults {
        server.inject(move |_, path| path.contains("/chunks/").then(|| fault.clone()));
        assert!(!honest(&stage, &truth, what).await, "{what}");
        let strict = SelectRequest { partial_response: PartialResponse::Abort, ..everything() };
        assert!(stage.select(&strict).await.is_err(), "{what}");
        server.heal();
        // Three failures in a row would put the blocks aside.
        assert!(honest(&stage, &truth, what).await, "{what}: healed");
    }
}

#[tokio::test]
async fn a_block_that_goes_on_failing_is_put_aside_and_named() {
    let root = tempfile::tempdir().unwrap();
    let ids = bucket(root.path(), 20);
    let server = S3Server::start(root.path()).await.unwrap();
    let stage = Stage::start(&server.yaml("bucket"), &[]).await;
    let truth = content(stage.select(&everything()).await.unwrap().series);
    let bad = ids[1].to_string();
    let pattern = format!("{bad}/chunks/");
    server.inject(move |_, path| path.contains(&pattern).then_some(Fault::NotFound));
    for round in 0..3 {
        let answer = stage.select(&everything()).await.unwrap();
        assert!(
            answer.warnings.iter().all(|text| text.contains(&bad)) && !answer.warnings.is_empty(),
            "{round}: {:?}",
            answer.warnings
        );
        assert_eq!(answer.series.len(), truth.len(), "the other blocks go on");
    }
    let before = server.requests();
    let answer = stage.select(&everything()).await.unwrap();
    assert!(answer.warnings[0].contains(&bad) && answer.warnings[0].contains("3 times"), "{:?}", answer.warnings);
    let asked_for = server.requests() - before;
    assert!(asked_for <= 4, "a block that is put aside is not read: {asked_for}");
    let text = reqwest::get(format!("{}/api/v1/blocks", stage.url())).await.unwrap().text().await.unwrap();
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["data"]["trouble"][0]["ulid"], bad.as_str());
    assert_eq!(page["data"]["trouble"][0]["quarantined"], true);
}

#[tokio::test]
async fn a_bucket_that_hangs_costs_the_time_of_a_request_and_no_more() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 20);
    let server = S3Server::start(root.path()).await.unwrap();
    let stage = Stage::start(&server.yaml("bucket"), &["--store.request-timeout=1s"]).await;
    let truth = content(stage.select(&everything()).await.unwrap().series);
    server.inject(|_, path| path.contains("/chunks/").then_some(Fault::Hang));
    let error = stage.select(&everything()).await.unwrap_err();
    assert!(error.message.contains("--store.request-timeout"), "{error:?}");
    server.heal();
    assert!(honest(&stage, &truth, "healed").await);
}

#[tokio::test]
async fn a_listing_that_flaps_unloads_nothing() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 5);
    let server = S3Server::start(root.path()).await.unwrap();
    let stage = Stage::start(&server.yaml("bucket"), &["--sync-block-duration=100ms"]).await;
    let truth = content(stage.select(&everything()).await.unwrap().series);
    // One listing finds nothing, the next everything, over and over.
    let turn = std::sync::atomic::AtomicU64::new(0);
    server.inject(move |_, path| {
        let odd =
            path.contains("list-type") && turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
        odd.then_some(Fault::EmptyListing)
    });
    let syncs = stage.metric("thanos_blocks_meta_syncs_total");
    until("it has listed some times more", async || stage.metric("thanos_blocks_meta_syncs_total") > syncs + 2.0).await;
    assert!(honest(&stage, &truth, "flapping").await);
    // All listings fail: what is known is served on, and the store says that it sees nothing new.
    server.inject(|_, path| path.contains("list-type").then_some(Fault::Refuse(403, None)));
    until("the failure is counted", async || stage.metric("thanos_blocks_meta_sync_failures_total") > 0.0).await;
    assert!(honest(&stage, &truth, "no listing").await);
    // The bucket really is emptied: after the second look all is given up.
    server.heal();
    std::fs::remove_dir_all(root.path().join("bucket")).unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    until("the blocks are given up", async || stage.metric("thanos_bucket_store_blocks_loaded") == 0.0).await;
    assert!(stage.select(&everything()).await.unwrap().series.is_empty());
}

#[tokio::test]
async fn descriptions_that_cannot_be_understood_are_named() {
    let root = tempfile::tempdir().unwrap();
    let ids = bucket(root.path(), 5);
    let folder = root.path().join("bucket");
    let path = folder.join(ids[1].to_string()).join("meta.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let truth = content(Stage::start(&directory(&folder), &[]).await.select(&everything()).await.unwrap().series);
    let other = BlockId::generate().to_string();
    let kinds = [
        ("empty", String::new()),
        ("cut", good[..good.len() / 2].to_owned()),
        ("null", "null".to_owned()),
        ("a list", "[]".to_owned()),
        ("no times", "{}".to_owned()),
        ("of another block", good.replace(&ids[1].to_string(), &other)),
        ("of another version", good.replacen("\"version\":1", "\"version\":7", 1)),
        ("nested", format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        ("backwards", good.replace(&format!("\"maxTime\":{}", 2 * BLOCK), "\"maxTime\":-5")),
        ("not text", "\u{0}\u{1}".to_owned()),
    ];
    for (what, text) in kinds {
        assert_ne!(text, good, "{what}");
        std::fs::write(&path, text).unwrap();
        let stage = Stage::start(&directory(&folder), &[]).await;
        let answer = stage.select(&everything()).await.unwrap();
        assert!(answer.warnings.iter().any(|text| text.contains(&ids[1].to_string())), "{what}: {:?}", answer.warnings);
        let found = content(answer.series);
        assert!(is_part_of(&found, &truth) && found.len() == 5, "{what}");
        assert_eq!(stage.metric("thanos_bucket_store_blocks_loaded"), 2.0, "{what}");
    }
}

#[tokio::test]
async fn a_request_over_a_limit_is_refused_by_the_name_of_the_limit() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 600);
    let directory = directory(&root.path().join("bucket"));
    let limits = [
        "--store.limits.request-series=100",
        "--store.limits.request-samples=5000",
        "--store.grpc.downloaded-bytes-limit=10KB",
        "--store.limits.request-bytes=20KB",
        "--chunk-pool-size=20KB",
    ];
    for flag in limits {
        let stage = Stage::start(&directory, &[flag]).await;
        let error = stage.select(&everything()).await.unwrap_err();
        let name = flag.split('=').next().unwrap();
        assert!(error.message.contains(name), "{flag}: {error:?}");
        assert_eq!(error.kind, farview_model::ErrorKind::LimitExceeded, "{flag}");
        // It is the request that is at fault, not the blocks.
        let one = SelectRequest::new(TimeRange::new(0, 60_000), vec![Matcher::equal("pod", "pod-00003")]);
        let answer = stage.select(&one).await.unwrap();
        assert!(answer.series.len() == 1 && answer.warnings.is_empty(), "{flag}: {:?}", answer.warnings);
    }
}

#[tokio::test]
async fn a_new_block_costs_few_requests_and_a_known_one_none() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 50);
    let server = S3Server::start(root.path()).await.unwrap();
    let stage = Stage::start(&server.yaml("bucket"), &["--sync-block-duration=50ms"]).await;
    let headers = |stage: &Stage| {
        files_below(stage.data.path()).iter().filter(|path| path.to_string_lossy().contains("index-header")).count()
    };
    until("the index headers are kept", async || headers(&stage) == 3).await;
    let listings = || stage.metric("thanos_blocks_meta_syncs_total");
    let cost = server.requests() as f64 - listings();
    assert!(cost <= 9.0, "{cost} requests for three blocks");
    let (before, requests) = (listings(), server.requests() as f64);
    until("it has listed five times more", async || listings() >= before + 5.0).await;
    let (more, listed) = (server.requests() as f64 - requests, listings() - before);
    assert!(more <= listed + 1.0, "{more} requests in {listed} syncs without anything new");
    // After a restart nothing is read again.
    let data = stage.into_data().await;
    let requests = server.requests();
    let stage = Stage::start_unready(&server.yaml("bucket"), &["--sync-block-duration=1h"], data).await;
    until("the store is ready", async || stage.is_ready()).await;
    assert_eq!(stage.metric("thanos_bucket_store_blocks_loaded"), 3.0);
    assert_eq!(server.requests() - requests, 1, "one listing");
    assert!(tokio::time::timeout(Duration::from_secs(30), stage.select(&everything())).await.unwrap().is_ok());
}

#[tokio::test]
async fn chunks_that_are_kept_are_not_fetched_again_and_the_answer_is_the_same() {
    let root = tempfile::tempdir().unwrap();
    bucket(root.path(), 50);
    let server = S3Server::start(root.path()).await.unwrap();
    let plain = Stage::start(&server.yaml("bucket"), &[]).await;
    let expected = plain.select(&everything()).await.unwrap().series;
    for config in ["{type: IN-MEMORY}", "{type: IN-MEMORY, config: {max_size: 1MB}, chunk_subrange_size: 700}"] {
        let cache = format!("--store.caching-bucket.config={config}");
        let stage = Stage::start(&server.yaml("bucket"), &["--sync-block-duration=1h", &cache]).await;
        let chunks = |stage: &Stage| stage.metric("farview_bucket_requests_total{purpose=\"chunks\"}");
        assert_eq!(stage.select(&everything()).await.unwrap().series, expected, "{config}");
        let before = chunks(&stage);
        assert!(before > 0.0, "{config}");
        assert_eq!(stage.select(&everything()).await.unwrap().series, expected, "{config}");
        assert_eq!(chunks(&stage), before, "{config}");
        let some = SelectRequest::new(TimeRange::new(0, 60_000), vec![Matcher::equal("pod", "pod-00003")]);
        assert_eq!(stage.select(&some).await.unwrap().series.len(), 1, "{config}");
        assert_eq!(chunks(&stage), before, "{config}");
    }
}
