//! What generated gRPC clients call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farview_discovery::Address;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::Event;
use crate::connection::{Connection, NotSent};
use crate::status::{TransportError, TransportStatus};

/// A cheap, cloneable service for tonic's generated clients.
///
/// Calls wait for a connection only while one that has just ended is being replaced, and then not long; otherwise they fail at once
/// with Unavailable and [`TransportStatus::Unsent`]. Failures and successes of calls feed the endpoint's state.
///
/// # Cancellation
/// Dropping a call or its stream resets the stream at the server.
#[derive(Clone)]
pub struct Channel {
    route: Route,
}

#[derive(Clone)]
enum Route {
    /// One connection, whatever becomes of it.
    Bound(Arc<Connection>),
    /// The connection in use of a peer; with a generation, only as long as the same party answers.
    Peer(Arc<Current>, Option<u64>),
}

/// The connection in use of a peer.
pub(crate) struct Current {
    pub(crate) address: Address,
    pub(crate) in_use: watch::Sender<InUse>,
}

#[derive(Clone)]
pub(crate) enum InUse {
    /// This one, on which the party of this generation answered.
    Connection(Arc<Connection>, u64),
    /// The last one has just ended, and nothing speaks against the next.
    Replacing,
    /// None, for this reason.
    None(Arc<str>),
}

impl InUse {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Connection(a, of_a), Self::Connection(b, of_b)) => a.id() == b.id() && of_a == of_b,
            (Self::Replacing, Self::Replacing) => true,
            (Self::None(a), Self::None(b)) => a == b,
            _ => false,
        }
    }
}

/// For how long a call waits for the next connection: connect timeout and probe together take milliseconds where nothing is wrong.
const REPLACEMENT: Duration = Duration::from_millis(500);

impl Channel {
    pub(crate) fn bound(connection: Arc<Connection>) -> Self {
        Self { route: Route::Bound(connection) }
    }

    pub(crate) fn of_peer(current: Arc<Current>, generation: Option<u64>) -> Self {
        Self { route: Route::Peer(current, generation) }
    }

    /// Returns the endpoint's address.
    pub fn address(&self) -> &Address {
        match &self.route {
            Route::Bound(connection) => connection.address(),
            Route::Peer(current, _) => &current.address,
        }
    }
}

impl Route {
    async fn connection(&self) -> Result<Arc<Connection>, Status> {
        match self {
            Self::Bound(connection) if connection.is_ended() => {
                Err(unsent(connection.address(), "the connection has ended"))
            }
            Self::Bound(connection) => Ok(connection.clone()),
            Self::Peer(current, generation) => current.connection(*generation).await,
        }
    }
}

impl Current {
    async fn connection(&self, generation: Option<u64>) -> Result<Arc<Connection>, Status> {
        let mut in_use = self.in_use.subscribe();
        // Between the end of a connection and its owner's notice of it, a moment passes.
        let decided = in_use.wait_for(|now| match now {
            InUse::Connection(connection, _) => !connection.is_ended(),
            InUse::Replacing => false,
            InUse::None(_) => true,
        });
        let Ok(Ok(now)) = tokio::time::timeout(REPLACEMENT, decided).await else {
            return Err(unsent(&self.address, "the connection has ended and the next is not there yet"));
        };
        match &*now {
            InUse::Connection(connection, party) if generation.is_none_or(|wanted| wanted == *party) => {
                Ok(connection.clone())
            }
            InUse::Connection(..) => Err(unsent(&self.address, "another endpoint answers at the address")),
            InUse::Replacing => Err(unsent(&self.address, "connecting")),
            InUse::None(reason) => Err(unsent(&self.address, reason)),
        }
    }
}

fn unsent(address: &Address, problem: &str) -> Status {
    TransportError { whom: address.to_string(), problem: problem.to_owned(), unsent: true }.into_status()
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("address", self.address()).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let route = self.route.clone();
        Box::pin(async move {
            let mut connection = route.connection().await?;
            let mut sent = connection.send(request).await;
            if let (Err(NotSent::Returned(request, _)), Route::Peer(..)) = (&mut sent, &route) {
                // The server ended the connection before the request was on its way: the next connection takes it.
                let again = std::mem::take(&mut **request);
                connection = route.connection().await?;
                sent = connection.send(again).await;
            }
            let (parts, body) = sent.map_err(NotSent::into_status)?.into_parts();
            // A response without a body carries its status in the headers.
            let judged = judge(&connection, &parts.headers);
            let body = Body::new(Watched { body, connection, judged });
            Ok(Response::from_parts(parts, body))
        })
    }
}

/// Reports what the status of a response says about the endpoint. Returns whether there was one.
fn judge(connection: &Connection, headers: &HeaderMap) -> bool {
    let Some(code) = headers.get("grpc-status") else { return false };
    let event = match TransportStatus::evidence(Code::from_bytes(code.as_bytes())) {
        Some(failure) => Event::CallFailed(failure),
        None => Event::CallSucceeded,
    };
    connection.report(event);
    true
}

/// A response body that keeps its connection, names the endpoint in its errors and reports how it ended.
struct Watched {
    body: Incoming,
    connection: Arc<Connection>,
    judged: bool,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let (false, Some(trailers)) = (this.judged, frame.trailers_ref()) {
                    this.judged = judge(&this.connection, trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(this.connection.broken(&error, false)))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
