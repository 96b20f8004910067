//! The kustomize overlays: rendered, validated strictly, and run as processes on this machine.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::history::{self, Metric, SERVICES};
use farview_integration::kubernetes::pods::{Clusters, Surroundings};
use farview_integration::kubernetes::{Manifests, add_component, copy_overlays, repository, tool};
use farview_integration::process::Answer;
use farview_model::TimeRange;
use farview_objstore::{BucketConfig, BucketMetrics};
use farview_testkit::prometheus::Version;
use farview_testkit::s3::S3Server;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// A day, ms.
const DAY: i64 = 86_400_000;

fn overlays() -> Vec<PathBuf> {
    let folders = files(&repository().join("kustomize/overlays"));
    folders.into_iter().filter(|path| path.join("kustomization.yaml").is_file()).collect()
}

fn examples() -> Vec<PathBuf> {
    files(&repository().join("kustomize/examples"))
}

/// Returns every component alone on top of a cluster; components that need another one bring it along.
fn with_each_component(dir: &Path) -> Vec<PathBuf> {
    let mut made = Vec::new();
    for entry in std::fs::read_dir(repository().join("kustomize/components")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let needs = match name.as_str() {
            "external-dns" => "components: [../../../kustomize/components/loadbalancer, ",
            _ => "components: [",
        };
        let overlay = dir.join(&name);
        std::fs::create_dir_all(&overlay).unwrap();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: monitoring\nresources: \
             [../../../kustomize/base/cluster, cluster.yaml]\n{needs}\
             ../../../kustomize/components/{name}]\n"
        );
        std::fs::write(overlay.join("kustomization.yaml"), text).unwrap();
        let cluster = repository().join("kustomize/overlays/east/cluster.yaml");
        std::fs::copy(cluster, overlay.join("cluster.yaml")).unwrap();
        made.push(overlay);
    }
    made
}

/// Runs a program, which must succeed; returns what it says.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// Returns a Python program of the validator's package.
fn python(program: &str) -> Command {
    let program = tool(&format!("kubernetes-validate/bin/{program}")).unwrap();
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", program.ancestors().nth(2).unwrap()).args(["-W", "ignore"]).arg(&program);
    command
}

/// Has every object checked; what the validator does not know must be a kind with a schema in `integration/kubernetes/`.
fn validate(manifests: &Manifests, dir: &Path, name: &str) {
    let file = dir.join(format!("{name}.yaml"));
    std::fs::write(&file, &manifests.yaml).unwrap();
    let said = run(python("kubernetes-validate").args(["-k", "1.34", "--strict"]).arg(&file));
    let mut unknown = 0;
    for line in said.lines().filter(|line| !line.contains(" passed for resource ")) {
        assert!(line.starts_with("WARN") && line.contains("Couldn't find schema"), "{name}: {line}");
        unknown += 1;
    }
    let own = manifests.objects.iter().filter(|object| custom(object, dir)).count();
    assert_eq!(unknown, own, "{name}: kinds without a schema:\n{said}");
    assert_eq!(said.lines().count(), manifests.objects.len(), "{name}: every object is checked once:\n{said}");
}

/// Checks an object of a kind that is not Kubernetes' own; false if it is one of Kubernetes' own.
fn custom(object: &serde_json::Value, dir: &Path) -> bool {
    let kind = object["kind"].as_str().unwrap();
    let schema = repository().join(format!("integration/kubernetes/{kind}.schema.json"));
    if !schema.is_file() {
        return false;
    }
    let file = dir.join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    run(python("jsonschema").arg("-i").args([&file, &schema]));
    true
}

