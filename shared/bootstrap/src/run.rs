//! From the command line to the exit code.

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use farview_config::{Error, Flags, Loaded, load};
use farview_telemetry::BuildInfo;
use farview_telemetry::logs::{self, LogFlags};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{Process, ServiceFlags};

/// A service: built from its flags, then run until told to stop.
pub trait App: Sized + Send {
    /// The flags of the service; those that all services take are among them.
    type Config: Flags + AsRef<ServiceFlags> + Send;

    /// Builds the parts and binds the sockets; serves nothing yet.
    fn build(config: Self::Config, process: Process) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Serves until `shutdown` is cancelled; usually [`crate::Servers::run`].
    fn run(self, shutdown: CancellationToken) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A command that does one thing for a person and ends.
pub trait Tool: Flags + AsRef<LogFlags> + Send {
    /// Does it, and writes what it finds to `out`; tells whether all was well.
    fn run(self, out: &mut dyn Write) -> impl Future<Output = anyhow::Result<bool>>;
}

/// Exit code of a service that failed.
const FAILED: u8 = 1;
/// Exit code of a command line or configuration that is not understood.
const USAGE: u8 = 2;

/// Runs a service as a process of its own: `argv` goes without the names of program and subcommand.
pub fn run<A: App>(argv: impl IntoIterator<Item = OsString>, build: BuildInfo) -> ExitCode {
    let loaded = match load::<A::Config>(argv, |name| std::env::var(name).ok()) {
        Ok(loaded) => loaded,
        Err(Error::HelpRequested(text)) => return print(&text),
        Err(Error::VersionRequested) => return print(&version(&build)),
        Err(error) => {
            let service = A::Config::SERVICE;
            return refuse(&format!("farview {service}: error: {error}\nTry 'farview {service} --help'."));
        }
    };
    let Some(runtime) = runtime() else { return ExitCode::from(FAILED) };
    match runtime.block_on(live::<A>(loaded, build)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last line of the log is what Kubernetes shows as the reason of a restart.
            tracing::error!(error = format!("{error:#}"), "farview {} failed", A::Config::SERVICE);
            ExitCode::from(FAILED)
        }
    }
}

/// Starts the runtime; says why on standard error if it cannot be started.
fn runtime() -> Option<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("farview").build();
    runtime.inspect_err(|error| complain(&format!("farview: error: start the runtime: {error}"))).ok()
}

/// Runs a tool: `argv` goes without the names of program and tool. A signal ends it where it is.
pub fn run_tool<T: Tool>(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = T::SERVICE.replacen("tools-bucket-", "tools bucket ", 1);
    let loaded = match load::<T>(argv, |name| std::env::var(name).ok()) {
        Ok(loaded) => loaded,
        Err(Error::HelpRequested(text)) => return print(&text),
        Err(error) => return refuse(&format!("farview {name}: error: {error}\nTry 'farview {name} --help'.")),
    };
    logs::init(loaded.config.as_ref(), None);
    let Some(runtime) = runtime() else { return ExitCode::from(FAILED) };
    let mut out = io::BufWriter::new(io::stdout());
    let result = runtime.block_on(loaded.config.run(&mut out)).and_then(|well| {
        out.flush()?;
        Ok(well)
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        // A reader that has left, as `head` does, is no error.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("farview {name}: error: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

async fn live<A: App>(loaded: Loaded<A::Config>, build: BuildInfo) -> anyhow::Result<()> {
    let Loaded { config, effective, ignored } = loaded;
    let component = A::Config::SERVICE;
    let flags = config.as_ref();
    let tracer = flags.tracing.tracer(component);
    logs::init(&flags.log, tracer.as_ref().ok().and_then(Option::as_ref));
    let tracer = tracer?;
    let set = effective.set().map(|v| format!("--{}={}", v.flag, v.value)).collect::<Vec<_>>().join(" ");
    tracing::info!(version = build.version, revision = build.revision, flags = set, "starting farview {component}");
    for line in ignored {
        tracing::info!("{line}");
    }
    let process = Process::new(component, build, effective, flags.request_logging.log()?);
    process.panics.install();
    let shutdown = CancellationToken::new();
    let signals = watch_signals(shutdown.clone())?;
    let served = async {
        // A signal during the build ends it: nothing is served yet that would need draining.
        let app = tokio::select! {
            built = A::build(config, process) => built?,
            () = shutdown.cancelled() => return Ok(()),
        };
        app.run(shutdown.clone()).await
    };
    let result = tokio::select! {
        served = served => served,
        () = signals => Err(anyhow::anyhow!("second signal, not waiting for what is left")),
    };
    if let Some(tracer) = tracer {
        let _ = tokio::task::spawn_blocking(|| tracer.shut_down()).await;
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

/// Cancels `shutdown` at the first SIGTERM or SIGINT; the returned future ends at the second.
fn watch_signals(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        for _ in 0..2 {
            let name = tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "received signal");
            shutdown.cancel();
        }
    })
}

/// The text of `--version`.
pub fn version(build: &BuildInfo) -> String {
    let BuildInfo { version, revision, branch, build_date, rust_version } = build;
    format!(
        "farview, version {version} (branch: {branch}, revision: {revision})\n  build date: {build_date}\n  rust version: {rust_version}\n"
    )
}

/// Prints to standard output; a reader that has left, as `head` does, is no error.
pub fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Says on standard error what is wrong with a command line; returns the exit code for that.
pub fn refuse(text: &str) -> ExitCode {
    complain(text);
    ExitCode::from(USAGE)
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
