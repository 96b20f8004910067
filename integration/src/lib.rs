//! A small world of real processes: clusters of Prometheus servers with their sidecars, a query per cluster, a global query
//! over them, and a DNS server by whose names they find each other. The demo shows it, the tests break it. And what the
//! kustomize overlays describe, run without Kubernetes.

pub mod blocks;
pub mod differential;
pub mod history;
pub mod kubernetes;
pub mod measure;
pub mod process;
pub mod proof;
pub mod world;

pub use process::{Farview, binary};
pub use world::{Cluster, World};
