//! The parts of a query service, put together.

use crate::active::ActiveQueries;
use crate::api::{self, Api, Settings};
use crate::config::{Config, Dedup};
use crate::endpoints::{Endpoints, Wanted};
use crate::engine::{Gate, QueryEngine};
use crate::fanout::{Deadlines, Fanout};
use crate::federate::Federate;
use crate::grpc::{Grpc, RequestLimits, Services};
use crate::metrics::Metrics;
use crate::replicas::Replicas;
use anyhow::Context;
use axum::Router;
use farview_bootstrap::{CancellationToken, GrpcServer, HttpServer, Process, Servers};
use farview_channels::{ChannelConfig, ClientMetrics, ClientTls, ClientTlsConfig, TlsVersion};
use farview_discovery::{DnsMetrics, HickoryConfig, HickoryLookup, Lookup};
use farview_model::{Budget, Labels, TimeRange};
use farview_promql::engine::{Engine, EngineOptions};
use farview_promql::parse;
use farview_proto::thanos::{self, info::info_server::InfoServer};
use farview_series::DedupFunc;
use farview_storeapi::StoreServer;
use farview_telemetry::Latch;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;

/// A query service that is bound and not yet serving.
pub struct App {
    servers: Servers,
}

/// For so long the service waits for its endpoints before it says it is ready without some of them.
const FIRST_ROUND: Duration = Duration::from_secs(30);

/// A frame may be this late by default.
const FRAME_GAP: Duration = Duration::from_secs(30);

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

fn engine_options(config: &Config) -> anyhow::Result<EngineOptions> {
    let query = &config.query;
    let limits = parse::Limits {
        bytes: config.limits.max_text_bytes,
        depth: config.limits.max_depth,
        height: config.limits.max_terms,
    };
    let mut options = EngineOptions {
        lookback_delta: query.lookback_delta.map_or(300_000, |delta| delta.as_millis()),
        default_subquery_step: query.default_interval.as_millis(),
        max_samples: config.limits.max_samples,
        parse: parse::Options { x_functions: query.x_functions, limits, ..parse::Options::default() },
        ..EngineOptions::default()
    };
    if query.workers > 0 {
        options.workers = query.workers;
    }
    for feature in &query.features {
        match feature.as_str() {
            "promql-experimental-functions" => options.parse.experimental_functions = true,
            "promql-extended-range-selectors" => options.parse.extended_range_selectors = true,
            "promql-binop-fill-modifiers" => options.parse.fill_modifiers = true,
            "promql-delayed-name-removal" => options.delayed_name_removal = true,
            // On since the versions of Prometheus that are followed here.
            "promql-at-modifier" | "promql-negative-offset" | "native-histograms" | "promql-duration-expr" | "" => {}
            other => anyhow::bail!(
                "--enable-feature={other}: unknown feature; there are promql-experimental-functions, \
                 promql-extended-range-selectors, promql-binop-fill-modifiers, promql-delayed-name-removal"
            ),
        }
    }
    Ok(options)
}

fn client_tls(config: &Config) -> anyhow::Result<Option<Arc<ClientTls>>> {
    let flags = &config.client;
    if !flags.secure {
        return Ok(None);
    }
    let tls = ClientTls::new(ClientTlsConfig {
        ca_file: flags.ca.clone(),
        cert_file: flags.cert.clone(),
        key_file: flags.key.clone(),
        server_name: flags.server_name.clone(),
        insecure_skip_verify: flags.skip_verify,
        min_version: match flags.min_version {
            farview_bootstrap::MinTls::V1_3 => TlsVersion::V13,
            _ => TlsVersion::V12,
        },
        ..ClientTlsConfig::default()
    });
    Ok(Some(Arc::new(tls.context("--grpc-client-tls-*")?)))
}

