//! One logical endpoint behind several interchangeable addresses.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tower::balance::p2c::Balance;
use tower::load::PeakEwmaDiscover;

use crate::balance::{Joins, UntilEnd};
use crate::{FanOut, PeerSet, TransportError};

/// How a group chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupConfig {
    /// The load assumed of a peer that has not been asked yet. Default 100 ms.
    pub default_rtt: Duration,
    /// How fast a peak of latency is forgotten. Default 10 s, as linkerd.
    pub decay: Duration,
    /// Below which share of peers in use the group stops believing in its probes and uses every peer that has a connection.
    /// Default 0.5.
    pub panic_below: f64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { default_rtt: Duration::from_millis(100), decay: Duration::from_secs(10), panic_below: 0.5 }
    }
}

type Balancer<I> = Balance<PeakEwmaDiscover<Joins<I>, UntilEnd>, Request<Body>>;

/// A cloneable service for tonic's generated clients that sends each call to the less loaded of two random peers in use
/// (`tower::balance::p2c` over peak EWMA; a call counts until its response has ended).
///
/// A call never waits for a peer: with none in use it fails at once with Unavailable. The response's extensions hold the [`farview_discovery::Address`]
/// that answered.
pub struct Group<I: Send + Sync + 'static> {
    inner: Arc<Inner<I>>,
}

struct Inner<I: Send + Sync + 'static> {
    name: String,
    config: GroupConfig,
    set: PeerSet<I>,
    panic: watch::Sender<bool>,
    balancer: Mutex<Balancer<I>>,
}

impl<I: Send + Sync + 'static> Clone for Group<I> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<I: Send + Sync + 'static> fmt::Debug for Group<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl<I: Send + Sync + 'static> Group<I> {
    /// Makes a group of a peer set. `name` stands in error messages; the configured target is a good one.
    pub fn new(name: impl Into<String>, set: PeerSet<I>, config: GroupConfig) -> Self {
        let panic = watch::Sender::new(false);
        let joins = Joins::new(set.watch(), panic.subscribe());
        let decay = config.decay;
        let loads = PeakEwmaDiscover::new::<Request<Body>>(joins, config.default_rtt, decay, UntilEnd);
        let balancer = Mutex::new(Balance::new(loads));
        Self { inner: Arc::new(Inner { name: name.into(), config, set, panic, balancer }) }
    }

    /// Returns the peers.
    pub fn peers(&self) -> FanOut<I> {
        self.inner.set.peers()
    }

    /// Returns the peer set.
    pub fn set(&self) -> &PeerSet<I> {
        &self.inner.set
    }

    /// Tells whether so few peers are in use that all are used.
    pub fn is_in_panic(&self) -> bool {
        self.inner.look();
        *self.inner.panic.borrow()
    }
}

impl<I: Send + Sync + 'static> Inner<I> {
    /// Compares the share of peers in use with the threshold. Peers that were never in use do not count: a start is no panic.
    fn look(&self) {
        let set = self.set.peers();
        let (mut known, mut usable) = (0_u32, 0_u32);
        for peer in set.peers() {
            known += u32::from(peer.identity().is_some());
            usable += u32::from(peer.status().state.is_usable());
        }
        let panic = f64::from(usable) < f64::from(known) * self.config.panic_below;
        self.panic.send_if_modified(|current| std::mem::replace(current, panic) != panic);
    }

    /// Chooses a peer now or not at all. The balancer's wakers lead nowhere: every call polls it anew, and a waker only has to mark
    /// its gate as worth polling.
    fn choose(
        &self,
        request: Request<Body>,
    ) -> Result<impl Future<Output = Result<Response<Body>, tower::BoxError>> + use<I>, Status> {
        self.look();
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        match balancer.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Ok(balancer.call(request)),
            Poll::Ready(Err(error)) => Err(Status::unavailable(format!("{}: {error}", self.name))),
            Poll::Pending => Err(self.none_in_use()),
        }
    }

    fn none_in_use(&self) -> Status {
        let set = self.set.peers();
        let mut problem = match set.peers().len() {
            0 => "no endpoint is known".to_owned(),
            n => format!("none of {n} endpoints is in use"),
        };
        for peer in set.peers().iter().take(3) {
            let status = peer.status();
            let why = status.last_error.map_or_else(String::new, |(_, error)| format!(": {error}"));
            problem.push_str(&format!("; {} {}{why}", peer.address(), status.state));
        }
        TransportError { whom: self.name.clone(), problem, unsent: true }.into_status()
    }
}

impl<I: Send + Sync + 'static> Service<Request<Body>> for Group<I> {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.inner.choose(request) {
            Ok(answer) => Box::pin(async move { answer.await.map_err(Status::from_error) }),
            Err(status) => Box::pin(std::future::ready(Err(status))),
        }
    }
}
