//! What can be wrong with what an operator wrote.

use std::path::PathBuf;

/// A target or a file that cannot be used. What DNS answers is never an error here: see [`crate::Answer`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A target that does not parse. The message says what is wrong and what was expected.
    #[error("address {text:?}: {problem}")]
    Target {
        /// The target as written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file whose content is not what it should be.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where known.
        problem: String,
    },
    /// The resolver's configuration cannot be used.
    #[error("resolver configuration {path}: {problem}")]
    Resolver {
        /// The file, usually `/etc/resolv.conf`.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be watched.
    #[error("watch {path}")]
    Watch {
        /// The file or its directory.
        path: PathBuf,
        /// Why not.
        source: notify::Error,
    },
}
