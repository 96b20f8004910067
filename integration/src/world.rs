//! The world: which processes there are and how they find each other.

use crate::history;
use crate::process::Farview;
use anyhow::Context;
use farview_model::TimeRange;
use farview_objstore::{Bucket, BucketConfig, BucketMetrics};
use farview_testkit::dns::DnsServer;
use farview_testkit::prometheus::{Prometheus, Version};
use farview_testkit::s3::S3Server;
use prometheus_client::registry::Registry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
    /// The bucket and the stores, if there is a history.
    pub archive: Option<Archive>,
    /// The query over the clusters' queries, and the stores.
    pub global: Farview,
    binary: PathBuf,
    dir: PathBuf,
    sidecar_port: u16,
}

/// Returns a port that is free on all these addresses: names have addresses and no ports, so all members of a service listen
/// on the same one.
///
/// # Errors
/// If there is none.
pub fn common_port(addresses: &[IpAddr]) -> anyhow::Result<u16> {
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
    /// Days of history in a bucket; none for no bucket and no store.
    pub history_days: i64,
    /// Further arguments of every store.
    pub store_args: Vec<String>,
}

impl Plan {
    /// Two clusters: `east`, an HA pair, and `west`, a single one.
    pub fn east_and_west() -> Self {
        Self {
            clusters: vec![("east".to_owned(), 2), ("west".to_owned(), 1)],
            targets: Vec::new(),
            query_args: Vec::new(),
            global_http: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            history_days: 0,
            store_args: Vec::new(),
        }
    }
}

/// A bucket on an S3-compatible server, with blocks of clusters' history.
pub struct Archive {
    /// The server.
    pub server: S3Server,
    /// The bucket.
    pub bucket: Bucket,
    /// What the bucket has of the history, ms.
    pub archived: TimeRange,
    /// What the Prometheus servers have of it, ms; their sidecars ship it.
    pub recent: TimeRange,
    /// The stores, which share the blocks.
    pub stores: Vec<Farview>,
    /// The port of all stores.
    pub store_port: u16,
}

/// Name of the bucket.
const BUCKET: &str = "blocks";
/// So much of the history is with the Prometheus servers, ms, and it ended so long ago.
const RECENT: i64 = 6 * 3_600_000;
const AGO: i64 = 3_600_000;
/// Blocks of Prometheus begin at multiples of this, ms.
const TWO_HOURS: i64 = 7_200_000;

impl Archive {
    /// Starts the server and writes the history of all clusters.
    async fn start(dir: &Path, plan: &Plan) -> anyhow::Result<Self> {
        let root = dir.join("s3");
        std::fs::create_dir_all(root.join(BUCKET))?;
        let server = S3Server::start(&root).await?;
        let metrics = BucketMetrics::register(&mut Registry::default());
        let bucket = BucketConfig::parse(&server.yaml(BUCKET), "the archive")?.open(metrics)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as i64;
        let border = (now - AGO - RECENT).div_euclid(TWO_HOURS) * TWO_HOURS;
        let archived = TimeRange::new(border - plan.history_days * 86_400_000, border - 1);
        let recent = TimeRange::new(border, now - AGO);
        let folder = dir.join("blocks");
        for (name, replicas) in &plan.clusters {
            for r in 0..*replicas {
                let replica = replica_name(r);
                let labels = [("cluster", name.as_str()), ("replica", replica.as_str())];
                history::write(&bucket, &folder, &labels, r, archived).await?;
            }
        }
        Ok(Self { server, bucket, archived, recent, stores: Vec::new(), store_port: 0 })
    }

    /// Starts the stores.
    async fn serve(&mut self, binary: &Path, dir: &Path, dns: &DnsServer, plan: &Plan) -> anyhow::Result<()> {
        let addresses: Vec<IpAddr> = (1..=2).map(|n| IpAddr::V4(Ipv4Addr::new(127, 0, 9, n))).collect();
        self.store_port = common_port(&addresses)?;
        dns.set_addresses("stores.test.", addresses.iter().copied());
        for (n, ip) in addresses.into_iter().enumerate() {
            let mut args = vec![
                format!("--objstore.config={}", self.server.yaml(BUCKET)),
                format!("--data-dir={}", dir.join(format!("store-{n}-data")).display()),
                "--sync-block-duration=2s".to_owned(),
            ];
            args.extend(plan.store_args.iter().cloned());
            let addresses = (free(ip)?, SocketAddr::new(ip, self.store_port));
            self.stores.push(Farview::start(binary, dir, &format!("store-{n}"), "store", addresses, &args)?);
        }
        Ok(())
    }
}

fn replica_name(r: usize) -> String {
    char::from(b'a' + r as u8).to_string()
}

impl World {
    /// Starts everything and waits until it is ready. Logs go to `dir`.
    ///
    /// # Errors
    /// If a part does not come up; its log is part of the error.
    pub async fn start(binary: &Path, dir: &Path, plan: Plan) -> anyhow::Result<Self> {
        let dns = DnsServer::start().await?;
        let mut archive = if plan.history_days > 0 { Some(Archive::start(dir, &plan).await?) } else { None };
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
                let replica = replica_name(r);
                let version = Version::available().into_iter().cycle().nth(r).unwrap_or_default();
                let own = free(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
                // Both of a pair scrape the same things, and themselves under one name.
                let mut builder = Prometheus::builder();
                if let Some(archive) = &archive {
                    // Uploads want Prometheus not to compact.
                    builder = builder
                        .openmetrics(&history::openmetrics(archive.recent, r))
                        .arg("--storage.tsdb.min-block-duration=2h")
                        .arg("--storage.tsdb.max-block-duration=2h");
                }
                let server = builder
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
                let mut args = vec![format!("--prometheus.url={}", server.url())];
                if let Some(archive) = &archive {
                    args.push(format!("--objstore.config={}", archive.server.yaml(BUCKET)));
                    args.push(format!("--tsdb.path={}", server.dir().join("data").display()));
                }
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
        if let Some(archive) = &mut archive {
            archive.serve(binary, dir, &dns, &plan).await?;
            args.push(format!("--endpoint=dns+stores.test.:{}", archive.store_port));
        }
        let http = if plan.global_http.port() == 0 { free(plan.global_http.ip())? } else { plan.global_http };
        let grpc = free(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let global = Farview::start(binary, dir, "global-query", "query", (http, grpc), &args)?;
        let mut world =
            Self { dns, clusters, archive, global, binary: binary.to_owned(), dir: dir.to_owned(), sidecar_port };
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
        for store in self.archive.iter_mut().flat_map(|archive| &mut archive.stores) {
            store.ready().await?;
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
