//! The parts of a store, put together.

use crate::block::Access;
use crate::chunk_cache::ChunkCache;
use crate::config::{Config, HeaderDownload, ShardMode};
use crate::header::Headers;
use crate::index_cache::IndexCache;
use crate::info::BucketInfo;
use crate::metrics::Metrics;
use crate::pages::{self, Pages};
use crate::read::postings::Laziness;
use crate::select::{BucketStore, Limits};
use crate::shards::{Member, Shards, Siblings};
use crate::sync::{Choice, Syncer};
use anyhow::Context;
use arc_swap::ArcSwap;
use axum::Router;
use farview_block::{Fetched, MetaFetcher};
use farview_bootstrap::{CancellationToken, GrpcServer, HttpServer, Process, Servers, fit_memory};
use farview_channels::ClientTls;
use farview_config::yaml;
use farview_discovery::{DnsMetrics, HickoryConfig, HickoryLookup, Target};
use farview_model::{Budget, RelabelConfig};
use farview_objstore::{BucketConfig, BucketMetrics, Purpose};
use farview_proto::thanos::info::info_server::InfoServer;
use farview_storeapi::StoreServer;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;

/// Reads of the bucket at a time, for all requests.
const READS_AT_ONCE: usize = 256;
/// Memory of the cache of chunks if its configuration names none, bytes, as in Thanos.
const CHUNK_CACHE: u64 = 250 << 20;

/// A store that is bound and not yet serving.
pub struct App {
    servers: Servers,
}

impl App {
    /// Returns where HTTP is served.
    pub fn http_address(&self) -> std::net::SocketAddr {
        self.servers.http_address()
    }

    /// Returns where gRPC is served.
    pub fn grpc_address(&self) -> Option<std::net::SocketAddr> {
        self.servers.grpc_address()
    }
}

/// `--index-cache.config`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexCacheYaml {
    r#type: String,
    #[serde(default)]
    config: InMemory,
    #[serde(default)]
    #[allow(dead_code, reason = "everything is kept")]
    enabled_items: Vec<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "blocks do not change")]
    ttl: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct InMemory {
    max_size: Option<String>,
    #[allow(dead_code, reason = "large items make room for themselves")]
    max_item_size: Option<String>,
}

impl InMemory {
    /// Returns the size that is given, bytes.
    fn size(&self, origin: &str) -> anyhow::Result<Option<u64>> {
        let Some(text) = &self.max_size else { return Ok(None) };
        let size: farview_config::ByteSize =
            text.parse().map_err(|error| anyhow::anyhow!("{origin}: max_size: {error}"))?;
        Ok(Some(size.as_usize() as u64))
    }
}

/// Returns how much the index cache may hold, bytes.
fn index_cache_size(config: &Config) -> anyhow::Result<u64> {
    let flags = &config.cache;
    let size = flags.index_cache_size.as_usize() as u64;
    let Some(cache) = flags.index_cache.parse::<IndexCacheYaml>()? else { return Ok(size) };
    if !cache.r#type.eq_ignore_ascii_case("IN-MEMORY") {
        anyhow::bail!("{}: type {} is not supported: use IN-MEMORY", flags.index_cache.origin(), cache.r#type);
    }
    Ok(cache.config.size(&flags.index_cache.origin())?.unwrap_or(size))
}

/// `--store.caching-bucket.config`
#[derive(Deserialize)]
struct CachingBucketYaml {
    r#type: String,
    /// For memory read below; for other types whatever they want.
    #[serde(default)]
    config: serde_json::Value,
    #[serde(default = "piece")]
    chunk_subrange_size: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

fn piece() -> u64 {
    16_000
}

/// Keys of Thanos that mean nothing here: listings and descriptions are kept by the sync, blocks do not change.
const MEANINGLESS: [&str; 8] = [
    "max_chunks_get_range_requests",
    "chunk_object_attrs_ttl",
    "chunk_subrange_ttl",
    "blocks_iter_ttl",
    "metafile_exists_ttl",
    "metafile_doesnt_exist_ttl",
    "metafile_content_ttl",
    "metafile_max_size",
];

/// Returns the cache of chunks, if there is to be one.
fn chunk_cache(config: &Config, metrics: &Metrics) -> anyhow::Result<Option<ChunkCache>> {
    let flag = &config.cache.caching_bucket;
    let Some(cache) = flag.parse::<CachingBucketYaml>()? else { return Ok(None) };
    if let Some(unknown) = cache.rest.keys().find(|key| !MEANINGLESS.contains(&key.as_str())) {
        anyhow::bail!("{}: unknown key {unknown}", flag.origin());
    }
    if cache.chunk_subrange_size == 0 {
        anyhow::bail!("{}: chunk_subrange_size must not be 0", flag.origin());
    }
    if !cache.r#type.eq_ignore_ascii_case("IN-MEMORY") {
        tracing::warn!(
            "{}: type {} has no effect yet, chunks are read from the bucket every time; IN-MEMORY is there",
            flag.origin(),
            cache.r#type
        );
        return Ok(None);
    }
    let memory: InMemory = if cache.config.is_null() {
        InMemory::default()
    } else {
        serde_json::from_value(cache.config).with_context(|| format!("{}: config", flag.origin()))?
    };
    let size = memory.size(&flag.origin())?.unwrap_or(CHUNK_CACHE);
    let size = fit_memory("the cache of chunks", size, 15);
    Ok(Some(ChunkCache::new(size, cache.chunk_subrange_size, metrics.clone())))
}

