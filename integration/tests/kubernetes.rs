//! The kustomize overlays: rendered, validated strictly, and run as processes on this machine.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_integration::kubernetes::pods::Clusters;
use farview_integration::kubernetes::{Manifests, repository, tool};
use farview_integration::process::Answer;
use farview_testkit::prometheus::Version;
use std::path::{Path, PathBuf};
use std::process::Command;

fn overlays() -> Vec<PathBuf> {
    let folders = files(&repository().join("kustomize/overlays"));
    folders.into_iter().filter(|path| path.join("kustomization.yaml").is_file()).collect()
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
    for overlay in overlays().into_iter().chain(with_each_component(&dir)) {
        let name = overlay.file_name().unwrap().to_str().unwrap().to_owned();
        let manifests = Manifests::render(&overlay).unwrap();
        validate(&manifests, &dir, &name);
        arguments_parse(&manifests);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_overlays_give_a_global_view_that_is_right_or_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let binary = farview_integration::binary().unwrap();
    let mut clusters = Clusters::start(&binary, dir.path(), &overlays()).await.unwrap();
    clusters.ready().await.unwrap();

    // Two Prometheus, two sidecars and two queries in each cluster, scraped by both Prometheus: seen once.
    let all = "count by (cluster) (up == 1)";
    let both = [("east".to_owned(), "6".to_owned()), ("west".to_owned(), "6".to_owned())];
    until(&mut clusters, all, "both clusters, deduplicated", |a| a.is_complete() && counts(a) == both).await;
    let apart = "count by (cluster, prometheus_replica) (up == 1)";
    until(&mut clusters, apart, "each of both pairs has scraped everything", |a| {
        a.is_complete() && a.vector().len() == 4 && a.vector().iter().all(|(_, count)| count == "6")
    })
    .await;
    let jobs = until(&mut clusters, "count by (job) (up)", "jobs", Answer::is_complete).await;
    let mut names: Vec<String> =
        jobs.vector().iter().map(|(labels, _)| labels["job"].as_str().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["farview-query", "farview-sidecar", "prometheus"]);

    // One pod of the pair is lost: the other one answers for it.
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().kill().await.unwrap();
    }
    let said = |answer: &Answer, what: &str| {
        [answer.warnings(), answer.infos()].concat().iter().any(|text| text.contains(what))
    };
    until(&mut clusters, "count by (cluster) (up)", "the lost replica is said", |answer| {
        assert_eq!(counts(answer), both, "the other of the pair still answers: {answer:?}");
        said(answer, "prometheus-0")
    })
    .await;
    for container in ["prometheus-0/prometheus", "prometheus-0/sidecar"] {
        clusters.container("east", container).unwrap().restart().unwrap();
    }
    until(&mut clusters, all, "the pair is whole again", |a| a.is_complete() && counts(a) == both).await;

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
    until(&mut clusters, all, "both clusters again", |a| a.is_complete() && counts(a) == both).await;
}
