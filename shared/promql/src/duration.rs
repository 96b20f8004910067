//! Durations as Prometheus writes them: `1h30m`, `5m`, `200ms`.
//!
//! Units are y (365 d), w, d, h, m, s and ms, each at most once and in this order. Values are milliseconds.

/// Units from the largest to the smallest, with their lengths in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3600 * 1000),
    ("w", 7 * 24 * 3600 * 1000),
    ("d", 24 * 3600 * 1000),
    ("h", 3600 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// The longest duration, as Go counts it: 2^63 - 1 ns, about 292 years.
pub const MAX_MILLIS: i64 = i64::MAX / 1_000_000;

/// Why a text is no duration. The texts are those of Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// There is no text.
    #[error("empty duration string")]
    Empty,
    /// The text does not follow the grammar.
    #[error("not a valid duration string: {}", crate::quote::quote(.0))]
    Invalid(String),
    /// It is longer than [`MAX_MILLIS`].
    #[error("duration out of range")]
    OutOfRange,
}

/// Reads a duration without sign, in milliseconds; `0` needs no unit.
///
/// # Errors
/// [`DurationError`] if it is none.
pub fn parse(text: &str) -> Result<i64, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(0),
        _ => {}
    }
    let invalid = || DurationError::Invalid(text.to_owned());
    let (mut rest, mut units, mut total) = (text, &UNITS[..], 0_i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + letters]);
        let at = units.iter().position(|(name, _)| *name == unit).ok_or_else(invalid)?;
        if number.is_empty() {
            return Err(invalid());
        }
        let value: i64 = number.parse().map_err(|_| DurationError::OutOfRange)?;
        total = value
            .checked_mul(units[at].1)
            .and_then(|millis| total.checked_add(millis))
            .filter(|total| *total <= MAX_MILLIS)
            .ok_or(DurationError::OutOfRange)?;
        units = &units[at + 1..];
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Writes a duration, given in milliseconds, as Prometheus' `model.Duration` does: weeks and years only if nothing
/// smaller is left over (`7d` is `1w`, `8d` stays `8d`), otherwise days, hours and so on. Zero is `0s`.
pub fn format(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if millis < 0 {
        out.push('-');
    }
    let mut rest = millis.unsigned_abs();
    for (unit, length) in UNITS {
        let length = length as u64;
        let exact = matches!(unit, "y" | "w");
        if exact && !rest.is_multiple_of(length) {
            continue;
        }
        let count = rest / length;
        if count > 0 {
            out.push_str(&count.to_string());
            out.push_str(unit);
            rest -= count * length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("1ms", 1),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", 31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_400_000 + 300_000 + 6_000 + 7),
            ("324ms", 324),
            ("292y", 292 * 31_536_000_000),
        ] {
            assert_eq!(parse(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_durations() {
        for text in ["1", "1y1m1d", "-1w", "1.5d", "d", "1s1m", "1m1m", "1S", "1s ", " 1s", "1hs", "é"] {
            assert_eq!(parse(text), Err(DurationError::Invalid(text.to_owned())), "{text}");
        }
        assert_eq!(parse(""), Err(DurationError::Empty));
        for text in ["293y", "9223372036854775808s", "99999999999999999999999ms", "292y99w"] {
            assert_eq!(parse(text), Err(DurationError::OutOfRange), "{text}");
        }
        assert_eq!(DurationError::Invalid("1x".into()).to_string(), r#"not a valid duration string: "1x""#);
    }

    #[test]
    fn durations_are_written_with_the_largest_exact_units() {
        for (millis, text) in [
            (0, "0s"),
            (324, "324ms"),
            (3_000, "3s"),
            (300_000, "5m"),
            (5_400_000, "1h30m"),
            (345_600_000, "4d"),
            (604_800_000, "1w"),
            (691_200_000, "8d"),
            (86_400_000 + 1, "1d1ms"),
            (31_536_000_000, "1y"),
            (3 * 31_536_000_000, "3y"),
            (-300_000, "-5m"),
        ] {
            assert_eq!(format(millis), text);
        }
    }
}
