//! Real gRPC servers on loopback, with health, an identity and a small streaming service, and a proxy that can freeze.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part; a test that cannot go on should panic"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farview_channels::{Channel, ChannelConfig, ClientTls, Dialer, FanOut, Peer, PeerConfig, PeerSet, Probe};
use farview_discovery::{Address, Addresses, HickoryConfig, HickoryLookup, Vitals};
use farview_proto::thanos::info::info_client::InfoClient;
use farview_proto::thanos::info::info_server::{Info, InfoServer};
use farview_proto::thanos::info::{InfoRequest, InfoResponse};
use farview_proto::thanos::metadata_client::MetadataClient;
use farview_proto::thanos::metadata_server::{Metadata, MetadataServer};
use farview_proto::thanos::{MetricMetadataRequest, MetricMetadataResponse, metric_metadata_response};
use futures::{Stream, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// A server in a runtime of its own, so that killing it takes its connections along.
pub struct Server {
    pub addr: SocketAddr,
    pub behaviour: Arc<Behaviour>,
    health: HealthReporter,
    runtime: Option<Runtime>,
}

#[derive(Default)]
pub struct Behaviour {
    pub name: String,
    pub calls: AtomicU64,
    pub delay_ms: AtomicU64,
    pub unavailable: AtomicBool,
    /// A stream that stays open after its first message.
    pub hang: AtomicBool,
    /// A call that is never answered.
    pub mute: AtomicBool,
}

impl Server {
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, "127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(name: &str, addr: SocketAddr) -> Self {
        Self::start_aging(name, addr, None).await
    }

    /// A server that says GOAWAY to connections of a certain age.
    pub async fn start_aging(name: &str, addr: SocketAddr, age: Option<Duration>) -> Self {
        // The sockets of a killed predecessor close a moment after the kill.
        let mut tries = 0;
        let listener = loop {
            match std::net::TcpListener::bind(addr) {
                Ok(listener) => break listener,
                Err(_) if tries < 500 => tries += 1,
                Err(error) => panic!("{addr}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let behaviour = Arc::new(Behaviour { name: name.to_owned(), ..Behaviour::default() });
        let (health, health_service) = tonic_health::server::health_reporter();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = Service(behaviour.clone());
        runtime.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(TcpListener::from_std(listener).unwrap())
                .with_nodelay(Some(true));
            let mut builder = tonic::transport::Server::builder();
            if let Some(age) = age {
                builder = builder.max_connection_age(age);
            }
            builder
                .add_service(health_service)
                .add_service(InfoServer::new(service.clone()))
                .add_service(MetadataServer::new(service))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        let server = Self { addr, behaviour, health, runtime: Some(runtime) };
        server.serve(true).await;
        server
    }

    pub async fn serve(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.health.set_service_status("", status).await;
    }

    pub fn address(&self) -> Address {
        self.addr.into()
    }

    /// As kill -9: every socket is closed without a word.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn calls(&self) -> u64 {
        self.behaviour.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One service behind many addresses of 127.0.0.0/8, all with the same port, in a runtime whose threads are named `stores`.
pub struct Many {
    addrs: Vec<SocketAddr>,
    runtime: Option<Runtime>,
}

impl Many {
    pub async fn start(count: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("stores")
            .enable_all()
            .build()
            .unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", ServingStatus::Serving).await;
        let service = Service(Arc::new(Behaviour { name: "store".to_owned(), ..Behaviour::default() }));
        let router =
            tonic::transport::Server::builder().add_service(health_service).add_service(InfoServer::new(service));
        let mut addrs: Vec<SocketAddr> = Vec::new();
        for i in 0..count {
            let port = addrs.first().map_or(0, SocketAddr::port);
            let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::from(0x7f01_0001 + i), port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            addrs.push(listener.local_addr().unwrap());
            let router = router.clone();
            runtime.spawn(async move {
                let incoming = tonic::transport::server::TcpIncoming::from(TcpListener::from_std(listener).unwrap());
                router.serve_with_incoming(incoming.with_nodelay(Some(true))).await.unwrap();
            });
        }
        Self { addrs, runtime: Some(runtime) }
    }

    pub fn port(&self) -> u16 {
        self.addrs[0].port()
    }

    pub fn ips(&self) -> Vec<std::net::Ipv4Addr> {
        let v4 = |addr: &SocketAddr| match addr.ip() {
            std::net::IpAddr::V4(ip) => ip,
            std::net::IpAddr::V6(_) => unreachable!("only 127.0.0.0/8 is bound"),
        };
        self.addrs.iter().map(v4).collect()
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
pub struct Service(pub Arc<Behaviour>);

#[tonic::async_trait]
impl Info for Service {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(InfoResponse { component_type: self.0.name.clone(), ..InfoResponse::default() }))
    }
}

#[tonic::async_trait]
impl Metadata for Service {
    type MetricMetadataStream = Pin<Box<dyn Stream<Item = Result<MetricMetadataResponse, Status>> + Send>>;

    async fn metric_metadata(
        &self,
        _: Request<MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        if self.0.mute.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.0.unavailable.load(Ordering::Relaxed) {
            return Err(Status::unavailable("on request"));
        }
        let message =
            MetricMetadataResponse { result: Some(metric_metadata_response::Result::Warning(self.0.name.clone())) };
        let delay = Duration::from_millis(self.0.delay_ms.load(Ordering::Relaxed));
        let hang = self.0.hang.load(Ordering::Relaxed);
        // The headers go out at once: the work is in the stream, as with Series.
        let first = futures::stream::iter([Ok(message.clone())]);
        let rest = futures::stream::once(async move {
            if hang {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(delay).await;
            Ok(message)
        });
        Ok(Response::new(first.chain(rest).boxed()))
    }
}

/// The identity of an endpoint here is the component in its Info answer.
pub struct InfoProbe;

#[tonic::async_trait]
impl Probe for InfoProbe {
    type Identity = String;

    async fn probe(&self, _: &Address, channel: Channel) -> Result<String, Status> {
        Ok(InfoClient::new(channel).info(InfoRequest {}).await?.into_inner().component_type)
    }

    fn is_same_party(&self, before: &String, now: &String) -> bool {
        before == now
    }
}

/// Calls the streaming method and returns the names in all its messages.
pub async fn ask<S>(service: S) -> Result<Vec<String>, Status>
where
    S: tower::Service<http::Request<tonic::body::Body>, Response = http::Response<tonic::body::Body>, Error = Status>
        + Clone
        + Send,
    S::Future: Send,
{
    let request = MetricMetadataRequest { metric: String::new(), limit: -1, partial_response_strategy: 0 };
    let mut stream = MetadataClient::new(service).metric_metadata(request).await?.into_inner();
    let mut names = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(metric_metadata_response::Result::Warning(name)) = message.result {
            names.push(name);
        }
    }
    Ok(names)
}

/// A hand-fed set of addresses.
pub struct Feed {
    out: watch::Sender<Addresses>,
}

impl Feed {
    pub fn new(addresses: &[Address]) -> Self {
        let feed = Self { out: watch::Sender::new(Addresses::default()) };
        feed.set(addresses);
        feed
    }

    pub fn set(&self, addresses: &[Address]) {
        let set: BTreeSet<Address> = addresses.iter().cloned().collect();
        self.out.send_replace(Addresses { set: Arc::new(set), settled: true });
    }

    pub fn follow(&self, dialer: Dialer, config: PeerConfig) -> PeerSet<String> {
        PeerSet::follow(self.out.subscribe(), Arc::new(dialer), InfoProbe, config, Vitals::default())
    }
}

pub fn dialer(config: ChannelConfig, tls: Option<ClientTls>) -> Dialer {
    let lookup = HickoryLookup::new(HickoryConfig {
        name_servers: vec!["127.0.0.1:9".parse().unwrap()],
        ..HickoryConfig::default()
    });
    Dialer::new(config, tls.map(Arc::new), Arc::new(lookup.unwrap()))
}

pub fn dialer_with_hosts(config: ChannelConfig, tls: Option<ClientTls>, hosts: &std::path::Path) -> Dialer {
    let lookup = HickoryLookup::new(HickoryConfig {
        name_servers: vec!["127.0.0.1:9".parse().unwrap()],
        hosts: hosts.to_owned(),
        ..HickoryConfig::default()
    });
    Dialer::new(config, tls.map(Arc::new), Arc::new(lookup.unwrap()))
}

/// The default life of a peer, ten times as fast except for what a loaded machine needs.
pub fn quick() -> PeerConfig {
    PeerConfig {
        probe_timeout: Duration::from_secs(1),
        probe_interval: Duration::from_millis(500),
        retry_interval: Duration::from_millis(100),
        backoff_first: Duration::from_millis(100),
        backoff_last: Duration::from_secs(2),
        ..PeerConfig::default()
    }
}

/// Waits for a condition of the peers, which every change of them asks again.
pub async fn until(set: &PeerSet<String>, what: &str, condition: impl Fn(&FanOut<String>) -> bool) {
    let mut changes = set.changes();
    let met = async {
        loop {
            changes.borrow_and_update();
            if condition(&set.peers()) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    if tokio::time::timeout(Duration::from_secs(30), met).await.is_err() {
        let lines: Vec<_> = set
            .peers()
            .peers()
            .iter()
            .map(|p| format!("{} {:?} {:#?}", p.address(), p.status(), p.history()))
            .collect();
        panic!("not met: {what}\n{}", lines.join("\n"));
    }
}

pub async fn until_healthy(set: &PeerSet<String>, count: usize) {
    until(set, &format!("{count} healthy"), |peers| {
        peers.peers().iter().filter(|p| p.live().is_some()).count() == count
    })
    .await;
}

pub fn only(set: &PeerSet<String>) -> Peer<String> {
    set.peers().peers()[0].clone()
}

/// A TCP proxy that counts the client's HTTP/2 pings and can stop moving bytes without closing anything.
pub struct Proxy {
    pub addr: SocketAddr,
    frozen: watch::Sender<bool>,
    pings: Arc<Mutex<Vec<Instant>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let frozen = watch::Sender::new(false);
        let pings = Arc::new(Mutex::new(Vec::new()));
        let (freezing, counted) = (frozen.clone(), pings.clone());
        let task = tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(to).await else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                pairs.spawn(copy(from_client, to_server, freezing.subscribe(), Some(counted.clone())));
                pairs.spawn(copy(from_server, to_client, freezing.subscribe(), None));
            }
        });
        Self { addr, frozen, pings, task }
    }

    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// When the client sent pings of its own.
    pub fn pings(&self) -> Vec<Instant> {
        self.pings.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
    pings: Option<Arc<Mutex<Vec<Instant>>>>,
) {
    let mut buffer = vec![0; 64 << 10];
    // The client's preface (RFC 9113 §3.4) stands before the first frame.
    let mut frames = Frames { skip: 24, ..Frames::default() };
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        if let Some(pings) = &pings {
            let count = frames.pings(&buffer[..read]);
            pings.lock().unwrap().extend(std::iter::repeat_n(Instant::now(), count));
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Frames {
    header: Vec<u8>,
    skip: usize,
}

impl Frames {
    /// Counts the PING frames without ACK (RFC 9113 §6.7).
    fn pings(&mut self, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (9 - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.header.len() == 9 {
                self.skip = (usize::from(self.header[0]) << 16)
                    | (usize::from(self.header[1]) << 8)
                    | usize::from(self.header[2]);
                count += usize::from(self.header[3] == 6 && self.header[4] & 1 == 0);
                self.header.clear();
            }
        }
        count
    }
}
