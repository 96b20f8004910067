//! Errors of a store, on either side of the wire.

use farview_model::ErrorKind;

/// Why a store could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// What happened and where.
    pub message: String,
}

impl StoreError {
    /// Makes an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Returns what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the error with `context` (who, where) in front of the message.
    #[must_use]
    pub fn within(self, context: impl std::fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{context}: {}", self.message) }
    }
}

impl From<farview_model::BudgetExceeded> for StoreError {
    fn from(error: farview_model::BudgetExceeded) -> Self {
        Self::new(ErrorKind::LimitExceeded, error.to_string())
    }
}

impl From<crate::frame::FrameError> for StoreError {
    fn from(error: crate::frame::FrameError) -> Self {
        Self::new(ErrorKind::Corrupt, error.to_string())
    }
}
