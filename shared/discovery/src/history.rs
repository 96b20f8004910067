//! Joins and leaves, kept for the status page.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::Address;

/// Why an address joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinReason {
    /// It is configured as a static address.
    Configured,
    /// DNS lists it.
    Answer,
}

/// Why an address left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveReason {
    /// A positive answer does not list it any more.
    Answer,
    /// DNS repeatedly says there is none, and it does not answer its probes.
    AbsentAndDead,
    /// DNS has been saying that there is none for longer than a living endpoint is held.
    HoldExpired,
    /// Its target is no longer configured.
    Unconfigured,
}

/// A join or a leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// The address is in the set from now on.
    Joined(JoinReason),
    /// The address is out of the set from now on.
    Left(LeaveReason),
}

impl fmt::Display for Movement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joined(JoinReason::Configured) => "joined: configured",
            Self::Joined(JoinReason::Answer) => "joined: listed by DNS",
            Self::Left(LeaveReason::Answer) => "left: no longer listed by DNS",
            Self::Left(LeaveReason::AbsentAndDead) => "left: DNS lists none and it does not answer",
            Self::Left(LeaveReason::HoldExpired) => "left: DNS has listed none for longer than the hold",
            Self::Left(LeaveReason::Unconfigured) => "left: its target is no longer configured",
        })
    }
}

/// One line of the history.
#[derive(Debug, Clone)]
pub struct Change {
    /// When.
    pub at: SystemTime,
    /// The target that the address belongs to, as written.
    pub target: String,
    /// The address.
    pub address: Address,
    /// What happened and why.
    pub movement: Movement,
}

/// The last joins and leaves, newest last.
#[derive(Debug)]
pub struct History {
    lines: Mutex<VecDeque<Change>>,
    capacity: usize,
}

impl History {
    /// Makes a history that keeps the last `capacity` changes.
    pub fn new(capacity: usize) -> Self {
        Self { lines: Mutex::default(), capacity }
    }

    /// Returns the changes kept, oldest first.
    pub fn changes(&self) -> Vec<Change> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn push(&self, change: Change) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= self.capacity {
            lines.pop_front();
        }
        lines.push_back(change);
    }
}
