//! Time as Prometheus counts it: milliseconds since the Unix epoch, in an `i64`.

/// A range of time, both ends inclusive, in milliseconds since the Unix epoch. Empty if `mint > maxt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First millisecond that belongs to the range.
    pub mint: i64,
    /// Last millisecond that belongs to the range.
    pub maxt: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { mint: i64::MIN, maxt: i64::MAX };

    /// Makes the range `[mint, maxt]`.
    pub const fn new(mint: i64, maxt: i64) -> Self {
        Self { mint, maxt }
    }

    /// Tells whether `t` lies in the range.
    pub const fn contains(self, t: i64) -> bool {
        self.mint <= t && t <= self.maxt
    }

    /// Tells whether the two ranges share a millisecond.
    pub const fn overlaps(self, other: Self) -> bool {
        self.mint <= other.maxt && other.mint <= self.maxt && !self.is_empty() && !other.is_empty()
    }

    /// Tells whether no millisecond lies in the range.
    pub const fn is_empty(self) -> bool {
        self.mint > self.maxt
    }

    /// Returns what both ranges share; empty if nothing.
    pub fn intersect(self, other: Self) -> Self {
        Self { mint: self.mint.max(other.mint), maxt: self.maxt.min(other.maxt) }
    }
}