/// A folder below `target/`, so that kustomize reaches the bases by relative paths.
fn scratch(name: &str) -> PathBuf {
    let dir = repository().join("target").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn every_overlay_and_every_component_renders_valid_objects_that_our_flags_and_promtool_accept() {
    let dir = scratch("kustomize-check");
    let mut checked = 0;
    for overlay in overlays().into_iter().chain(examples()).chain(with_each_component(&dir)) {
        let name = overlay.file_name().unwrap().to_str().unwrap().to_owned();
        let manifests = Manifests::render(&overlay).unwrap();
        validate(&manifests, &dir, &name);
        arguments_parse(&manifests);
        restricted(&manifests);
        promtool_accepts(&manifests, &dir.join(format!("{name}-prometheus")));
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn every_alert_fires_on_its_fault_and_is_silent_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let mut alerts = Vec::new();
    for component in files(&repository().join("kustomize/components")) {
        for file in files(&component).into_iter().filter(|file| !file.ends_with("kustomization.yaml")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let names = text.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
            alerts.extend(names.map(str::to_owned));
            std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    let mut tests = String::new();
    for file in files(&repository().join("integration/kubernetes/rules")) {
        tests += &std::fs::read_to_string(&file).unwrap();
        std::fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
        let promtool = Version::Three.promtool().unwrap();
        run(Command::new(promtool).args(["test", "rules"]).arg(file.file_name().unwrap()).current_dir(dir.path()));
    }
    assert!(alerts.len() > 20, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("{{alertname=\"{alert}\"")), "no test sees {alert} fire");
    }
}

/// Returns what a folder holds, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn an_overlay_of_a_cluster_is_short() {
    for overlay in overlays() {
        let files =
            std::fs::read_dir(&overlay).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let lines: usize = files.map(|text| text.lines().count()).sum();
        assert!(lines <= 30, "{}: {lines} lines", overlay.display());
    }
}

/// The arguments of every container with our image are flags that the service takes.
fn arguments_parse(manifests: &Manifests) {
    for pod in manifests.pods() {
        for container in
            pod.containers().iter().filter(|container| !container["image"].to_string().contains("prometheus"))
        {
            run(Command::new(farview_integration::binary().unwrap())
                .args(pod.arguments(container, manifests))
                .arg("--help"));
        }
    }
}

/// Every pod passes Kubernetes' standard `restricted`, is probed, says what it needs, is spread, and may be drained one at a time.
fn restricted(manifests: &Manifests) {
    for pod in manifests.pods() {
        let (name, spec) = (&pod.name, &pod.spec);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(spec[field].is_null(), "{name}: {field}");
        }
        assert!(spec["topologySpreadConstraints"].is_array(), "{name}");
        let budgets = manifests.kind("PodDisruptionBudget");
        let of_pod = |budget: &&serde_json::Value| {
            let labels = budget["spec"]["selector"]["matchLabels"].as_object().unwrap();
            labels.iter().all(|(label, value)| pod.labels.get(label).map(String::as_str) == value.as_str())
        };
        assert_eq!(budgets.filter(of_pod).count(), 1, "{name}: a budget of disruptions");
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            assert!(volume["hostPath"].is_null(), "{name}: {volume}");
        }
        for container in pod.containers() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{name}");
            assert!(security["privileged"].is_null(), "{name}");
            for probe in ["livenessProbe", "readinessProbe"] {
                assert!(container[probe]["httpGet"]["port"].is_string(), "{name}: {probe}");
            }
            for (kind, resource) in [("requests", "cpu"), ("requests", "memory"), ("limits", "memory")] {
                assert!(container["resources"][kind][resource].is_string(), "{name}: {kind} of {resource}");
            }
        }
    }
}

/// promtool takes the configuration, scrape jobs and rules.
fn promtool_accepts(manifests: &Manifests, dir: &Path) {
    let config = manifests.config_map("prometheus-config");
    if config.is_empty() {
        return;
    }
    for (map, folder) in
        [("prometheus-config", "config"), ("prometheus-scrape", "scrape"), ("prometheus-rules", "rules")]
    {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in manifests.config_map(map) {
            std::fs::write(folder.join(file), text.replace("/etc/prometheus", &dir.to_string_lossy())).unwrap();
        }
    }
    let promtool = Version::Three.promtool().unwrap();
    let lint = ["check", "config", "--lint=all", "--lint-fatal"];
    run(Command::new(promtool).args(lint).arg(dir.join("config/prometheus.yaml")));
}

/// Asks the global query until the answer is as wanted.
async fn until(clusters: &mut Clusters, query: &str, what: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    // Who asks for replicas wants them apart.
    let dedup = if query.contains("prometheus_replica") { "false" } else { "true" };
    let global = clusters.container("global", "query-0/query").unwrap();
    global.until(query, &[("dedup", dedup)], what, wanted).await.unwrap()
}

fn counts(answer: &Answer) -> Vec<(String, String)> {
    let text = |labels: &serde_json::Value| labels["cluster"].as_str().unwrap_or_default().to_owned();
    let mut counts: Vec<_> = answer.vector().iter().map(|(labels, count)| (text(labels), count.clone())).collect();
    counts.sort();
    counts
}

