//! Strings as Go source writes them: PromQL borrows Go's escapes, and Prometheus' texts quote with Go's `%q`.

use std::fmt::Write as _;
use std::sync::LazyLock;

/// Quotes `text` as Go's `strconv.Quote` does: in double quotes, with everything that is not printable escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape_into(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// Quotes bytes that need not be UTF-8; what is not becomes `\x..`.
pub fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_into(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Quotes one character as Go's `strconv.QuoteRune` does: in single quotes.
pub fn quote_char(c: char) -> String {
    let mut out = String::from('\'');
    escape_into(&mut out, c, '\'');
    out.push('\'');
    out
}

fn escape_into(out: &mut String, c: char, quote: char) {
    match c {
        c if c == quote || c == '\\' => out.extend(['\\', c]),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        c if (c as u32) < 0x80 => {
            let _ = write!(out, "\\x{:02x}", c as u32);
        }
        c if is_printable(c) => out.push(c),
        c if (c as u32) < 0x10000 => {
            let _ = write!(out, "\\u{:04x}", c as u32);
        }
        c => {
            let _ = write!(out, "\\U{:08x}", c as u32);
        }
    }
}

/// Letters, marks, numbers, punctuation and symbols, as Go's `unicode.IsPrint` has it.
fn is_printable(c: char) -> bool {
    static PRINTABLE: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").expect("the classes exist"));
    PRINTABLE.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Why a text is no Go string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid syntax")]
pub struct UnquoteError;

/// Undoes the quoting of `text`, which includes its quotes: `"…"` and `'…'` with escapes, `` `…` `` without.
///
/// # Errors
/// [`UnquoteError`] if quotes are missing or an escape is none of Go's.
pub fn unquote(text: &str) -> Result<Vec<u8>, UnquoteError> {
    let bytes = text.as_bytes();
    let [open @ (b'"' | b'\'' | b'`'), inner @ .., close] = bytes else { return Err(UnquoteError) };
    if open != close {
        return Err(UnquoteError);
    }
    if *open == b'`' {
        return if inner.contains(&b'`') { Err(UnquoteError) } else { Ok(inner.to_vec()) };
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match *byte {
            b'\n' => return Err(UnquoteError),
            b if b == *open => return Err(UnquoteError),
            b'\\' => rest = unescape(rest, *open, &mut out)?,
            b => out.push(b),
        }
    }
    Ok(out)
}

/// Reads one escape, after its backslash.
fn unescape<'a>(rest: &'a [u8], quote: u8, out: &mut Vec<u8>) -> Result<&'a [u8], UnquoteError> {
    let (&kind, tail) = rest.split_first().ok_or(UnquoteError)?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' => b'\\',
        b if b == quote => b,
        b'0'..=b'7' => {
            let value = digits(rest, 3, 8)?;
            out.push(u8::try_from(value).map_err(|_| UnquoteError)?);
            return Ok(&rest[3..]);
        }
        b'x' => {
            let value = digits(tail, 2, 16)?;
            out.push(u8::try_from(value).map_err(|_| UnquoteError)?);
            return Ok(&tail[2..]);
        }
        b'u' | b'U' => {
            let count = if kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(digits(tail, count, 16)?).ok_or(UnquoteError)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(&tail[count..]);
        }
        _ => return Err(UnquoteError),
    };
    out.push(simple);
    Ok(tail)
}

fn digits(bytes: &[u8], count: usize, base: u32) -> Result<u32, UnquoteError> {
    let mut value: u32 = 0;
    for byte in bytes.get(..count).ok_or(UnquoteError)? {
        let digit = (*byte as char).to_digit(base).ok_or(UnquoteError)?;
        value = value.checked_mul(base).and_then(|v| v.checked_add(digit)).ok_or(UnquoteError)?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_escapes_as_go_does() {
        for (text, quoted) in [
            ("", r#""""#),
            ("a\"b'\\", r#""a\"b'\\""#),
            ("\n\t\x07\x1b\x7f", r#""\n\t\a\x1b\x7f""#),
            ("é日e\u{301}", "\"é日e\u{301}\""),
            ("\u{a0}\u{200b}\u{e000}\u{1f600}", "\"\\u00a0\\u200b\\ue000\u{1f600}\""),
            ("\u{10ffff}", "\"\\U0010ffff\""),
        ] {
            assert_eq!(quote(text), quoted);
            assert_eq!(unquote(quoted).unwrap(), text.as_bytes());
        }
        assert_eq!(quote_bytes(b"a\xff\xc3"), r#""a\xff\xc3""#);
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), r#"'"'"#);
    }

    #[test]
    fn unquoting_knows_every_escape() {
        assert_eq!(unquote(r#""\a\b\f\n\r\t\v\\\"'\x41\101\u65e5\U0001F600""#).unwrap(), {
            let mut expected = b"\x07\x08\x0c\n\r\t\x0b\\\"'AA".to_vec();
            expected.extend_from_slice("日😀".as_bytes());
            expected
        });
        assert_eq!(unquote(r"'\''").unwrap(), b"'");
        assert_eq!(unquote(r"`\n`").unwrap(), br"\n");
        assert_eq!(unquote(r#""\xff""#).unwrap(), [0xff]);
    }

    #[test]
    fn what_is_no_go_string_is_refused() {
        for text in [
            "",
            "\"",
            "a",
            "\"a'",
            "\"a\"b\"",
            r#""\q""#,
            r#""\x4""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""\U00110000""#,
            r#""\'""#,
            "\"\n\"",
            "```",
            "'",
            r#""\""#,
        ] {
            assert_eq!(unquote(text), Err(UnquoteError), "{text}");
        }
    }
}
