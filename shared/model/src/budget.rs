//! Memory that is reserved before it is used.
//!
//! A process has one root [`Budget`], a query a child of it. Whoever is about to hold a buffer takes a [`Reservation`] of
//! its size first; dropping the reservation gives the bytes back. Both limits are checked, the query's and the process'.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An account of bytes with a limit, possibly within another account.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
    parent: Option<Arc<Budget>>,
}

/// A budget is spent. Says which one, so that the user knows the flag to turn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("memory limit {name} of {limit} bytes reached: {used} bytes are in use and {wanted} more are needed")]
pub struct BudgetExceeded {
    /// Name of the limit: the flag that sets it.
    pub name: &'static str,
    /// The limit in bytes.
    pub limit: u64,
    /// Bytes reserved when the request came.
    pub used: u64,
    /// Bytes asked for.
    pub wanted: u64,
}

impl Budget {
    /// Makes a root budget of `limit` bytes; `name` is the flag that sets it. 0 means no limit.
    pub fn root(name: &'static str, limit: u64) -> Arc<Self> {
        Self::new(name, limit, None)
    }

    /// Makes a budget within `self`: what it reserves counts against both.
    pub fn child(self: &Arc<Self>, name: &'static str, limit: u64) -> Arc<Self> {
        Self::new(name, limit, Some(Arc::clone(self)))
    }

    fn new(name: &'static str, limit: u64, parent: Option<Arc<Self>>) -> Arc<Self> {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Arc::new(Self { name, limit, used: AtomicU64::new(0), peak: AtomicU64::new(0), parent })
    }

    /// Returns the bytes reserved now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the most bytes that were ever reserved at one time.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`.
    ///
    /// # Errors
    /// [`BudgetExceeded`] with the limit that would be passed; nothing is reserved then.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        self.take(bytes)?;
        Ok(Reservation { budget: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        if let Some(parent) = &self.parent {
            parent.take(bytes)?;
        }
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let after = before.saturating_add(bytes);
        if after > self.limit {
            self.give_back(bytes);
            return Err(BudgetExceeded { name: self.name, limit: self.limit, used: before, wanted: bytes });
        }
        self.peak.fetch_max(after, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// Bytes reserved in a [`Budget`]; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// Returns the bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes the reservation to `bytes`.
    ///
    /// # Errors
    /// [`BudgetExceeded`] if it would grow past a limit; it stays as it was then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        if bytes > self.bytes {
            self.budget.take(bytes - self.bytes)?;
        } else {
            self.budget.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Adds `bytes` to the reservation.
    ///
    /// # Errors
    /// As [`Reservation::resize`].
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.resize(self.bytes.saturating_add(bytes))
    }

    /// Takes over the bytes of another reservation of the same budget.
    pub fn absorb(&mut self, mut other: Self) {
        debug_assert!(Arc::ptr_eq(&self.budget, &other.budget), "both reserve in the same budget");
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reservation_leaves_nothing_behind() {
        let process = Budget::root("process", 100);
        let query = process.child("query", 60);
        let held = query.reserve(50).unwrap();
        assert_eq!(query.reserve(20).unwrap_err().name, "query");
        let other = process.child("query", 60);
        assert_eq!(other.reserve(60).unwrap_err().name, "process");
        assert_eq!((process.used(), query.used(), other.used()), (50, 50, 0));
        drop(held);
        assert_eq!((process.used(), query.used(), query.peak()), (0, 0, 50));
    }

    #[test]
    fn what_is_taken_over_is_given_back_once() {
        let process = Budget::root("process", 100);
        let query = process.child("query", 60);
        let mut held = query.reserve(20).unwrap();
        held.absorb(query.reserve(30).unwrap());
        assert_eq!((held.bytes(), query.used(), process.used()), (50, 50, 50));
        drop(held);
        assert_eq!((query.used(), process.used()), (0, 0));
    }
}
