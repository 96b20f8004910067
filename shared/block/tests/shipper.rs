//! Shipping the blocks of a real Prometheus to a real S3-compatible server.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_block::{BlockId, BlockMeta, MetaFetcher, Shipper, ShipperConfig, ShipperMetrics, Source, list};
use farview_model::Labels;
use farview_objstore::{Bucket, BucketConfig, BucketMetrics};
use farview_testkit::prometheus::{Prometheus, Version};
use farview_testkit::s3::{Fault, S3Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const START: i64 = 1_700_000_000_000;

struct Stage {
    folder: tempfile::TempDir,
    server: S3Server,
    data: PathBuf,
    // Its data folder goes when it does.
    _prometheus: Prometheus,
}

/// A Prometheus with blocks of two hours, made by promtool, and an empty bucket.
async fn stage() -> Stage {
    let mut text = String::from("# TYPE m gauge\n");
    for t in 0..1_500i64 {
        text += &format!("m{{a=\"1\"}} {t} {}\n", (START + t * 15_000) / 1_000);
    }
    let prometheus = Prometheus::builder().version(Version::Two).openmetrics(&text).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("blocks")).unwrap();
    let server = S3Server::start(folder.path()).await.unwrap();
    Stage { data: prometheus.dir().join("data"), folder, server, _prometheus: prometheus }
}

impl Stage {
    fn bucket(&self) -> Bucket {
        let metrics = BucketMetrics::register(&mut Default::default());
        let yaml = self.server.yaml("blocks").replace("  insecure", "  max_retries: 1\n  insecure");
        BucketConfig::parse(&yaml, "test").unwrap().open(metrics).unwrap()
    }

    fn shipper(&self, change: impl FnOnce(&mut ShipperConfig)) -> Shipper {
        let mut config = ShipperConfig {
            folder: self.data.clone(),
            state_file: "thanos.shipper.json".to_owned(),
            upload_compacted: false,
            allow_out_of_order: false,
            skip_corrupted: false,
            concurrency: 0,
            hash: true,
            source: Source(Source::SIDECAR.to_owned()),
        };
        change(&mut config);
        Shipper::new(self.bucket(), config, ShipperMetrics::default())
    }

    fn local(&self) -> Vec<BlockMeta> {
        let mut metas: Vec<BlockMeta> =
            blocks_in(&self.data).iter().map(|path| BlockMeta::read(path).unwrap()).collect();
        metas.sort_by_key(|meta| meta.min_time);
        metas
    }

    /// Every block that has a description has all its files, byte for byte.
    fn check_visible_blocks(&self) -> usize {
        let visible: Vec<PathBuf> = blocks_in(&self.folder.path().join("blocks"))
            .into_iter()
            .filter(|path| path.join("meta.json").exists())
            .collect();
        for block in &visible {
            let meta = BlockMeta::read(block).unwrap();
            let thanos = meta.thanos.as_ref().unwrap();
            assert_eq!(thanos.labels, BTreeMap::from([("cluster".to_owned(), "a".to_owned())]));
            assert_eq!((thanos.source.0.as_str(), thanos.version), ("sidecar", 1));
            assert!(thanos.files.len() >= 3 && thanos.segment_files == ["000001"]);
            for file in thanos.files.iter().filter(|file| file.rel_path != "meta.json") {
                let there = std::fs::read(block.join(&file.rel_path)).unwrap();
                let here = std::fs::read(self.data.join(meta.ulid.to_string()).join(&file.rel_path)).unwrap();
                assert!(there == here && there.len() as u64 == file.size_bytes, "{}", file.rel_path);
            }
        }
        visible.len()
    }
}

fn blocks_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| entry.file_name().to_string_lossy().parse::<BlockId>().is_ok()).map(|e| e.path()).collect()
}

fn labels() -> Labels {
    Labels::from_pairs([("cluster", "a")])
}