/// Reads `name="value"`.
fn selector_labels(texts: &[String]) -> anyhow::Result<Labels> {
    let mut pairs = Vec::new();
    for text in texts {
        let (name, value) =
            text.split_once('=').with_context(|| format!("--selector-label={text}: expected name=\"value\""))?;
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(Labels::from_pairs(pairs))
}

impl farview_bootstrap::App for App {
    type Config = Config;

    async fn build(config: Config, process: Process) -> anyhow::Result<Self> {
        let (query, limits) = (&config.query, &config.limits);
        if config.web.tenant_certificate_field.is_some() {
            anyhow::bail!(
                "--query.tenant-certificate-field is not supported: name the tenant with --query.tenant-header"
            );
        }
        let lookup: Arc<dyn Lookup> = Arc::new(
            HickoryLookup::new(HickoryConfig {
                name_servers: config.endpoint.dns_servers.clone(),
                ..HickoryConfig::default()
            })
            .context("DNS")?,
        );
        let tls = client_tls(&config)?;
        let max_message = limits.max_message_bytes.as_usize();
        let channel = ChannelConfig { max_message, ..ChannelConfig::default() };
        let prefixes = ["thanos_query_endpoints", "thanos_query_store_apis"];
        let dns_metrics = process.registry.register(|registry| DnsMetrics::register(registry, &prefixes));
        let calls = process.registry.register(ClientMetrics::register);
        let endpoints = Arc::new(Endpoints::start(&config.endpoint, channel, tls, lookup, dns_metrics, calls.clone())?);

        let gap = Duration::from(limits.response_timeout);
        let fanout = Arc::new(Fanout {
            endpoints: Arc::clone(&endpoints),
            replicas: Replicas::default(),
            deadlines: Deadlines {
                first_frame: limits.first_frame.into(),
                gap: if gap.is_zero() { FRAME_GAP } else { gap },
            },
            max_message_bytes: max_message,
            max_series: limits.max_series,
            calls,
        });
        let metrics = process.registry.register(|registry| Metrics::register(registry, query.max_concurrent));
        let engine = Engine::new(engine_options(&config)?).context("start the engine's workers")?;
        let process_budget = Budget::root("--query.max-total-bytes", limits.max_total_bytes.as_usize() as u64);
        let active =
            query.active_query_path.as_deref().map(|dir| ActiveQueries::open(dir, query.max_concurrent)).transpose()?;
        let active = active.map(|(active, before)| {
            for entry in before {
                let crate::active::Entry { query, timestamp_sec } = entry;
                tracing::warn!(query, began = timestamp_sec, "this query did not finish in the last run");
            }
            active
        });
        let engine = Arc::new(QueryEngine {
            engine: Arc::new(engine),
            fanout: Arc::clone(&fanout),
            dedup: match query.dedup {
                Dedup::Penalty => DedupFunc::Penalty,
                Dedup::Chain => DedupFunc::Chain,
            },
            gate: Gate::new(query.max_concurrent, limits.max_queued, limits.max_queue_time.into()),
            process_budget,
            query_bytes: limits.max_query_bytes.as_usize() as u64,
            metrics: metrics.clone(),
            active,
            dynamic_lookback: query.dynamic_lookback,
        });
        let federate = Arc::new(Federate { fanout, max_message_bytes: max_message });
        let tenancy = crate::run::Tenancy {
            default_tenant: config.web.default_tenant.clone(),
            enforced_label: config.web.enforce_tenancy.then(|| config.web.tenant_label.clone()),
        };

        let grpc = Arc::new(Grpc {
            engine: Arc::clone(&engine),
            endpoints: Arc::clone(&endpoints),
            federate: Arc::clone(&federate),
            tenancy: tenancy.clone(),
            timeout: query.timeout.into(),
            selector_labels: selector_labels(&config.endpoint.selector_labels)?,
            replica_labels: query.replica_labels.clone(),
            instance_id: ulid::Ulid::generate().to_string(),
            limits: RequestLimits { series: limits.request_series, samples: limits.request_samples },
        });
        let services = Services(Arc::clone(&grpc));
        let grpc_server = GrpcServer::builder(farview_proto::FILE_DESCRIPTOR_SET)
            .add_service(StoreServer::new(grpc))
            .add_service(InfoServer::new(services.clone()))
            .add_service(thanos::query_server::QueryServer::new(services.clone()))
            .add_service(thanos::rules_server::RulesServer::new(services.clone()))
            .add_service(thanos::targets_server::TargetsServer::new(services.clone()))
            .add_service(thanos::metadata_server::MetadataServer::new(services.clone()))
            .add_service(thanos::exemplars_server::ExemplarsServer::new(services.clone()))
            .add_service(thanos::status_server::StatusServer::new(services));
        let service = config.as_ref();
        let grpc_server = grpc_server.bind(&service.grpc, &process).await?;

        let api = Arc::new(Api {
            engine,
            endpoints: Arc::clone(&endpoints),
            federate,
            settings: Settings {
                replica_labels: query.replica_labels.clone(),
                partial_response: query.partial_response,
                timeout: query.timeout.into(),
                default_step: query.default_step.as_millis(),
                auto_downsampling: query.auto_downsampling,
                instant_resolution: query.instant_resolution.as_millis(),
                metadata_range: query.metadata_range.as_millis(),
                tenant_header: config.web.tenant_header.clone(),
                tenancy,
            },
            effective: process.flags.clone(),
            started: SystemTime::now(),
        });
        let mut routes = Router::new()
            .merge(crate::ui::router())
            .nest("/api/v1", api::router(api, &process.http_metrics))
            .layer(CompressionLayer::new().gzip(true));
        if !config.web.disable_cors {
            routes = routes.layer(CorsLayer::permissive());
        }
        let prefix = config.web.route_prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            routes = Router::new().nest(prefix, routes);
        }
        let http = HttpServer::bind(&service.http, routes, &process).await?;

        let latch = process.readiness.latch("first round of endpoints");
        process.tasks.spawn("endpoints", move |stop| watch_endpoints(endpoints, latch, metrics, stop));
        Ok(Self { servers: Servers::new(process, service, http, Some(grpc_server)) })
    }

    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.servers.run(shutdown).await
    }
}

/// Says ready once every endpoint has been tried, or after a while in any case; keeps the gauges.
async fn watch_endpoints(
    endpoints: Arc<Endpoints>,
    latch: Latch,
    metrics: Metrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = endpoints.changes();
    let patience = tokio::time::sleep(FIRST_ROUND);
    tokio::pin!(patience);
    let mut waited = false;
    loop {
        let all = endpoints.all();
        let in_use = all.iter().filter(|endpoint| endpoint.live.is_some()).count();
        let everything = Wanted {
            range: TimeRange::ALL,
            matchers: &[],
            store_matchers: &[],
            replica_labels: &[],
            api: crate::endpoints::Api::Store,
        };
        metrics.set_endpoints(all.len(), in_use, endpoints.matching(&everything).missing.len());
        metrics.set_connections(all.iter().filter_map(|endpoint| Some(&*endpoint.live.as_ref()?.identity)));
        if endpoints.is_tried() || waited {
            latch.open();
        } else {
            latch.close(format!("{in_use} of {} endpoints have answered", all.len()));
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            () = &mut patience, if !waited => waited = true,
        }
    }
}
