//! What a failed call says about the way to the endpoint. The one place where transport errors become statuses, and statuses
//! become "try again" or not.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use tonic::{Code, Status};

use crate::Failure;

/// The way to an endpoint failed, not the endpoint. It is the source of every status that this crate makes.
#[derive(Debug, thiserror::Error)]
#[error("{whom}: {problem}")]
pub struct TransportError {
    /// The endpoint's address, or the name of the group.
    pub whom: String,
    /// What failed, with its causes.
    pub problem: String,
    /// Whether the request cannot have reached the endpoint.
    pub unsent: bool,
}

impl TransportError {
    /// Returns the status that callers see: always Unavailable. tonic itself reports a stream cut by a dying server as Unknown.
    pub(crate) fn into_status(self) -> Status {
        let mut status = Status::unavailable(self.to_string());
        status.set_source(Arc::new(self));
        status
    }
}

/// Writes an error with its causes, leaving out those that repeat.
pub(crate) fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// What a status means for trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportStatus {
    /// The request never reached an endpoint: send it again anywhere.
    Unsent,
    /// The way broke while the call was under way. Reading may be repeated.
    Broken,
    /// The endpoint answered that it is not available now. Another replica may be.
    Unavailable,
    /// The endpoint answered; asking again gives the same.
    Answered,
}

impl TransportStatus {
    /// Reads a status that came out of a [`crate::Channel`] or a [`crate::Group`].
    pub fn of(status: &Status) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = status.source();
        while let Some(error) = cause {
            if let Some(transport) = error.downcast_ref::<TransportError>() {
                return if transport.unsent { Self::Unsent } else { Self::Broken };
            }
            cause = error.source();
        }
        match status.code() {
            Code::Unavailable => Self::Unavailable,
            _ => Self::Answered,
        }
    }

    /// Tells whether the same read may be sent to another replica, or to the same endpoint later.
    pub fn is_retryable(self) -> bool {
        self != Self::Answered
    }

    /// Tells whether the failure is of the way and not of the endpoint.
    pub fn is_transport(self) -> bool {
        matches!(self, Self::Unsent | Self::Broken)
    }

    /// Returns what a code in a response tells about the endpoint; `None` speaks for it.
    pub(crate) fn evidence(code: Code) -> Option<Failure> {
        (code == Code::Unavailable).then_some(Failure::Answered)
    }
}

impl fmt::Display for TransportStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsent => "not sent",
            Self::Broken => "connection broken",
            Self::Unavailable => "not available",
            Self::Answered => "answered",
        })
    }
}
