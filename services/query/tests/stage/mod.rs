//! A query service in this process over StoreAPI servers that do what a test tells them, all on loopback sockets.

use farview_bootstrap::{App as _, CancellationToken, Process};
use farview_model::{Labels, TimeRange};
use farview_proto::thanos::info::info_server::{Info, InfoServer};
use farview_proto::thanos::info::{InfoRequest, InfoResponse};
use farview_query::{App, Config};
use farview_series::{AggrChunk, ChunkData, ChunkSeries};
use farview_storeapi::{
    EndpointInfo, Frame, LabelsAnswer, LabelsRequest, SelectRequest, SelectStream, Store, StoreError, StoreInfo,
    StoreServer,
};
use farview_tsdb::Chunk;
use futures::StreamExt;
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tonic::transport::{Server, server::TcpIncoming};
use tonic::{Request, Response, Status};

/// The times of all samples, ms: ten of them, ten seconds apart.
pub(crate) const TIMES: [i64; 10] =
    [1_000_000, 1_010_000, 1_020_000, 1_030_000, 1_040_000, 1_050_000, 1_060_000, 1_070_000, 1_080_000, 1_090_000];

type Script = Arc<dyn Fn(&SelectRequest) -> Result<SelectStream, StoreError> + Send + Sync>;

/// What a fake store announces and answers.
pub(crate) struct Fake {
    pub(crate) info: Mutex<EndpointInfo>,
    script: Mutex<Script>,
    /// Streams that are being read.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) requests: Mutex<Vec<SelectRequest>>,
}

/// A fake store that is served; it goes away when this is dropped.
pub(crate) struct Running {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: SocketAddr,
    /// A runtime of its own, so that its connections break with it.
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A series of ten samples, the value of each is `value`.
pub(crate) fn series(labels: &[(&str, &str)], value: f64) -> ChunkSeries {
    let chunk = Chunk::encode_xor(&TIMES, &[value; 10]);
    ChunkSeries {
        labels: Labels::from_pairs(labels.iter().copied()),
        chunks: vec![AggrChunk { mint: TIMES[0], maxt: TIMES[9], data: ChunkData::Raw(chunk) }],
    }
}

/// What a store with the external labels `labels` announces.
pub(crate) fn info(labels: &[(&str, &str)]) -> EndpointInfo {
    EndpointInfo {
        label_sets: vec![Labels::from_pairs(labels.iter().copied())],
        component: "sidecar".to_owned(),
        store: Some(StoreInfo {
            range: TimeRange::new(0, i64::MAX),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdbs: Vec::new(),
        }),
        ..EndpointInfo::default()
    }
}

/// Answers with `frames` and then an end.
pub(crate) fn answers(frames: Vec<Frame>) -> Script {
    Arc::new(move |_| Ok(futures::stream::iter(frames.clone().into_iter().map(Ok)).boxed()))
}

/// Answers with what `stream` makes for every call.
pub(crate) fn streams(
    stream: impl Fn() -> futures::stream::BoxStream<'static, Result<Frame, StoreError>> + Send + Sync + 'static,
) -> Script {
    Arc::new(move |_| Ok(stream()))
}

struct Count(Arc<AtomicUsize>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Served(Arc<Fake>);

#[async_trait::async_trait]
impl Store for Served {
    async fn select(&self, request: SelectRequest) -> Result<SelectStream, StoreError> {
        let script = Arc::clone(&self.0.script.lock().unwrap());
        let stream = script(&request)?;
        self.0.requests.lock().unwrap().push(request);
        self.0.open.fetch_add(1, Ordering::SeqCst);
        let count = Count(Arc::clone(&self.0.open));
        Ok(Box::pin(stream.map(move |frame| {
            let _open = &count;
            frame
        })))
    }

    async fn label_names(&self, _: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer { values: vec!["job".to_owned()], ..LabelsAnswer::default() })
    }

    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        Ok(LabelsAnswer { values: vec![format!("of {}", request.label)], ..LabelsAnswer::default() })
    }
}

#[async_trait::async_trait]
impl Info for Served {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(self.0.info.lock().unwrap().to_proto()))
    }
}

/// Serves a store that announces `info` and answers by `script`.
pub(crate) async fn store(info: EndpointInfo, script: Script) -> Running {
    let fake = Arc::new(Fake {
        info: Mutex::new(info),
        script: Mutex::new(script),
        open: Arc::default(),
        requests: Mutex::default(),
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .add_service(StoreServer::new(Arc::new(Served(Arc::clone(&fake)))))
        .add_service(InfoServer::new(Served(Arc::clone(&fake))));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    Running { fake, address, runtime: Some(runtime) }
}

/// A query service; it stops when this is dropped.
pub(crate) struct Query {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Query {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// What came back over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// All warnings, one after the other.
    pub(crate) fn warnings(&self) -> String {
        self.json()["warnings"].as_array().map(|all| all.iter().map(|w| w.to_string()).collect()).unwrap_or_default()
    }

    /// The first value of every series of a vector, by a label.
    pub(crate) fn values(&self, label: &str) -> Vec<(String, String)> {
        let json = self.json();
        let result = json["data"]["result"].as_array().unwrap_or_else(|| panic!("no result: {self:?}"));
        let one = |s: &Json| {
            let value = s["value"][1].as_str().unwrap_or_default().to_owned();
            (s["metric"][label].as_str().unwrap_or_default().to_owned(), value)
        };
        result.iter().map(one).collect()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.head.contains("x-farview-complete: true")
    }
}

/// Starts a query service over the stores, and waits until it knows each of them.
pub(crate) async fn query(stores: &[&Running], flags: &[&str]) -> Query {
    let mut argv = vec!["--http-address=127.0.0.1:0".to_owned(), "--grpc-address=127.0.0.1:0".to_owned()];
    argv.extend(stores.iter().map(|store| format!("--endpoint={}", store.address)));
    argv.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let config: Config = farview_config::parse(argv).unwrap();
    let app = App::build(config, Process::for_test("query")).await.unwrap();
    let shutdown = CancellationToken::new();
    let query = Query { http: app.http_address(), grpc: app.grpc_address().unwrap(), shutdown: shutdown.clone() };
    tokio::spawn(app.run(shutdown));
    let expected = stores.len();
    eventually("every store is known", async || {
        let json = query.get("/api/v1/endpoints").await.json();
        let all = json["data"]["endpoints"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|endpoint| endpoint["inUse"] == true).count() >= expected
    })
    .await;
    query
}

impl Query {
    /// Sends a request as it stands and returns the answer.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Answer { status, head: head.to_ascii_lowercase(), text: body.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        // HTTP/1.0: the end of the connection is the end of the body.
        self.send(&format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")).await
    }

    /// An instant query in the middle of the samples, with further parameters.
    pub(crate) async fn instant(&self, promql: &str, more: &str) -> Answer {
        self.get(&format!("/api/v1/query?time=1050&query={}{more}", encoded(promql))).await
    }
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Polls a condition for up to 30 s.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30s: {what}");
}
