//! Buckets on a real S3-compatible server and in a folder: the same contract.

use bytes::Bytes;
use farview_objstore::{Bucket, BucketConfig, BucketError, BucketMetrics, Purpose};
use farview_testkit::s3::{Fault, S3Server};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn open(yaml: &str) -> Bucket {
    let metrics = BucketMetrics::register(&mut Default::default());
    BucketConfig::parse(yaml, "test").unwrap().open(metrics).unwrap()
}

async fn server(folder: &std::path::Path) -> S3Server {
    std::fs::create_dir(folder.join("blocks")).unwrap();
    S3Server::start(folder).await.unwrap()
}

async fn contract(bucket: &Bucket, folder: &std::path::Path) {
    assert_eq!(bucket.list("").await.unwrap(), []);
    bucket.put("b/meta.json", Bytes::from_static(b"{}")).await.unwrap();
    let content: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
    let file = folder.join("source");
    std::fs::write(&file, &content).unwrap();
    assert_eq!(bucket.upload("a/chunks/000001", &file).await.unwrap(), 70_000);
    let listed: Vec<_> = bucket.list("").await.unwrap().into_iter().map(|o| (o.key, o.size)).collect();
    assert_eq!(listed, [("a/chunks/000001".to_owned(), 70_000), ("b/meta.json".to_owned(), 2)]);
    assert_eq!(bucket.list("b").await.unwrap().len(), 1);
    assert_eq!(bucket.size("b/meta.json").await.unwrap(), 2);
    assert_eq!(bucket.get("a/chunks/000001", 1 << 20).await.unwrap(), content);
    assert_eq!(bucket.get_range("a/chunks/000001", 69_000..70_000).await.unwrap(), content[69_000..]);
    assert_eq!(bucket.get_range("a/chunks/000001", 5..5).await.unwrap(), "");
    let short = bucket.get_range("a/chunks/000001", 69_000..70_001).await.unwrap_err();
    assert!(matches!(short, BucketError::Length { wanted: 1_001, got: 1_000, .. }), "{short}");
    assert!(matches!(bucket.get("a/chunks/000001", 9).await, Err(BucketError::TooLarge { size: 70_000, .. })));
    assert!(bucket.get("nowhere", 9).await.unwrap_err().is_not_found());
    assert!(bucket.size("nowhere").await.unwrap_err().is_not_found());
    bucket.delete("nowhere").await.unwrap();
    bucket.delete("a/chunks/000001").await.unwrap();
    bucket.delete("b/meta.json").await.unwrap();
    assert_eq!(bucket.list("").await.unwrap(), []);
    let (requests, bytes) = bucket.spent(Purpose::Sync);
    assert!(requests > 10 && bytes > 71_000);
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let yaml =
        format!("type: FILESYSTEM\nconfig: {{directory: {}}}\nprefix: deep/er\n", folder.path().join("b").display());
    contract(&open(&yaml), folder.path()).await;
}

#[tokio::test]
async fn s3_keeps_the_contract_also_under_a_prefix_and_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    contract(&open(&server.yaml("blocks")), folder.path()).await;
    contract(&open(&format!("{}prefix: tenants/a\n", server.yaml("blocks"))), folder.path()).await;
    let large: Vec<u8> = (0..11_000_000u32).map(|i| (i % 253) as u8).collect();
    std::fs::write(folder.path().join("large"), &large).unwrap();
    let bucket = open(&server.yaml("blocks").replace("  insecure", "  part_size: 5242880\n  insecure"));
    bucket.upload("large", &folder.path().join("large")).await.unwrap();
    assert_eq!(bucket.get("large", 1 << 30).await.unwrap(), large);
}

#[tokio::test]
async fn short_bodies_are_noticed_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let bucket = open(&server.yaml("blocks"));
    bucket.put("x", Bytes::from(vec![7; 1_000])).await.unwrap();
    let count = AtomicU64::new(0);
    server.inject(move |method, _| {
        (method == "GET" && count.fetch_add(1, Ordering::Relaxed) < 2).then_some(Fault::Short(1))
    });
    assert_eq!(bucket.get_range("x", 0..1_000).await.unwrap().len(), 1_000);
    server.inject(|method, _| (method == "GET").then_some(Fault::Short(1)));
    assert!(bucket.get_range("x", 0..1_000).await.is_err());
}

#[tokio::test]
async fn a_server_that_asks_for_patience_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let bucket = open(&server.yaml("blocks"));
    bucket.put("x", Bytes::from_static(b"content")).await.unwrap();
    let count = AtomicU64::new(0);
    server.inject(move |method, _| {
        (method == "GET" && count.fetch_add(1, Ordering::Relaxed) < 1).then_some(Fault::Refuse(503, Some(1)))
    });
    let start = Instant::now();
    assert_eq!(bucket.get("x", 100).await.unwrap(), "content");
    assert!(start.elapsed() >= Duration::from_secs(1));
}
