//! From Go's regular expressions to those of the `regex` crate.

use regex_syntax::ast::{self, Ast};
use std::fmt::Write as _;

/// Rewrites `pattern`.
///
/// # Errors
/// Go's description of what is wrong, without `error parsing regexp: `. What this walk lets pass may still be refused by
/// the parser of the `regex` crate.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut walk =
        Walk { pattern, rest: pattern, out: String::with_capacity(pattern.len() + 16), depth: 0, last: Last::Nothing };
    while let Some(c) = walk.peek() {
        walk.step(c)?;
    }
    if walk.depth > 0 {
        return Err(format!("missing closing ): `{pattern}`"));
    }
    Ok(walk.out)
}

/// What stands before the place of the walk: a repetition needs something to repeat, and cannot repeat a repetition.
#[derive(Clone, Copy, PartialEq)]
enum Last<'a> {
    Nothing,
    Atom,
    /// A repetition; from its operator to the end of the pattern.
    Repetition(&'a str),
}

struct Walk<'a> {
    pattern: &'a str,
    rest: &'a str,
    out: String,
    depth: usize,
    last: Last<'a>,
}

const CLASS_NAMES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

impl<'a> Walk<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        match c {
            '*' | '+' | '?' => self.repetition(1),
            '{' => match repeat(self.rest) {
                Some((len, least, most)) => {
                    if least > 1_000 || most.is_some_and(|most| most > 1_000 || most < least) {
                        return Err(format!("invalid repeat count: `{}`", &self.rest[..len]));
                    }
                    self.repetition(len)
                }
                None => self.literal(),
            },
            '(' => self.group(),
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or_else(|| format!("unexpected ): `{}`", self.pattern))?;
                self.copy(Last::Atom)
            }
            '|' => self.copy(Last::Nothing),
            '.' | '^' | '$' => self.copy(Last::Atom),
            '[' => self.class(),
            '\\' => self.escape(),
            _ => self.literal(),
        }
    }

    /// Takes one character that means the same in both languages.
    fn copy(&mut self, last: Last<'a>) -> Result<(), String> {
        let c = self.take();
        self.out.extend(c);
        self.last = last;
        Ok(())
    }

    fn literal(&mut self) -> Result<(), String> {
        if let Some(c) = self.take() {
            self.push_literal(c);
        }
        self.last = Last::Atom;
        Ok(())
    }

    fn push_literal(&mut self, c: char) {
        if c.is_ascii_punctuation() || c.is_ascii_control() {
            self.push_code(c);
        } else {
            self.out.push(c);
        }
    }

    /// Writes a character so that it means nothing else in any place.
    fn push_code(&mut self, c: char) {
        let _ = write!(self.out, "\\x{{{:x}}}", c as u32);
    }

    /// Takes an operator of `len` bytes and the `?` after it.
    fn repetition(&mut self, len: usize) -> Result<(), String> {
        let operator = self.rest;
        let end = if self.rest[len..].starts_with('?') { len + 1 } else { len };
        match self.last {
            Last::Nothing => return Err(format!("missing argument to repetition operator: `{}`", &operator[..end])),
            Last::Repetition(before) => {
                let both = &before[..before.len() - operator.len() + end];
                return Err(format!("invalid nested repetition operator: `{both}`"));
            }
            Last::Atom => {}
        }
        self.out.push_str(&operator[..end]);
        self.rest = &operator[end..];
        self.last = Last::Repetition(operator);
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        if !self.rest.starts_with("(?") {
            self.depth += 1;
            return self.copy(Last::Nothing);
        }
        let inner = &self.rest[2..];
        if inner.starts_with("P<") || inner.starts_with('<') && !inner.starts_with("<=") && !inner.starts_with("<!") {
            return self.named_group();
        }
        let end = inner.find([')', ':']).map(|end| end + 1);
        let flags = end.map_or(inner, |end| &inner[..end - 1]);
        let letters = flags.split_once('-').map_or((flags, None), |(on, off)| (on, Some(off)));
        let known = |text: &str| text.bytes().all(|byte| b"imsU".contains(&byte));
        let valid = known(letters.0)
            && letters.1.is_none_or(|off| known(off) && !off.is_empty())
            && (!flags.is_empty() || inner.starts_with(':'));
        let Some(end) = end.filter(|_| valid) else {
            if end.is_none() && known(flags.trim_matches('-')) {
                return Err(format!("missing argument to repetition operator: `{}`", &self.rest[1..2]));
            }
            let shown = inner
                .char_indices()
                .find(|(_, c)| !"imsU-".contains(*c))
                .map_or(inner.len(), |(at, c)| at + c.len_utf8());
            return Err(format!("invalid or unsupported Perl syntax: `(?{}`", &inner[..shown]));
        };
        self.depth += usize::from(inner.as_bytes()[end - 1] == b':');
        self.out.push_str(&self.rest[..2 + end]);
        self.rest = &inner[end..];
        self.last = Last::Nothing;
        Ok(())
    }

    fn named_group(&mut self) -> Result<(), String> {
        let open = self.rest.find('<').map_or(0, |at| at + 1);
        let Some(close) = self.rest.find('>') else { return Err(format!("invalid named capture: `{}`", self.rest)) };
        let name = &self.rest[open..close];
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("invalid named capture: `{}`", &self.rest[..=close]));
        }
        self.out.push_str(&self.rest[..=close]);
        self.rest = &self.rest[close + 1..];
        self.depth += 1;
        self.last = Last::Nothing;
        Ok(())
    }

    fn class(&mut self) -> Result<(), String> {
        let whole = self.rest;
        let unclosed = || format!("missing closing ]: `{whole}`");
        self.take();
        self.out.push('[');
        if self.peek() == Some('^') {
            self.take();
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.peek().ok_or_else(unclosed)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            if self.rest.starts_with("[:") && self.named_class()? || c == '\\' && self.escaped_class(true) {
                continue;
            }
            let range = self.rest;
            let low = self.class_char(whole)?;
            self.push_code(low);
            if self.rest.starts_with('-') && self.rest.len() > 1 && !self.rest.starts_with("-]") {
                self.take();
                let high = self.class_char(whole)?;
                if high < low {
                    let shown = &range[..range.len() - self.rest.len()];
                    return Err(format!("invalid character class range: `{shown}`"));
                }
                self.out.push('-');
                self.push_code(high);
            }
        }
        self.take();
        self.out.push(']');
        self.last = Last::Atom;
        Ok(())
    }

    /// `[:alpha:]` within a class. False if this is none but a class that holds these characters.
    fn named_class(&mut self) -> Result<bool, String> {
        let Some(end) = self.rest[2..].find(":]") else { return Ok(false) };
        let text = &self.rest[..end + 4];
        let name = &self.rest[2..end + 2];
        if !CLASS_NAMES.contains(&name.trim_start_matches('^')) || name.starts_with("^^") {
            return Err(format!("invalid character class range: `{text}`"));
        }
        self.out.push_str(text);
        self.rest = &self.rest[text.len()..];
        Ok(true)
    }

    fn class_char(&mut self, whole: &str) -> Result<char, String> {
        match self.peek() {
            None => Err(format!("missing closing ]: `{whole}`")),
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.take();
                Ok(c)
            }
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let kind = self.rest[1..].chars().next();
        match kind {
            Some('Q') => {
                let quoted = &self.rest[2..];
                let (text, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                for c in text.chars() {
                    self.push_literal(c);
                    self.last = Last::Atom;
                }
                self.rest = rest;
                return Ok(());
            }
            // An end without a beginning means nothing.
            Some('E') => self.rest = &self.rest[2..],
            Some('A' | 'z') => {
                self.out.push_str(&self.rest[..2]);
                self.rest = &self.rest[2..];
            }
            Some('b' | 'B') => {
                let _ = write!(self.out, "(?-u:{})", &self.rest[..2]);
                self.rest = &self.rest[2..];
            }
            _ => {
                if !self.escaped_class(false) {
                    let c = self.escaped_char()?;
                    self.push_literal(c);
                }
            }
        }
        self.last = Last::Atom;
        Ok(())
    }

    /// `\d`, `\pL` and their like. False if this is another escape.
    fn escaped_class(&mut self, within: bool) -> bool {
        let Some(kind) = self.rest[1..].chars().next() else { return false };
        let (members, negated) = match kind {
            'd' | 'D' => ("0-9", kind == 'D'),
            's' | 'S' => ("\\t\\n\\x0c\\r\\x20", kind == 'S'),
            'w' | 'W' => ("0-9A-Za-z_", kind == 'W'),
            'p' | 'P' => return self.unicode_class(kind),
            _ => return false,
        };
        self.rest = &self.rest[2..];
        let _ = match (within, negated) {
            (true, false) => write!(self.out, "{members}"),
            (false, false) => write!(self.out, "[{members}]"),
            (_, true) => write!(self.out, "[^{members}]"),
        };
        true
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`. An unfinished one is left to the parser to refuse.
    fn unicode_class(&mut self, kind: char) -> bool {
        let after = &self.rest[2..];
        let Some(first) = after.chars().next() else { return false };
        let (name, len) = match after.strip_prefix('{') {
            Some(inner) => {
                let Some(end) = inner.find('}') else { return false };
                (&inner[..end], end + 2)
            }
            None => (&after[..first.len_utf8()], first.len_utf8()),
        };
        let (name, turned) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let kind = if (kind == 'P') != turned { 'P' } else { 'p' };
        let _ = write!(self.out, "\\{kind}{{{name}}}");
        self.rest = &self.rest[2 + len..];
        true
    }

    /// An escape that stands for one character.
    fn escaped_char(&mut self) -> Result<char, String> {
        let start = self.rest;
        self.take();
        let kind = self.take().ok_or("trailing backslash at end of expression: ``")?;
        let invalid = |rest: &str| format!("invalid escape sequence: `{}`", &start[..start.len() - rest.len()]);
        let code = match kind {
            '1'..='7' if !self.rest.starts_with(|c: char| ('0'..='7').contains(&c)) => return Err(invalid(self.rest)),
            '0'..='7' => {
                let mut code = kind.to_digit(8).unwrap_or(0);
                for _ in 0..2 {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    self.take();
                    code = code * 8 + digit;
                }
                code
            }
            'x' => {
                let digits = match self.rest.strip_prefix('{') {
                    Some(inner) => inner.split_once('}'),
                    None => self.rest.split_at_checked(2),
                };
                let (digits, rest) = digits.ok_or_else(|| invalid(self.rest))?;
                if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(invalid(rest));
                }
                self.rest = rest;
                u32::from_str_radix(digits, 16).map_err(|_| invalid(rest))?
            }
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
            _ => return Err(invalid(self.rest)),
        };
        char::from_u32(code).ok_or_else(|| invalid(self.rest))
    }
}

/// Reads `{n}`, `{n,}` or `{n,m}`: its length in bytes, the least and the greatest count. Anything else is no repetition.
fn repeat(text: &str) -> Option<(usize, u32, Option<u32>)> {
    let end = text.find('}')?;
    let inner = &text[1..end];
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        (plain && !leading_zero).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let (least, most) = match inner.split_once(',') {
        None => {
            let exact = number(inner)?;
            (exact, Some(exact))
        }
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((end + 1, least, most))
}

/// Refuses counted repetitions within each other whose counts multiply to more than `left`.
pub(super) fn check_repeats(ast: &Ast, left: u32) -> Result<(), String> {
    match ast {
        Ast::Repetition(repetition) => {
            let left = match &repetition.op.kind {
                ast::RepetitionKind::Range(range) => {
                    let count = match range {
                        ast::RepetitionRange::Exactly(n) | ast::RepetitionRange::AtLeast(n) => *n,
                        ast::RepetitionRange::Bounded(_, most) => *most,
                    };
                    if count > left {
                        return Err(
                            "invalid repeat count: repetitions within each other multiply to more than 1000".into()
                        );
                    }
                    left.checked_div(count).unwrap_or(left)
                }
                _ => left,
            };
            check_repeats(&repetition.ast, left)
        }
        Ast::Group(group) => check_repeats(&group.ast, left),
        Ast::Alternation(alternation) => alternation.asts.iter().try_for_each(|ast| check_repeats(ast, left)),
        Ast::Concat(concat) => concat.asts.iter().try_for_each(|ast| check_repeats(ast, left)),
        _ => Ok(()),
    }
}
