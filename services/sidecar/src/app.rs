//! The parts of a sidecar, put together.

use crate::config::Config;
use crate::heartbeat::Heartbeat;
use crate::info::SidecarInfo;
use crate::metrics::{Metrics, ReloaderMetrics};
use crate::prometheus::Prometheus;
use crate::prometheus::auth::{Auth, HttpClientConfig};
use crate::proxy::Proxy;
use crate::reloader::Reloader;
use crate::siblings::{Own, Siblings};
use crate::state::State;
use crate::store::{Limits, PrometheusStore};
use crate::upload::{Flush, Rules, Upload};
use anyhow::Context;
use axum::Router;
use farview_block::{Shipper, ShipperConfig, ShipperMetrics, Source};
use farview_bootstrap::{CancellationToken, GrpcServer, HttpServer, Process, Servers};
use farview_channels::ClientTls;
use farview_discovery::{DnsMetrics, HickoryConfig, HickoryLookup, Target};
use farview_model::Budget;
use farview_objstore::{BucketConfig, BucketMetrics, Purpose};
use farview_proto::thanos::{self, info::info_server::InfoServer};
use farview_storeapi::StoreServer;
use std::sync::Arc;
use std::time::Duration;

/// A sidecar that is bound and not yet serving.
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

/// Follows the other sidecars, if it is known where they are.
fn siblings(
    config: &Config,
    process: &Process,
    heartbeat: &Heartbeat,
    instance_id: String,
) -> anyhow::Result<Option<Siblings>> {
    let flags = &config.prometheus;
    if flags.sidecar_services.is_empty() {
        return Ok(None);
    }
    let services = flags.sidecar_services.iter().map(|text| text.parse::<Target>());
    let services = services.collect::<Result<Vec<_>, _>>().context("--farview.sidecar-service")?;
    let hickory = HickoryConfig { name_servers: flags.dns_servers.clone(), ..HickoryConfig::default() };
    let lookup = Arc::new(HickoryLookup::new(hickory).context("DNS")?);
    // They are served as this one is. Who they are is only reported, never acted on: their certificates need not be checked.
    let grpc = &config.as_ref().grpc;
    let tls = ClientTls::among_members(grpc.tls_cert.as_ref(), grpc.tls_key.as_ref())?;
    let dns = process.registry.register(|registry| DnsMetrics::register(registry, &["farview_sidecar_siblings"]));
    Ok(Some(Siblings::follow(
        services,
        lookup,
        tls,
        dns,
        Own {
            state: Arc::clone(&heartbeat.state),
            metrics: heartbeat.metrics.clone(),
            readiness: process.readiness.clone(),
            instance_id,
        },
    )))
}

/// Uploads blocks, if it is known where to.
fn upload(config: &Config, process: &Process, heartbeat: &Heartbeat) -> anyhow::Result<Option<Upload>> {
    let flags = &config.upload;
    let Some(bucket) = BucketConfig::read(&flags.objstore)? else { return Ok(None) };
    let bucket = bucket.open(process.registry.register(BucketMetrics::register))?;
    let shipper = ShipperConfig {
        folder: flags.tsdb_path.clone(),
        state_file: flags.meta_file_name.clone(),
        upload_compacted: flags.upload_compacted,
        allow_out_of_order: flags.allow_out_of_order_uploads,
        skip_corrupted: flags.skip_corrupted_blocks,
        concurrency: flags.upload_concurrency,
        hash: !flags.hash_func.is_empty(),
        source: Source(Source::SIDECAR.to_owned()),
    };
    let metrics = process.registry.register(ShipperMetrics::register);
    let bucket = bucket.purpose(Purpose::Upload);
    let flush = flags.flush_on_shutdown.then(|| Flush {
        bucket: bucket.clone(),
        config: shipper.clone(),
        metrics: metrics.clone(),
    });
    Ok(Some(Upload {
        shipper: Shipper::new(bucket, shipper, metrics),
        flush,
        prometheus: heartbeat.prometheus.clone(),
        state: Arc::clone(&heartbeat.state),
        readiness: process.readiness.clone(),
        rules: Rules::new(flags),
        timeout: config.prometheus.config_timeout.into(),
    }))
}

impl farview_bootstrap::App for App {
    type Config = Config;

    async fn build(config: Config, process: Process) -> anyhow::Result<Self> {
        let client: HttpClientConfig =
            config.prometheus.http_client.parse().context("--prometheus.http-client")?.unwrap_or_default();
        let prometheus = Prometheus::new(config.prometheus.url.clone(), Auth::new(client))?;
        let state = Arc::new(State::default());
        let metrics = process.registry.register(Metrics::register);
        let timeout = Duration::from(config.store.request_timeout);
        let min_time = config.store.min_time;
        let store = Arc::new(PrometheusStore {
            prometheus: prometheus.clone(),
            state: Arc::clone(&state),
            limits: Limits {
                series: config.store.request_series,
                samples: config.store.request_samples,
                min_time,
                request_bytes: config.store.request_bytes.as_usize() as u64,
                timeout,
            },
            budget: Budget::root("--store.limits.total-bytes", config.store.total_bytes.as_usize() as u64),
            metrics: metrics.clone(),
        });
        let instance_id = ulid::Ulid::generate().to_string();
        let info = SidecarInfo { state: Arc::clone(&state), instance_id: instance_id.clone(), min_time };
        let proxy = Proxy { prometheus: prometheus.clone(), state: Arc::clone(&state), timeout };
        let service = config.as_ref();
        let grpc = GrpcServer::builder(farview_proto::FILE_DESCRIPTOR_SET)
            .add_service(StoreServer::new(store))
            .add_service(InfoServer::new(info))
            .add_service(thanos::rules_server::RulesServer::new(proxy.clone()))
            .add_service(thanos::targets_server::TargetsServer::new(proxy.clone()))
            .add_service(thanos::metadata_server::MetadataServer::new(proxy.clone()))
            .add_service(thanos::exemplars_server::ExemplarsServer::new(proxy.clone()))
            .add_service(thanos::status_server::StatusServer::new(proxy))
            .bind(&service.grpc, &process)
            .await?;
        let http = HttpServer::bind(&service.http, Router::new(), &process).await?;
        let latch = process.readiness.latch("Prometheus");
        latch.close("it has not been asked yet");
        let heartbeat = Heartbeat {
            prometheus,
            state,
            metrics,
            latch,
            interval: config.prometheus.heartbeat.into(),
            config_interval: config.prometheus.config_interval.into(),
            config_timeout: config.prometheus.config_timeout.into(),
            ready_timeout: config.prometheus.ready_timeout.into(),
        };
        if let Some(siblings) = siblings(&config, &process, &heartbeat, instance_id)? {
            process.tasks.spawn("siblings", move |stop| siblings.run(stop));
        }
        let reloader_metrics = process.registry.register(ReloaderMetrics::register);
        if let Some(reloader) = Reloader::new(&config.reloader, heartbeat.prometheus.clone(), reloader_metrics) {
            process.tasks.spawn("reloader", move |stop| reloader.run(stop));
        }
        if let Some(upload) = upload(&config, &process, &heartbeat)? {
            process.tasks.spawn("upload", move |stop| upload.run(stop));
        }
        process.tasks.spawn("heartbeat", move |stop| heartbeat.run(stop));
        Ok(Self { servers: Servers::new(process, service, http, Some(grpc)) })
    }

    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.servers.run(shutdown).await
    }
}
