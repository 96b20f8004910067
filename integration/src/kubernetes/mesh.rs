//! A service of a mesh: a real Envoy in front of an application, and a client that counts what it sends.
//!
//! Envoy exports its own metrics. What Istio's telemetry and Linkerd's proxy would export of the same requests, under their names
//! and with their labels, is what the client has seen. Their control planes do not run here: of istiod only the metrics that
//! dashboards show are exported, as if it had one proxy and told it so at each request that fails.

use super::tool;
use anyhow::{Context, ensure};
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// Upper bounds of the buckets of latency, ms: Istio's.
const BUCKETS: [f64; 14] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0];

/// How long Envoy may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

type Labels = Vec<(&'static str, &'static str)>;

/// A service that runs, called `checkout` and called by `web`, both in `shop`. Dropping it ends it.
#[derive(Debug)]
pub struct Service {
    _envoy: Child,
    /// Keeps the servers going.
    _servers: JoinSet<std::io::Result<()>>,
    client: reqwest::Client,
    proxy: SocketAddr,
    admin: SocketAddr,
    telemetry: Telemetry,
    /// Of Istio's telemetry, of istiod, of Linkerd's proxy.
    exporters: [SocketAddr; 3],
    succeeded: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
}

impl Service {
    /// Starts Envoy, which logs to `dir`, the application behind it and the exporters beside it.
    ///
    /// # Errors
    /// If one cannot be started.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut servers = JoinSet::new();
        let application = Router::new()
            .route("/ok", get(|| async { "done" }))
            .route("/fail", get(|| async { StatusCode::SERVICE_UNAVAILABLE }));
        let application = serve(&mut servers, application).await?;
        let (mut istio, mut istiod, mut linkerd) = (Registry::default(), Registry::default(), Registry::default());
        let telemetry = Telemetry::register(&mut istio, &mut istiod, &mut linkerd);
        let exporters = [
            serve(&mut servers, exporter("/stats/prometheus", istio)).await?,
            serve(&mut servers, exporter("/metrics", istiod)).await?,
            serve(&mut servers, exporter("/metrics", linkerd)).await?,
        ];
        let (envoy, admin) = envoy(dir, application).await?;
        let client = reqwest::Client::new();
        let status: Value = client.get(format!("http://{admin}/listeners?format=json")).send().await?.json().await?;
        let port = status["listener_statuses"][0]["local_address"]["socket_address"]["port_value"].as_u64();
        let port = u16::try_from(port.context("Envoy listens nowhere")?)?;
        Ok(Self {
            _envoy: envoy,
            _servers: servers,
            client,
            proxy: (Ipv4Addr::LOCALHOST, port).into(),
            admin,
            telemetry,
            exporters,
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            slowest_us: AtomicU64::new(0),
        })
    }

    /// Sends a request through Envoy, to be answered well or not.
    ///
    /// # Errors
    /// If the answer is neither the application's nor whole.
    pub async fn request(&self, fail: bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let path = if fail { "fail" } else { "ok" };
        let response = self.client.get(format!("http://{}/{path}", self.proxy)).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        let took = begun.elapsed();
        ensure!(status == if fail { 503 } else { 200 }, "/{path} answered {status}");
        let counter = if fail { &self.failed } else { &self.succeeded };
        counter.fetch_add(1, Ordering::Relaxed);
        self.slowest_us.fetch_max(u64::try_from(took.as_micros())?, Ordering::Relaxed);
        self.telemetry.record(fail, took, body.len() as u64);
        Ok(())
    }

    /// Returns how many requests were answered well, and how many not.
    pub fn answered(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Returns a time that no request took, s: the upper bound of the bucket that the slowest one is in.
    pub fn slowest(&self) -> f64 {
        let ms = self.slowest_us.load(Ordering::Relaxed) as f64 / 1_000.0;
        BUCKETS.into_iter().find(|bound| *bound >= ms).unwrap_or(f64::INFINITY) / 1_000.0
    }

    /// Returns what Kubernetes' service discovery would find of it.
    pub fn targets(&self) -> Vec<Value> {
        let [istio, istiod, linkerd] = self.exporters;
        let target = |address: SocketAddr, namespace: &str, pod: &str, rest: &[(&str, &str)]| {
            let mut labels = json!({"__meta_kubernetes_namespace": namespace, "__meta_kubernetes_pod_name": pod});
            for (name, value) in rest {
                labels[format!("__meta_kubernetes_{name}")] = (*value).into();
            }
            json!({"targets": [address.to_string()], "labels": labels})
        };
        let proxy = [("pod_container_name", "istio-proxy"), ("pod_container_port_name", "http-envoy-prom")];
        let meshed = [
            ("pod_container_name", "linkerd-proxy"),
            ("pod_container_port_name", "linkerd-admin"),
            ("pod_label_linkerd_io_control_plane_ns", "linkerd"),
            ("pod_label_linkerd_io_proxy_deployment", "checkout"),
        ];
        let control = [("service_label_app", "istiod"), ("endpointslice_port_name", "http-monitoring")];
        vec![
            target(self.admin, "shop", "checkout-envoy", &proxy),
            target(istio, "shop", "checkout-telemetry", &proxy),
            target(istiod, "istio-system", "istiod-0", &control),
            target(linkerd, "shop", "checkout-linkerd", &meshed),
        ]
    }
}

