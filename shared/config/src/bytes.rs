//! Amounts of memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `1048576`, `250MB`, `1GiB`, `1.5GiB`.
///
/// As in Thanos (`alecthomas/units`, base 2) `KB`, `MB`, `GB` and `TB` mean powers of 1024, as `KiB`, `MiB`, … do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Why a text is not a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ByteSizeError {
    /// Not a number where one should stand.
    #[error("not a size, expected for example 250MB or 1GiB")]
    Number,
    /// A unit nobody knows.
    #[error("unknown unit {0:?}, valid are B, KiB, MiB, GiB, TiB and KB, MB, GB, TB")]
    Unit(String),
    /// More than 2^64 bytes.
    #[error("size out of range")]
    Range,
}

impl ByteSize {
    /// Makes a size of `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Makes a size of `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of bytes as a length; the largest one where the machine has fewer bits.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KB" | "KiB" | "kB" | "Ki" => 10,
            "M" | "MB" | "MiB" | "Mi" => 20,
            "G" | "GB" | "GiB" | "Gi" => 30,
            "T" | "TB" | "TiB" | "Ti" => 40,
            "P" | "PB" | "PiB" | "Pi" => 50,
            other => return Err(ByteSizeError::Unit(other.to_owned())),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or(ByteSizeError::Range);
        }
        let (whole, fraction) = number.split_once('.').ok_or(ByteSizeError::Number)?;
        let fraction = &fraction[..fraction.len().min(9)];
        let whole: u64 = whole.parse().map_err(|_| ByteSizeError::Number)?;
        let part: u64 = fraction.parse().map_err(|_| ByteSizeError::Number)?;
        let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let bytes = (u128::from(whole) << shift) + (u128::from(part) << shift) / scale;
        u64::try_from(bytes).map(Self).map_err(|_| ByteSizeError::Range)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let unit = UNITS.iter().find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("1048576", 1 << 20),
            ("250MB", 250 << 20),
            ("1GiB", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("64KiB", 64 << 10),
            ("12 B", 12),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)), "{text}");
        }
        assert_eq!("MB".parse::<ByteSize>(), Err(ByteSizeError::Number));
        assert_eq!("-1MB".parse::<ByteSize>(), Err(ByteSizeError::Unit("-1MB".into())));
        assert_eq!("1XB".parse::<ByteSize>(), Err(ByteSizeError::Unit("XB".into())));
        assert_eq!("99999999TiB".parse::<ByteSize>(), Err(ByteSizeError::Range));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (bytes, text) in [(0, "0B"), (1, "1B"), (250 << 20, "250MiB"), (1 << 30, "1GiB"), (1025, "1025B")] {
            assert_eq!(ByteSize::new(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize::new(bytes)));
        }
    }
}
