//! Real parts and stages for tests: Prometheus processes, DNS servers, an S3-compatible server with faults.

pub mod dns;
pub mod prometheus;
pub mod s3;
