//! tonic codecs that use the hand-written frames.

use crate::{DecodedFrame, Frame};
use bytes::{Buf, BufMut, BytesMut};
use farview_proto::thanos::SeriesRequest;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Server side of `Store/Series`: requests in, frames out.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesServerCodec;

/// Client side of `Store/Series`: requests out, frames in.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesClientCodec;

/// Writes [`Frame`]s.
#[derive(Debug, Default)]
pub struct FrameEncoder {
    scratch: BytesMut,
}

/// Reads [`DecodedFrame`]s.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameDecoder;

/// Writes requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestEncoder;

/// Reads requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestDecoder;

impl Codec for SeriesServerCodec {
    type Encode = Frame;
    type Decode = SeriesRequest;
    type Encoder = FrameEncoder;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder::default()
    }

    fn decoder(&mut self) -> RequestDecoder {
        RequestDecoder
    }
}

impl Codec for SeriesClientCodec {
    type Encode = SeriesRequest;
    type Decode = DecodedFrame;
    type Encoder = RequestEncoder;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> RequestEncoder {
        RequestEncoder
    }

    fn decoder(&mut self) -> FrameDecoder {
        FrameDecoder
    }
}

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.scratch.clear();
        frame.encode(&mut self.scratch);
        out.reserve(self.scratch.len());
        out.put_slice(&self.scratch);
        Ok(())
    }
}

impl Decoder for FrameDecoder {
    type Item = DecodedFrame;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<DecodedFrame>, Status> {
        let frame = buf.copy_to_bytes(buf.remaining());
        DecodedFrame::decode(frame).map(Some).map_err(|error| Status::data_loss(error.to_string()))
    }
}

impl Encoder for RequestEncoder {
    type Item = SeriesRequest;
    type Error = Status;

    fn encode(&mut self, request: SeriesRequest, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for RequestDecoder {
    type Item = SeriesRequest;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<SeriesRequest>, Status> {
        SeriesRequest::decode(buf)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("malformed SeriesRequest: {error}")))
    }
}
