//! Kinds of errors and gRPC codes: the only translation between the two.

use crate::StoreError;
use farview_model::ErrorKind;
use tonic::{Code, Status};

/// Returns the gRPC code for a kind of error.
pub const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Execution => Code::Aborted,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Returns the kind of error that a gRPC code tells of.
pub const fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented => ErrorKind::Invalid,
        Code::NotFound => ErrorKind::NotFound,
        // tonic's code for a message that is too large.
        Code::ResourceExhausted | Code::OutOfRange => ErrorKind::LimitExceeded,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::Aborted | Code::AlreadyExists => ErrorKind::Execution,
        // A call cut by a dying server comes back as Unknown with a transport error inside.
        Code::Ok | Code::Unknown | Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated => {
            ErrorKind::Unavailable
        }
        Code::Internal => ErrorKind::Internal,
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        Self::new(code(error.kind), error.message)
    }
}

impl From<Status> for StoreError {
    /// Keeps the innermost cause when the transport failed: tonic's own message says only "transport error".
    fn from(status: Status) -> Self {
        let mut text = status.message().to_owned();
        let mut cause = std::error::Error::source(&status);
        while let Some(error) = cause {
            let inner = error.to_string();
            if !text.contains(&inner) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&inner);
            }
            cause = error.source();
        }
        if text.is_empty() {
            text = format!("gRPC status {:?} without a message", status.code());
        }
        Self::new(kind(status.code()), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for k in [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::LimitExceeded,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Cancelled,
            ErrorKind::Corrupt,
            ErrorKind::Execution,
            ErrorKind::Internal,
        ] {
            assert_eq!(kind(code(k)), k);
        }
    }
}
