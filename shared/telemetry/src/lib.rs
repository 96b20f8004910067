//! What a process says about itself: logs, traces, metrics, readiness.
//!
//! - [`logs`]: lines in logfmt (or JSON) with the keys of Thanos: `ts caller level msg …`.
//! - [`traces`]: spans sent by OTLP, configured by Thanos' `--tracing.config`.
//! - [`RootRegistry`]: the metrics of one process, rendered as OpenMetrics or as Prometheus text. It is made by whoever
//!   starts the process and handed down; each part registers its own metrics on it, and nothing is global.
//! - [`HttpMetrics`], [`GrpcMetrics`]: what every server counts, under the names the dashboards of Thanos read.
//! - [`RequestLog`]: which of these requests get lines in the log.
//! - [`Readiness`]: what must have happened before the process takes traffic, as latches that parts hold.
//! - [`admin_router`]: `/metrics`, `/-/healthy`, `/-/ready`.
//!
//! The crate opens no listener and installs no signal handler; `bootstrap` does. The log subscriber and the panic hook
//! are process-wide by nature: only `bootstrap` installs them, by [`logs::init`] and [`Panics::install`].

mod admin;
mod build_info;
mod exposition;
mod grpc;
mod http;
pub mod logs;
mod panics;
mod process;
mod readiness;
mod registry;
mod requests;
mod tls;
pub mod traces;

pub use admin::admin_router;
pub use build_info::BuildInfo;
pub use exposition::Exposition;
pub use grpc::{GrpcMetrics, GrpcMetricsService};
pub use http::HttpMetrics;
pub use logs::LogFlags;
pub use panics::Panics;
pub use process::ProcessCollector;
pub use readiness::{Latch, Readiness};
pub use registry::RootRegistry;
pub use requests::{RequestLog, RequestLoggingFlags};
pub use tls::TlsMetrics;
pub use traces::TracingFlags;
