//! Bodies whose messages are counted as they pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Call, Total};

/// Which way messages go, seen from this process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Sent,
    Received,
}

/// A body that counts the messages in it; a response's body also learns the status and keeps its call open until then.
pub(super) struct Counted {
    body: Body,
    frames: MessageCounter,
    messages: Total,
    call: Option<Call>,
    ended: bool,
}

impl Counted {
    pub(super) fn request(body: Body, messages: Total) -> Self {
        Self { body, frames: MessageCounter::default(), messages, call: None, ended: false }
    }

    pub(super) fn response(body: Body, messages: Total, call: Call) -> Self {
        Self { call: Some(call), ..Self::request(body, messages) }
    }

    /// Ends a stream whose handler panicked with a status instead of cutting the connection.
    fn recover(&mut self) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        if let Some(call) = &mut self.call {
            call.code = Code::Internal;
            if let Some(recovered) = &call.families.recovered {
                recovered.inc();
            }
        }
        let status = Status::internal("internal error: the handler of this stream panicked");
        Poll::Ready(Some(Err(status)))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let recovers = this.call.as_ref().is_some_and(|c| c.families.recovered.is_some());
        let polled = if recovers {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(cx))) {
                Ok(polled) => polled,
                Err(_) => return this.recover(),
            }
        } else {
            Pin::new(&mut this.body).poll_frame(cx)
        };
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.messages.inc_by(this.frames.advance(data));
                }
                if let (Some(trailers), Some(call)) = (frame.trailers_ref(), &mut this.call) {
                    call.status_in(trailers);
                }
            }
            Some(Err(status)) => {
                if let Some(call) = &mut this.call {
                    call.code = status.code();
                }
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Follows the frames of gRPC (a flag, a length in four bytes, the message) over however the bytes are cut.
#[derive(Debug, Default)]
struct MessageCounter {
    head: [u8; 5],
    have: usize,
    left: usize,
}

impl MessageCounter {
    /// Returns how many messages begin in `data`.
    fn advance(&mut self, mut data: &[u8]) -> u64 {
        let mut messages = 0;
        while !data.is_empty() {
            if self.left > 0 {
                let skip = self.left.min(data.len());
                self.left -= skip;
                data = &data[skip..];
                continue;
            }
            let take = (self.head.len() - self.have).min(data.len());
            self.head[self.have..self.have + take].copy_from_slice(&data[..take]);
            self.have += take;
            data = &data[take..];
            if self.have == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                self.have = 0;
                messages += 1;
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for length in [0u32, 3, 300, 0, 1] {
            stream.push(0);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![7; length as usize]);
        }
        for cut in 1..stream.len() {
            let mut counter = MessageCounter::default();
            let counted: u64 = stream.chunks(cut).map(|part| counter.advance(part)).sum();
            assert_eq!(counted, 5, "cut at {cut}");
        }
    }
}
