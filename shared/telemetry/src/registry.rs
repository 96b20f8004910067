//! The metrics of one process.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::{BuildInfo, Exposition, ProcessCollector};

/// The registry of a process: cheap to clone, shared by all parts.
///
/// Names given to `register` go without the suffix `_total` for counters and `_info` for infos: the encoder adds them.
#[derive(Debug, Clone)]
pub struct RootRegistry(Arc<RwLock<Registry>>);

impl RootRegistry {
    /// Makes a registry that has the metrics of the process itself and of its build.
    pub fn new(build: &BuildInfo) -> Self {
        let mut registry = Registry::default();
        build.register(&mut registry);
        registry.register_collector(Box::new(ProcessCollector));
        Self(Arc::new(RwLock::new(registry)))
    }

    /// Makes an empty registry, for tests that look at their own metrics only.
    pub fn empty() -> Self {
        Self(Arc::new(RwLock::new(Registry::default())))
    }

    /// Lets a part register its metrics: `registry.register(Metrics::register)`.
    ///
    /// Registering one name twice yields an exposition Prometheus refuses; do it once per process.
    pub fn register<T>(&self, part: impl FnOnce(&mut Registry) -> T) -> T {
        part(&mut self.0.write())
    }

    /// Renders all metrics.
    pub fn render(&self, format: Exposition) -> String {
        let mut out = String::with_capacity(16 << 10);
        // Writing to a string does not fail; a collector that does leaves its part out.
        let _ = text::encode(&mut out, &self.0.read());
        format.finish(out)
    }
}

impl Default for RootRegistry {
    fn default() -> Self {
        Self::new(&BuildInfo::UNKNOWN)
    }
}
