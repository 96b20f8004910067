//! The pods of rendered overlays as processes: each pod has an address of its own, and each cluster a DNS server that answers its
//! headless Services and the names that external-dns would publish.
//!
//! Arguments, environment and configuration are those of the manifests. Replaced is only what a machine without containers cannot
//! have: `:port` becomes `address:port`, `localhost` the pod's address, mounted folders lie in a folder of the pod's, and the
//! API server's targets come from a file that lists the same Services with the same meta labels.

use super::{Manifests, Pod};
use crate::process::Farview;
use anyhow::Context;
use farview_testkit::dns::DnsServer;
use farview_testkit::prometheus::Version;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// An overlay that runs.
#[derive(Debug)]
pub struct Running {
    /// The folder's name.
    pub name: String,
    /// What was rendered.
    pub manifests: Manifests,
    /// The DNS server of the cluster.
    pub dns: DnsServer,
    /// The containers by `pod/container`.
    pub containers: BTreeMap<String, Farview>,
    pods: Vec<(Pod, Ipv4Addr)>,
}

/// Overlays that run, and whose published names see each other.
#[derive(Debug)]
pub struct Clusters {
    /// Each overlay, in the order given.
    pub running: Vec<Running>,
}

impl Clusters {
    /// Renders and starts overlays; what they log goes to `dir`.
    ///
    /// # Errors
    /// If one cannot be rendered or started.
    pub async fn start(binary: &Path, dir: &Path, overlays: &[PathBuf]) -> anyhow::Result<Self> {
        // Tests in other processes have pods as well: a /16 of the loopback network each.
        let net = 64 + (std::process::id() % 128) as u8;
        let mut running = Vec::new();
        for (cluster, overlay) in overlays.iter().enumerate() {
            let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let manifests = Manifests::render(overlay)?;
            let address = |i: usize| Ipv4Addr::new(127, net, 1 + cluster as u8, 1 + i as u8);
            let pods = manifests.pods().into_iter().enumerate().map(|(i, pod)| (pod, address(i))).collect();
            let dns = DnsServer::start().await?;
            running.push(Running { name, manifests, dns, containers: BTreeMap::new(), pods });
        }
        let mut clusters = Self { running };
        clusters.publish();
        for cluster in &mut clusters.running {
            cluster.start_pods(binary, &dir.join(&cluster.name))?;
        }
        Ok(clusters)
    }

    /// Sets every name that a cluster's DNS would have; published names are known everywhere.
    fn publish(&self) {
        let published: Vec<(String, Vec<IpAddr>)> = self.running.iter().flat_map(Running::published).collect();
        for cluster in &self.running {
            for (name, addresses) in cluster.headless().into_iter().chain(published.clone()) {
                cluster.dns.set_addresses(&name, addresses);
            }
        }
    }

    /// Returns a container, as `overlay`, `pod/container`.
    ///
    /// # Errors
    /// If there is none.
    pub fn container(&mut self, overlay: &str, container: &str) -> anyhow::Result<&mut Farview> {
        let cluster = self.running.iter_mut().find(|cluster| cluster.name == overlay);
        cluster.and_then(|cluster| cluster.containers.get_mut(container)).context("no such container")
    }

    /// Waits until every container is ready.
    ///
    /// # Errors
    /// If one does not become ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for cluster in &mut self.running {
            for container in cluster.containers.values_mut() {
                container.ready().await?;
            }
        }
        Ok(())
    }
}

impl Running {
    fn behind(&self, service: &Value) -> Vec<IpAddr> {
        self.pods.iter().filter(|(pod, _)| pod.is_behind(service)).map(|(_, address)| (*address).into()).collect()
    }

    /// Returns the names of the headless Services.
    fn headless(&self) -> Vec<(String, Vec<IpAddr>)> {
        let domain = &self.manifests.config_map("cluster-env")["CLUSTER_DOMAIN"];
        let headless = self.manifests.kind("Service").filter(|service| service["spec"]["clusterIP"] == "None");
        headless
            .map(|service| {
                let text = |key: &str| service["metadata"][key].as_str().unwrap_or("default").to_owned();
                (format!("{}.{}.svc.{domain}.", text("name"), text("namespace")), self.behind(service))
            })
            .collect()
    }

    /// Returns the names that external-dns would publish.
    fn published(&self) -> Vec<(String, Vec<IpAddr>)> {
        let hostname = |service: &Value| {
            let name = service["metadata"]["annotations"]["external-dns.alpha.kubernetes.io/hostname"].as_str()?;
            Some((format!("{name}."), self.behind(service)))
        };
        self.manifests.kind("Service").filter_map(hostname).collect()
    }

    fn start_pods(&mut self, binary: &Path, dir: &Path) -> anyhow::Result<()> {
        let targets = self.targets().to_string();
        for (pod, address) in &self.pods {
            let place =
                Place { dir: dir.join(&pod.name), address: *address, targets: targets.clone(), dns: self.dns.addr() };
            std::fs::create_dir_all(&place.dir)?;
            for container in pod.containers() {
                let name = container["name"].as_str().unwrap_or_default();
                let process = place.start(binary, pod, container, &self.manifests)?;
                self.containers.insert(format!("{}/{name}", pod.name), process);
            }
        }
        Ok(())
    }

