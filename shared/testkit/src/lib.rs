//! Real parts and stages for tests: Prometheus processes, DNS servers, an S3-compatible server with faults.

pub mod dns;
mod golden;
pub mod prometheus;
pub mod s3;

pub use golden::golden;
