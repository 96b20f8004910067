//! A point in time, fixed or sliding: what `--min-time` and `--max-time` take.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

use crate::PromDuration;

/// An RFC 3339 time (`2024-01-01T00:00:00Z`) or a duration relative to now (`-2w`, `1h`).
///
/// Relative bounds slide with the clock: ask for [`TimeOrDuration::millis`] each time, do not keep its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeOrDuration {
    /// Milliseconds since the Unix epoch.
    Fixed(i64),
    /// Milliseconds from now, negative for the past.
    Relative(i64),
}

impl TimeOrDuration {
    /// The default of `--min-time` in Thanos: 0000-01-01T00:00:00Z.
    pub const MIN: &'static str = "0000-01-01T00:00:00Z";
    /// The default of `--max-time` in Thanos: 9999-12-31T23:59:59Z.
    pub const MAX: &'static str = "9999-12-31T23:59:59Z";

    /// Returns milliseconds since the Unix epoch, given that it is `now` in the same measure.
    pub fn millis(self, now: i64) -> i64 {
        match self {
            Self::Fixed(t) => t,
            Self::Relative(d) => now.saturating_add(d),
        }
    }
}

/// Neither a time nor a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither an RFC 3339 time such as 2024-01-01T00:00:00Z nor a relative duration such as -2w")]
pub struct TimeError;

impl FromStr for TimeOrDuration {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (sign, duration) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        if let Ok(duration) = duration.parse::<PromDuration>() {
            return Ok(Self::Relative(sign * duration.as_millis()));
        }
        rfc3339_millis(text).map(Self::Fixed).ok_or(TimeError)
    }
}

/// Counts on civil time: the years 0 and 9999, Thanos' defaults, are outside of what an instant of jiff can hold.
fn rfc3339_millis(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let since = pieces.date().to_datetime(pieces.time()?).duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    i64::try_from(since.as_millis()).ok()?.checked_sub(i64::from(offset.seconds()) * 1000)
}

impl fmt::Display for TimeOrDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relative(d) => {
                let sign = if *d < 0 { "-" } else { "" };
                write!(f, "{sign}{}", PromDuration::from_millis(d.unsigned_abs()))
            }
            Self::Fixed(t) => {
                let since = jiff::SignedDuration::from_millis(*t);
                match DateTime::constant(1970, 1, 1, 0, 0, 0, 0).checked_add(since) {
                    Ok(time) => write!(f, "{time}Z"),
                    Err(_) => write!(f, "{t}ms"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_times_do_not_move_and_relative_ones_do() {
        let cases = [
            ("1970-01-01T00:00:01Z", 1_000, 1_000),
            ("1970-01-01T01:00:00+01:00", 0, 0),
            ("2024-02-29T12:00:00.5Z", 1_709_208_000_500, 1_709_208_000_500),
            (TimeOrDuration::MIN, -62_167_219_200_000, -62_167_219_200_000),
            (TimeOrDuration::MAX, 253_402_300_799_000, 253_402_300_799_000),
            ("-2w", -1_209_600_000, -1_209_599_000),
            ("1h", 3_600_000, 3_601_000),
            ("0s", 0, 1_000),
        ];
        for (text, at_epoch, a_second_later) in cases {
            let bound: TimeOrDuration = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((bound.millis(0), bound.millis(1_000)), (at_epoch, a_second_later), "{text}");
            assert_eq!(bound.to_string().parse(), Ok(bound), "{text}");
        }
        for text in ["", "yesterday", "2024-01-01", "2024-01-01T00:00:00", "--2w", "5"] {
            assert_eq!(text.parse::<TimeOrDuration>(), Err(TimeError), "{text}");
        }
    }
}
