//! The wire types, generated from the `.proto` files beside this crate and committed; nothing here is made by hand.
//!
//! The files are laid out by the import paths of the field (`store/storepb/rpc.proto`, …) and written from the tables of
//! field numbers, without the Go options. Only `storeapi`, the gRPC edges of the services and the sidecar's remote-read
//! client may see these types: the rest of the code speaks `model` and `series`.
#![allow(missing_docs, unreachable_pub, rustdoc::all, clippy::all)]

/// Package `thanos`: StoreAPI, Rules, Targets, Metadata, Exemplars, Status, Query.
pub mod thanos {
    include!("generated/thanos.rs");

    /// Package `thanos.info`.
    pub mod info {
        include!("generated/thanos.info.rs");
    }
}

/// Package `hintspb`: what travels inside the `Any` fields of StoreAPI.
pub mod hintspb {
    include!("generated/hintspb.rs");
}

/// Package `prometheus_copy`: Prometheus' series with samples.
pub mod prometheus_copy {
    include!("generated/prometheus_copy.rs");
}

/// Package `prometheus`: remote read.
pub mod prometheus {
    include!("generated/prometheus.rs");
}

/// All descriptors, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
