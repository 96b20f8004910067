//! Numbers as Go and Prometheus write and read them.
//!
//! One walk takes a float to its shortest digits (`ryu`); the forms below only lay them out: the API's JSON, Go's `'f'`, `'e'`
//! and `%g`, the OpenMetrics text. Writers append to what the caller holds, so that an answer of a million values allocates
//! nothing for each. Reading is in [`parse_float`] and [`parse_go`].

mod parse;

pub(crate) use parse::ldexp;
pub use parse::{parse_float, parse_go};

/// Most digits a shortest float has.
const MAX_DIGITS: usize = 17;

/// A finite float that is not zero, as digits: 0.d1d2d3… times 10 to the power of `point`.
struct Digits {
    negative: bool,
    digits: [u8; MAX_DIGITS],
    len: usize,
    point: i32,
}

impl Digits {
    /// Takes the shortest digits that read back as `value`, which is finite.
    fn of(value: f64) -> Self {
        let mut buffer = ryu::Buffer::new();
        Self::scan(value.is_sign_negative(), buffer.format_finite(value.abs()))
    }

    /// Reads `12.5`, `0.001`, `1.5e-7`: what `ryu` writes, and Rust's `{:e}`.
    fn scan(negative: bool, text: &str) -> Self {
        let mut out = Self { negative, digits: [b'0'; MAX_DIGITS], len: 0, point: 0 };
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let mut seen_point = false;
        for byte in mantissa.bytes() {
            match byte {
                b'.' => seen_point = true,
                b'0' if out.len == 0 => out.point -= i32::from(seen_point),
                digit => {
                    if out.len < MAX_DIGITS {
                        out.digits[out.len] = digit;
                    }
                    out.len += 1;
                    out.point += i32::from(!seen_point);
                }
            }
        }
        out.len = out.len.min(MAX_DIGITS);
        while out.len > 0 && out.digits[out.len - 1] == b'0' {
            out.len -= 1;
        }
        if out.len == 0 {
            (out.len, out.point) = (1, 1);
        } else {
            out.point += exponent.parse::<i32>().unwrap_or(0);
        }
        out
    }

    fn digits(&self) -> &[u8] {
        &self.digits[..self.len]
    }

    fn sign(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
    }

    /// `123.45`, `0.00012`.
    fn plain(&self, out: &mut Vec<u8>) {
        self.sign(out);
        let point = self.point.max(0) as usize;
        if point == 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + self.point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(self.digits());
        } else if point >= self.len {
            out.extend_from_slice(self.digits());
            out.resize(out.len() + point - self.len, b'0');
        } else {
            out.extend_from_slice(&self.digits[..point]);
            out.push(b'.');
            out.extend_from_slice(&self.digits[point..self.len]);
        }
    }

    /// `1.5e-07`: at least two digits of exponent.
    fn exponent(&self, out: &mut Vec<u8>) {
        self.sign(out);
        out.push(self.digits[0]);
        if self.len > 1 {
            out.push(b'.');
            out.extend_from_slice(&self.digits[1..self.len]);
        }
        let exponent = self.point - 1;
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        let exponent = exponent.unsigned_abs();
        if exponent < 10 {
            out.push(b'0');
        }
        push_integer(out, u64::from(exponent));
    }

    /// The shorter of the two, as `%g` judges: exponents from -4 to below `limit` stay plain.
    fn general(&self, out: &mut Vec<u8>, limit: i32) {
        if (-4..limit).contains(&(self.point - 1)) { self.plain(out) } else { self.exponent(out) }
    }
}

/// Appends a value as Prometheus' JSON has it: plain decimals, an exponent below 1e-6 and from 1e21 on, `NaN`, `+Inf`,
/// `-Inf`. Without quotes.
pub fn append_json(out: &mut Vec<u8>, value: f64) {
    if value.abs() < 9e15 && value.trunc().to_bits() == value.to_bits() && value.to_bits() != (-0.0f64).to_bits() {
        if value < 0.0 {
            out.push(b'-');
        }
        return push_integer(out, value.abs() as u64);
    }
    layout(out, value, |digits, out| {
        // 0.d1d2… times ten to the power of `point`: below 1e-6 is a point of -6 and less, from 1e21 on one of 22 and more.
        if (-5..=21).contains(&digits.point) { digits.plain(out) } else { digits.exponent(out) }
    });
}

