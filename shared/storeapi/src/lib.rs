//! StoreAPI and Info, spoken by client and server.
//!
//! This is the rim where protobuf ends: requests become [`SelectRequest`] and [`LabelsRequest`], frames become
//! [`ChunkSeries`](farview_series::ChunkSeries), errors become [`StoreError`], and the other way round. The hot path,
//! series with their chunks, is written and read by hand ([`frame`]): labels go straight into their packed form and chunk
//! bytes stay slices of the buffer they arrived in.
//!
//! - [`Store`] is what a service implements; [`StoreServer`] puts it on the wire.
//! - [`StoreClient`] asks a store over any gRPC channel; it opens no connection itself.
//! - [`EndpointInfo`] is what a member tells about itself, [`status`] is the one place where kinds of errors meet gRPC codes.

pub mod client;
pub mod codec;
pub mod error;
pub mod frame;
pub mod info;
pub mod request;
pub mod server;
pub mod status;
pub mod store;

pub use client::{CallOptions, FrameStream, StoreClient};
pub use error::StoreError;
pub use frame::{DecodedFrame, Frame, FrameError};
pub use info::{Component, EndpointInfo, ShardsInfo, StoreInfo, TsdbInfo};
pub use request::{LabelsRequest, PartialResponse, QueryHints, SelectRequest, ShardInfo};
pub use server::StoreServer;
pub use store::{LabelsAnswer, SelectStream, Store};

/// gRPC metadata key under which a tenant travels.
pub const TENANT_METADATA_KEY: &str = "thanos-tenant";

/// gRPC metadata key under which the slots that are wanted of a store travel.
pub const SLOTS_METADATA_KEY: &str = "farview-slots";
