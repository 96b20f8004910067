//! The relabelling of every scrape job that the components ship, done by a real Prometheus.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::kubernetes::{Manifests, repository};
use farview_testkit::prometheus::{Prometheus, Version};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A kept target: the job that keeps it, its row in the table, the labels that it gets.
type Kept = (String, usize, BTreeMap<String, String>);

/// Returns the scrape jobs of a cluster with every mesh.
fn jobs() -> Vec<Map<String, Value>> {
    let dir = repository().join("target/kustomize-scrape-jobs");
    std::fs::create_dir_all(&dir).unwrap();
    let components =
        ["mesh-istio", "mesh-linkerd", "mesh-legacy"].map(|name| format!("../../kustomize/components/{name}"));
    let overlay = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../kustomize/base/cluster, \
         cluster.yaml]\ncomponents: [{}]\n",
        components.join(", ")
    );
    std::fs::write(dir.join("kustomization.yaml"), overlay).unwrap();
    std::fs::copy(repository().join("kustomize/overlays/east/cluster.yaml"), dir.join("cluster.yaml")).unwrap();
    let files = Manifests::render(&dir).unwrap().config_map("prometheus-scrape");
    let configs = files.values().map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    configs.flat_map(|file| file["scrape_configs"].as_array().cloned().unwrap()).map(object).collect()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn texts(labels: Value) -> BTreeMap<String, String> {
    object(labels).into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
}

/// Returns the table's targets as `file_sd_configs` reads them, and what is to be kept of them.
fn table() -> (Value, BTreeSet<Kept>) {
    let text = std::fs::read_to_string(repository().join("integration/kubernetes/scrape-jobs.yaml")).unwrap();
    let table: Value = serde_saphyr::from_str(&text).unwrap();
    let (mut targets, mut kept) = (Vec::new(), BTreeSet::new());
    for (row, target) in table["targets"].as_array().unwrap().iter().enumerate() {
        let meta = object(target["meta"].clone());
        let labels: Map<String, Value> =
            meta.into_iter().map(|(name, value)| (format!("__meta_kubernetes_{name}"), value)).collect();
        targets.push(json!({"targets": [format!("row-{row}.invalid:80")], "labels": labels}));
        for (job, labels) in object(target["kept"].clone()) {
            let mut labels = texts(labels);
            labels.entry("job".to_owned()).or_insert_with(|| job.clone());
            kept.insert((job, row, labels));
        }
    }
    (targets.into(), kept)
}

#[tokio::test]
async fn every_job_keeps_its_own_targets_only_and_labels_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("targets.json");
    let (targets, wanted) = table();
    std::fs::write(&file, targets.to_string()).unwrap();
    let mut jobs = jobs();
    let mut names = BTreeSet::new();
    for job in &mut jobs {
        names.insert(job["job_name"].as_str().unwrap().to_owned());
        job.remove("kubernetes_sd_configs").unwrap();
        job.insert("file_sd_configs".to_owned(), json!([{"files": [file]}]));
        // The targets do not exist and need not be asked.
        job.insert("scrape_interval".to_owned(), "1h".into());
    }
    let tested: BTreeSet<String> = wanted.iter().map(|(job, _, _)| job.clone()).collect();
    assert_eq!(tested, names, "the table has a row for every job");

    // JSON is YAML.
    let config = json!({"scrape_configs": jobs}).to_string();
    let prometheus = Prometheus::builder().version(Version::Three).config(&config).start().await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = kept(&prometheus.api("/api/v1/targets?state=active").await.unwrap());
        if found == wanted {
            return;
        }
        let (lost, unwanted) = (wanted.difference(&found), found.difference(&wanted));
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "lost: {:#?}\nunwanted: {:#?}", lost.collect::<Vec<_>>(), unwanted.collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns what Prometheus keeps.
fn kept(answer: &Value) -> BTreeSet<Kept> {
    let targets = answer["activeTargets"].as_array().into_iter().flatten();
    targets
        .map(|target| {
            let mut labels = texts(target["labels"].clone());
            let instance = labels.remove("instance").unwrap();
            let row = instance.strip_prefix("row-").and_then(|rest| rest.strip_suffix(".invalid:80"));
            (target["scrapePool"].as_str().unwrap().to_owned(), row.unwrap().parse().unwrap(), labels)
        })
        .collect()
}