    /// Returns what service discovery would find, for `file_sd_configs`.
    fn targets(&self) -> Value {
        let mut targets = Vec::new();
        for service in self.manifests.kind("Service") {
            for (pod, address) in self.pods.iter().filter(|(pod, _)| pod.is_behind(service)) {
                for port in service["spec"]["ports"].as_array().into_iter().flatten() {
                    let mut labels = json!({
                        "__meta_kubernetes_endpointslice_port_name": port["name"],
                        "__meta_kubernetes_namespace": pod.namespace,
                        "__meta_kubernetes_pod_name": pod.name,
                    });
                    for (name, value) in super::strings(&service["metadata"]["labels"]) {
                        let name = name.replace(['.', '/', '-'], "_");
                        labels[format!("__meta_kubernetes_service_label_{name}")] = value.into();
                    }
                    let target = SocketAddr::from((*address, number(&port["port"])));
                    targets.push(json!({"targets": [target.to_string()], "labels": labels}));
                }
            }
        }
        targets.into()
    }
}

fn number(port: &Value) -> u16 {
    port.as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
}

/// Where a pod runs.
struct Place {
    dir: PathBuf,
    address: Ipv4Addr,
    targets: String,
    dns: SocketAddr,
}

impl Place {
    /// Replaces what a pod has and this machine has not.
    fn translate(&self, text: &str, mounts: &[(String, PathBuf)]) -> String {
        let mut text = text.replace("localhost", &self.address.to_string());
        if let Some((flag, port)) = text.split_once("=:") {
            text = format!("{flag}={}:{port}", self.address);
        }
        outside(&text, mounts)
    }

    fn start(&self, binary: &Path, pod: &Pod, container: &Value, manifests: &Manifests) -> anyhow::Result<Farview> {
        let mounts = self.mount(pod, container, manifests)?;
        let environment = pod.environment(container, manifests);
        let mut arguments: Vec<String> =
            pod.arguments(container, manifests).iter().map(|argument| self.translate(argument, &mounts)).collect();
        let port = |name: &str| {
            let ports = container["ports"].as_array().into_iter().flatten();
            let port = ports.clone().find(|port| port["name"] == name).map(|port| number(&port["containerPort"]));
            SocketAddr::from((self.address, port.unwrap_or_default()))
        };
        let image = container["image"].as_str().unwrap_or_default();
        let (program, http) = if image.contains("prometheus") {
            (Version::Three.prometheus()?, port("web"))
        } else {
            arguments.push(format!("--farview.dns-server={}", self.dns));
            (binary.to_owned(), port("http"))
        };
        let name = container["name"].as_str().unwrap_or_default();
        Farview::start_as(&program, &self.dir, name, (http, port("grpc")), arguments, environment)
    }

    /// Writes the ConfigMaps of a container's volumes into the pod's folder; returns where each mounted path lies.
    fn mount(&self, pod: &Pod, container: &Value, manifests: &Manifests) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let mut mounts = Vec::new();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let volume = mount["name"].as_str().unwrap_or_default();
            mounts.push((mount["mountPath"].as_str().unwrap_or_default().to_owned(), self.dir.join(volume)));
        }
        // `/prometheus` is a part of `/etc/prometheus`: the longer one first.
        mounts.sort_by_key(|(inside, _)| std::cmp::Reverse(inside.len()));
        let targets = self.dir.join("targets.json");
        std::fs::write(&targets, &self.targets)?;
        for (_, folder) in &mounts {
            std::fs::create_dir_all(folder)?;
            let volumes = pod.spec["volumes"].as_array().into_iter().flatten();
            let mut volume = volumes.filter(|volume| folder.ends_with(volume["name"].as_str().unwrap_or_default()));
            let Some(map) = volume.next().and_then(|volume| volume["configMap"]["name"].as_str()) else { continue };
            for (file, text) in manifests.config_map(map) {
                std::fs::write(folder.join(file), without_api_server(&outside(&text, &mounts), &targets)?)?;
            }
        }
        Ok(mounts)
    }
}

/// Puts the folders of this machine in the place of the paths that are mounted in a container; what has been put is not looked
/// at again. The longest path comes first in `mounts`.
fn outside(text: &str, mounts: &[(String, PathBuf)]) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        // `/prometheus` is not meant by `/prometheus.yaml`.
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let mount = mounts.iter().find(|(inside, _)| rest.strip_prefix(inside.as_str()).is_some_and(ends));
        let taken = match mount {
            Some((inside, folder)) => {
                done += &folder.to_string_lossy();
                inside.len()
            }
            None => {
                done.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    done
}

/// Puts a file of targets in the place of Kubernetes' discovery.
fn without_api_server(yaml: &str, targets: &Path) -> anyhow::Result<String> {
    if !yaml.contains("kubernetes_sd_configs") {
        return Ok(yaml.replace("interval: 15s", "interval: 1s"));
    }
    let mut file: Value = serde_saphyr::from_str(yaml)?;
    for job in file["scrape_configs"].as_array_mut().into_iter().flatten() {
        let job = job.as_object_mut().context("a scrape job is an object")?;
        if job.remove("kubernetes_sd_configs").is_some() {
            job.insert("file_sd_configs".to_owned(), json!([{"files": [targets]}]));
        }
    }
    // JSON is YAML.
    Ok(file.to_string())
}
