//! `dnsd` as a process of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farview_discovery::{Answer, HickoryConfig, HickoryLookup, Lookup as _, Unavailable};

struct Dnsd(Child);

impl Drop for Dnsd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(records: &Path) -> (Dnsd, SocketAddr) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dnsd"))
        .args(["--listen", "127.0.0.1:0", "--records"])
        .arg(records)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Dnsd(child), line.trim().parse().unwrap())
}

#[tokio::test]
async fn records_and_faults_follow_the_file_and_a_bad_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records.json");
    std::fs::write(&records, r#"{"ttl": 7, "records": {"stores.test": {"a": ["127.0.0.1"]}}}"#).unwrap();
    let (_dnsd, addr) = start(&records);
    let lookup = HickoryLookup::new(HickoryConfig { name_servers: vec![addr], ..HickoryConfig::default() }).unwrap();
    let until = async |wanted: &str, condition: fn(&Answer<Vec<std::net::IpAddr>>) -> bool| {
        let met = async {
            while !condition(&lookup.addresses("stores.test.").await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), met).await.is_ok(), "{wanted}");
    };
    until(
        "one record",
        |a| matches!(a, Answer::Found { records, ttl, .. } if records.len() == 1 && ttl.as_secs() == 7),
    )
    .await;
    std::fs::write(&records, r#"{"records": {"stores.test": {"a": ["127.0.0.1", "127.0.0.2"]}}}"#).unwrap();
    until("two records", |a| matches!(a, Answer::Found { records, .. } if records.len() == 2)).await;
    std::fs::write(&records, r#"{"records": {"stores.test": {"a": ["127.0.0"#).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    until("still two records", |a| matches!(a, Answer::Found { records, .. } if records.len() == 2)).await;
    std::fs::write(&records, r#"{"records": {"stores.test": {"a": ["127.0.0.1"], "fault": "servfail"}}}"#).unwrap();
    until("SERVFAIL", |a| *a == Answer::Unavailable(Unavailable::ServFail)).await;
    std::fs::write(&records, r#"{"records": {}}"#).unwrap();
    until("gone", |a| *a == Answer::Absent).await;
}