/// What is recorded of each request.
#[derive(Debug)]
struct Telemetry {
    istio_requests: Family<Labels, Counter>,
    istio_durations: Family<Labels, Histogram, Buckets>,
    istio_sent: Family<Labels, Counter>,
    istio_received: Family<Labels, Counter>,
    linkerd_responses: Family<Labels, Counter>,
    linkerd_latencies: Family<Labels, Histogram, Buckets>,
    /// istiod's counters have no `_total`, which a counter cannot lack here.
    pilot_pushes: Family<Labels, Gauge>,
    pilot_convergence: Histogram,
}

#[derive(Debug, Clone, Copy)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

/// The callers and the called, as Istio names them.
const ISTIO: [(&str, &str); 6] = [
    ("source_workload", "web"),
    ("source_workload_namespace", "shop"),
    ("destination_workload", "checkout"),
    ("destination_workload_namespace", "shop"),
    ("destination_service_name", "checkout"),
    ("destination_service_namespace", "shop"),
];

impl Telemetry {
    fn register(istio: &mut Registry, istiod: &mut Registry, linkerd: &mut Registry) -> Self {
        let this = Self {
            istio_requests: family(istio, "istio_requests", Family::default()),
            istio_durations: family(
                istio,
                "istio_request_duration_milliseconds",
                Family::new_with_constructor(Buckets),
            ),
            istio_sent: family(istio, "istio_tcp_sent_bytes", Family::default()),
            istio_received: family(istio, "istio_tcp_received_bytes", Family::default()),
            linkerd_responses: family(linkerd, "response", Family::default()),
            linkerd_latencies: family(linkerd, "response_latency_ms", Family::new_with_constructor(Buckets)),
            pilot_pushes: family(istiod, "pilot_xds_pushes", Family::default()),
            pilot_convergence: family(istiod, "pilot_proxy_convergence_time", Histogram::new([0.1, 1.0, 10.0])),
        };
        for fail in [false, true] {
            this.count(fail, 0);
        }
        let connections: Family<Labels, Gauge> = family(linkerd, "tcp_open_connections", Family::default());
        connections.get_or_create(&vec![("direction", "inbound"), ("peer", "src")]).set(1);
        let proxies: Gauge = family(istiod, "pilot_xds", Gauge::default());
        proxies.set(1);
        let _: Gauge = family(istiod, "pilot_total_xds_rejects", Gauge::default());
        this
    }

