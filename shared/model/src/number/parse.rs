//! Reading numbers as Go's `strconv` does.

/// Reads a number literal as PromQL and its test language do: an integer in base 10, 16 (`0x1F`) or 8 (`010`) that fits
/// 64 bits with sign, else what [`parse_float`] reads. Base 2 (`0b11`) and `0o17` are refused, as PromQL's lexer does.
pub fn parse_go(text: &str) -> Option<f64> {
    let (negative, body) = split_sign(text);
    parse_integer(body).map(|value| if negative { -value } else { value }).or_else(|| parse_float(text))
}

/// Reads a float as Go's `strconv.ParseFloat`: decimal, or hexadecimal with a binary exponent (`0x1.8p3`), underscores between
/// digits, `Inf`, `Infinity` and `NaN` in any case. A number too large for a float is refused.
pub fn parse_float(text: &str) -> Option<f64> {
    let (negative, body) = split_sign(text);
    let signed = body.len() < text.len();
    let lower = body.to_ascii_lowercase();
    let value = match lower.as_str() {
        "inf" | "infinity" => f64::INFINITY,
        "nan" if !signed => f64::NAN,
        _ => {
            let digits = without_underscores(&lower)?;
            let value = match digits.strip_prefix("0x") {
                Some(hex) => hex_float(hex)?,
                None => decimal(&digits)?,
            };
            if value.is_infinite() {
                return None;
            }
            value
        }
    };
    Some(if negative { -value } else { value })
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn parse_integer(text: &str) -> Option<f64> {
    let lower = without_underscores(&text.to_ascii_lowercase())?;
    let (digits, base) = match lower.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(digits, base).ok().map(|value| value as f64)
}

/// Underscores stand only between digits, or after the base.
fn without_underscores(text: &str) -> Option<String> {
    if !text.contains('_') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let hex = text.starts_with("0x");
    let is_digit = |byte: u8| byte.is_ascii_digit() || hex && byte.is_ascii_hexdigit();
    for (i, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_') {
        let before = i > 0 && (is_digit(bytes[i - 1]) || hex && i == 2);
        let after = bytes.get(i + 1).is_some_and(|byte| is_digit(*byte));
        if !before || !after {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

/// Digits with at most one point and an exponent; Rust's own reader knows further words, so the shape is looked at first.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-'));
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if plain && starts { text.parse().ok() } else { None }
}

/// Hexadecimal digits and a binary exponent, without the `0x`: `1.8p3`.
fn hex_float(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (mut value, mut dropped) = (0u64, 0i32);
    for c in whole.chars().chain(fraction.chars()) {
        let digit = u64::from(c.to_digit(16)?);
        if value >> 59 == 0 {
            value = value << 4 | digit;
        } else {
            // Only whether anything is left matters for rounding: keep it in the lowest bit.
            value |= u64::from(digit != 0);
            dropped = dropped.checked_add(4)?;
        }
    }
    if !exponent.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    Some(ldexp(value as f64, exponent.checked_sub(places)?.checked_add(dropped)?))
}

/// Returns `value` times two to the power of `exponent`, in steps that neither overflow nor vanish before the end.
pub(crate) fn ldexp(mut value: f64, mut exponent: i32) -> f64 {
    while exponent > 1_000 && value.is_finite() && value != 0.0 {
        value *= 2f64.powi(1_000);
        exponent -= 1_000;
    }
    while exponent < -1_000 && value.abs() > f64::MIN_POSITIVE {
        value *= 2f64.powi(-1_000);
        exponent += 1_000;
    }
    value * 2f64.powi(exponent.clamp(-1_000, 1_000))
}
