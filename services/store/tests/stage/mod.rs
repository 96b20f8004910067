//! A store in this process and a client for it.

pub(crate) mod blocks;

use farview_bootstrap::{App as _, CancellationToken, Process};
use farview_proto::thanos::info::{InfoRequest, info_client::InfoClient};
use farview_series::ChunkSeries;
use farview_store::{App, Config};
use farview_storeapi::{
    CallOptions, EndpointInfo, Frame, LabelsAnswer, LabelsRequest, SelectRequest, StoreClient, StoreError,
};
use farview_telemetry::{Exposition, Readiness, RootRegistry};
use futures::StreamExt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;
use tonic::transport::{Channel, Endpoint};

/// A running store.
pub(crate) struct Stage {
    channel: Channel,
    readiness: Readiness,
    registry: RootRegistry,
    http: SocketAddr,
    pub(crate) data: tempfile::TempDir,
    run: JoinHandle<anyhow::Result<()>>,
    stop: DropGuard,
}

/// Waits until `holds`; fails after half a minute.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An answer, whole.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) series: Vec<ChunkSeries>,
    pub(crate) warnings: Vec<String>,
    pub(crate) hints: usize,
}

impl Stage {
    /// Starts a store and waits until it is ready.
    pub(crate) async fn start(objstore: &str, flags: &[&str]) -> Self {
        let stage = Self::start_unready(objstore, flags, tempfile::tempdir().unwrap()).await;
        until("the store is ready", async || stage.readiness.is_ready()).await;
        stage
    }

    /// Starts a store with its data in a folder.
    pub(crate) async fn start_unready(objstore: &str, flags: &[&str], data: tempfile::TempDir) -> Self {
        let folder = format!("--data-dir={}", data.path().display());
        let objstore = format!("--objstore.config={objstore}");
        let own = [&objstore, "--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0", &folder];
        let config: Config = farview_config::parse(own.iter().chain(flags)).unwrap();
        let process = Process::for_test("store");
        let (readiness, registry) = (process.readiness.clone(), process.registry.clone());
        let app = App::build(config, process).await.unwrap();
        let (grpc, http) = (app.grpc_address().unwrap(), app.http_address());
        let stop = CancellationToken::new();
        let run = tokio::spawn(app.run(stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{grpc}")).unwrap().connect_lazy();
        Self { channel, readiness, registry, http, data, run, stop: stop.drop_guard() }
    }

    /// Stops it and returns its folder.
    pub(crate) async fn into_data(self) -> tempfile::TempDir {
        drop((self.stop, self.channel));
        self.run.await.unwrap().unwrap();
        self.data
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness.is_ready()
    }

    /// Returns where its pages are.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Returns the value of a metric, given with its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.registry.render(Exposition::Prometheus);
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// Returns all series of an answer, in the order and the pieces in which they came.
    pub(crate) async fn select(&self, request: &SelectRequest) -> Result<Answer, StoreError> {
        let client = StoreClient::new(self.channel.clone());
        let mut frames = client.select(request, &CallOptions::default()).await?;
        let mut answer = Answer::default();
        while let Some(frame) = frames.next().await {
            match frame?.frame {
                Frame::Series(series) => {
                    assert!(series.len() <= request.batch_size.max(1), "{} series in a frame", series.len());
                    answer.series.extend(series);
                }
                Frame::Warning(text) => answer.warnings.push(text),
                Frame::Hints(_) => answer.hints += 1,
            }
        }
        Ok(answer)
    }

    /// Returns names of labels.
    pub(crate) async fn label_names(&self, request: &LabelsRequest) -> LabelsAnswer {
        StoreClient::new(self.channel.clone()).label_names(request, &CallOptions::default()).await.unwrap()
    }

    /// Returns values of a label.
    pub(crate) async fn label_values(&self, request: &LabelsRequest) -> LabelsAnswer {
        StoreClient::new(self.channel.clone()).label_values(request, &CallOptions::default()).await.unwrap()
    }

    /// Returns what it announces.
    pub(crate) async fn info(&self) -> EndpointInfo {
        let response = InfoClient::new(self.channel.clone()).info(InfoRequest::default()).await.unwrap();
        EndpointInfo::from_proto(response.into_inner())
    }
}
