//! What a caller can do about an error.

/// Says what the caller should do, whatever went wrong inside. Every error type of the workspace answers `kind()`.
///
/// Two translations exist, each in one file: to a gRPC status in `storeapi::status`, to Prometheus' `errorType` and an
/// HTTP status in `query::api::error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong: fix it.
    Invalid,
    /// What was asked for is not there.
    NotFound,
    /// A named limit was hit: ask for less.
    LimitExceeded,
    /// Try again later, or take a partial answer.
    Unavailable,
    /// The time given was not enough.
    Timeout,
    /// The caller went away.
    Cancelled,
    /// Stored or received data is wrong: an operator should act.
    Corrupt,
    /// Evaluating a valid request failed for a reason in the data (for example many-to-many matching).
    Execution,
    /// A bug of ours.
    Internal,
}