/// A copy of `kustomize/` to which a cluster was added by what `docs/kubernetes.md` says.
fn with_a_third_cluster(dir: &Path) -> Vec<PathBuf> {
    let overlays = copy_overlays(dir).unwrap();
    let page = std::fs::read_to_string(repository().join("docs/kubernetes.md")).unwrap();
    let section = page.split("## ").find(|section| section.starts_with("Add a cluster\n")).unwrap();
    let commands = section.lines().filter(|line| line.starts_with("cp ") || line.starts_with("sed "));
    for command in commands.clone() {
        run(Command::new("sh").args(["-ec", command]).current_dir(dir));
    }
    assert_eq!(commands.count(), 2, "{section}");
    let line = section.lines().find(|line| line.starts_with("- {op: add")).unwrap();
    let global = overlays.join("global/kustomization.yaml");
    let text = std::fs::read_to_string(&global).unwrap();
    std::fs::write(&global, text + "      " + line + "\n").unwrap();
    files(&overlays)
}

/// A day of a cluster's past, which no Prometheus has: in a bucket.
struct History {
    server: S3Server,
    /// In the middle of it, Unix s.
    time: i64,
    /// `sum(mesh_requests_total)` then.
    sum: f64,
}

impl History {
    async fn of(cluster: &str, dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("s3/blocks")).unwrap();
        let server = S3Server::start(&dir.join("s3")).await.unwrap();
        let metrics = BucketMetrics::register(&mut prometheus_client::registry::Registry::default());
        let bucket = BucketConfig::parse(&server.yaml("blocks"), "the test").unwrap().open(metrics).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as i64;
        let start = now.div_euclid(DAY) * DAY - 30 * DAY;
        for (replica, name) in ["prometheus-0", "prometheus-1"].into_iter().enumerate() {
            let labels = [("cluster", cluster), ("prometheus_replica", name)];
            let range = TimeRange::new(start, start + DAY);
            history::write(&bucket, &dir.join("stage"), &labels, replica, range).await.unwrap();
        }
        // A sample of the first replica lies there.
        let time = start + DAY / 2;
        let sum = (0..SERVICES).map(|i| Metric::Requests.value(i, time)).sum();
        Self { server, time: time / 1_000, sum }
    }

    fn secrets(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let file = ("objstore.yaml".to_owned(), self.server.yaml("blocks"));
        BTreeMap::from([("objstore".to_owned(), BTreeMap::from([file]))])
    }

    /// Asks for it until the answer is whole; it is never wrong.
    async fn is_whole(&self, clusters: &mut Clusters, what: &str) {
        let global = clusters.container("global", "query-0/query").unwrap();
        let time = self.time.to_string();
        let whole = |answer: &Answer| {
            let found: f64 = answer.vector().iter().map(|(_, value)| value.parse::<f64>().unwrap()).sum();
            assert!(!answer.is_complete() || found == self.sum, "{found} is not {}: {answer:?}", self.sum);
            answer.is_complete()
        };
        global.until("sum(mesh_requests_total)", &[("time", &time)], what, whole).await.unwrap();
    }
}

/// Three clusters of two each; the east has two stores as well, which the Services of the cluster name and Prometheus scrapes.
const COUNTS: [(&str, &str); 3] = [("east", "8"), ("north", "6"), ("west", "6")];

