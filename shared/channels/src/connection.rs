//! One HTTP/2 connection, without any reconnecting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use farview_discovery::Address;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::status::{TransportError, with_causes};
use crate::{Event, Failure};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What a call tells about the connection that it used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Which connection. Reports about former connections are worthless.
    pub(crate) connection: u64,
    pub(crate) event: Event,
}

/// A call without an answer.
pub(crate) enum NotSent {
    /// The request has not left and can be sent on another connection.
    Returned(Box<Request<Body>>, tonic::Status),
    /// It may have left.
    Failed(tonic::Status),
}

impl NotSent {
    pub(crate) fn into_status(self) -> tonic::Status {
        match self {
            Self::Returned(_, status) | Self::Failed(status) => status,
        }
    }
}

/// A live connection. Dropping the last reference closes it once its streams have ended.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    address: Address,
    scheme: Scheme,
    authority: Authority,
    sender: http2::SendRequest<Body>,
    closed: CancellationToken,
    reports: OnceLock<mpsc::Sender<Report>>,
}

impl Connection {
    pub(crate) fn new<T>(
        address: Address,
        tls: bool,
        sender: http2::SendRequest<Body>,
        driver: http2::Connection<T, Body, hyper_util::rt::TokioExecutor>,
    ) -> Self
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let closed = CancellationToken::new();
        let ended = closed.clone().drop_guard();
        let whom = address.clone();
        tokio::spawn(async move {
            let _ended = ended;
            if let Err(error) = driver.await {
                tracing::debug!(address = %whom, error = %with_causes(&error), "connection ended");
            }
        });
        let authority = address.to_string().parse().unwrap_or_else(|_| Authority::from_static("endpoint"));
        let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, address, scheme, authority, sender, closed, reports: OnceLock::new() }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Makes calls from now on report to the peer. The probes before that speak for themselves.
    pub(crate) fn report_to(&self, reports: mpsc::Sender<Report>) {
        let _ = self.reports.set(reports);
    }

    /// Returns once the connection has ended.
    pub(crate) async fn ended(&self) {
        self.closed.cancelled().await;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.closed.is_cancelled() || self.sender.is_closed()
    }

    /// A report that finds the queue full is dropped: the queue then holds enough of the same.
    pub(crate) fn report(&self, event: Event) {
        if let Some(reports) = self.reports.get() {
            let _ = reports.try_send(Report { connection: self.id, event });
        }
    }

    pub(crate) async fn send(
        self: &Arc<Self>,
        mut request: Request<Body>,
    ) -> Result<http::Response<Incoming>, NotSent> {
        let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path);
        let internal = |e: http::Error| NotSent::Failed(tonic::Status::internal(format!("request URI: {e}")));
        *request.uri_mut() = uri.build().map_err(internal)?;
        let agent = HeaderValue::from_static(concat!("farview/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(http::header::USER_AGENT).or_insert(agent);
        let mut sender = self.sender.clone();
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => NotSent::Returned(Box::new(request), self.broken(&error.into_error(), true)),
                None => NotSent::Failed(self.broken(&error.into_error(), false)),
            }),
        }
    }

    /// Turns a failure of the connection into a status, and into evidence.
    pub(crate) fn broken(&self, error: &hyper::Error, unsent: bool) -> tonic::Status {
        self.report(Event::CallFailed(Failure::Broken));
        TransportError { whom: self.address.to_string(), problem: with_causes(error), unsent }.into_status()
    }
}
