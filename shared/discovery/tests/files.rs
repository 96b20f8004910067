//! Files of targets, followed through every way of changing them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farview_discovery::{EndpointFile, FileSd};
use tokio::sync::watch;

const NEVER: Duration = Duration::from_secs(3600);

async fn until<T>(watch: &mut watch::Receiver<Arc<T>>, what: &str, condition: impl FnMut(&Arc<T>) -> bool) {
    let met = tokio::time::timeout(Duration::from_secs(20), watch.wait_for(condition)).await;
    assert!(met.is_ok(), "not met: {what}");
}

fn targets(sd: &FileSd) -> Vec<String> {
    sd.targets().iter().map(ToString::to_string).collect()
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn target_files_are_followed_and_a_bad_one_keeps_its_former_targets() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.json", r#"[{"targets": ["10.0.0.1:1", "dns+stores:1"], "labels": {"x": "y"}}]"#);
    write(folder.path(), "b.yaml", "- targets: ['10.0.0.2:1']\n");
    write(folder.path(), "c.txt", "not mine");
    let patterns = ["*.json", "*.yaml"].map(|name| folder.path().join(name).display().to_string());
    let sd = FileSd::watch(&patterns, NEVER).unwrap();
    let mut watch = sd.watch();
    assert_eq!(targets(&sd.get()), ["10.0.0.1:1", "10.0.0.2:1", "dns+stores:1"]);

    write(folder.path(), "b.yaml", "- targets: ['10.0.0.3:1']\n");
    until(&mut watch, "changed", |sd| targets(sd) == ["10.0.0.1:1", "10.0.0.3:1", "dns+stores:1"]).await;

    write(folder.path(), "b.yaml", "- targets: ['10.0.0.3']\n");
    until(&mut watch, "reported", |sd| sd.problems.values().any(|p| p.contains("port is missing"))).await;
    assert_eq!(targets(&sd.get()), ["10.0.0.1:1", "10.0.0.3:1", "dns+stores:1"]);

    std::fs::remove_file(folder.path().join("a.json")).unwrap();
    until(&mut watch, "removed", |sd| targets(sd) == ["10.0.0.3:1"]).await;
    write(folder.path(), "d.json", r#"[{"targets": ["10.0.0.4:1"]}]"#);
    until(&mut watch, "added", |sd| targets(sd) == ["10.0.0.3:1", "10.0.0.4:1"]).await;
}

/// A ConfigMap volume: files are links into `..data`, itself a link that is swapped by rename.
fn publish(folder: &Path, version: u32, text: &str) {
    let data = folder.join(format!("..{version}"));
    std::fs::create_dir(&data).unwrap();
    write(&data, "endpoints.yaml", text);
    std::os::unix::fs::symlink(&data, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if version == 1 {
        std::os::unix::fs::symlink("..data/endpoints.yaml", folder.join("endpoints.yaml")).unwrap();
    }
}

#[tokio::test]
async fn the_symlink_swap_of_a_config_map_is_seen_and_a_bad_version_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), 1, "endpoints: [{address: a:1}]");
    let file = EndpointFile::watch(folder.path().join("endpoints.yaml"), NEVER).unwrap();
    let mut watch = file.watch();
    publish(folder.path(), 2, "endpoints: [{address: a:1}, {address: b:1}]");
    until(&mut watch, "two endpoints", |file| file.endpoints.len() == 2).await;
    publish(folder.path(), 3, "endpoints: [{address: a}]");
    let mut status = file.watch_status();
    let reported = status.wait_for(|status| status.error.is_some());
    tokio::time::timeout(Duration::from_secs(20), reported).await.unwrap().unwrap();
    assert!(file.status().error.unwrap().contains("port is missing"));
    assert_eq!(file.get().endpoints.len(), 2);
    publish(folder.path(), 4, "endpoints: []");
    until(&mut watch, "no endpoints", |file| file.endpoints.is_empty()).await;
    assert!(file.status().error.is_none());
}

#[tokio::test]
async fn without_notices_the_poll_sees_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    write(elsewhere.path(), "real.yaml", "endpoints: []");
    std::os::unix::fs::symlink(elsewhere.path().join("real.yaml"), folder.path().join("endpoints.yaml")).unwrap();
    let file = EndpointFile::watch(folder.path().join("endpoints.yaml"), Duration::from_millis(50)).unwrap();
    write(elsewhere.path(), "real.yaml", "endpoints: [{address: a:1}]");
    until(&mut file.watch(), "one endpoint", |file| file.endpoints.len() == 1).await;
}

#[tokio::test]
async fn a_missing_endpoint_file_is_an_error_at_start() {
    let error = EndpointFile::watch("/nonexistent/endpoints.yaml".into(), NEVER).err().unwrap();
    assert_eq!(error.to_string(), "read /nonexistent/endpoints.yaml");
}
