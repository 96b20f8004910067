//! Names become a changing set of addresses, by DNS and by file.
//!
//! A [`Target`] is what an operator writes (`dns+stores.mon.svc.:10901`). A [`Lookup`] asks DNS and tells three kinds of answer
//! apart: there are addresses, there are none, it is not known. [`HeldSet`] is the rule that turns answers into joins and leaves; it
//! is pure. [`Discovery`] runs one poller per target over both and publishes the whole sorted set on a `watch`, so that consumers
//! compare sets and can miss nothing. [`FileSd`] and [`EndpointFile`] say which targets there are, from files that change.
//!
//! The seam to whoever uses the addresses is [`Vitals`]: users tell which addresses are alive, and the hold rule keeps a living
//! endpoint through negative answers. This crate opens no connection to an endpoint and knows no gRPC.

mod address;
mod discovery;
mod endpoint_file;
mod error;
mod file_sd;
mod hickory;
mod history;
mod hold;
mod lookup;
mod metrics;
mod poller;
mod resolve;
mod target;
mod vitals;
mod watched;

pub use address::Address;
pub use discovery::{Addresses, Discovery, DiscoveryConfig};
pub use endpoint_file::{ClientConfig, Compression, EndpointEntry, EndpointFile, TlsConfig};
pub use error::Error;
pub use file_sd::{FileSd, TargetGroup};
pub use hickory::{HickoryConfig, HickoryLookup};
pub use history::{Change, History, JoinReason, LeaveReason, Movement};
pub use hold::{HeldSet, HoldConfig};
pub use lookup::{Answer, Gap, Lookup, Service, Unavailable};
pub use metrics::DnsMetrics;
pub use poller::TargetStatus;
pub use resolve::{Prefer, resolve};
pub use target::{Scheme, Target};
pub use vitals::Vitals;
pub use watched::{FileStatus, WatchedFiles};
