//! A sidecar in this process, a client for it, and a proxy that cuts connections.

use farview_bootstrap::{App as _, CancellationToken, Process};
use farview_model::Labels;
use farview_proto::thanos::info::{InfoRequest, info_client::InfoClient};
use farview_series::ChunkSeries;
use farview_sidecar::{App, Config};
use farview_storeapi::{CallOptions, EndpointInfo, Frame, LabelsRequest, SelectRequest, StoreClient, StoreError};
use farview_telemetry::Readiness;
use futures::StreamExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::DropGuard;
use tonic::transport::{Channel, Endpoint};

/// A running sidecar.
pub(crate) struct Stage {
    channel: Channel,
    readiness: Readiness,
    stop: DropGuard,
    run: tokio::task::JoinHandle<anyhow::Result<()>>,
}

/// Waits until `holds`; fails after half a minute.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Stage {
    /// Starts a sidecar and waits until it is ready.
    pub(crate) async fn start(prometheus: &str, flags: &[&str]) -> Self {
        let stage = Self::start_unready(prometheus, flags).await;
        stage.ready().await;
        stage
    }

    /// Starts a sidecar.
    pub(crate) async fn start_unready(prometheus: &str, flags: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", prometheus, flags).await
    }

    /// Starts a sidecar whose gRPC is at an address.
    pub(crate) async fn start_at(address: &str, prometheus: &str, flags: &[&str]) -> Self {
        let address = format!("--grpc-address={address}");
        let url = format!("--prometheus.url={prometheus}");
        let own = [&url, "--http-address=127.0.0.1:0", &address, "--farview.heartbeat-interval=100ms"];
        let config: Config = farview_config::parse(own.iter().chain(flags)).unwrap();
        let process = Process::for_test("sidecar");
        let readiness = process.readiness.clone();
        let app = App::build(config, process).await.unwrap();
        let addr = app.grpc_address().unwrap();
        let stop = CancellationToken::new();
        let run = tokio::spawn(app.run(stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
        Self { channel, readiness, stop: stop.drop_guard(), run }
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        drop((self.stop, self.channel));
        self.run.await.unwrap().unwrap();
    }

    /// Waits until the sidecar is ready.
    pub(crate) async fn ready(&self) {
        until("the sidecar is ready", async || self.readiness.is_ready()).await;
    }

    /// Returns whether it is ready, and what it lacks.
    pub(crate) fn readiness(&self) -> (bool, String) {
        (self.readiness.is_ready(), self.readiness.report().0.join("\n"))
    }

    /// Returns the remarks of `/-/ready`.
    pub(crate) fn notes(&self) -> String {
        self.readiness.report().1.join("\n")
    }

    /// Returns all series of an answer, in the order and the pieces in which they came.
    pub(crate) async fn select(&self, request: &SelectRequest) -> Result<Vec<ChunkSeries>, StoreError> {
        let client = StoreClient::new(self.channel.clone());
        let mut frames = client.select(request, &CallOptions::default()).await?;
        let mut all = Vec::new();
        while let Some(frame) = frames.next().await {
            match frame?.frame {
                Frame::Series(series) => {
                    assert!(series.len() <= request.batch_size.max(1), "{} series in a frame", series.len());
                    all.extend(series);
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(all)
    }

    /// Returns names of labels.
    pub(crate) async fn label_names(&self, request: &LabelsRequest) -> Vec<String> {
        StoreClient::new(self.channel.clone()).label_names(request, &CallOptions::default()).await.unwrap().values
    }

    /// Returns values of a label.
    pub(crate) async fn label_values(&self, request: &LabelsRequest) -> Vec<String> {
        StoreClient::new(self.channel.clone()).label_values(request, &CallOptions::default()).await.unwrap().values
    }

    /// Returns what it announces.
    pub(crate) async fn info(&self) -> EndpointInfo {
        let response = InfoClient::new(self.channel.clone()).info(InfoRequest::default()).await.unwrap();
        EndpointInfo::from_proto(response.into_inner())
    }
}

/// Returns the values that a label has, each once.
pub(crate) fn values(series: &[ChunkSeries], label: &str) -> Vec<String> {
    let mut values: Vec<String> = series.iter().map(|s: &ChunkSeries| of(&s.labels, label)).collect();
    values.sort_unstable();
    values.dedup();
    values
}

fn of(labels: &Labels, label: &str) -> String {
    labels.get(label).unwrap_or_default().to_owned()
}

/// A proxy that passes all on, but ends the connection after so many bytes of an answer to remote read.
pub(crate) struct Cut {
    addr: SocketAddr,
    after: Arc<AtomicUsize>,
    last: Arc<AtomicUsize>,
}

impl Cut {
    /// Starts a proxy to `upstream`.
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (after, last) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicUsize::new(0)));
        let shared = (after.clone(), last.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, upstream, shared.0.clone(), shared.1.clone()));
            }
        });
        Self { addr, after, last }
    }

    /// Returns where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts from now on after so many bytes; `None`: never.
    pub(crate) fn after(&self, bytes: Option<usize>) {
        self.after.store(bytes.unwrap_or(usize::MAX), Ordering::SeqCst);
    }

    /// Returns how many bytes the answer to a request has on the wire.
    pub(crate) async fn length_of_read(&self, stage: &Stage, request: &SelectRequest) -> usize {
        stage.select(request).await.unwrap();
        self.last.load(Ordering::SeqCst)
    }
}

/// Passes one connection on, one request at a time, as HTTP/1 does.
async fn pass(mut client: TcpStream, upstream: SocketAddr, after: Arc<AtomicUsize>, last: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else { return };
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    // Bytes of the answer to remote read that have passed; none while something else is asked.
    let mut passed: Option<usize> = None;
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    if up[..len].starts_with(b"POST /api/v1/read") {
                        passed = Some(0);
                    } else if up[..len].starts_with(b"GET ") || up[..len].starts_with(b"POST ") {
                        passed = None;
                    }
                    if server.write_all(&up[..len]).await.is_err() { return }
                }
            },
            read = server.read(&mut down) => match read {
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    let limit = after.load(Ordering::SeqCst);
                    let len = match &mut passed {
                        Some(passed) => {
                            let len = len.min(limit.saturating_sub(*passed));
                            *passed += len;
                            last.store(*passed, Ordering::SeqCst);
                            len
                        }
                        None => len,
                    };
                    if client.write_all(&down[..len]).await.is_err() || passed.is_some_and(|passed| passed >= limit) {
                        return;
                    }
                }
            },
        }
    }
}
