//! What can be wrong with a configuration, in one line each: what, where, what to do.

use std::path::PathBuf;

/// Why a configuration was not accepted, or why the command line asked for something else than to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `--help` was given: the text to print.
    #[error("{0}")]
    HelpRequested(String),
    /// `--version` was given.
    #[error("version requested")]
    VersionRequested,
    /// A flag nobody declared.
    #[error("unknown flag --{flag}{}", did_you_mean("--", .nearest))]
    UnknownFlag {
        /// The flag as given, without dashes.
        flag: String,
        /// The declared flag that looks most like it.
        nearest: Option<String>,
    },
    /// A flag Thanos had and removed, or that farview answers in another way.
    #[error("flag --{flag} is not supported: {instead}")]
    RemovedFlag {
        /// The flag as given, without dashes.
        flag: String,
        /// What to use instead.
        instead: String,
    },
    /// A key in the configuration file that belongs to no flag.
    #[error("{file}: unknown key {key:?}{}", did_you_mean("", .nearest))]
    UnknownKey {
        /// The file.
        file: String,
        /// The dotted path of the key.
        key: String,
        /// The key that looks most like it.
        nearest: Option<String>,
    },
    /// A value its flag does not take.
    #[error("invalid value {value:?} for --{flag}{}: {reason}", from_origin(.origin))]
    InvalidValue {
        /// The flag, without dashes.
        flag: String,
        /// The value; redacted for secrets.
        value: String,
        /// Where the value came from, empty for the command line.
        origin: String,
        /// Why it was refused.
        reason: String,
    },
    /// Anything else that is wrong with the command line.
    #[error("{0}")]
    Usage(String),
    /// Flags that each are right and do not fit together.
    #[error("{0}")]
    Inconsistent(String),
    /// Two declared flags want the same key or environment variable: a bug in a declaration, found by tests.
    #[error("flags --{a} and --{b} collide in {place}")]
    Collision {
        /// One flag.
        a: String,
        /// The other flag.
        b: String,
        /// What they both claim.
        place: String,
    },
    /// A file could not be read.
    #[error("read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Text that is not the YAML it should be; the message has line and column.
    #[error("{origin}: {message}")]
    Yaml {
        /// File or flag the text came from.
        origin: String,
        /// What the parser said.
        message: String,
    },
    /// A `$(VAR)` whose variable is not set.
    #[error("{origin}: environment variable {name} is not set")]
    UnsetVariable {
        /// File or flag the reference stands in.
        origin: String,
        /// The variable.
        name: String,
    },
    /// TLS material that cannot be used.
    #[error("{what}: {reason}")]
    Tls {
        /// The file or flag.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

fn did_you_mean(dashes: &str, nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(", did you mean {dashes}{n}?")).unwrap_or_default()
}

fn from_origin(origin: &str) -> String {
    if origin.is_empty() { String::new() } else { format!(" (from {origin})") }
}
