//! The HTTP listener of a service: its own routes, `/metrics` and the probes, behind limits that slow, idle or greedy
//! clients cannot talk their way around.

mod auth;
mod body;
mod connection;
mod web_config;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Response, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use farview_telemetry::admin_router;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;

use crate::Process;
use crate::flags::HttpFlags;
use crate::listener::Listener;
use web_config::WebConfig;

/// Most bytes of a request's head over HTTP/2 (reliability row Q6: header bombs).
const MAX_HEADER_LIST: u32 = 16 << 10;
/// Most bytes hyper buffers of one HTTP/1 connection, and with it of a request's head.
const MAX_HTTP1_BUFFER: usize = 64 << 10;
/// Most headers of one request.
const MAX_HEADERS: usize = 100;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// A bound HTTP listener that has not begun to serve.
pub struct HttpServer {
    listener: Listener,
    router: Router,
    flags: HttpFlags,
    web: Option<Arc<WebConfig>>,
}

impl std::fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpServer").field("address", &self.listener.address).finish_non_exhaustive()
    }
}

impl HttpServer {
    /// Binds the address of `flags` and adds `/metrics`, `/-/healthy` and `/-/ready` to `router`. TLS, users and headers of
    /// `--http.config` hold for all of them.
    pub async fn bind(flags: &HttpFlags, router: Router, process: &Process) -> anyhow::Result<Self> {
        let web = flags.web_config.as_ref().map(|path| WebConfig::open(path, &process.tls_metrics)).transpose()?;
        let listener = Listener::bind("HTTP", &flags.address).await?;
        let admin = admin_router(&process.registry, &process.readiness, &process.http_metrics);
        let router = router
            .merge(admin)
            // Ours is the limit that counts; axum's own of 2 MB would come first.
            .layer(DefaultBodyLimit::disable())
            .layer(RequestBodyLimitLayer::new(flags.max_body_size.as_usize()))
            .layer(CatchPanicLayer::custom(panicked));
        let router = match &web {
            Some(web) => router.layer(from_fn_with_state(Arc::clone(web), web_config::guard)),
            None => router,
        };
        Ok(Self { listener, router, flags: flags.clone(), web })
    }

    /// Returns the address in use, with the port the system chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Serves until `stop`, then finishes what is open, then cuts what is left at `cut`.
    pub(crate) async fn serve(self, stop: CancellationToken, cut: CancellationToken) -> anyhow::Result<()> {
        let Self { listener, router, flags, web } = self;
        let permits = Arc::new(Semaphore::new(flags.max_connections));
        let connections = TaskTracker::new();
        let shared = Arc::new(connection::Shared { router, builder: builder(), flags, web, stop: stop.clone(), cut });
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.context("connection permits")?;
                anyhow::Ok((permit, listener.accept().await))
            };
            let (permit, (stream, peer)) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accepted => accepted?,
            };
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                connection::serve(&shared, stream, peer).await;
                drop(permit);
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
        Ok(())
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Slow heads are the watchdog's business: hyper's own timer would also close idle connections after it.
        .header_read_timeout(None)
        .max_buf_size(MAX_HTTP1_BUFFER)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(Duration::from_secs(60))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// What a client gets whose handler panicked; the hook has logged and counted it.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Body> {
    (StatusCode::INTERNAL_SERVER_ERROR, "internal error: the handler of this request panicked\n").into_response()
}
