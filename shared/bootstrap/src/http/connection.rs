//! One HTTP connection, watched.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::body::{DeadlineBody, InFlightBody};
use super::web_config::WebConfig;
use crate::flags::HttpFlags;
use crate::listener::handshake;

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) builder: auto::Builder<TokioExecutor>,
    pub(super) flags: HttpFlags,
    pub(super) web: Option<Arc<WebConfig>>,
    pub(super) stop: CancellationToken,
    pub(super) cut: CancellationToken,
}

/// Serves one connection to its end, after a TLS handshake where there is to be one.
pub(super) async fn serve(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let Some(tls) = shared.web.as_ref().and_then(|web| web.tls()) else { return converse(shared, stream, peer).await };
    let stream = tokio::select! {
        shaken = handshake(&tls, stream) => match shaken {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(error = %error, %peer, "TLS handshake failed"),
        },
        () = shared.stop.cancelled() => return,
    };
    converse(shared, stream, peer).await;
}

async fn converse<S>(shared: &Arc<Shared>, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let activity = Arc::new(Activity::new());
    let io = Watched { io: stream, activity: Arc::clone(&activity) };
    let service = service_fn({
        let (shared, activity) = (Arc::clone(shared), Arc::clone(&activity));
        move |request| answer(Arc::clone(&shared), InFlight::begin(&activity), request, peer)
    });
    let mut connection = pin!(shared.builder.serve_connection_with_upgrades(TokioIo::new(io), service));
    let mut stopping = false;
    let mut watchdog = pin!(activity.watch(&shared.flags));
    loop {
        tokio::select! {
            // Errors of a connection are the client's: resets, nonsense. Nothing to do about them here.
            _ = connection.as_mut() => return,
            why = watchdog.as_mut() => {
                tracing::debug!(%peer, why, "closing HTTP connection");
                return;
            }
            () = shared.cut.cancelled() => return,
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    in_flight: InFlight,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
) -> Result<hyper::Response<Body>, std::convert::Infallible> {
    let deadline = Instant::now() + shared.flags.body_timeout.get();
    let mut request = request.map(|body| Body::new(DeadlineBody::new(body, deadline)));
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = shared.router.clone().oneshot(request).await?;
    Ok(response.map(|body| Body::new(InFlightBody::new(body, in_flight))))
}

/// What goes on on a connection, as its watchdog sees it. Times are milliseconds since `start`.
struct Activity {
    start: Instant,
    in_flight: AtomicUsize,
    last: AtomicU64,
    /// When the first byte of a head came whose request has not begun; 0 if none.
    head_since: AtomicU64,
    read_before: AtomicBool,
    /// HTTP/2 has frames between requests: bytes then do not mean that a head is under way.
    http2: AtomicBool,
}

impl Activity {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            in_flight: AtomicUsize::new(0),
            last: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            read_before: AtomicBool::new(false),
            http2: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn read(&self, data: &[u8]) {
        if !self.read_before.swap(true, Ordering::Relaxed) && data.starts_with(b"PRI") {
            self.http2.store(true, Ordering::Relaxed);
        }
        let now = self.now();
        self.last.store(now, Ordering::Relaxed);
        if self.in_flight.load(Ordering::Relaxed) == 0 {
            let _ = self.head_since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Returns, with the reason, when the connection has to go.
    async fn watch(&self, flags: &HttpFlags) -> &'static str {
        let (header, idle) = (flags.header_timeout.get(), flags.idle_timeout.get());
        let tick = (header.min(idle) / 4).max(Duration::from_millis(10));
        let over = |since: u64, limit: Duration| u128::from(self.now().saturating_sub(since)) > limit.as_millis();
        loop {
            tokio::time::sleep(tick).await;
            if self.in_flight.load(Ordering::Relaxed) > 0 {
                continue;
            }
            // A connection that never sent a byte is as slow a head as one that sends one a minute.
            let silent = !self.read_before.load(Ordering::Relaxed);
            let head = self.head_since.load(Ordering::Relaxed);
            if (silent || (head > 0 && !self.http2.load(Ordering::Relaxed))) && over(head, header) {
                return "the head of a request took too long";
            }
            if over(self.last.load(Ordering::Relaxed), idle) {
                return "idle";
            }
        }
    }
}

/// Held while a request is being answered, until the last byte of its answer.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        activity.head_since.store(0, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the activity of every byte that is read.
struct Watched<S> {
    io: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
