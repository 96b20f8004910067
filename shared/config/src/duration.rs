//! Durations as Prometheus and Go write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time written as Prometheus does (`5m`, `1h30m`, `2w`, `0s`) or as Go does (`500ms`, `1.5h`, `100us`).
///
/// Thanos takes Prometheus' form for most flags and Go's for some; taking the union everywhere spares users the
/// difference. Units: `ns us µs ms s m h d w y`, a year having 365 days as in Prometheus. Negative durations are refused:
/// see [`crate::TimeOrDuration`] for the flags that take them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromDuration(Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing was written.
    #[error("empty duration")]
    Empty,
    /// A number without a unit; `0` alone needs none.
    #[error("a number needs a unit, for example 30s, 5m or 1h30m")]
    NoUnit,
    /// A unit nobody knows.
    #[error("unknown unit {0:?}, valid are ms, s, m, h, d, w, y")]
    Unit(String),
    /// Not a number where one should stand.
    #[error("not a duration, expected for example 30s, 5m or 1h30m")]
    Number,
    /// More than the type holds, about 292 years.
    #[error("duration out of range")]
    Range,
}

impl PromDuration {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// Makes a duration of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Makes a duration of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// Returns the duration as the standard library has it.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Returns whole milliseconds.
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// Tells whether the duration is zero, which most flags take for "no limit" or "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for PromDuration {
    fn from(d: Duration) -> Self {
        Self(d)
    }
}

impl From<PromDuration> for Duration {
    fn from(d: PromDuration) -> Self {
        d.0
    }
}

impl FromStr for PromDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(DurationError::Empty);
        }
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            if number.is_empty() {
                return Err(DurationError::Number);
            }
            total = total.checked_add(nanos(number, unit_nanos(unit)?)?).ok_or(DurationError::Range)?;
            rest = tail;
        }
        let nanos = i64::try_from(total).map_err(|_| DurationError::Range)?;
        Ok(Self(Duration::from_nanos(nanos.unsigned_abs())))
    }
}

fn unit_nanos(unit: &str) -> Result<u128, DurationError> {
    const SECOND: u128 = 1_000_000_000;
    Ok(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => 86_400 * SECOND,
        "w" => 7 * 86_400 * SECOND,
        "y" => 365 * 86_400 * SECOND,
        "" => return Err(DurationError::NoUnit),
        other => return Err(DurationError::Unit(other.to_owned())),
    })
}

/// Multiplies a decimal number by its unit without going through floating point, so that `1.1s` is exact.
fn nanos(number: &str, unit: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(DurationError::Number);
    }
    let whole: u128 =
        if whole.is_empty() { 0 } else { u128::from(whole.parse::<u64>().map_err(|_| DurationError::Range)?) };
    // Nineteen digits are finer than a nanosecond of a year; what follows cannot change the result.
    let fraction = &fraction[..fraction.len().min(19)];
    let part = if fraction.is_empty() {
        0
    } else {
        let digits = u128::from(fraction.parse::<u64>().map_err(|_| DurationError::Number)?);
        digits * unit / 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0))
    };
    Ok(whole * unit + part)
}

/// Writes Prometheus' form (`1h30m`), with Go's units below the millisecond.
impl fmt::Display for PromDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u128); 10] = [
            ("y", 31_536_000_000_000_000),
            ("w", 604_800_000_000_000),
            ("d", 86_400_000_000_000),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
            ("", u128::MAX),
        ];
        let mut left = self.0.as_nanos();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            // Prometheus writes years, weeks and days only when nothing is left over: 36h, not 1d12h.
            let count = left / size;
            if count == 0 || (matches!(unit, "y" | "w" | "d") && !left.is_multiple_of(size)) {
                continue;
            }
            write!(f, "{count}{unit}")?;
            left %= size;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for PromDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for PromDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("2m", 120_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1.1s", 1_100),
            ("1w", 604_800_000),
            ("1y", 31_536_000_000),
            ("1d12h", 129_600_000),
            ("15d", 1_296_000_000),
        ];
        for (text, millis) in cases {
            assert_eq!(text.parse::<PromDuration>().map(PromDuration::as_millis), Ok(millis), "{text}");
        }
        assert_eq!("100us".parse::<PromDuration>().unwrap().get(), Duration::from_micros(100));
    }

    #[test]
    fn what_is_not_a_duration_says_why() {
        let cases = [
            ("", DurationError::Empty),
            ("5", DurationError::NoUnit),
            ("-5m", DurationError::Number),
            ("5 m", DurationError::Unit(" m".into())),
            ("5q", DurationError::Unit("q".into())),
            ("m", DurationError::Number),
            ("1.2.3s", DurationError::Number),
            (".s", DurationError::Number),
            ("300y", DurationError::Range),
            ("99999999999999999999s", DurationError::Range),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PromDuration>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (millis, text) in
            [(0, "0s"), (5_400_000, "1h30m"), (129_600_000, "36h"), (604_800_000, "1w"), (1_500, "1s500ms")]
        {
            let duration = PromDuration::from_millis(millis);
            assert_eq!(duration.to_string(), text);
            assert_eq!(text.parse(), Ok(duration));
        }
    }
}
