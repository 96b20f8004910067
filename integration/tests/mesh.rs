//! A service mesh in two clusters, watched by what the overlays with the mesh components and mTLS describe.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::kubernetes::dashboards::{Dashboard, as_shown};
use farview_integration::kubernetes::mesh::Service;
use farview_integration::kubernetes::pods::{Clusters, Surroundings};
use farview_integration::kubernetes::{add_component, copy_overlays};
use farview_integration::process::{Answer, Farview};
use farview_testkit::tls::{Authority, Identity};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Every how many requests one fails.
const FAILS: [(&str, u64); 2] = [("east", 4), ("west", 10)];

/// A cluster's service under load, until it is told to stop.
struct Load {
    services: BTreeMap<&'static str, Arc<Service>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(services: &BTreeMap<&'static str, Arc<Service>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = FAILS.map(|(cluster, every)| {
            let (service, stop) = (Arc::clone(&services[cluster]), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    pace.tick().await;
                    sent += 1;
                    service.request(sent % every == 0).await.unwrap();
                }
            })
        });
        Self { services: services.clone(), stop, clients: clients.into() }
    }

    /// Ends it; returns the requests that were answered, by cluster and class of status.
    async fn end(self) -> BTreeMap<(String, String), u64> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let by_class = |(cluster, service): (&&str, &Arc<Service>)| {
            let (succeeded, failed) = service.answered();
            [("2", succeeded), ("5", failed)].map(|(class, count)| (((*cluster).to_owned(), class.to_owned()), count))
        };
        self.services.iter().flat_map(by_class).collect()
    }
}

fn numbers(answer: &Answer, labels: [&str; 2]) -> BTreeMap<(String, String), f64> {
    let text = |metric: &serde_json::Value, label: &str| metric[label].as_str().unwrap_or_default().to_owned();
    let vector = answer.vector().into_iter();
    vector
        .map(|(metric, value)| ((text(&metric, labels[0]), text(&metric, labels[1])), value.parse().unwrap()))
        .collect()
}

/// Waits until a whole answer is as wanted.
async fn until(global: &Farview, query: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    global.until(query, &[], what, |answer| answer.is_complete() && wanted(answer)).await.unwrap()
}

/// Every panel and every variable of the dashboards shows something.
async fn dashboards_show_something(global: &Farview) {
    let all = Dashboard::all("mesh-").unwrap();
    assert_eq!(all.len(), 4);
    for Dashboard { uid, queries, variables } in all {
        for query in queries {
            let filled = |answer: &Answer| {
                let numbers = answer.vector().into_iter().map(|(_, value)| value.parse::<f64>().unwrap());
                numbers.clone().count() > 0 && numbers.clone().all(|number| !number.is_nan())
            };
            until(global, &as_shown(&query), &format!("{uid}: {query}"), filled).await;
        }
        assert!(!variables.is_empty(), "{uid}");
        for (selector, label) in variables {
            let matching = [("match[]", as_shown(&selector))];
            let matching = matching.each_ref().map(|(name, value)| (*name, value.as_str()));
            let answer = global.get(&format!("/api/v1/label/{label}/values"), &matching).await.unwrap();
            assert!(answer.json["data"].as_array().is_some_and(|data| !data.is_empty()), "{uid}: {answer:?}");
        }
    }
}

/// The Secret of the component `mtls`.
const SECRET: &str = "farview-tls";