/// As [`append_json`], to a string.
pub fn push_json(out: &mut String, value: f64) {
    push(out, value, append_json);
}

/// Appends a value as Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest plain decimals.
pub fn push_plain(out: &mut String, value: f64) {
    push(out, value, |out, value| layout(out, value, Digits::plain));
}

/// Appends a value as Go's `strconv.FormatFloat(v, 'e', -1, 64)`: the shortest digits with an exponent.
pub fn push_exponent(out: &mut String, value: f64) {
    push(out, value, |out, value| layout(out, value, Digits::exponent));
}

/// Appends a value as Go's `%g` and `%v`: the shortest digits, with an exponent if it is below -4 or at least 6.
pub fn push_g(out: &mut String, value: f64) {
    push(out, value, |out, value| layout(out, value, general));
}

/// Returns a value as Go's `%g` and `%v`: the shortest digits, with an exponent if it is below -4 or at least 6.
pub fn format_g(value: f64) -> String {
    let mut out = String::new();
    push_g(&mut out, value);
    out
}

/// Returns a value as Go's `%.Ng`: rounded to `precision` digits (0 counts as 1), zeros at the end left out.
pub fn format_g_rounded(value: f64, precision: usize) -> String {
    let mut out = String::new();
    let precision = precision.clamp(1, MAX_DIGITS);
    push(&mut out, value, |out, value| match special(value) {
        Some(special) => out.extend_from_slice(special.as_bytes()),
        None => {
            let text = format!("{:.*e}", precision - 1, value.abs());
            let digits = Digits::scan(value.is_sign_negative(), &text);
            let whole = precision > digits.len && digits.len as i32 >= digits.point;
            digits.general(out, if whole { digits.len as i32 } else { precision as i32 });
        }
    });
    out
}

/// Appends a value as the OpenMetrics text format has it: as `%g`, but a whole number ends in `.0`.
pub fn push_openmetrics(out: &mut String, value: f64) {
    let start = out.len();
    push_g(out, value);
    if value.is_finite() && !out[start..].contains(['e', '.']) {
        out.push_str(".0");
    }
}

/// Appends a time in milliseconds as Prometheus' JSON has it: seconds, with three decimals if there are any.
pub fn append_time(out: &mut Vec<u8>, millis: i64) {
    if millis < 0 {
        out.push(b'-');
    }
    let millis = millis.unsigned_abs();
    push_integer(out, millis / 1_000);
    let fraction = millis % 1_000;
    if fraction != 0 {
        let digit = |unit: u64| b'0' + (fraction / unit % 10) as u8;
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}

/// As [`append_time`], to a string.
pub fn push_time(out: &mut String, millis: i64) {
    push(out, millis, append_time);
}

/// Go's `%g` without a precision: judged as if it were 6, whatever the digits.
fn general(digits: &Digits, out: &mut Vec<u8>) {
    digits.general(out, 6);
}

fn layout(out: &mut Vec<u8>, value: f64, form: impl FnOnce(&Digits, &mut Vec<u8>)) {
    match special(value) {
        Some(special) => out.extend_from_slice(special.as_bytes()),
        None => form(&Digits::of(value), out),
    }
}

/// Lets a writer of bytes write to a string: what it appends is ASCII and at most some hundred bytes.
fn push<T>(out: &mut String, value: T, append: impl FnOnce(&mut Vec<u8>, T)) {
    let mut bytes = Vec::with_capacity(32);
    append(&mut bytes, value);
    out.extend(bytes.iter().map(|byte| char::from(*byte)));
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

fn push_integer(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&text[at..]);
        }
    }
}

#[cfg(test)]
mod tests;
