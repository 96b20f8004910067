//! A real S3-compatible server (s3s over a folder), with faults that tests ask for on the way out.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Access key that the server knows.
pub const ACCESS_KEY: &str = "farview";
/// Its secret.
pub const SECRET_KEY: &str = "farview-secret";

/// What the server does to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Refuses with this status, and says for how many seconds to leave it alone.
    Refuse(u16, Option<u64>),
    /// Leaves out the end of the body, and says so in its length.
    Short(usize),
    /// Flips a bit of the body: of the byte at this place, counted from its beginning and around its end.
    Flip(u64),
    /// Answers as if there were nothing.
    NotFound,
    /// Lists nothing.
    EmptyListing,
    /// Waits before the answer.
    Delay(Duration),
    /// Never answers.
    Hang,
}

/// Chooses a fault by method and path with query.
pub type Faults = dyn Fn(&str, &str) -> Option<Fault> + Send + Sync;

struct Shared {
    service: S3Service,
    faults: Mutex<Option<Arc<Faults>>>,
    requests: AtomicU64,
    methods: Mutex<BTreeMap<String, u64>>,
}

/// A running server; it stops when this is dropped.
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

impl S3Server {
    /// Starts a server on a free port whose buckets are the folders in `root`.
    ///
    /// # Errors
    /// If the folder or the port cannot be had.
    pub async fn start(root: &Path) -> anyhow::Result<Self> {
        let files = s3s_fs::FileSystem::new(root).map_err(|error| anyhow::anyhow!("{}: {error:?}", root.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("bind the S3 server")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            service: builder.build(),
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
            methods: Mutex::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, Arc::clone(&shared), stop.clone()));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    /// Returns where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the objstore YAML for a bucket of it.
    pub fn yaml(&self, bucket: &str) -> String {
        format!(
            "type: S3\nconfig:\n  bucket: {bucket}\n  endpoint: {}\n  insecure: true\n  access_key: {ACCESS_KEY}\n  secret_key: {SECRET_KEY}\n",
            self.address
        )
    }

    /// Lets `faults` choose what happens to each answer from now on.
    pub fn inject(&self, faults: impl Fn(&str, &str) -> Option<Fault> + Send + Sync + 'static) {
        *self.shared.faults.lock().expect("no panic while locked") = Some(Arc::new(faults));
    }

    /// Answers faithfully again.
    pub fn heal(&self) {
        *self.shared.faults.lock().expect("no panic while locked") = None;
    }

    /// Returns how many requests came so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Returns how many requests came so far, by method.
    pub fn methods(&self) -> BTreeMap<String, u64> {
        self.shared.methods.lock().expect("no panic while locked").clone()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            tokio::select! {
                () = stop.cancelled() => {}
                // A client that leaves in the middle is nobody's fault.
                _ = builder.serve_connection(TokioIo::new(socket), service) => {}
            }
        });
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    shared.requests.fetch_add(1, Ordering::Relaxed);
    let method = request.method().to_string();
    *shared.methods.lock().expect("no panic while locked").entry(method.clone()).or_default() += 1;
    let path = request.uri().to_string();
    let faults = shared.faults.lock().expect("no panic while locked").clone();
    let fault = faults.and_then(|faults| faults(&method, &path));
    match fault {
        Some(Fault::Refuse(status, after)) => return Ok(refusal(status, after)),
        Some(Fault::NotFound) => return Ok(refusal(404, None)),
        Some(Fault::EmptyListing) => return Ok(Response::new(Full::new(Bytes::from_static(EMPTY_LISTING)))),
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Hang) => std::future::pending().await,
        _ => {}
    }
    let response = match shared.service.call(request.map(s3s::Body::from)).await {
        Ok(response) => response,
        Err(_) => return Ok(refusal(500, None)),
    };
    let (mut parts, body) = response.into_parts();
    let mut bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Ok(refusal(500, None)),
    };
    match fault {
        Some(Fault::Short(by)) => {
            bytes.truncate(bytes.len().saturating_sub(by));
            parts.headers.insert("content-length", bytes.len().into());
        }
        Some(Fault::Flip(place)) if !bytes.is_empty() => {
            let mut changed = bytes.to_vec();
            let at = (place / 8) as usize % changed.len();
            changed[at] ^= 1 << (place % 8);
            bytes = changed.into();
        }
        _ => {}
    }
    Ok(Response::from_parts(parts, Full::new(bytes)))
}

/// The answer to `ListObjectsV2` over nothing (Amazon S3 API Reference).
const EMPTY_LISTING: &[u8] = br#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"#;

fn refusal(status: u16, after: Option<u64>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(after) = after {
        response.headers_mut().insert("retry-after", after.into());
    }
    response
}
