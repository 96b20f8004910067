//! The parts of a sidecar, put together.

use crate::config::Config;
use crate::heartbeat::Heartbeat;
use crate::info::SidecarInfo;
use crate::metrics::{Metrics, ReloaderMetrics};
use crate::prometheus::Prometheus;
use crate::prometheus::auth::{Auth, HttpClientConfig};
use crate::proxy::Proxy;
use crate::reloader::Reloader;
use crate::state::State;
use crate::store::{Limits, PrometheusStore};
use anyhow::Context;
use axum::Router;
use farview_bootstrap::{CancellationToken, GrpcServer, HttpServer, Process, Servers};
use farview_model::Budget;
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

impl farview_bootstrap::App for App {
    type Config = Config;

    async fn build(config: Config, process: Process) -> anyhow::Result<Self> {
        let client: HttpClientConfig =
            config.prometheus.http_client.parse().context("--prometheus.http-client")?.unwrap_or_default();
        let prometheus = Prometheus::new(config.prometheus.url.clone(), Auth::new(client))?;
        let state = Arc::new(State::default());
        let metrics = process.registry.register(Metrics::register);
        if config.upload.objstore.is_set() {
            let notice = "--objstore.config is set, but this version does not upload blocks";
            tracing::error!("{notice}");
            process.readiness.note("upload", Some(notice.to_owned()));
            state.update(|snapshot| snapshot.notices.push(notice.to_owned()));
        }
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
        let info = SidecarInfo { state: Arc::clone(&state), instance_id: ulid::Ulid::generate().to_string(), min_time };
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
        let reloader_metrics = process.registry.register(ReloaderMetrics::register);
        if let Some(reloader) = Reloader::new(&config.reloader, heartbeat.prometheus.clone(), reloader_metrics) {
            process.tasks.spawn("reloader", move |stop| reloader.run(stop));
        }
        process.tasks.spawn("heartbeat", move |stop| heartbeat.run(stop));
        Ok(Self { servers: Servers::new(process, service, http, Some(grpc)) })
    }

    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.servers.run(shutdown).await
    }
}
