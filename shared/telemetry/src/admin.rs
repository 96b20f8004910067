//! What every HTTP listener serves beside its own API.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use crate::{Exposition, HttpMetrics, Readiness, RootRegistry};

/// Makes the routes `/metrics`, `/-/healthy` and `/-/ready`.
///
/// Answers are those of Thanos (`OK`, 200); `/-/ready` adds what is missing (503) and remarks. They are counted under the
/// handlers `metrics`, `healthy` and `ready`.
pub fn admin_router<S>(registry: &RootRegistry, readiness: &Readiness, http: &HttpMetrics) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let ready = get(ready).with_state(readiness.clone());
    let metrics = get(metrics).with_state(registry.clone());
    let instrument = |name, route: MethodRouter<S>| http.instrument(name, route);
    Router::new()
        .route("/metrics", instrument("metrics", metrics))
        .route("/-/healthy", instrument("healthy", get(|| async { "OK" })))
        .route("/-/ready", instrument("ready", ready))
}

async fn metrics(State(registry): State<RootRegistry>, headers: HeaderMap) -> Response {
    // A scraper may send the header in several lines.
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    let format = Exposition::negotiate(Some(&accept));
    ([(header::CONTENT_TYPE, format.content_type())], registry.render(format)).into_response()
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let (missing, notes) = readiness.report();
    let (status, head) =
        if missing.is_empty() { (StatusCode::OK, "OK") } else { (StatusCode::SERVICE_UNAVAILABLE, "NOT OK") };
    let lines = std::iter::once(head.to_owned()).chain(missing).chain(notes.into_iter().map(|n| format!("note: {n}")));
    (status, lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: &Router, path: &str, accept: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    fn parts() -> (Router, Readiness) {
        let (registry, readiness) = (RootRegistry::default(), Readiness::new());
        registry.register(|r| readiness.register(r, "test"));
        let http = registry.register(|r| HttpMetrics::register(r, crate::RequestLog::default()));
        (admin_router(&registry, &readiness, &http), readiness)
    }

    #[tokio::test]
    async fn ready_says_what_is_missing() {
        let (router, readiness) = parts();
        let latch = readiness.latch("first update of endpoints");
        latch.close("a:1 has not answered");
        let (status, _, body) = get(&router, "/-/ready", "*/*").await;
        assert_eq!((status.as_u16(), body.as_str()), (503, "NOT OK\nfirst update of endpoints: a:1 has not answered"));
        assert_eq!(get(&router, "/-/healthy", "*/*").await.2, "OK");
        latch.open();
        readiness.note("identity", Some("b:1 has the same labels".into()));
        let (status, _, body) = get(&router, "/-/ready", "*/*").await;
        assert_eq!((status.as_u16(), body.as_str()), (200, "OK\nnote: identity: b:1 has the same labels"));
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_asked_for() {
        let (router, _) = parts();
        get(&router, "/-/healthy", "*/*").await;
        let (_, kind, text) = get(&router, "/metrics", "text/plain").await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "# TYPE http_requests_total counter",
            "http_requests_total{code=\"200\",handler=\"healthy\",method=\"get\"} 1",
            "http_response_size_bytes_sum{code=\"200\",handler=\"healthy\",method=\"get\"} 2.0",
            "http_inflight_requests{handler=\"healthy\",method=\"get\"} 0",
            "# TYPE thanos_build_info gauge",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
        }
        let (_, kind, text) = get(&router, "/metrics", "application/openmetrics-text").await;
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        assert!(text.ends_with("# EOF\n") && text.contains("# TYPE http_requests counter"), "{text}");
    }
}