    fn count(&self, fail: bool, requests: u64) {
        let code = if fail { "503" } else { "200" };
        let labels =
            with(&[("reporter", "destination"), ("response_code", code), ("connection_security_policy", "none")]);
        self.istio_requests.get_or_create(&labels).inc_by(requests);
        let classification = if fail { "failure" } else { "success" };
        let inbound = vec![("direction", "inbound"), ("classification", classification), ("tls", "no_identity")];
        self.linkerd_responses.get_or_create(&inbound).inc_by(requests);
        let outbound = vec![
            ("direction", "outbound"),
            ("dst_namespace", "shop"),
            ("dst_service", "checkout"),
            ("classification", classification),
        ];
        self.linkerd_responses.get_or_create(&outbound).inc_by(requests);
    }

    fn record(&self, fail: bool, took: Duration, bytes: u64) {
        self.count(fail, 1);
        let ms = took.as_secs_f64() * 1_000.0;
        self.istio_durations.get_or_create(&with(&[("reporter", "destination")])).observe(ms);
        self.linkerd_latencies.get_or_create(&vec![("direction", "inbound")]).observe(ms);
        self.istio_sent.get_or_create(&with(&[("reporter", "source")])).inc();
        self.istio_received.get_or_create(&with(&[("reporter", "source")])).inc_by(bytes);
        if fail {
            self.pilot_pushes.get_or_create(&vec![("type", "eds")]).inc();
            self.pilot_convergence.observe(took.as_secs_f64());
        }
    }
}

fn with(rest: &[(&'static str, &'static str)]) -> Labels {
    [&ISTIO, rest].concat()
}

/// Registers a metric under its name.
fn family<M: Metric + Clone>(registry: &mut Registry, name: &str, metric: M) -> M {
    registry.register(name, "As the mesh names it", metric.clone());
    metric
}

fn exporter(path: &str, registry: Registry) -> Router {
    let registry = Arc::new(registry);
    let text = move || {
        let mut text = String::new();
        let encoded = encode(&mut text, &registry).map(|()| text);
        let answer = encoded.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        async move { answer.map(|text| ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0")], text)) }
    };
    Router::new().route(path, get(text))
}

/// Serves on a free port.
async fn serve(servers: &mut JoinSet<std::io::Result<()>>, router: Router) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    servers.spawn(axum::serve(listener, router).into_future());
    Ok(address)
}

/// Starts a real Envoy in front of an address; returns where its administration, and so its metrics, are.
async fn envoy(dir: &Path, upstream: SocketAddr) -> anyhow::Result<(Child, SocketAddr)> {
    let at = |address: SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let anywhere = at((Ipv4Addr::LOCALHOST, 0).into());
    let extension = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
    let manager = json!({
        "@type": extension("network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "inbound",
        "route_config": {"virtual_hosts": [{
            "name": "checkout", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "checkout"}}],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": extension("http.router.v3.Router")},
        }],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let endpoint = json!({"endpoint": {"address": at(upstream)}});
    let config = json!({
        "admin": {"address": anywhere},
        "static_resources": {
            "listeners": [{"name": "inbound", "address": anywhere, "filter_chains": [{"filters": [filter]}]}],
            "clusters": [{
                "name": "checkout", "type": "STATIC", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "checkout", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }],
        },
    });
    let log = std::fs::File::create(dir.join("envoy.log"))?;
    let address = dir.join("envoy-admin");
    let mut child = Command::new(tool("envoy/envoy/_bin/envoy")?)
        // JSON is YAML.
        .args(["--config-yaml", &config.to_string(), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
        .arg("--admin-address-path")
        .arg(&address)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("start Envoy")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A file that is there may not be written yet.
        let written = std::fs::read_to_string(&address).unwrap_or_default();
        if let Ok(admin) = written.trim().parse() {
            return Ok((child, admin));
        }
        let log = || std::fs::read_to_string(dir.join("envoy.log")).unwrap_or_default();
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("Envoy ended with {status}:\n{}", log());
        }
        ensure!(Instant::now() < deadline, "Envoy does not listen after {PATIENCE:?}:\n{}", log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