/// Returns the smaller of two limits; 0 is none.
fn smaller_of(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

/// Returns how the store divides the blocks with others, and who looks for these.
fn shards(
    config: &Config,
    process: &Process,
    bucket: &str,
    instance_id: &str,
    metrics: &Metrics,
) -> anyhow::Result<Option<(Shards, Siblings)>> {
    let flags = &config.shards;
    if flags.shards == ShardMode::Off {
        return Ok(None);
    }
    let grpc = &config.as_ref().grpc;
    let port = grpc.address.port();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("the name of this host")?;
    let host = host.trim();
    let services = match flags.services.as_slice() {
        [] => {
            let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            let domain = own_domain(&hosts, host).with_context(|| {
                format!(
                    "--store.shards=auto: /etc/hosts gives {host} no domain, as it does in a StatefulSet with a headless \
                     service; name the service with --farview.store-service=dns+NAME:PORT"
                )
            })?;
            vec![format!("dns+{domain}:{port}")]
        }
        services => services.to_vec(),
    };
    let services = services.iter().map(|text| text.parse::<Target>());
    let services = services.collect::<Result<Vec<_>, _>>().context("--farview.store-service")?;
    let name = flags.name.clone().unwrap_or_else(|| format!("{host}:{port}"));
    // Stores that choose blocks differently do not divide the same ones.
    let choice = config.bucket.selector.read()?.map(|text| text.expose().to_owned()).unwrap_or_default();
    let (min_time, max_time) = (&config.bucket.min_time, &config.bucket.max_time);
    let same = format!("{bucket} {min_time:?} {max_time:?} {} {choice}", flags.replicas);
    let group = format!("1-{:016x}", xxhash_rust::xxh64::xxh64(same.as_bytes(), 0));
    tracing::info!(name, group, ?services, "dividing the blocks with the other stores of the service");
    let member = Member { group, name, replicas: flags.replicas, hold: flags.hold.into() };
    let hickory = HickoryConfig { name_servers: flags.dns_servers.clone(), ..HickoryConfig::default() };
    let lookup = Arc::new(HickoryLookup::new(hickory).context("DNS")?);
    // They are served as this one is; whom they name as theirs is checked by queries, not here.
    let tls = ClientTls::among_members(grpc.tls_cert.as_ref(), grpc.tls_key.as_ref())?;
    let dns = process.registry.register(|registry| DnsMetrics::register(registry, &["farview_store_siblings"]));
    let shards = Shards::new(member);
    let (instance_id, metrics) = (instance_id.to_owned(), metrics.clone());
    let siblings = Siblings::follow(services, lookup, tls, dns, shards.clone(), instance_id, metrics);
    Ok(Some((shards, siblings)))
}

/// Returns the domain of a host by what `/etc/hosts` says of it: that of a pod of a StatefulSet is its headless service.
fn own_domain(hosts: &str, host: &str) -> Option<String> {
    let names = hosts.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace().skip(1));
    let mut domains = names.filter_map(|name| name.strip_prefix(host)?.strip_prefix('.'));
    domains.next().filter(|domain| !domain.is_empty()).map(str::to_owned)
}

impl farview_bootstrap::App for App {
    type Config = Config;

