//! Downsampled data: how coarse, and which value stands for a window.

/// The distance between samples of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Resolution {
    /// As scraped.
    #[default]
    Raw,
    /// One sample each 5 minutes.
    FiveMinutes,
    /// One sample each hour.
    OneHour,
}

impl Resolution {
    /// Returns the distance in milliseconds; 0 for raw data.
    pub const fn millis(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::FiveMinutes => 300_000,
            Self::OneHour => 3_600_000,
        }
    }
}

/// One of the values that downsampling keeps for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aggregate {
    /// The samples themselves.
    Raw,
    /// How many samples the window had.
    Count,
    /// Their sum.
    Sum,
    /// Their least.
    Min,
    /// Their greatest.
    Max,
    /// The counter total, resets folded in.
    Counter,
}
