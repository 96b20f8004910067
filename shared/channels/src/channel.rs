//! What generated gRPC clients call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use farview_discovery::Address;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::Event;
use crate::connection::Connection;
use crate::status::{TransportError, TransportStatus};

/// A cheap, cloneable service for tonic's generated clients.
///
/// Calls never wait for a connection: without one they fail at once with Unavailable and [`TransportStatus::Unsent`]. Failures and
/// successes of calls feed the endpoint's state.
///
/// # Cancellation
/// Dropping a call or its stream resets the stream at the server.
#[derive(Clone)]
pub struct Channel {
    route: Route,
}

#[derive(Clone)]
enum Route {
    Bound(Arc<Connection>),
    Following(Arc<Current>),
}

/// The connection in use of a peer, if any.
pub(crate) struct Current {
    pub(crate) address: Address,
    pub(crate) connection: ArcSwapOption<Connection>,
    /// Why there is none.
    pub(crate) reason: ArcSwapOption<String>,
}

impl Channel {
    pub(crate) fn bound(connection: Arc<Connection>) -> Self {
        Self { route: Route::Bound(connection) }
    }

    pub(crate) fn following(current: Arc<Current>) -> Self {
        Self { route: Route::Following(current) }
    }

    /// Returns the endpoint's address.
    pub fn address(&self) -> &Address {
        match &self.route {
            Route::Bound(connection) => connection.address(),
            Route::Following(current) => &current.address,
        }
    }

    /// Tells whether the channel is bound to a connection that has ended: every call on it fails.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(&self.route, Route::Bound(connection) if connection.is_ended())
    }

    fn connection(&self) -> Result<Arc<Connection>, Status> {
        match &self.route {
            Route::Bound(connection) if connection.is_ended() => {
                Err(unsent(connection.address(), "the connection has ended"))
            }
            Route::Bound(connection) => Ok(connection.clone()),
            Route::Following(current) => current.connection.load_full().filter(|c| !c.is_ended()).ok_or_else(|| {
                let reason = current.reason.load();
                unsent(&current.address, reason.as_ref().map_or("not connected", |r| r.as_str()))
            }),
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
        let connection = self.connection();
        Box::pin(async move {
            let connection = connection?;
            let response = connection.send(request).await?;
            let (parts, body) = response.into_parts();
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
