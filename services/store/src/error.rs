//! Why a block could not be read.

use farview_block::BlockId;
use farview_model::{BudgetExceeded, ErrorKind};
use farview_objstore::BucketError;
use farview_storeapi::StoreError;
use farview_tsdb::{ChunkError, FormatError};

/// Why a block could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    /// The bucket does not give what it should.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What it gives is not what it should be.
    #[error("{object} is corrupt: {reason}")]
    Corrupt {
        /// The object.
        object: String,
        /// Where, and what is wrong there.
        reason: String,
    },
    /// It would take more than it may.
    #[error("{0}")]
    Limit(String),
}

impl ReadError {
    pub(crate) fn format(object: String, error: FormatError) -> Self {
        Self::Corrupt { object, reason: error.to_string() }
    }

    pub(crate) fn chunk(object: String, offset: u64, error: ChunkError) -> Self {
        Self::Corrupt { object, reason: format!("chunk at byte {offset}: {error}") }
    }

    /// Returns what the caller can do.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Bucket(error) => error.kind(),
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Limit(_) => ErrorKind::LimitExceeded,
        }
    }

    /// Tells whether the request is at fault, and not the block.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Limit(_))
    }

    pub(crate) fn of_block(self, id: BlockId) -> StoreError {
        StoreError::new(self.kind(), format!("block {id}: {self}"))
    }
}

impl From<BudgetExceeded> for ReadError {
    fn from(error: BudgetExceeded) -> Self {
        Self::Limit(error.to_string())
    }
}
