//! What the kustomize overlays describe, and its processes on this machine.
//!
//! - [`Manifests`]: an overlay as kustomize renders it.
//! - [`pods`]: its pods as processes with addresses of their own, and the DNS that a cluster would have.
//! - [`dashboards`]: what its dashboards ask.
//! - [`mesh`]: a meshed service to watch.
//!
//! Scheduling, volumes and access rights of a real cluster are not imitated.

pub mod dashboards;
pub mod mesh;
pub mod pods;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Returns the top folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a folder of the repository")
}

/// Returns a program that `integration/tools/kubernetes` unpacks.
///
/// # Errors
/// If it is not there.
pub fn tool(path: &str) -> anyhow::Result<PathBuf> {
    let path = repository().join(".tools").join(path);
    ensure!(path.is_file(), "no {}: run integration/tools/kubernetes", path.display());
    Ok(path)
}

/// Copies `kustomize/` into a folder, where a test may change it; returns the folder of the overlays.
///
/// # Errors
/// If it cannot be copied.
pub fn copy_overlays(dir: &Path) -> anyhow::Result<PathBuf> {
    let status = Command::new("cp").arg("-r").arg(repository().join("kustomize")).arg(dir).status()?;
    ensure!(status.success(), "cp -r kustomize {}: {status}", dir.display());
    Ok(dir.join("kustomize/overlays"))
}

/// Adds a component to an overlay that was copied, before those that it has.
///
/// # Errors
/// If its file cannot be read or written.
pub fn add_component(overlay: &Path, name: &str) -> anyhow::Result<()> {
    const LIST: &str = "\ncomponents:\n";
    let file = overlay.join("kustomization.yaml");
    let mut text = std::fs::read_to_string(&file)?;
    if !text.contains(LIST) {
        text += LIST.trim_start();
    }
    let with = text.replacen(LIST, &format!("{LIST}  - ../../components/{name}\n"), 1);
    std::fs::write(&file, with)?;
    Ok(())
}

/// The objects of a rendered overlay.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The YAML as rendered.
    pub yaml: String,
    /// One value per object.
    pub objects: Vec<Value>,
}

impl Manifests {
    /// Renders a folder with a `kustomization.yaml`.
    ///
    /// # Errors
    /// If kustomize refuses it, with what it says.
    pub fn render(dir: &Path) -> anyhow::Result<Self> {
        let output = Command::new(tool("kustomize/usr/bin/kustomize")?).arg("build").arg(dir).output()?;
        if !output.status.success() {
            bail!("kustomize build {}: {}", dir.display(), String::from_utf8_lossy(&output.stderr));
        }
        let yaml = String::from_utf8(output.stdout)?;
        let objects = serde_saphyr::from_multiple(&yaml).with_context(|| format!("YAML of {}", dir.display()))?;
        Ok(Self { yaml, objects })
    }

    /// Returns the objects of a kind.
    pub fn kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Returns the data of a ConfigMap; none if it does not exist.
    pub fn config_map(&self, name: &str) -> BTreeMap<String, String> {
        let map = self.kind("ConfigMap").find(|map| map["metadata"]["name"] == name);
        let data = map.and_then(|map| map["data"].as_object().cloned()).unwrap_or_default();
        data.into_iter().map(|(key, text)| (key, text.as_str().unwrap_or_default().to_owned())).collect()
    }

    /// Returns the pods: as many per workload as it has replicas.
    pub fn pods(&self) -> Vec<Pod> {
        let mut pods = Vec::new();
        for workload in self.kind("StatefulSet").chain(self.kind("Deployment")) {
            let name = workload["metadata"]["name"].as_str().unwrap_or_default();
            for ordinal in 0..workload["spec"]["replicas"].as_u64().unwrap_or(1) {
                pods.push(Pod {
                    name: format!("{name}-{ordinal}"),
                    namespace: workload["metadata"]["namespace"].as_str().unwrap_or("default").to_owned(),
                    labels: strings(&workload["spec"]["template"]["metadata"]["labels"]),
                    spec: workload["spec"]["template"]["spec"].clone(),
                    min_ready: Duration::from_secs(workload["spec"]["minReadySeconds"].as_u64().unwrap_or_default()),
                });
            }
        }
        pods
    }
}

/// A pod of a workload.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its name, with the ordinal.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its labels, which selectors of Services match.
    pub labels: BTreeMap<String, String>,
    /// The pod's `spec`.
    pub spec: Value,
    /// How long it is ready before its controller goes on to the next one.
    pub min_ready: Duration,
}

impl Pod {
    /// Returns its containers.
    pub fn containers(&self) -> &[Value] {
        self.spec["containers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Returns the environment of a container, as kubelet would set it.
    pub fn environment(&self, container: &Value, manifests: &Manifests) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for source in container["envFrom"].as_array().into_iter().flatten() {
            environment.extend(manifests.config_map(source["configMapRef"]["name"].as_str().unwrap_or_default()));
        }
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => self.name.clone(),
                Some("metadata.namespace") => self.namespace.clone(),
                _ => variable["value"].as_str().unwrap_or_default().to_owned(),
            };
            environment.insert(variable["name"].as_str().unwrap_or_default().to_owned(), value);
        }
        environment
    }

    /// Returns the arguments of a container with `$(VARIABLES)` replaced, as kubelet does.
    pub fn arguments(&self, container: &Value, manifests: &Manifests) -> Vec<String> {
        let environment = self.environment(container, manifests);
        let given = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
        given
            .map(|argument| {
                environment
                    .iter()
                    .fold(argument.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
            })
            .collect()
    }

    /// Tells whether a Service's selector matches.
    pub fn is_behind(&self, service: &Value) -> bool {
        let selector = strings(&service["spec"]["selector"]);
        !selector.is_empty() && selector.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// Returns an object's members that are text.
fn strings(object: &Value) -> BTreeMap<String, String> {
    let members = object.as_object().into_iter().flatten();
    members.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
