//! The pods of rendered overlays as processes: each pod has an address of its own, and each cluster a DNS server that answers its
//! headless Services and the names that external-dns would publish.
//!
//! Arguments, environment and configuration are those of the manifests. Replaced is only what a machine without containers cannot
//! have: `:port` becomes `address:port`, `localhost` the pod's address, mounted folders lie in a folder of the pod's, and the
//! API server's targets come from a file that lists the same Services with the same meta labels. Time goes ten times as fast:
//! intervals are a second, and who waits for others to ask DNS again waits a tenth.

use super::{Manifests, Pod};
use crate::process::Farview;
use anyhow::Context;
use farview_testkit::dns::DnsServer;
use farview_testkit::prometheus::Version;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// How much faster time goes than in a cluster.
const FASTER: u32 = 10;

/// What is around the overlays and is not theirs.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Secrets by name: file and text.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Pods of others that service discovery finds, by overlay: entries of a target file with `__meta_kubernetes_*` labels.
    pub targets: BTreeMap<String, Vec<Value>>,
}

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
    pods: Vec<Scheduled>,
    /// The first three bytes of its pods' addresses, and how many were given.
    net: [u8; 3],
    given: u8,
    binary: PathBuf,
    dir: PathBuf,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
    others: Vec<Value>,
}

/// A pod and where it is.
#[derive(Debug)]
struct Scheduled {
    pod: Pod,
    address: Ipv4Addr,
    state: State,
}

/// What Services publish of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Gone,
    Started,
    Ready,
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
    pub async fn start(
        binary: &Path,
        dir: &Path,
        overlays: &[PathBuf],
        mut around: Surroundings,
    ) -> anyhow::Result<Self> {
        // Tests in other processes have pods as well: a /16 of the loopback network each.
        let net = 64 + (std::process::id() % 128) as u8;
        let mut running = Vec::new();
        for (cluster, overlay) in overlays.iter().enumerate() {
            let name = overlay.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut cluster = Running {
                manifests: Manifests::render(overlay)?,
                dns: DnsServer::start().await?,
                containers: BTreeMap::new(),
                pods: Vec::new(),
                net: [127, net, 1 + cluster as u8],
                given: 0,
                binary: binary.to_owned(),
                dir: dir.join(&name),
                secrets: around.secrets.clone(),
                others: around.targets.remove(&name).unwrap_or_default(),
                name,
            };
            for pod in cluster.manifests.pods() {
                let address = cluster.address();
                cluster.pods.push(Scheduled { pod, address, state: State::Started });
            }
            running.push(cluster);
        }
        let mut clusters = Self { running };
        clusters.publish();
        for cluster in &mut clusters.running {
            for pod in 0..cluster.pods.len() {
                cluster.start_pod(pod)?;
            }
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

    fn cluster(&mut self, overlay: &str) -> anyhow::Result<&mut Running> {
        self.running.iter_mut().find(|cluster| cluster.name == overlay).context("no such overlay")
    }

    /// Returns a container, as `overlay`, `pod/container`.
    ///
    /// # Errors
    /// If there is none.
    pub fn container(&mut self, overlay: &str, container: &str) -> anyhow::Result<&mut Farview> {
        self.cluster(overlay)?.containers.get_mut(container).context("no such container")
    }

    /// Gives a Secret other files, which every pod that mounts it sees.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn replace_secret(&mut self, name: &str, files: &BTreeMap<String, String>) -> anyhow::Result<()> {
        for cluster in &mut self.running {
            cluster.secrets.insert(name.to_owned(), files.clone());
            for scheduled in &cluster.pods {
                let volumes = scheduled.pod.spec["volumes"].as_array().into_iter().flatten();
                for volume in volumes.filter(|volume| volume["secret"]["secretName"] == name) {
                    let volume = volume["name"].as_str().unwrap_or_default();
                    let folder = cluster.dir.join(&scheduled.pod.name).join(volume);
                    for (file, text) in files {
                        // Nobody reads a half, but some of the old ones beside some of the new ones.
                        let new = folder.join(format!("{file}.new"));
                        std::fs::write(&new, text)?;
                        std::fs::rename(&new, folder.join(file))?;
                    }
                }
            }
        }
        Ok(())
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
            for pod in &mut cluster.pods {
                pod.state = State::Ready;
            }
        }
        self.publish();
        Ok(())
    }

    /// Rolls a pod as an update does: its containers are asked to end, then it starts anew, at another address, with the volume that
    /// it had. Returns when the controller would go on to the next pod.
    ///
    /// # Errors
    /// If a container does not end in time, or does not become ready again.
    pub async fn roll(&mut self, overlay: &str, pod: &str) -> anyhow::Result<()> {
        let cluster = self.cluster(overlay)?;
        let at = cluster.pods.iter().position(|scheduled| scheduled.pod.name == pod).context("no such pod")?;
        cluster.pods[at].state = State::Gone;
        let names: Vec<String> =
            cluster.containers.keys().filter(|name| name.starts_with(&format!("{pod}/"))).cloned().collect();
        self.publish();
        let cluster = self.cluster(overlay)?;
        for name in &names {
            let container = cluster.containers.get_mut(name).context("no such container")?;
            container.signal("TERM").await?;
        }
        for name in &names {
            cluster.containers.get_mut(name).context("no such container")?.ended().await?;
        }
        cluster.pods[at].address = cluster.address();
        cluster.pods[at].state = State::Started;
        cluster.start_pod(at)?;
        cluster.discover()?;
        self.publish();
        let cluster = self.cluster(overlay)?;
        for name in &names {
            cluster.containers.get_mut(name).context("no such container")?.ready().await?;
        }
        cluster.pods[at].state = State::Ready;
        let min_ready = cluster.pods[at].pod.min_ready;
        self.publish();
        tokio::time::sleep(min_ready / FASTER).await;
        Ok(())
    }
}

