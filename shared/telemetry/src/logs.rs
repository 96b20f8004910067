//! Log lines as Thanos writes them: `ts=… caller=file.rs:12 level=info msg="…" key=value`, or the same keys as JSON.
//!
//! Written here because the formatters of the field have their keys fixed (`message`, `target`, nested `fields`), and
//! people's log queries are about `level`, `msg`, `err` and `caller`.

pub(crate) mod format;

use std::io;

use clap::{Args, ValueEnum};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use format::Lines;

use crate::traces::Tracer;

/// `--log.*`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogFlags {
    /// Log filtering level.
    #[arg(long = "log.level", value_enum, default_value = "info")]
    pub level: LogLevel,
    /// Log format to use.
    #[arg(long = "log.format", value_enum, default_value = "logfmt")]
    pub format: LogFormat,
}

/// The least level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What a person should act on.
    Error,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
    /// Logfmt with the priority in front, as the journal reads it from standard error (sd-daemon(3)).
    Journald,
}

impl LogLevel {
    fn filter(self) -> Level {
        match self {
            Self::Debug => Level::DEBUG,
            Self::Info => Level::INFO,
            Self::Warn => Level::WARN,
            Self::Error => Level::ERROR,
        }
    }
}

/// Libraries whose lines are about their own insides: at `debug` they would drown ours.
const NOISY: [&str; 8] = ["h2", "hyper", "hyper_util", "tower", "tonic", "rustls", "opentelemetry", "hickory_proto"];

/// Sends log lines to standard error, and spans to `tracer` if there is one. Once per process; later calls do nothing, as
/// when several services are started in one test.
pub fn init(flags: &LogFlags, tracer: Option<&Tracer>) {
    let level = flags.level.filter();
    let noisy = NOISY.iter().map(|name| (*name, level.min(Level::WARN)));
    let filter = Targets::new().with_default(level).with_targets(noisy);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines::new(flags.format))
        .fmt_fields(format::Fields)
        .with_ansi(false)
        .with_writer(io::stderr)
        .with_filter(filter);
    let spans = tracer.map(|t| {
        let ours = Targets::new().with_target("farview", Level::INFO).with_default(LevelFilter::OFF);
        t.layer::<Registry>().with_filter(ours)
    });
    let _ = tracing_subscriber::registry().with(spans).with(lines).try_init();
}