#[tokio::test]
async fn every_block_is_uploaded_once_oldest_first_and_the_bucket_is_asked_only_when_there_is_something() {
    let stage = stage().await;
    let local = stage.local();
    assert!(local.len() >= 3, "{}", local.len());
    let mut shipper = stage.shipper(|_| {});
    let shipped = shipper.pass(&labels()).await.unwrap();
    assert_eq!(shipped.uploaded, local.iter().map(|meta| meta.ulid).collect::<Vec<_>>());
    assert_eq!(shipped.backlog, 0);
    assert_eq!(stage.check_visible_blocks(), local.len());
    let requests = stage.server.requests();
    assert!(shipper.pass(&labels()).await.unwrap().uploaded.is_empty());
    // Another process that finds the state file asks nothing either; one that does not, lists once and reads the descriptions.
    assert!(stage.shipper(|_| {}).pass(&labels()).await.unwrap().uploaded.is_empty());
    assert_eq!(stage.server.requests(), requests);
    std::fs::remove_file(stage.data.join("thanos.shipper.json")).unwrap();
    assert!(stage.shipper(|_| {}).pass(&labels()).await.unwrap().uploaded.is_empty());
    assert_eq!(stage.server.requests(), requests + 1 + local.len() as u64);
    assert!(!stage.data.join("thanos/upload").read_dir().is_ok_and(|mut left| left.next().is_some()));
    let fetched = MetaFetcher::new(stage.bucket(), None, 4).fetch().await.unwrap();
    assert_eq!(fetched.blocks.len(), local.len());
}

#[tokio::test]
async fn an_upload_that_is_broken_off_anywhere_leaves_no_half_block_and_is_finished_later() {
    let stage = stage().await;
    let blocks = stage.local().len();
    // Counted over all writes: at each step of each upload the bucket goes away, and the process with it.
    for step in 0..blocks as u64 * 3 {
        let writes = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&writes);
        stage.server.inject(move |method, _| {
            (method == "PUT" && seen.fetch_add(1, Ordering::SeqCst) >= step).then_some(Fault::Refuse(403, None))
        });
        let before = stage.check_visible_blocks();
        let result = stage.shipper(|_| {}).pass(&labels()).await;
        let visible = stage.check_visible_blocks();
        assert!(visible >= before);
        assert_eq!(result.is_ok(), visible == blocks, "step {step}: {result:?}");
    }
    stage.server.heal();
    stage.shipper(|_| {}).pass(&labels()).await.unwrap();
    assert_eq!(stage.check_visible_blocks(), blocks);
}

#[tokio::test]
async fn a_block_that_cannot_be_read_stops_the_pass_or_is_left_out() {
    let stage = stage().await;
    let local = stage.local();
    let broken = stage.data.join(local[0].ulid.to_string());
    std::fs::write(broken.join("meta.json"), "{").unwrap();
    let error = stage.shipper(|_| {}).pass(&labels()).await.unwrap_err().to_string();
    assert!(error.contains(&local[0].ulid.to_string()), "{error}");
    assert_eq!(list(&stage.bucket()).await.unwrap().blocks.len(), 0);
    let shipped = stage.shipper(|config| config.skip_corrupted = true).pass(&labels()).await.unwrap();
    assert_eq!(shipped.uploaded.len(), local.len() - 1);
}

#[tokio::test]
async fn compacted_blocks_go_only_when_asked_for_and_never_twice() {
    let stage = stage().await;
    let local = stage.local();
    let change = |id: BlockId, change: &dyn Fn(&mut BlockMeta)| {
        let folder = stage.data.join(id.to_string());
        let mut meta = BlockMeta::read(&folder).unwrap();
        change(&mut meta);
        std::fs::write(folder.join("meta.json"), meta.to_json()).unwrap();
    };
    let (first, second) = (local[0].ulid, local[1].ulid);
    change(first, &|meta| meta.compaction.level = 2);
    let shipped = stage.shipper(|_| {}).pass(&labels()).await.unwrap();
    assert_eq!(shipped.uploaded.len(), local.len() - 1);
    let shipped = stage.shipper(|config| config.upload_compacted = true).pass(&labels()).await.unwrap();
    assert_eq!(shipped.uploaded, [first]);
    // One that overlaps what is there is refused by name.
    std::fs::remove_file(stage.data.join("thanos.shipper.json")).unwrap();
    farview_block::delete(&stage.bucket(), first).await.unwrap();
    change(first, &|meta| meta.max_time += 60_000);
    let refused = stage.shipper(|config| config.upload_compacted = true).pass(&labels()).await.unwrap_err().to_string();
    assert!(refused.contains(&second.to_string()), "{refused}");
}
