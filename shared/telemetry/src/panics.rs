//! Panics, counted.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counts every panic of the process in `farview_panics_total`, caught or not, and logs it with its place.
#[derive(Debug, Clone, Default)]
pub struct Panics(Counter<u64, AtomicU64>);

impl Panics {
    /// Registers the counter.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register("farview_panics", "Panics of this process, caught or not", this.0.clone());
        this
    }

    /// Makes panics be counted and logged from now on, in place of the standard message.
    pub fn install(&self) {
        let counter = self.0.clone();
        std::panic::set_hook(Box::new(move |panic| {
            counter.inc();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let what = panic.payload_as_str().unwrap_or("no message");
            let thread = std::thread::current();
            let backtrace = std::backtrace::Backtrace::capture();
            let backtrace = match backtrace.status() {
                std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
                _ => String::new(),
            };
            tracing::error!(place, thread = thread.name(), backtrace, "panic: {what}");
        }));
    }
}
