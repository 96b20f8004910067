//! A service started in this process, seen through its sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use farview_bootstrap::{App, CancellationToken, GrpcServer, HttpServer, Process, Servers, ServiceFlags};
use farview_config::{Flags, parse};
use farview_telemetry::{Latch, Readiness};
use farview_testkit::prometheus::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{FILE_DESCRIPTOR_SET, HealthCheckRequest};

#[derive(Debug, clap::Args)]
struct Config {
    #[command(flatten)]
    service: ServiceFlags,
}

impl Flags for Config {
    const SERVICE: &'static str = "example";
    const ABOUT: &'static str = "Serves an example.";
}

impl AsRef<ServiceFlags> for Config {
    fn as_ref(&self) -> &ServiceFlags {
        &self.service
    }
}

struct Example {
    servers: Servers,
    latch: Latch,
    readiness: Readiness,
    requests: Arc<AtomicUsize>,
}

impl App for Example {
    type Config = Config;

    async fn build(config: Config, process: Process) -> anyhow::Result<Self> {
        let requests = Arc::new(AtomicUsize::new(0));
        let begun = |requests: &Arc<AtomicUsize>| {
            let requests = Arc::clone(requests);
            move || requests.fetch_add(1, Ordering::SeqCst)
        };
        let (slow, never) = (begun(&requests), begun(&requests));
        let slow = move || async move {
            slow();
            tokio::time::sleep(Duration::from_millis(600)).await;
            "slow"
        };
        let never = move || async move {
            never();
            std::future::pending::<()>().await;
        };
        let router: Router = Router::new()
            .route("/slow", get(slow))
            .route("/never", get(never))
            .route("/panic", get(|| async { panic!("on purpose") as () }))
            .route("/echo", post(|body: String| async { body }));
        let latch = process.readiness.latch("example");
        let readiness = process.readiness.clone();
        let http = HttpServer::bind(&config.service.http, router, &process).await?;
        let grpc = GrpcServer::builder(FILE_DESCRIPTOR_SET).bind(&config.service.grpc, &process).await?;
        Ok(Self { servers: Servers::new(process, &config.service, http, Some(grpc)), latch, readiness, requests })
    }

    async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.servers.run(shutdown).await
    }
}

struct Running {
    http: SocketAddr,
    grpc: SocketAddr,
    latch: Latch,
    readiness: Readiness,
    requests: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
}

async fn start(extra: &[&str]) -> Running {
    let mut argv = vec!["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"];
    argv.extend(extra);
    let app = Example::build(parse(argv).unwrap(), Process::for_test("example")).await.unwrap();
    let shutdown = CancellationToken::new();
    Running {
        http: app.servers.http_address(),
        grpc: app.servers.grpc_address().unwrap(),
        latch: app.latch.clone(),
        readiness: app.readiness.clone(),
        requests: Arc::clone(&app.requests),
        served: tokio::spawn(app.run(shutdown.clone())),
        shutdown,
    }
}