/// Asks the global query all the time; every answer is right. Returns how many were whole, and how many said that a replica is away.
async fn ask(url: String, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut whole, mut flagged) = (0, 0);
    let client = reqwest::Client::new();
    while !stop.load(Ordering::Relaxed) {
        let request = client.get(format!("{url}/api/v1/query")).query(&[("query", "count by (cluster) (up)")]);
        let response = request.send().await.unwrap();
        let complete = response.headers()["x-farview-complete"] == "true";
        let json: serde_json::Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        let count = |series: &serde_json::Value| {
            let count: u64 = series["value"][1].as_str().unwrap().parse().unwrap();
            (series["metric"]["cluster"].as_str().unwrap().to_owned(), count)
        };
        let counts: BTreeMap<String, u64> = json["data"]["result"].as_array().unwrap().iter().map(count).collect();
        for (cluster, least) in COUNTS {
            // Whatever is updated has a stand-in. A pod at a new address is a new target; the old one's series ends within the look-back.
            assert!(counts.get(cluster).is_some_and(|count| *count >= least.parse().unwrap()), "a lie: {json}");
        }
        if complete {
            whole += 1;
        } else {
            // One of a pair is away, which may show in what only it has seen.
            assert!(!json["infos"].is_null() || !json["warnings"].is_null(), "{json}");
            flagged += 1;
        }
    }
    (whole, flagged)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overlays_give_a_global_view_that_is_right_or_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let binary = farview_integration::binary().unwrap();
    let overlays = with_a_third_cluster(dir.path());
    add_component(&dir.path().join("kustomize/overlays/east"), "objstore-s3").unwrap();
    let history = History::of("east", dir.path()).await;
    let around = Surroundings { secrets: history.secrets(), ..Surroundings::default() };
    let mut clusters = Clusters::start(&binary, dir.path(), &overlays, around).await.unwrap();
    clusters.ready().await.unwrap();

    // Two Prometheus, two sidecars and two queries in each cluster, scraped by both Prometheus: seen once.
    let all = "count by (cluster) (up == 1)";
    let every = COUNTS.map(|(cluster, count)| (cluster.to_owned(), count.to_owned()));
    until(&mut clusters, all, "every cluster, deduplicated", |a| a.is_complete() && counts(a) == every).await;
    let apart = "count by (cluster, prometheus_replica) (up == 1)";
    until(&mut clusters, apart, "each of every pair has scraped everything", |a| {
        let whole = |(labels, count): &(serde_json::Value, String)| {
            every.iter().any(|(cluster, all)| labels["cluster"] == **cluster && count == all)
        };
        a.is_complete() && a.vector().len() == 6 && a.vector().iter().all(whole)
    })
    .await;
    let jobs = until(&mut clusters, "count by (job) (up)", "jobs", Answer::is_complete).await;
    let mut names: Vec<String> =
        jobs.vector().iter().map(|(labels, _)| labels["job"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["farview-query", "farview-sidecar", "farview-store", "prometheus"]);

    // What only the bucket has: by two stores, then by the one that is left, then it is missed.
    history.is_whole(&mut clusters, "the history of the east").await;
    clusters.container("east", "store-0/store").unwrap().kill().await.unwrap();
    history.is_whole(&mut clusters, "the history by the other store").await;
    clusters.container("east", "store-1/store").unwrap().kill().await.unwrap();
    let global = clusters.container("global", "query-0/query").unwrap();
    let time = history.time.to_string();
    let lost = global.query("sum(mesh_requests_total)", &[("time", &time)]).await.unwrap();
    assert!(!lost.is_complete() && !lost.warnings().is_empty(), "a lie: {lost:?}");
    for container in ["store-0/store", "store-1/store"] {
        clusters.container("east", container).unwrap().restart().unwrap();
    }
    history.is_whole(&mut clusters, "the history after both are back").await;

    // One pod of the pair is lost: the other one answers for it.
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().kill().await.unwrap();
    }
    let said = |answer: &Answer, what: &str| {
        [answer.warnings(), answer.infos()].concat().iter().any(|text| text.contains(what))
    };
    until(&mut clusters, "count by (cluster) (up)", "the lost replica is said", |answer| {
        assert_eq!(counts(answer), every, "the other of the pair still answers: {answer:?}");
        said(answer, "prometheus-0")
    })
    .await;
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().restart().unwrap();
    }
    until(&mut clusters, all, "the pair is whole again", |a| a.is_complete() && counts(a) == every).await;

    // Updates: one pod after the other at a new address, under queries.
    let stop = Arc::new(AtomicBool::new(false));
    let url = clusters.container("global", "query-0/query").unwrap().url();
    let asking = tokio::spawn(ask(url, Arc::clone(&stop)));
    for pod in ["prometheus-1", "prometheus-0", "query-0", "query-1", "store-1", "store-0"] {
        clusters.roll("east", pod).await.unwrap();
        // As a controller goes on only when the pod is there for others.
        until(&mut clusters, "count(up)", "the rolled pod is known again", Answer::is_complete).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (whole, flagged) = asking.await.unwrap();
    println!("updates of six pods: {whole} answers whole, {flagged} flagged");
    assert!(whole > 0);
    history.is_whole(&mut clusters, "the history after the update").await;

    // A whole cluster is cut off: no answer hides that.
    for query in ["query-0/query", "query-1/query"] {
        clusters.container("west", query).unwrap().signal("STOP").await.unwrap();
    }
    let lost = until(&mut clusters, "count by (cluster) (up)", "the lost cluster is said", |answer| {
        let lacks = !counts(answer).iter().any(|(cluster, _)| cluster == "west");
        assert!(!lacks || !answer.is_complete(), "a lie: {answer:?}");
        lacks
    })
    .await;
    assert!(said(&lost, "west"), "{lost:?}");
    for query in ["query-0/query", "query-1/query"] {
        clusters.container("west", query).unwrap().signal("CONT").await.unwrap();
    }
    until(&mut clusters, all, "every cluster again", |a| {
        a.is_complete() && counts(a).iter().map(|(cluster, _)| cluster).eq(every.iter().map(|(cluster, _)| cluster))
    })
    .await;
}