fn tls(identity: &Identity, authorities: &str) -> BTreeMap<String, String> {
    let files = [("tls.crt", identity.cert.as_str()), ("tls.key", &identity.key), ("ca.crt", authorities)];
    files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

/// Puts a new authority in the place of the old one, as `docs/kubernetes.md` says.
async fn rotate(clusters: &mut Clusters, old: &Authority, identity: &Identity) {
    let new = Authority::new().unwrap();
    let next = new.issue("farview").unwrap();
    let both = old.pem() + &new.pem();
    for (step, files) in [(1, tls(identity, &both)), (2, tls(&next, &both)), (3, tls(&next, &new.pem()))] {
        clusters.replace_secret(SECRET, &files).unwrap();
        for cluster in &clusters.running {
            let ours = cluster.containers.iter().filter(|(name, _)| !name.ends_with("/prometheus"));
            for (name, container) in ours.filter(|(_, container)| container.pid().is_some()) {
                reloaded(container, step).await.unwrap_or_else(|error| panic!("{name}, step {step}: {error}"));
            }
        }
    }
}

/// Waits until everything that reads certificates has taken up so many changes, and can use what is there.
async fn reloaded(container: &Farview, changes: u32) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let text = reqwest::get(format!("{}/metrics", container.url())).await?.text().await?;
        let values = |name: &str| -> Vec<f64> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.split_once("} "));
            lines.map(|(_, value)| value.parse().unwrap()).collect()
        };
        let expiry = values("farview_tls_certificate_expiry_timestamp_seconds");
        let reloads = values("farview_tls_reloads_total");
        let current = values("farview_tls_last_reload_successful");
        let done = reloads.iter().all(|count| *count >= f64::from(changes)) && current.iter().all(|ok| *ok == 1.0);
        if done && !reloads.is_empty() && !expiry.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "still {reloads:?} changes, of use: {current:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_signals_of_a_mesh_are_seen_over_all_clusters() {
    let dir = tempfile::tempdir().unwrap();
    let overlays = copy_overlays(dir.path()).unwrap();
    let authority = Authority::new().unwrap();
    let identity = authority.issue("farview").unwrap();
    let secrets = BTreeMap::from([(SECRET.to_owned(), tls(&identity, &authority.pem()))]);
    let mut around = Surroundings { secrets, ..Surroundings::default() };
    let mut services = BTreeMap::new();
    for (cluster, _) in FAILS {
        for component in ["mesh-istio", "mesh-linkerd"] {
            add_component(&overlays.join(cluster), component).unwrap();
        }
        let service = Service::start(&dir.path().join(format!("{cluster}-mesh"))).await.unwrap();
        around.targets.insert(cluster.to_owned(), service.targets());
        services.insert(cluster, Arc::new(service));
    }
    let folders = ["east", "west", "global"].map(|name| overlays.join(name));
    for folder in &folders {
        add_component(folder, "mtls").unwrap();
    }
    let binary = farview_integration::binary().unwrap();
    let mut clusters = Clusters::start(&binary, dir.path(), &folders, around).await.unwrap();
    clusters.ready().await.unwrap();
    let load = Load::on(&services);
    let global = clusters.container("global", "query-0/query").unwrap();

    let scraped = "count by (cluster, job) (up{job=~'envoy-stats|istiod|linkerd-proxy'} == 1)";
    until(global, scraped, "the mesh is scraped", |answer| answer.vector().len() == 6).await;
    dashboards_show_something(global).await;

    // Traffic, errors, latency: as sent and as seen by the clients.
    let rates = "sum by (cluster, mesh) (service:mesh_requests:rate5m)";
    until(global, rates, "there is traffic", |answer| {
        let rates = numbers(answer, ["cluster", "mesh"]);
        rates.len() == 4 && rates.values().all(|rate| *rate > 0.0)
    })
    .await;
    until(global, "slo:sli_error:ratio_rate5m", "as many fail as are made to", |answer| {
        let ratios = numbers(answer, ["cluster", "mesh"]);
        let near = |(cluster, every): (&str, u64)| {
            ["istio", "linkerd"].iter().all(|mesh| {
                let ratio = ratios.get(&(cluster.to_owned(), (*mesh).to_owned()));
                ratio.is_some_and(|ratio| (ratio * every as f64 - 1.0).abs() < 0.1)
            })
        };
        FAILS.into_iter().all(near)
    })
    .await;
    until(global, "service:mesh_latency_p99_seconds:rate5m", "latency is what was seen", |answer| {
        let seconds = numbers(answer, ["cluster", "mesh"]);
        for ((cluster, mesh), seconds) in &seconds {
            let most = services[cluster.as_str()].slowest();
            assert!(*seconds > 0.0 && *seconds <= most, "{cluster}, {mesh}: {seconds} s, none took {most} s");
        }
        seconds.len() == 4
    })
    .await;
    let firing = "ALERTS{alertname='MeshServiceBurnsBudgetFast', alertstate='firing'}";
    until(global, firing, "the budgets burn", |answer| numbers(answer, ["cluster", "mesh"]).len() == 4).await;

    // One of a pair is lost under load; what Envoy has counted is what was sent, exactly, by the other one.
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().kill().await.unwrap();
    }
    let global = clusters.container("global", "query-0/query").unwrap();
    let counts =
        "sum by (cluster, envoy_response_code_class) (envoy_cluster_upstream_rq_xx{envoy_cluster_name='checkout'})";
    let flagged =
        |answer: &Answer| [answer.infos(), answer.warnings()].concat().iter().any(|t| t.contains("prometheus-0"));
    global.until(counts, &[], "the lost replica is said", flagged).await.unwrap();
    // Nor does who wants all or nothing get an error: the other one has all.
    let strict = global.query(counts, &[("partial_response", "false")]).await.unwrap();
    assert!(strict.status == 200 && strict.warnings().is_empty() && !strict.infos().is_empty(), "{strict:?}");
    let sent: BTreeMap<_, _> = load.end().await.into_iter().map(|(key, count)| (key, count as f64)).collect();
    assert!(sent.values().all(|count| *count > 10.0), "{sent:?}");
    let exact = |answer: &Answer| numbers(answer, ["cluster", "envoy_response_code_class"]) == sent;
    global.until(counts, &[], &format!("{sent:?}"), exact).await.unwrap();
    // What comes back has to shake hands with all others by the new certificates.
    rotate(&mut clusters, &authority, &identity).await;
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().restart().unwrap();
    }
    let global = clusters.container("global", "query-0/query").unwrap();
    until(global, counts, "the pair is whole again", exact).await;
    println!("requests by cluster and class of status: {sent:?}");
}