/// Sends bytes and returns what comes until the server closes.
async fn talk(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn fetch(address: SocketAddr, path: &str) -> String {
    talk(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn health(address: SocketAddr) -> ServingStatus {
    let mut client = HealthClient::new(channel(address).await);
    client.check(HealthCheckRequest::default()).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn readiness_is_the_same_over_http_and_grpc() {
    let running = start(&[]).await;
    assert!(fetch(running.http, "/-/ready").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(health(running.grpc).await, ServingStatus::NotServing);
    running.latch.open();
    assert!(fetch(running.http, "/-/ready").await.starts_with("HTTP/1.1 200 "));
    eventually("health serves", async || health(running.grpc).await == ServingStatus::Serving).await;
    let metrics = fetch(running.http, "/metrics").await;
    let counted = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Check\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"unary\"}";
    assert!(metrics.contains(counted), "{metrics}");
    running.shutdown.cancel();
    running.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let running = start(&[]).await;
    health(running.grpc).await;
    fetch(running.http, "/panic").await;
    let answer = fetch(running.http, "/metrics").await;
    let (_, metrics) = answer.split_once("\r\n\r\n").unwrap();
    let mut promtool = std::process::Command::new(Version::Two.promtool().unwrap())
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut promtool.stdin.take().unwrap(), metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&output.stderr));
    assert!(metrics.contains("process_resident_memory_bytes ") && metrics.contains("thanos_build_info{"), "{metrics}");
}

#[tokio::test]
async fn requests_under_way_are_finished_and_new_ones_are_not_taken() {
    let running = start(&[]).await;
    let slow = tokio::spawn(fetch(running.http, "/slow"));
    in_flight(&running).await;
    running.shutdown.cancel();
    assert!(slow.await.unwrap().ends_with("slow"));
    running.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(running.http).await.is_err());
    assert!(TcpStream::connect(running.grpc).await.is_err());
}

#[tokio::test]
async fn while_draining_everything_is_served_and_nothing_is_ready() {
    let running = start(&["--farview.drain-delay=1h"]).await;
    running.latch.open();
    running.shutdown.cancel();
    eventually("not ready", async || !running.readiness.is_ready()).await;
    assert!(fetch(running.http, "/-/ready").await.contains("shutting down"));
    eventually("health stops serving", async || health(running.grpc).await == ServingStatus::NotServing).await;
    assert!(fetch(running.http, "/slow").await.ends_with("slow"));
    running.served.abort();
}

#[tokio::test]
async fn what_is_left_after_the_grace_period_is_cut() {
    let running = start(&["--http-grace-period=200ms", "--grpc-grace-period=100ms"]).await;
    let never = tokio::spawn(fetch(running.http, "/never"));
    in_flight(&running).await;
    let mut watch = HealthClient::new(channel(running.grpc).await);
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap();
    running.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(20), running.served).await.unwrap().unwrap().unwrap();
    assert_eq!(never.await.unwrap(), "");
    let end = tokio::time::timeout(Duration::from_secs(20), async { while let Ok(Some(_)) = watch.message().await {} });
    end.await.unwrap();
}

#[tokio::test]
async fn a_panic_is_the_end_of_its_request_only() {
    let running = start(&[]).await;
    assert!(fetch(running.http, "/panic").await.starts_with("HTTP/1.1 500 "));
    assert!(fetch(running.http, "/-/healthy").await.ends_with("OK"));
}

#[tokio::test]
async fn slow_idle_and_greedy_clients_are_let_go() {
    let running = start(&[
        "--http.header-timeout=200ms",
        "--http.body-timeout=200ms",
        "--http.idle-timeout=400ms",
        "--http.max-body-size=1KiB",
    ])
    .await;
    let bounded = |bytes: String| async move {
        tokio::time::timeout(Duration::from_secs(20), talk(running.http, &bytes)).await.expect("let go")
    };
    let post =
        |length: usize, body: &str| format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
    assert_eq!(bounded(String::new()).await, "", "silent");
    assert_eq!(bounded("GET / HTTP/1.1\r\nHost".into()).await, "", "slow head");
    assert!(bounded(post(10, "abc")).await.starts_with("HTTP/1.1 400 "), "slow body");
    assert!(bounded(post(2000, &"x".repeat(2000))).await.starts_with("HTTP/1.1 413 "), "large body");
    assert!(
        bounded(format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(70_000)))
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    let kept = bounded("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n".into()).await;
    assert!(kept.ends_with("slow"), "a long answer is not idleness: {kept}");
}

#[tokio::test]
async fn a_failed_background_task_ends_the_service() {
    let process = Process::for_test("example");
    let tasks = process.tasks.clone();
    let config: Config = parse(["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"]).unwrap();
    let app = Example::build(config, process).await.unwrap();
    tasks.spawn("refresh", |_| async { anyhow::bail!("no more") });
    let error = app.run(CancellationToken::new()).await.unwrap_err();
    assert_eq!(format!("{error:#}"), "background task refresh: no more");
}

/// Waits until the server has one of our requests in hand, besides the one that asks.
async fn in_flight(running: &Running) {
    eventually("request is in flight", async || running.requests.load(Ordering::SeqCst) > 0).await;
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
