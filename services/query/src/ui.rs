//! The web UI: three files that are part of the binary.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Nothing but our own files runs, and nobody frames the page.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, content).into_response()
}

/// Returns the routes of the UI; `/graph` and `/stores` are where links from elsewhere point.
pub(crate) fn router() -> Router {
    let index = || get(|| async { file("text/html; charset=utf-8", include_str!("../ui/index.html")) });
    Router::new()
        .route("/", index())
        .route("/graph", index())
        .route("/stores", index())
        .route("/app.js", get(|| async { file("text/javascript; charset=utf-8", include_str!("../ui/app.js")) }))
        .route("/style.css", get(|| async { file("text/css; charset=utf-8", include_str!("../ui/style.css")) }))
}
