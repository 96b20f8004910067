//! What rules, alerts and dashboards read is there: our own, and the alerts that are published for Thanos.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::kubernetes::dashboards::{Dashboard, as_shown};
use farview_integration::kubernetes::repository;
use farview_integration::world::{Plan, World};
use farview_model::MatchOp;
use farview_promql::parse;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The expressions of the alerts published for Thanos' sidecar, store and query, as far as they read Thanos' metrics: the service, and
/// the series without which an alert would never fire.
const PUBLISHED: &[(&str, &str)] = &[
    ("query", r#"http_requests_total{handler="query", code="200"}"#),
    ("query", r#"http_requests_total{handler="query_range", code="200"}"#),
    ("query", r#"http_request_duration_seconds_bucket{handler="query"}"#),
    ("query", r#"http_request_duration_seconds_bucket{handler="query_range"}"#),
    ("query", r#"http_request_duration_seconds_count{handler="query"}"#),
    ("query", r#"grpc_server_handled_total{grpc_code="OK"}"#),
    ("query", "grpc_server_started_total"),
    ("query", r#"grpc_client_handled_total{grpc_code="OK"}"#),
    ("query", "grpc_client_started_total"),
    ("query", "thanos_query_store_apis_dns_failures_total"),
    ("query", "thanos_query_store_apis_dns_lookups_total"),
    ("query", "thanos_query_endpoints_dns_failures_total"),
    ("query", "thanos_query_endpoints_dns_lookups_total"),
    ("query", "thanos_query_concurrent_gate_queries_max"),
    ("query", "thanos_query_concurrent_gate_queries_in_flight"),
    ("query", r#"thanos_store_nodes_grpc_connections{store_type="sidecar"}"#),
    ("sidecar", "thanos_sidecar_prometheus_up"),
    ("sidecar", "thanos_sidecar_last_heartbeat_success_time_seconds"),
    ("sidecar", r#"thanos_objstore_bucket_operation_failures_total{operation="upload"}"#),
    ("sidecar", "thanos_shipper_uploads_total"),
    ("sidecar", "thanos_objstore_bucket_last_successful_upload_time"),
    ("store", r#"grpc_server_handled_total{grpc_method="Series"}"#),
    ("store", "grpc_server_started_total"),
    ("store", "thanos_bucket_store_series_gate_duration_seconds_bucket"),
    ("store", "thanos_bucket_store_series_gate_duration_seconds_count"),
    ("store", "thanos_objstore_bucket_operation_failures_total"),
    ("store", "thanos_objstore_bucket_operations_total"),
    ("store", "thanos_objstore_bucket_operation_duration_seconds_bucket"),
    ("store", "thanos_objstore_bucket_operation_duration_seconds_count"),
    ("store", "thanos_bucket_store_blocks_loaded"),
    ("store", "thanos_blocks_meta_synced"),
];

/// What Istio's control plane exports; no part of it runs here.
const OF_ISTIOD: &[&str] =
    &["pilot_xds", "pilot_xds_pushes", "pilot_proxy_convergence_time_bucket", "pilot_total_xds_rejects"];

/// What is exported where TLS is on, as the test of the mesh sees.
const OF_TLS: &[&str] = &["farview_tls_certificate_expiry_timestamp_seconds", "farview_tls_last_reload_successful"];

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(end)).collect();
    files.sort();
    files
}

fn component(name: &str) -> PathBuf {
    repository().join("kustomize/components").join(name)
}

/// The metrics that a query reads.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let text = as_shown(query);
    let expr = parse::parse(&text, &parse::Options::default()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let name = |matcher: &&farview_model::Matcher| matcher.name() == "__name__" && matcher.op() == MatchOp::Equal;
    expr.selectors()
        .into_iter()
        .map(|selector| selector.matchers.iter().find(name).map(|matcher| matcher.value().to_owned()).unwrap())
        .collect()
}

/// The expressions of rules in a file, and the names that they record.
fn rules(path: &Path) -> (Vec<String>, Vec<String>) {
    let yaml: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let rules: Vec<Value> = yaml["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
        .collect();
    let texts = |field: &str| rules.iter().filter_map(|rule| rule[field].as_str().map(str::to_owned)).collect();
    (texts("expr"), texts("record"))
}

async fn scrape(url: &str) -> String {
    reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap()
}

fn has(text: &str, series: &str) -> bool {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels: Vec<&str> = labels.trim_end_matches('}').split(", ").filter(|label| !label.is_empty()).collect();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
    text.lines().filter(of_name).any(|line| labels.iter().all(|label| line.contains(label)))
}

/// `docs/metrics.md` names what the services export. `UPDATE_DOCS=1` writes it anew (`./justw docs`).
fn page_of_metrics(services: &BTreeMap<&str, String>) {
    let mut page = "# Metrics\n\nWhat each service exports at `/metrics`, as seen in a world with traffic; do not edit. Those of Thanos have \
                    Thanos' names,\nso that its alerts and dashboards work.\n"
        .to_owned();
    let mut rows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (service, text) in services {
        let about = |kind: &str| -> BTreeMap<String, String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("# {kind} "))?.split_once(' '));
            lines.map(|(name, rest)| (name.to_owned(), rest.trim_end_matches('.').to_owned())).collect()
        };
        let (types, help) = (about("TYPE"), about("HELP"));
        let row = |(name, kind): (&String, &String)| {
            let help = help.get(name).map_or("", String::as_str).replace('|', "\\|");
            format!("| `{name}` | {kind} | {help} |\n")
        };
        rows.insert(service, types.iter().map(row).collect());
        page += &format!("\n## farview {service}\n\n| metric | type | |\n|---|---|---|\n");
        page.extend(rows[service].iter().map(String::as_str));
    }
    let path = repository().join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (service, rows) in rows {
        let start = committed.find(&format!("## farview {service}\n")).unwrap_or(committed.len());
        for row in rows {
            assert!(committed[start..].contains(&row), "docs/metrics.md lacks, under farview {service}: {row}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_alerts_and_dashboards_read_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { history_days: 4, ..Plan::east_and_west() };
    let world = World::start(&farview_integration::binary().unwrap(), dir.path(), plan).await.unwrap();
    farview_integration::proof::shipped(&world).await.unwrap();
    let archive = world.archive.as_ref().unwrap();
    let long_ago = (archive.archived.mint / 1_000 + 86_400).to_string();
    let answer = world.global.query("count(mesh_requests_total)", &[("time", &long_ago)]).await.unwrap();
    assert!(answer.is_complete(), "{answer:?}");
    let range = [("query", "up"), ("start", long_ago.as_str()), ("end", long_ago.as_str()), ("step", "60")];
    for query in [&world.global, &world.clusters[0].query] {
        query.get("/api/v1/query_range", &range).await.unwrap();
        query.query("up", &[]).await.unwrap();
        // A limit is hit.
        assert_eq!(query.query(&"(".repeat(1_000), &[]).await.unwrap().status, 400);
    }
    let services = BTreeMap::from([
        ("query", scrape(&world.global.url()).await + &scrape(&world.clusters[0].query.url()).await),
        ("sidecar", scrape(&world.clusters[0].sidecars[0].url()).await),
        ("store", scrape(&archive.stores[0].url()).await + &scrape(&archive.stores[1].url()).await),
    ]);
    for (service, series) in PUBLISHED {
        assert!(has(&services[service], series), "{service} does not export {series}");
    }
    page_of_metrics(&services);
    let all: String = services.values().map(String::as_str).collect();
    let mut read = BTreeSet::new();
    for Dashboard { uid, queries, .. } in Dashboard::all("farview-").unwrap() {
        assert!(queries.len() >= 6, "{uid}");
        read.extend(queries.iter().flat_map(|query| metrics_of(query)));
    }
    for file in files(&component("alerts"), ".yaml").iter().filter(|file| !file.ends_with("kustomization.yaml")) {
        read.extend(rules(file).0.iter().flat_map(|query| metrics_of(query)));
    }
    let seen = |name: &str| name == "up" || OF_TLS.contains(&name) || has(&all, name);
    let missing: Vec<_> = read.iter().filter(|name| !seen(name)).collect();
    assert!(read.len() > 40 && missing.is_empty(), "of {} these are exported by nobody: {missing:?}", read.len());
}

#[test]
fn the_dashboards_of_the_mesh_read_what_is_recorded_for_them() {
    let mut known: BTreeSet<String> = OF_ISTIOD.iter().map(|name| (*name).to_owned()).collect();
    known.insert("up".to_owned());
    for name in ["mesh", "mesh-istio", "mesh-linkerd", "mesh-legacy"] {
        let files = files(&component(name), ".yaml").into_iter();
        let with_rules = files.filter(|file| std::fs::read_to_string(file).unwrap().contains("\ngroups:"));
        known.extend(with_rules.flat_map(|file| rules(&file).1));
    }
    let all = Dashboard::all("mesh-").unwrap();
    assert_eq!(all.len(), 4);
    for Dashboard { uid, queries, .. } in all {
        let read: BTreeSet<String> = queries.iter().flat_map(|query| metrics_of(query)).collect();
        let missing: Vec<_> = read.difference(&known).collect();
        assert!(queries.len() >= 6 && missing.is_empty(), "{uid}: nobody records {missing:?}");
    }
}
