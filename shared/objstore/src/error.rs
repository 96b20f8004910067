//! Why a bucket did not do what it was asked for.

use farview_model::ErrorKind;

/// Why a bucket did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("{bucket}: {key} does not exist")]
    NotFound {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
    },
    /// The bucket refuses: credentials or rights are missing.
    #[error("{bucket}: {operation} {key} is not allowed: {reason}")]
    Refused {
        /// The bucket.
        bucket: String,
        /// What was to be done.
        operation: &'static str,
        /// With which object.
        key: String,
        /// What the bucket says.
        reason: String,
    },
    /// The bucket cannot be reached or does not answer as it should.
    #[error("{bucket}: {operation} {key}: {reason}")]
    Failed {
        /// The bucket.
        bucket: String,
        /// What was to be done.
        operation: &'static str,
        /// With which object.
        key: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer has another length than was asked for, again and again.
    #[error("{bucket}: {key}: {got} bytes came where {wanted} were asked for")]
    Length {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that came.
        got: u64,
    },
    /// The object is larger than anything of its kind.
    #[error("{bucket}: {key} has {size} bytes, more than the {limit} that such an object may have")]
    TooLarge {
        /// The bucket.
        bucket: String,
        /// The object.
        key: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
}

impl BucketError {
    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Refused { .. } | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::Length { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::LimitExceeded,
        }
    }

    /// Tells whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