impl Running {
    /// Returns an address that no pod has had.
    fn address(&mut self) -> Ipv4Addr {
        self.given += 1;
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, self.given)
    }

    fn behind(&self, service: &Value) -> Vec<IpAddr> {
        let from = if service["spec"]["publishNotReadyAddresses"] == true { State::Started } else { State::Ready };
        let pods = self.pods.iter().filter(|scheduled| scheduled.pod.is_behind(service));
        pods.filter(|scheduled| scheduled.state == State::Ready || scheduled.state == from)
            .map(|scheduled| scheduled.address.into())
            .collect()
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

    fn start_pod(&mut self, pod: usize) -> anyhow::Result<()> {
        let scheduled = &self.pods[pod];
        let place = Place {
            dir: self.dir.join(&scheduled.pod.name),
            address: scheduled.address,
            targets: self.targets().to_string(),
            dns: self.dns.addr(),
            secrets: &self.secrets,
        };
        std::fs::create_dir_all(&place.dir)?;
        for container in scheduled.pod.containers() {
            let name = container["name"].as_str().unwrap_or_default();
            let process = place.start(&self.binary, &scheduled.pod, container, &self.manifests)?;
            self.containers.insert(format!("{}/{name}", scheduled.pod.name), process);
        }
        Ok(())
    }

    /// Tells every pod what service discovery finds now.
    fn discover(&self) -> anyhow::Result<()> {
        let targets = self.targets().to_string();
        for scheduled in &self.pods {
            // Replaced at once, so that nobody reads a half.
            let folder = self.dir.join(&scheduled.pod.name);
            std::fs::write(folder.join("targets.new"), &targets)?;
            std::fs::rename(folder.join("targets.new"), folder.join("targets.json"))?;
        }
        Ok(())
    }

    /// Returns what service discovery would find, for `file_sd_configs`.
    fn targets(&self) -> Value {
        let mut targets = self.others.clone();
        for service in self.manifests.kind("Service") {
            let gone = |scheduled: &&Scheduled| scheduled.state == State::Gone;
            let here = self.pods.iter().filter(|scheduled| scheduled.pod.is_behind(service) && !gone(scheduled));
            for Scheduled { pod, address, .. } in here {
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
struct Place<'a> {
    dir: PathBuf,
    address: Ipv4Addr,
    targets: String,
    dns: SocketAddr,
    secrets: &'a BTreeMap<String, BTreeMap<String, String>>,
}

impl Place<'_> {
    /// Replaces what a pod has and this machine has not.
    fn translate(&self, text: &str, mounts: &[(String, PathBuf)]) -> String {
        let mut text = text.replace("localhost", &self.address.to_string());
        // How long a pod stays after it was taken out of DNS.
        if let Some(seconds) = text.strip_prefix("--farview.drain-delay=").and_then(|text| text.strip_suffix('s')) {
            text = format!("--farview.drain-delay={}s", seconds.parse().unwrap_or(0) / FASTER);
        }
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
            if arguments[0] == "query" {
                arguments.push("--store.sd-dns-interval=1s".to_owned());
            }
            (binary.to_owned(), port("http"))
        };
        let name = container["name"].as_str().unwrap_or_default();
        Farview::start_as(&program, &self.dir, name, (http, port("grpc")), arguments, environment)
    }

    /// Writes the ConfigMaps and Secrets of a container's volumes into the pod's folder; returns where each mounted path lies.
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
            let mut volumes = pod.spec["volumes"].as_array().into_iter().flatten();
            let volume = volumes.find(|volume| folder.ends_with(volume["name"].as_str().unwrap_or_default()));
            let Some(volume) = volume else { continue };
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                let files = self.secrets.get(secret).with_context(|| format!("no Secret {secret}"))?;
                for (file, text) in files {
                    std::fs::write(folder.join(file), text)?;
                }
            }
            let map = volume["configMap"]["name"].as_str().map(|map| manifests.config_map(map)).unwrap_or_default();
            for (file, text) in map {
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
        // Nor by `/stats/prometheus`.
        let begins = !done.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let mount = mounts.iter().find(|(inside, _)| begins && rest.strip_prefix(inside.as_str()).is_some_and(ends));
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

/// Puts a file of targets in the place of Kubernetes' discovery, and a second in the place of every interval.
fn without_api_server(yaml: &str, targets: &Path) -> anyhow::Result<String> {
    let mut file: Value = serde_saphyr::from_str(yaml)?;
    for job in file.get_mut("scrape_configs").and_then(Value::as_array_mut).into_iter().flatten() {
        let job = job.as_object_mut().context("a scrape job is an object")?;
        if job.remove("kubernetes_sd_configs").is_some() {
            job.insert("file_sd_configs".to_owned(), json!([{"files": [targets]}]));
        }
        job.remove("scrape_interval");
    }
    for group in file.get_mut("groups").and_then(Value::as_array_mut).into_iter().flatten() {
        group.as_object_mut().context("a group of rules is an object")?.remove("interval");
    }
    if let Some(global) = file.get_mut("global").and_then(Value::as_object_mut) {
        for interval in ["scrape_interval", "evaluation_interval"] {
            global.insert(interval.to_owned(), "1s".into());
        }
    }
    // JSON is YAML.
    Ok(file.to_string())
}
