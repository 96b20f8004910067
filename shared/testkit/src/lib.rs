//! Real parts and stages for tests: Prometheus processes, DNS servers, fault proxies.

pub mod dns;
pub mod prometheus;
