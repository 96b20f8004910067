//! Why something could not be done with a block.

use crate::BlockId;
use farview_model::ErrorKind;
use farview_objstore::BucketError;
use std::path::{Path, PathBuf};

/// Why something could not be done with a block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The bucket does not do what it should.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A local file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The description of a block is not what it should be.
    #[error("{place} is no description of a block: {reason}")]
    Meta {
        /// File or object.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The block is there already, so it is not written again.
    #[error("block {0} is in the bucket already")]
    Exists(BlockId),
}

impl BlockError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Bucket(error) => error.kind(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Meta { .. } => ErrorKind::Corrupt,
            Self::Exists(_) => ErrorKind::Invalid,
        }
    }
}
