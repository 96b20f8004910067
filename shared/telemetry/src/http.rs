//! What an HTTP server counts, under the names and labels of Thanos.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::routing::MethodRouter;
use http_body::{Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::requests::{Line, RequestLog};

/// Buckets of `http_request_duration_seconds` in Thanos.
pub(crate) const DURATION_BUCKETS: [f64; 17] =
    [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0, 90.0, 120.0, 240.0, 360.0, 720.0];
/// Thanos has summaries here; `_sum` and `_count`, which dashboards read, are the same with a histogram.
const SIZE_BUCKETS: [f64; 7] = [256.0, 1024.0, 8192.0, 65_536.0, 524_288.0, 4_194_304.0, 67_108_864.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: String,
    handler: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    handler: &'static str,
    method: &'static str,
}

type Histograms = Family<Answered, Histogram, fn() -> Histogram>;

/// Counts, times and measures requests, by handler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpMetrics(Arc<Families>);

#[derive(Debug)]
struct Families {
    requests: Family<Answered, Counter<u64, AtomicU64>>,
    duration: Histograms,
    request_size: Histograms,
    response_size: Histograms,
    inflight: Family<Asked, Gauge>,
    log: RequestLog,
}

impl HttpMetrics {
    /// Registers the metrics; what is counted is logged as `log` says.
    pub fn register(registry: &mut Registry, log: RequestLog) -> Self {
        let durations: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS);
        let sizes: fn() -> Histogram = || Histogram::new(SIZE_BUCKETS);
        let this = Families {
            requests: Family::default(),
            duration: Family::new_with_constructor(durations),
            request_size: Family::new_with_constructor(sizes),
            response_size: Family::new_with_constructor(sizes),
            inflight: Family::default(),
            log,
        };
        registry.register("http_requests", "Tracks the number of HTTP requests", this.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Tracks the latencies for HTTP requests, until the last byte of the answer",
            this.duration.clone(),
        );
        registry.register("http_request_size_bytes", "Tracks the size of HTTP requests", this.request_size.clone());
        registry.register("http_response_size_bytes", "Tracks the size of HTTP responses", this.response_size.clone());
        registry.register("http_inflight_requests", "Current number of HTTP requests in flight", this.inflight.clone());
        Self(Arc::new(this))
    }

    /// Wraps a route so that its requests are counted as `handler`: `query`, `query_range`, ….
    pub fn instrument<S>(&self, handler: &'static str, route: MethodRouter<S>) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let metrics = self.clone();
        route.layer(middleware::from_fn(move |request: Request, next: Next| {
            let observation = Observation::start(&metrics.0, handler, &request);
            async move {
                let mut observation = observation;
                let response = next.run(request).await;
                observation.code = response.status().as_u16();
                response.map(|body| Body::new(Observed { body, observation }))
            }
        }))
    }
}

/// What is known about one request so far. Recorded when dropped: after the last byte, or when the client has left.
struct Observation {
    families: Arc<Families>,
    asked: Asked,
    start: Instant,
    /// 499 until there is a response, for clients that do not wait for one.
    code: u16,
    request_bytes: u64,
    response_bytes: u64,
    line: Option<Line>,
}

impl Observation {
    fn start(families: &Arc<Families>, handler: &'static str, request: &Request) -> Self {
        let asked = Asked { handler, method: method(request.method()) };
        families.inflight.get_or_create(&asked).inc();
        Self {
            families: Arc::clone(families),
            asked,
            start: Instant::now(),
            code: 499,
            request_bytes: request.body().size_hint().exact().unwrap_or(0),
            response_bytes: 0,
            line: families.log.http(request),
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let Asked { handler, method } = self.asked;
        let labels = Answered { code: self.code.to_string(), handler, method };
        let families = &self.families;
        families.inflight.get_or_create(&self.asked).dec();
        families.requests.get_or_create(&labels).inc();
        let took = self.start.elapsed();
        families.duration.get_or_create(&labels).observe(took.as_secs_f64());
        if let Some(line) = &self.line {
            line.http_ended(self.code, self.response_bytes, took);
        }
        families.request_size.get_or_create(&labels).observe(self.request_bytes as f64);
        families.response_size.get_or_create(&labels).observe(self.response_bytes as f64);
    }
}

/// Clients may invent methods; labels may not be invented.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "HEAD" => "head",
        "OPTIONS" => "options",
        "PUT" => "put",
        "DELETE" => "delete",
        "PATCH" => "patch",
        _ => "unknown",
    }
}

struct Observed {
    body: Body,
    observation: Observation,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
            self.observation.response_bytes += data.len() as u64;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
