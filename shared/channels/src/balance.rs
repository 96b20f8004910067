//! What `tower::balance::p2c` needs to choose among the peers of a group: a gate per peer, a load that lasts to the end of a
//! response, and the stream of joins and leaves.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farview_discovery::Address;
use futures::Stream;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tower::discover::Change;
use tower::load::CompleteOnResponse;
use tower::load::completion::TrackCompletion;

use crate::{FanOut, Peer};

/// Lets calls through while the peer is in use, or while the group is in panic and there is a connection at all.
///
/// It answers only Pending or Ready: a member that errs would be dropped by the balancer for good.
pub(crate) struct Gate<I> {
    peer: Peer<I>,
    usable: WatchStream<bool>,
    panic: WatchStream<bool>,
    is_usable: bool,
    is_panic: bool,
}

impl<I: Send + Sync + 'static> Gate<I> {
    fn new(peer: Peer<I>, panic: watch::Receiver<bool>) -> Self {
        let (usable, panic) = (WatchStream::new(peer.usable()), WatchStream::new(panic));
        Self { peer, usable, panic, is_usable: false, is_panic: false }
    }
}

/// Takes the newest value of a watch and leaves a waker there.
fn newest(stream: &mut WatchStream<bool>, value: &mut bool, cx: &mut Context<'_>) {
    while let Poll::Ready(next) = Pin::new(&mut *stream).poll_next(cx) {
        match next {
            Some(next) => *value = next,
            None => {
                *value = false;
                return;
            }
        }
    }
}

impl<I: Send + Sync + 'static> Service<Request<Body>> for Gate<I> {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        newest(&mut self.usable, &mut self.is_usable, cx);
        newest(&mut self.panic, &mut self.is_panic, cx);
        match self.is_usable || (self.is_panic && self.peer.is_connected()) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let address = self.peer.address().clone();
        let out_of_use = if self.is_usable { None } else { self.peer.last_channel() };
        let mut channel = out_of_use.unwrap_or_else(|| self.peer.channel());
        let answer = channel.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            response.extensions_mut().insert(address);
            Ok(response)
        })
    }
}

/// A call is under way until its response body has ended: a Series call answers its headers at once and works for long.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UntilEnd;

impl<H: Send + 'static> TrackCompletion<H, Response<Body>> for UntilEnd {
    type Output = Response<Body>;

    fn track_completion(&self, handle: H, response: Response<Body>) -> Response<Body> {
        if http_body::Body::is_end_stream(response.body()) {
            return CompleteOnResponse::default().track_completion(handle, response);
        }
        response.map(|body| Body::new(Holding { body, handle: Some(handle) }))
    }
}

struct Holding<H> {
    body: Body,
    handle: Option<H>,
}

impl<H: Send + 'static> http_body::Body for Holding<H> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            this.handle = None;
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

/// The handle is never polled, so nothing in here needs its place.
impl<H> Unpin for Holding<H> {}

/// The joins and leaves of a peer set as the balancer wants them. It never errs, because an error would end the balancer.
pub(crate) struct Joins<I> {
    sets: WatchStream<FanOut<I>>,
    panic: watch::Receiver<bool>,
    known: BTreeMap<Address, Peer<I>>,
    queue: VecDeque<Change<Address, Gate<I>>>,
}

impl<I: Send + Sync + 'static> Joins<I> {
    pub(crate) fn new(sets: watch::Receiver<FanOut<I>>, panic: watch::Receiver<bool>) -> Self {
        Self { sets: WatchStream::new(sets), panic, known: BTreeMap::new(), queue: VecDeque::new() }
    }

    fn compare(&mut self, set: &FanOut<I>) {
        let gone: Vec<_> = self.known.keys().filter(|address| set.get(address).is_none()).cloned().collect();
        for address in gone {
            self.known.remove(&address);
            self.queue.push_back(Change::Remove(address));
        }
        for peer in set.peers() {
            if self.known.get(peer.address()).is_none_or(|known| !known.is_same(peer)) {
                self.known.insert(peer.address().clone(), peer.clone());
                let gate = Gate::new(peer.clone(), self.panic.clone());
                self.queue.push_back(Change::Insert(peer.address().clone(), gate));
            }
        }
    }
}

impl<I: Send + Sync + 'static> Stream for Joins<I> {
    type Item = Result<Change<Address, Gate<I>>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(change) = self.queue.pop_front() {
                return Poll::Ready(Some(Ok(change)));
            }
            match std::task::ready!(Pin::new(&mut self.sets).poll_next(cx)) {
                Some(set) => self.compare(&set),
                // The set is gone: nothing joins any more, but the balancer must live on.
                None => return Poll::Pending,
            }
        }
    }
}

impl<I> Unpin for Joins<I> {}
