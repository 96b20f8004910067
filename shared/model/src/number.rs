//! Numbers as Go and Prometheus' API write and read them.

use std::fmt::Write as _;

/// Reads a number as PromQL does: an integer in base 10, 16 (`0x1F`) or 8 (`010`), else a float; underscores may separate
/// digits; `Inf` and `NaN` in any case, with a sign.
pub fn parse_go(text: &str) -> Option<f64> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = parse_unsigned(body)?;
    Some(if negative { -value } else { value })
}

fn parse_unsigned(text: &str) -> Option<f64> {
    if text.starts_with(['+', '-']) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Some(f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let digits = without_underscores(&lower)?;
    if let Some(hex) = digits.strip_prefix("0x") {
        return match u64::from_str_radix(hex, 16) {
            Ok(value) => Some(value as f64),
            Err(_) => hex_float(hex),
        };
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return u64::from_str_radix(&digits, 8).ok().map(|value| value as f64);
    }
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
    if !plain || !digits.bytes().any(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// Underscores stand only between digits, or after the base.
fn without_underscores(text: &str) -> Option<String> {
    if !text.contains('_') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    for (i, byte) in bytes.iter().enumerate() {
        if *byte == b'_' {
            let before = i > 0 && (bytes[i - 1].is_ascii_hexdigit() || (i == 2 && bytes[1] == b'x'));
            let after = bytes.get(i + 1).is_some_and(u8::is_ascii_hexdigit);
            if !before || !after {
                return None;
            }
        }
    }
    Some(text.replace('_', ""))
}

/// `1.8p3`: hexadecimal digits and a binary exponent.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let exponent: i32 = exponent.parse().ok()?;
    Some(value * 2f64.powi(exponent.checked_sub(4 * fraction.len() as i32)?))
}

/// Appends a value as Prometheus' JSON has it: plain decimals, an exponent below 1e-6 and from 1e21 on, `NaN`, `+Inf`,
/// `-Inf`. Without quotes.
pub fn push_json(out: &mut String, value: f64) {
    if let Some(special) = special(value) {
        out.push_str(special);
        return;
    }
    let magnitude = value.abs();
    if magnitude < 9_007_199_254_740_992.0
        && magnitude.trunc() == magnitude
        && (value != 0.0 || value.is_sign_positive())
    {
        let _ = write!(out, "{}", value as i64);
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        push_exponent(out, value);
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Appends a value as Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest plain decimals.
pub fn push_plain(out: &mut String, value: f64) {
    match special(value) {
        Some(special) => out.push_str(special),
        None => {
            let _ = write!(out, "{value}");
        }
    }
}

/// Returns a value as Go's `%g` and `%v`: the shortest digits, with an exponent if it is below -4 or at least 6.
pub fn format_g(value: f64) -> String {
    if let Some(special) = special(value) {
        return special.to_owned();
    }
    let scientific = format!("{value:e}");
    let exponent: i32 = scientific.rsplit_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let mut out = String::new();
    if value != 0.0 && !(-4..6).contains(&exponent) {
        push_exponent(&mut out, value);
    } else {
        push_plain(&mut out, value);
    }
    out
}

fn special(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

/// `1.5e-07`: at least two digits of exponent.
fn push_exponent(out: &mut String, value: f64) {
    let text = format!("{value:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return out.push_str(&text) };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
}

/// Appends a time in milliseconds as Prometheus' JSON has it: seconds, with three decimals if there are any.
pub fn push_time(out: &mut String, millis: i64) {
    if millis < 0 {
        out.push('-');
    }
    let millis = millis.unsigned_abs();
    let _ = write!(out, "{}", millis / 1_000);
    if !millis.is_multiple_of(1_000) {
        let _ = write!(out, ".{:03}", millis % 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("1", 1.0),
            ("010", 8.0),
            ("0x1F", 31.0),
            ("1_000", 1000.0),
            ("0x_ff", 255.0),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1.5E-2", -0.015),
            ("+Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("0x1.8p1", 3.0),
            ("09.5", 9.5),
        ] {
            assert_eq!(parse_go(text), Some(value), "{text}");
        }
        assert!(parse_go("nAn").is_some_and(f64::is_nan));
        for text in ["", "-", "0b11", "1__0", "_1", "1_", "x", "e5", "1e", "--1", "0x"] {
            assert_eq!(parse_go(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_the_api_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (35424.0, "35424"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (9.5e-7, "9.5e-07"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.5e300, "-1.5e+300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            push_json(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn verb_g_is_short() {
        for (value, text) in
            [(100_000.0, "100000"), (1e6, "1e+06"), (1_234_567.0, "1.234567e+06"), (0.0001, "0.0001"), (1e-5, "1e-05")]
        {
            assert_eq!(format_g(value), text);
        }
    }

    #[test]
    fn times_keep_their_zeros() {
        for (millis, text) in
            [(0, "0"), (1_500, "1.500"), (1_050, "1.050"), (-1, "-0.001"), (1_767_312_000_000, "1767312000")]
        {
            let mut out = String::new();
            push_time(&mut out, millis);
            assert_eq!(out, text);
        }
    }
}
