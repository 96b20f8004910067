//! What a gRPC server or client counts, under the names and labels of go-grpc-middleware, which Thanos uses.

mod body;
mod methods;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::http::DURATION_BUCKETS;
use crate::requests::{Line, RequestLog};
use body::{Counted, Direction};
pub(crate) use methods::Method;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: &'static str,
    grpc_method: Arc<str>,
    grpc_service: Arc<str>,
    grpc_type: &'static str,
}

type Total = Counter<u64, AtomicU64>;

/// Counts, times and, on servers, guards calls. A tower layer, cheap to clone.
///
/// Calls to methods that are in none of the given descriptors are counted as `unknown`, so that a stranger cannot make up
/// labels. On a server a panic in a handler, before or amid its stream, becomes a status `Internal` of that one call.
#[derive(Debug, Clone)]
pub struct GrpcMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    started: Family<Method, Total>,
    handled: Family<Handled, Total>,
    sent: Family<Method, Total>,
    received: Family<Method, Total>,
    handling: Family<Method, Histogram, fn() -> Histogram>,
    /// Counts the panics that became a status; only servers recover.
    recovered: Option<Total>,
    methods: HashMap<String, Method>,
    log: RequestLog,
}

impl GrpcMetrics {
    /// Registers `grpc_server_*` and `grpc_req_panics_recovered_total`; what is counted is logged as `log` says. `descriptors` are
    /// encoded file descriptor sets.
    pub fn server(registry: &mut Registry, descriptors: &[&[u8]], log: RequestLog) -> Self {
        let recovered = Total::default();
        registry.register(
            "grpc_req_panics_recovered",
            "Total number of gRPC requests recovered from internal panic",
            recovered.clone(),
        );
        Self::register(registry, "server", descriptors, Some(recovered), log)
    }

    /// Registers `grpc_client_*`. `descriptors` are encoded file descriptor sets.
    pub fn client(registry: &mut Registry, descriptors: &[&[u8]]) -> Self {
        Self::register(registry, "client", descriptors, None, RequestLog::default())
    }

    fn register(
        registry: &mut Registry,
        side: &str,
        descriptors: &[&[u8]],
        recovered: Option<Total>,
        log: RequestLog,
    ) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS);
        let this = Families {
            started: Family::default(),
            handled: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            handling: Family::new_with_constructor(buckets),
            recovered,
            methods: methods::of(descriptors),
            log,
        };
        let name = |what: &str| format!("grpc_{side}_{what}");
        let on = if side == "server" { "on the server" } else { "on the client" };
        registry.register(name("started"), format!("Total number of RPCs started {on}"), this.started.clone());
        registry.register(
            name("handled"),
            format!("Total number of RPCs completed {on}, regardless of success or failure"),
            this.handled.clone(),
        );
        registry.register(name("msg_sent"), format!("Total number of gRPC messages sent {on}"), this.sent.clone());
        registry.register(
            name("msg_received"),
            format!("Total number of gRPC messages received {on}"),
            this.received.clone(),
        );
        registry.register(
            name("handling_seconds"),
            format!("Histogram of response latency (seconds) of RPCs handled {on}, until their last message"),
            this.handling.clone(),
        );
        // A rate over a counter that starts with its first error misses that error; starting all at zero shows them.
        for method in this.methods.values() {
            this.started.get_or_create_owned(method);
            this.handled.get_or_create_owned(&handled(method, "OK"));
        }
        Self(Arc::new(this))
    }
}

fn handled(method: &Method, grpc_code: &'static str) -> Handled {
    let Method { grpc_method, grpc_service, grpc_type } = method.clone();
    Handled { grpc_code, grpc_method, grpc_service, grpc_type }
}

impl<S> Layer<S> for GrpcMetrics {
    type Service = GrpcMetricsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GrpcMetricsService { inner, families: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct GrpcMetricsService<S> {
    inner: S,
    families: Arc<Families>,
}

impl<S> Service<http::Request<Body>> for GrpcMetricsService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut call = Call::start(&self.families, request.uri().path());
        let (out, back) = match call.families.recovered {
            Some(_) => (Direction::Received, Direction::Sent),
            None => (Direction::Sent, Direction::Received),
        };
        let counter = call.messages(out);
        let request = request.map(|body| Body::new(Counted::request(body, counter)));
        let response = AssertUnwindSafe(self.inner.call(request));
        Box::pin(async move {
            let response = match call.families.recovered.clone() {
                None => response.0.await,
                Some(recovered) => match response.catch_unwind().await {
                    Ok(response) => response,
                    Err(_) => {
                        recovered.inc();
                        Ok(tonic::Status::internal("internal error: the handler of this call panicked").into_http())
                    }
                },
            };
            match response {
                Ok(response) => {
                    call.status_in(response.headers());
                    let counter = call.messages(back);
                    Ok(response.map(|body| Body::new(Counted::response(body, counter, call))))
                }
                Err(e) => {
                    call.set_code(Code::Unavailable);
                    Err(e)
                }
            }
        })
    }
}

/// What is known about one call so far. Recorded when dropped: after the last message, or when somebody has left.
#[derive(Debug)]
struct Call {
    families: Arc<Families>,
    method: Method,
    start: Instant,
    /// `Cancelled` until the status is known: nobody waited for it.
    code: Code,
    line: Option<Line>,
}

impl Call {
    fn start(families: &Arc<Families>, path: &str) -> Self {
        let method = families.methods.get(path).cloned().unwrap_or_else(Method::unknown);
        families.started.get_or_create(&method).inc();
        let line = families.log.grpc(path);
        Self { families: Arc::clone(families), method, start: Instant::now(), code: Code::Cancelled, line }
    }

    fn messages(&self, direction: Direction) -> Total {
        let family = match direction {
            Direction::Sent => &self.families.sent,
            Direction::Received => &self.families.received,
        };
        family.get_or_create_owned(&self.method)
    }

    fn set_code(&mut self, code: Code) {
        self.code = code;
    }

    /// Takes the status out of trailers, or out of headers that are all the answer there is.
    fn status_in(&mut self, headers: &http::HeaderMap) {
        if let Some(status) = headers.get(tonic::Status::GRPC_STATUS) {
            self.code = Code::from_bytes(status.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.start.elapsed();
        self.families.handled.get_or_create(&handled(&self.method, code_name(self.code))).inc();
        self.families.handling.get_or_create(&self.method).observe(took.as_secs_f64());
        if let Some(line) = &self.line {
            line.grpc_ended(self.code, code_name(self.code), took);
        }
    }
}

/// The names of Go's `codes` package.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests;
