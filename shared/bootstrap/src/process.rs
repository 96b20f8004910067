//! What a service shares with the process it runs in.

use farview_config::Effective;
use farview_telemetry::{BuildInfo, HttpMetrics, Panics, Readiness, RequestLog, RootRegistry, TlsMetrics};
use tokio::sync::mpsc;

use crate::TaskGroup;

/// Given to [`crate::App::build`]: everything that exists once per process and is not the service's own.
#[derive(Debug)]
pub struct Process {
    /// The service: `query`, `sidecar`, ….
    pub component: &'static str,
    /// Metrics of the process; parts register their own.
    pub registry: RootRegistry,
    /// What must happen before traffic comes; parts take latches.
    pub readiness: Readiness,
    /// Background tasks.
    pub tasks: TaskGroup,
    /// Metrics of HTTP handlers.
    pub http_metrics: HttpMetrics,
    /// The build, for `/api/v1/status/buildinfo`.
    pub build: BuildInfo,
    /// All flags with their origins, for `/api/v1/status/flags`.
    pub flags: Effective,
    /// Certificates of the process; whoever uses one adds it.
    pub tls_metrics: TlsMetrics,
    pub(crate) request_log: RequestLog,
    pub(crate) panics: Panics,
    pub(crate) failed: mpsc::UnboundedReceiver<anyhow::Error>,
}

impl Process {
    /// Makes the surroundings of a service, with the metrics every process has. Requests are logged as `request_log` says.
    pub fn new(component: &'static str, build: BuildInfo, flags: Effective, request_log: RequestLog) -> Self {
        let registry = RootRegistry::new(&build);
        let readiness = Readiness::new();
        registry.register(|r| readiness.register(r, component));
        let http_metrics = registry.register(|r| HttpMetrics::register(r, request_log.clone()));
        let panics = registry.register(Panics::register);
        let tls_metrics = registry.register(TlsMetrics::register);
        let (tasks, failed) = TaskGroup::new();
        Self {
            component,
            registry,
            readiness,
            tasks,
            http_metrics,
            build,
            flags,
            tls_metrics,
            request_log,
            panics,
            failed,
        }
    }

    /// Makes surroundings for a service that is started inside of a test.
    pub fn for_test(component: &'static str) -> Self {
        Self::new(component, BuildInfo::UNKNOWN, Effective::default(), RequestLog::default())
    }
}
