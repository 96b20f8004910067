//! The farview executable: one subcommand per service, and a few for people.
//!
//! It knows which services there are and nothing about them: each brings its flags and its `App`, and `bootstrap` runs
//! it. Exit codes: 0 for success, 1 for a failure, 2 for a command line or configuration that is not understood.

mod commands;
mod docs;
mod promql;

use std::ffi::OsString;
use std::process::ExitCode;

use farview_telemetry::BuildInfo;

use commands::Invocation;

/// Answers of megabytes are built of many small pieces; the system's allocator gives their memory back late.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// This build.
const BUILD: BuildInfo = BuildInfo {
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("FARVIEW_REVISION"),
    branch: env!("FARVIEW_BRANCH"),
    build_date: env!("FARVIEW_BUILD_DATE"),
    rust_version: env!("FARVIEW_RUST_VERSION"),
};

fn main() -> ExitCode {
    let argv: Vec<OsString> = std::env::args_os().skip(1).collect();
    match commands::understand(&argv) {
        Invocation::Service { service, argv } => (service.run)(argv),
        Invocation::Promql(argv) => promql::run(argv),
        Invocation::Tools(argv) => farview_tools::run(argv),
        Invocation::Print(text) => farview_bootstrap::print(&text),
        Invocation::Refuse(text) => farview_bootstrap::refuse(&text),
    }
}
