//! The world: which processes there are and how they find each other.

use crate::process::Farview;
use anyhow::Context;
use farview_testkit::dns::DnsServer;
use farview_testkit::prometheus::{Prometheus, Version};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// A cluster: Prometheus servers that scrape the same things, a sidecar beside each, one query over them.
#[derive(Debug)]
pub struct Cluster {
    /// Its name, which is also the value of the external label `cluster`.
    pub name: String,
    /// The Prometheus servers; each has an external label `replica`: `a`, `b`, ….
    pub prometheus: Vec<Prometheus>,
    /// The sidecar of each.
    pub sidecars: Vec<Farview>,
    /// The query over them.
    pub query: Farview,
}

/// Clusters, and a global query over their queries.
pub struct World {
    /// The DNS server.
    pub dns: DnsServer,
    /// The clusters.
    pub clusters: Vec<Cluster>,
    /// The query over the clusters' queries.
    pub global: Farview,
    binary: PathBuf,
    dir: PathBuf,
    sidecar_port: u16,
}

/// Returns a port that is free on all these addresses: names have addresses and no ports, so all members of a service listen
/// on the same one.
fn common_port(addresses: &[IpAddr]) -> anyhow::Result<u16> {
    for _ in 0..100 {
        let first = TcpListener::bind((addresses[0], 0))?;
        let port = first.local_addr()?.port();
        let others: Result<Vec<TcpListener>, _> =
            addresses[1..].iter().map(|ip| TcpListener::bind((*ip, port))).collect();
        if others.is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free on all of {addresses:?}")
}

fn free(ip: IpAddr) -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?)
}

/// The address of a member: clusters are numbered from 1, members from 1; 0 is the cluster's query.
fn address(cluster: usize, member: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 10 + cluster as u8, 1 + member as u8))
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name and number of replicas of each cluster.
    pub clusters: Vec<(String, usize)>,
    /// Where each Prometheus scrapes beside itself.
    pub targets: Vec<SocketAddr>,
    /// Further arguments of every query.
    pub query_args: Vec<String>,
    /// Ports of the queries' HTTP APIs; free ones if 0.
    pub global_http: SocketAddr,
}

impl Plan {
    /// Two clusters: `east`, an HA pair, and `west`, a single one.
    pub fn east_and_west() -> Self {
        Self {
            clusters: vec![("east".to_owned(), 2), ("west".to_owned(), 1)],
            targets: Vec::new(),
            query_args: Vec::new(),
            global_http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

impl World {
    /// Starts everything and waits until it is ready. Logs go to `dir`.
    ///
    /// # Errors
    /// If a part does not come up; its log is part of the error.
    pub async fn start(binary: &Path, dir: &Path, plan: Plan) -> anyhow::Result<Self> {
        let dns = DnsServer::start().await?;
        let all: Vec<IpAddr> = plan
            .clusters
            .iter()
            .enumerate()
            .flat_map(|(c, (_, replicas))| (0..=*replicas).map(move |member| address(c + 1, member)))
            .collect();
        let sidecar_port = common_port(&all)?;
        let query_port = common_port(&all)?;
        let mut clusters = Vec::new();
        for (c, (name, replicas)) in plan.clusters.iter().enumerate() {
            let mut prometheus = Vec::new();
            let mut sidecars = Vec::new();
            let query_http = free(address(c + 1, 0))?;
            let sidecar_http: Vec<SocketAddr> =
                (0..*replicas).map(|r| free(address(c + 1, r + 1))).collect::<Result<_, _>>()?;
            for r in 0..*replicas {
                let replica = char::from(b'a' + r as u8).to_string();
                let version = Version::available().into_iter().cycle().nth(r).unwrap_or_default();
                let own = free(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
                // Both of a pair scrape the same things, and themselves under one name.
                let server = Prometheus::builder()
                    .version(version)
                    .port(own.port())
                    .external_label("cluster", name)
                    .external_label("replica", &replica)
                    .job("prometheus", [own])
                    .job("sidecar", sidecar_http.iter().copied())
                    .job("query", [query_http])
                    .job("world", plan.targets.iter().copied())
                    .start()
                    .await
                    .with_context(|| format!("Prometheus {replica} of {name}"))?;
                let ip = address(c + 1, r + 1);
                let addresses = (sidecar_http[r], SocketAddr::new(ip, sidecar_port));
                let args = [format!("--prometheus.url={}", server.url())];
                sidecars.push(Farview::start(
                    binary,
                    dir,
                    &format!("{name}-sidecar-{replica}"),
                    "sidecar",
                    addresses,
                    &args,
                )?);
                prometheus.push(server);
            }
            dns.set_addresses(&format!("sidecars.{name}.test."), sidecars.iter().map(|sidecar| sidecar.grpc.ip()));
            let ip = address(c + 1, 0);
            let mut args = vec![
                format!("--endpoint=dns+sidecars.{name}.test.:{sidecar_port}"),
                "--query.replica-label=replica".to_owned(),
                format!("--farview.dns-server={}", dns.addr()),
            ];
            args.extend(plan.query_args.iter().cloned());
            let addresses = (query_http, SocketAddr::new(ip, query_port));
            let query = Farview::start(binary, dir, &format!("{name}-query"), "query", addresses, &args)?;
            dns.set_addresses(&format!("query.{name}.test."), [ip]);
            clusters.push(Cluster { name: name.clone(), prometheus, sidecars, query });
        }
        let mut args = vec!["--query.replica-label=replica".to_owned(), format!("--farview.dns-server={}", dns.addr())];
        args.extend(plan.clusters.iter().map(|(name, _)| format!("--endpoint=dns+query.{name}.test.:{query_port}")));
        args.extend(plan.query_args.iter().cloned());
        let http = if plan.global_http.port() == 0 { free(plan.global_http.ip())? } else { plan.global_http };
        let grpc = free(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let global = Farview::start(binary, dir, "global-query", "query", (http, grpc), &args)?;
        let mut world = Self { dns, clusters, global, binary: binary.to_owned(), dir: dir.to_owned(), sidecar_port };
        world.ready().await?;
        Ok(world)
    }

    /// Waits until every process is ready.
    ///
    /// # Errors
    /// If one does not become ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for cluster in &mut self.clusters {
            for sidecar in &mut cluster.sidecars {
                sidecar.ready().await?;
            }
            cluster.query.ready().await?;
        }
        self.global.ready().await
    }

    /// Returns the binary that the processes run.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the folder of the logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the port of all sidecars.
    pub fn sidecar_port(&self) -> u16 {
        self.sidecar_port
    }
}
