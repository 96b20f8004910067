//! Real parts and stages for tests: Prometheus processes, DNS servers, an S3-compatible server with faults, certificates.

pub mod dns;
mod golden;
pub mod prometheus;
pub mod s3;
pub mod tls;

pub use golden::golden;