    async fn build(config: Config, process: Process) -> anyhow::Result<Self> {
        let (flags, cache) = (&config.bucket, &config.cache);
        let bucket = BucketConfig::read(&flags.objstore)?.context("the object store's configuration is empty")?;
        let bucket = bucket.open(process.registry.register(BucketMetrics::register))?;
        let rules: Vec<RelabelConfig> = match flags.selector.read()? {
            Some(text) => yaml::from_str(text.expose(), &flags.selector.origin())?,
            None => Vec::new(),
        };
        let metrics = process.registry.register(Metrics::register);
        let folder = cache.data_dir.clone();
        std::fs::create_dir_all(&folder).with_context(|| format!("--data-dir={}", folder.display()))?;
        let headers = cache.keep_headers.then(|| folder.clone());
        let header_memory = fit_memory("--store.index-header-memory", cache.header_memory.get(), 15);
        let access = Access {
            headers: Headers::new(&bucket, headers, header_memory, metrics.clone()),
            cache: IndexCache::new(fit_memory("the index cache", index_cache_size(&config)?, 15), metrics.clone()),
            chunk_cache: chunk_cache(&config, &metrics)?,
            bucket: bucket.clone(),
            metrics: metrics.clone(),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
        };
        let flags = &config.limits;
        let total_bytes = fit_memory("--chunk-pool-size", flags.total_bytes.get(), 40);
        let limits = Limits {
            series: smaller_of(flags.request_series, flags.touched_series),
            samples: smaller_of(flags.request_samples, flags.sample_limit),
            downloaded: flags.downloaded_bytes.as_usize() as u64,
            bytes: flags.request_bytes.as_usize() as u64,
            share: total_bytes / flags.series_concurrency.max(1) as u64,
            timeout: flags.request_timeout.into(),
            min_time: config.bucket.min_time,
            max_time: config.bucket.max_time,
            laziness: Laziness { enabled: flags.lazy_postings, ratio: flags.max_key_series_ratio },
        };
        metrics.gate_max.set(flags.series_concurrency as i64);
        let (blocks, status) = (Arc::new(ArcSwap::default()), Arc::new(ArcSwap::default()));
        let store = BucketStore {
            blocks: Arc::clone(&blocks),
            status: Arc::clone(&status),
            limits: limits.clone(),
            budget: Budget::root("--chunk-pool-size", total_bytes),
            gate: Arc::new(Semaphore::new(flags.series_concurrency.max(1))),
            metrics: metrics.clone(),
        };
        let instance_id = ulid::Ulid::generate().to_string();
        let (shards, siblings) = shards(&config, &process, bucket.name(), &instance_id, &metrics)?.unzip();
        let info = BucketInfo {
            blocks: Arc::clone(&blocks),
            status: Arc::clone(&status),
            limits: limits.clone(),
            instance_id,
            shards: shards.clone(),
        };
        let service = config.as_ref();
        let grpc = GrpcServer::builder(farview_proto::FILE_DESCRIPTOR_SET)
            .add_service(StoreServer::new(Arc::new(store)))
            .add_service(InfoServer::new(info))
            .bind(&service.grpc, &process)
            .await?;
        let routes = if config.web.disable {
            Router::new()
        } else {
            let pages = Pages { blocks: Arc::clone(&blocks), status: Arc::clone(&status) };
            pages::router(pages).layer(CompressionLayer::new().gzip(true))
        };
        let http = HttpServer::bind(&service.http, routes, &process).await?;
        let flags = &config.bucket;
        let latch = process.readiness.latch("first listing of the bucket");
        latch.close("not done yet");
        let syncer = Syncer {
            fetcher: MetaFetcher::new(
                bucket.purpose(Purpose::Sync),
                Some(folder.join("meta-syncer")),
                flags.meta_concurrency,
            ),
            access,
            blocks,
            status,
            choice: Choice {
                rules,
                consistency_delay: flags.consistency_delay.as_millis(),
                deletion_mark_delay: flags.deletion_mark_delay.as_millis(),
            },
            limits,
            metrics,
            readiness: process.readiness.clone(),
            latch,
            shards,
            fetched: Fetched::default(),
            interval: flags.sync_interval.into(),
            warm: match config.cache.header_download {
                HeaderDownload::Eager if config.cache.keep_headers => flags.header_concurrency,
                _ => 0,
            },
        };
        if let Some(siblings) = siblings {
            process.tasks.spawn("siblings", move |stop| siblings.run(stop));
        }
        process.tasks.spawn("sync", move |stop| syncer.run(stop));
        Ok(Self { servers: Servers::new(process, service, http, Some(grpc)) })
    }

    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.servers.run(shutdown).await
    }
}

#[cfg(test)]
mod tests {
    use super::own_domain;

    #[test]
    fn a_pod_finds_its_headless_service_in_its_hosts_file() {
        let hosts = "127.0.0.1\tlocalhost\n10.0.0.7\tstore-0.store.mon.svc.cluster.local\tstore-0\n# store-0.no\n";
        assert_eq!(own_domain(hosts, "store-0").as_deref(), Some("store.mon.svc.cluster.local"));
        assert_eq!(own_domain("10.0.0.7 store-0\n10.0.0.8 store-01.x\n", "store-0"), None);
    }
}
