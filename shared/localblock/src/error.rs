//! Why a block cannot be read.

use farview_model::ErrorKind;
use farview_promql::SourceError;
use farview_tsdb::{ChunkError, FormatError, index::IndexWriteError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LocalBlockError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} is corrupt: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Which part of it, and where.
        source: FormatError,
    },
    /// A chunk cannot be decoded.
    #[error("{path} is corrupt: chunk at byte {offset}: {source}")]
    Chunk {
        /// The segment.
        path: PathBuf,
        /// Where the chunk begins.
        offset: u32,
        /// What is wrong with it.
        source: ChunkError,
    },
    /// The block's description is not what it should be.
    #[error("{path} is no description of a block: {reason}")]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The labels of a series do not rise by name.
    #[error("{path} is corrupt: the labels of the series at byte {offset} are not sorted")]
    Labels {
        /// The index.
        path: PathBuf,
        /// Where the series begins.
        offset: u64,
    },
    /// The index cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The index.
        path: PathBuf,
        /// Why.
        source: IndexWriteError,
    },
    /// Two blocks hold the same time at different resolutions: an answer would count samples twice.
    #[error("{a} and {b} hold the same time of the same source at different resolutions; ask one of them at a time")]
    Resolutions {
        /// One block.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// A selector matches more than the limit.
    #[error("a selector matches more than {limit} series (max_series); ask for less")]
    TooManySeries {
        /// The limit.
        limit: usize,
    },
}

impl LocalBlockError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    pub(crate) fn format(path: &Path) -> impl FnOnce(FormatError) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Format { path, source }
    }

    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Write { source: IndexWriteError::Io(_), .. } | Self::Io { .. } => ErrorKind::Unavailable,
            Self::Write { .. } | Self::Resolutions { .. } => ErrorKind::Invalid,
            Self::TooManySeries { .. } => ErrorKind::LimitExceeded,
            Self::Format { .. } | Self::Chunk { .. } | Self::Meta { .. } | Self::Labels { .. } => ErrorKind::Corrupt,
        }
    }
}

impl From<LocalBlockError> for SourceError {
    fn from(error: LocalBlockError) -> Self {
        Self { kind: error.kind(), message: error.to_string() }
    }
}
