//! Which build this is.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::Serialize;

/// What is known about the binary. The same on `--version`, in the metrics and in `/api/v1/status/buildinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// Version of the package.
    pub version: &'static str,
    /// Commit; empty if not built from a checkout.
    pub revision: &'static str,
    /// Branch; empty if not built from a checkout.
    pub branch: &'static str,
    /// Day of the commit.
    pub build_date: &'static str,
    /// Compiler.
    pub rust_version: &'static str,
}

impl BuildInfo {
    /// What a process says that was not told, as in tests.
    pub const UNKNOWN: Self =
        Self { version: env!("CARGO_PKG_VERSION"), revision: "", branch: "", build_date: "", rust_version: "" };

    /// Registers `thanos_build_info`, which dashboards join on, and `farview_build_info`, which says whose build it is.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let labels = || {
            vec![
                ("version", self.version),
                ("revision", self.revision),
                ("branch", self.branch),
                ("rustversion", self.rust_version),
            ]
        };
        let help = "A metric with a constant 1 value, labeled by version, revision, branch and compiler of the build";
        registry.register("thanos_build", help, Info::new(labels()));
        registry.register("farview_build", help, Info::new(labels()));
    }
}
