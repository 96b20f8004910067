//! Text to tokens, in one pass and without recursion.
//!
//! What a character means depends on where it stands: outside, in the braces of a selector (where every word is an identifier)
//! or in the brackets of a range (where only durations and their arithmetic may stand). Error texts are Prometheus'. A text
//! with an error still gives the tokens before it: what the grammar refuses earlier in the text is reported first.

use crate::ast::Span;
use crate::duration;
use crate::parse::ParseError;
use crate::quote::{quote, quote_char};
use farview_model::number;

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// The kinds of tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    End,
    /// What is no token; [`Lexed::error`] says why. Always the last.
    Error,
    /// Identifier or keyword; which of them is up to the place.
    Word,
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    String(Vec<u8>),
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Colon,
    At,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    EqlEql,
    Equal,
    NotEqual,
    EqualRegex,
    NotEqualRegex,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    TrimUpper,
    TrimLower,
}

/// The tokens of a text; the last is [`Kind::End`] or [`Kind::Error`].
pub(crate) struct Lexed {
    pub(crate) tokens: Vec<Token>,
    /// What the error token means.
    pub(crate) error: Option<ParseError>,
}

/// Cuts `text` into tokens. Its length must fit into a `u32`.
pub(crate) fn lex(text: &str) -> Lexed {
    let mut lexer =
        Lexer { text, pos: 0, start: 0, tokens: Vec::with_capacity(text.len() / 4 + 1), state: State::default() };
    let error = lexer.run().err().map(|message| ParseError::new(lexer.span(), message));
    Lexed { tokens: lexer.tokens, error }
}

/// Where the lexer stands.
#[derive(Debug, Default)]
struct State {
    paren_depth: usize,
    brace: bool,
    bracket: bool,
    got_colon: bool,
    got_duration: bool,
}

struct Lexer<'a> {
    text: &'a str,
    /// Next byte to be read; always at the border of a character.
    pos: usize,
    /// First byte of the token being read.
    start: usize,
    tokens: Vec<Token>,
    state: State,
}

type Step = Result<(), String>;

impl Lexer<'_> {
    fn run(&mut self) -> Step {
        loop {
            self.start = self.pos;
            let result = if self.state.brace {
                self.in_braces()
            } else if self.state.bracket {
                self.in_brackets()
            } else {
                self.outside()
            };
            if let Err(message) = result {
                self.emit(Kind::Error);
                return Err(message);
            }
            if self.tokens.last().is_some_and(|token| token.kind == Kind::End) {
                return Ok(());
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn peek_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    fn accept(&mut self, valid: &[u8]) -> bool {
        let found = self.peek_byte().is_some_and(|byte| valid.contains(&byte));
        self.pos += usize::from(found);
        found
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.peek_byte().is_some_and(&keep) {
            self.pos += 1;
        }
    }

    fn span(&self) -> Span {
        Span { start: self.start as u32, end: self.pos as u32 }
    }

    fn emit(&mut self, kind: Kind) {
        let span = self.span();
        self.tokens.push(Token { span, kind });
    }

    fn emitted(&mut self, kind: Kind) -> Step {
        self.emit(kind);
        Ok(())
    }

    fn outside(&mut self) -> Step {
        let Some(c) = self.next() else {
            if self.state.paren_depth != 0 {
                return Err("unclosed left parenthesis".to_owned());
            }
            return self.emitted(Kind::End);
        };
        match c {
            ' ' | '\t' | '\n' | '\r' => self.skip_while(is_space),
            '#' => self.comment(),
            ',' => self.emit(Kind::Comma),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '^' => self.emit(Kind::Pow),
            '@' => self.emit(Kind::At),
            '=' => match self.peek() {
                Some('=') => {
                    self.pos += 1;
                    self.emit(Kind::EqlEql);
                }
                Some('~') => return Err(format!("unexpected character after '=': {}", quote_char('~'))),
                _ => self.emit(Kind::Equal),
            },
            '!' => match self.next() {
                Some('=') => self.emit(Kind::NotEqual),
                other => return Err(format!("unexpected character after '!': {}", quote_char(other.unwrap_or(EOF)))),
            },
            '<' | '>' => {
                let (plain, equal, trim) = match c {
                    '<' => (Kind::Less, Kind::LessEqual, Kind::TrimUpper),
                    _ => (Kind::Greater, Kind::GreaterEqual, Kind::TrimLower),
                };
                let kind = match self.peek() {
                    Some('=') => equal,
                    Some('/') => trim,
                    _ => plain,
                };
                self.pos += usize::from(!matches!(kind, Kind::Less | Kind::Greater));
                self.emit(kind);
            }
            '0'..='9' => return self.number_or_duration(),
            '.' if self.peek_byte().is_some_and(|byte| byte.is_ascii_digit()) => return self.number_or_duration(),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            'a'..='z' | 'A'..='Z' | '_' | ':' => self.word(),
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '{' => {
                self.emit(Kind::LeftBrace);
                self.state.brace = true;
            }
            '[' => {
                self.emit(Kind::LeftBracket);
                self.state = State { bracket: true, got_colon: false, got_duration: false, ..self.state };
            }
            ']' => return Err(format!("unexpected right bracket {}", quote_char(c))),
            _ => return Err(format!("unexpected character: {}", quote_char(c))),
        }
        Ok(())
    }

    fn in_braces(&mut self) -> Step {
        let Some(c) = self.next() else { return Err("unexpected end of input inside braces".to_owned()) };
        match c {
            ' ' | '\t' | '\n' | '\r' => self.skip_while(is_space),
            '#' => self.comment(),
            'a'..='z' | 'A'..='Z' | '_' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                self.emit(Kind::Word);
            }
            ',' => self.emit(Kind::Comma),
            '"' | '\'' => return self.string(c),
            '`' => return self.raw_string(),
            '=' => {
                let regex = self.accept(b"~");
                self.emit(if regex { Kind::EqualRegex } else { Kind::Equal });
            }
            '!' => match self.next() {
                Some('~') => self.emit(Kind::NotEqualRegex),
                Some('=') => self.emit(Kind::NotEqual),
                other => {
                    let other = quote_char(other.unwrap_or(EOF));
                    return Err(format!("unexpected character after '!' inside braces: {other}"));
                }
            },
            '{' => return Err(format!("unexpected left brace {}", quote_char(c))),
            '}' => {
                self.emit(Kind::RightBrace);
                self.state.brace = false;
            }
            _ => return Err(format!("unexpected character inside braces: {}", quote_char(c))),
        }
        Ok(())
    }

    fn in_brackets(&mut self) -> Step {
        let Some(c) = self.next() else {
            // Behind a number Prometheus looks for the end of the whole text.
            let number = matches!(self.tokens.last(), Some(Token { kind: Kind::Number(_) | Kind::Duration(_), .. }));
            let text = if number || self.state.got_duration {
                "unclosed left bracket"
            } else {
                "unexpected end of input in duration expression"
            };
            return Err(text.to_owned());
        };
        match c {
            ' ' | '\t' | '\n' | '\r' => self.skip_while(is_space),
            ']' => {
                self.emit(Kind::RightBracket);
                self.state.bracket = false;
            }
            ':' if !self.state.got_duration => {
                self.start = self.pos;
                return Err("unexpected colon before duration in duration expression".to_owned());
            }
            ':' if self.state.got_colon => return Err("unexpected repeated colon in duration expression".to_owned()),
            ':' => {
                self.emit(Kind::Colon);
                self.state.got_colon = true;
            }
            '(' => self.open_paren(),
            ')' => return self.close_paren(),
            '+' => self.emit(Kind::Add),
            '-' => self.emit(Kind::Sub),
            '*' => self.emit(Kind::Mul),
            '/' => self.emit(Kind::Div),
            '%' => self.emit(Kind::Mod),
            '^' => self.emit(Kind::Pow),
            ',' => self.emit(Kind::Comma),
            'a'..='z' | 'A'..='Z' => {
                self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let word = self.text[self.start..self.pos].to_ascii_lowercase();
                if !matches!(word.as_str(), "step" | "range" | "min_of" | "max_of") {
                    return Err(format!("unexpected character in duration expression: {}", quote_char(c)));
                }
                self.state.got_duration = true;
                self.emit(Kind::Word);
            }
            '0'..='9' | '.' if c != '.' || self.peek_byte().is_some_and(|byte| byte.is_ascii_digit()) => {
                self.state.got_duration = true;
                return self.number_or_duration();
            }
            _ => return Err(format!("unexpected character in duration expression: {}", quote_char(c))),
        }
        Ok(())
    }

    fn comment(&mut self) {
        self.skip_while(|byte| byte != b'\n' && byte != b'\r');
    }

    fn open_paren(&mut self) {
        self.emit(Kind::LeftParen);
        self.state.paren_depth += 1;
    }

    fn close_paren(&mut self) -> Step {
        if self.state.paren_depth == 0 {
            // It has been taken before its partner is missed.
            self.start = self.pos;
            return Err(format!("unexpected right parenthesis {}", quote_char(')')));
        }
        self.state.paren_depth -= 1;
        self.emitted(Kind::RightParen)
    }

    fn word(&mut self) {
        self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':');
        self.emit(Kind::Word);
    }

    fn number_or_duration(&mut self) -> Step {
        self.pos = self.start;
        let is_number = self.scan_number();
        if !is_number && !self.scan_units() {
            let text = quote(&self.text[self.start..self.pos]);
            return Err(format!("bad number or duration syntax: {text}"));
        }
        let text = &self.text[self.start..self.pos];
        let kind = if is_number {
            let out_of_range =
                || format!("error parsing number: strconv.ParseFloat: parsing {}: value out of range", quote(text));
            Kind::Number(number::parse_go(text).ok_or_else(out_of_range)?)
        } else {
            Kind::Duration(duration::parse(text).map_err(|error| error.to_string())?)
        };
        self.emitted(kind)
    }

    /// Reads a number as far as one goes; tells whether it ends where a number may end.
    fn scan_number(&mut self) -> bool {
        let mut digits: &[u8] = b"0123456789";
        if self.accept(b"0") && self.accept(b"xX") {
            self.accept(b"_");
            digits = b"0123456789abcdefABCDEF";
        }
        let hex = digits.len() > 10;
        self.accept(b".");
        self.accept(digits);
        let (mut dot, mut exponent) = (self.text.as_bytes()[self.start] == b'.', false);
        loop {
            if self.accept(digits) {
                continue;
            } else if self.accept(b".") {
                if dot || hex || self.accept(b"_.") {
                    return false;
                }
                dot = true;
            } else if self.accept(b"eE") {
                if exponent {
                    return false;
                }
                exponent = true;
                self.accept(b"+-");
                if self.accept(b"._eE") || self.peek_byte().is_none() {
                    return false;
                }
            } else if self.accept(b"_") {
                if self.accept(b"._eE") || self.peek_byte().is_none() {
                    return false;
                }
            } else {
                return !self.peek().is_some_and(is_word);
            }
        }
    }

    /// Reads what follows the first digits of a duration: units and further digits.
    fn scan_units(&mut self) -> bool {
        if !self.accept(b"smhdwy") {
            return false;
        }
        self.accept(b"s");
        while self.accept(b"0123456789") {
            self.skip_while(|byte| byte.is_ascii_digit());
            // Years can only come first.
            if !self.accept(b"smhdw") {
                return false;
            }
            self.accept(b"s");
        }
        if self.peek().is_some_and(is_word) {
            self.pos += 1;
            return false;
        }
        true
    }

    fn string(&mut self, quote: char) -> Step {
        loop {
            match self.next() {
                Some('\\') => self.escape(quote)?,
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote => return self.string_value(),
                Some(_) => {}
            }
        }
    }

    fn raw_string(&mut self) -> Step {
        self.skip_while(|byte| byte != b'`');
        match self.next() {
            None => Err("unterminated raw string".to_owned()),
            Some(_) => self.string_value(),
        }
    }

    fn string_value(&mut self) -> Step {
        let text = &self.text[self.start..self.pos];
        let value =
            crate::quote::unquote(text).map_err(|error| format!("error unquoting string {}: {error}", quote(text)))?;
        self.emitted(Kind::String(value))
    }

    fn escape(&mut self, quote: char) -> Step {
        let Some(c) = self.next() else { return Err("escape sequence not terminated".to_owned()) };
        let (count, base, max) = match c {
            'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\' => return Ok(()),
            c if c == quote => return Ok(()),
            '0'..='7' => {
                self.pos -= 1;
                (3, 8, 255)
            }
            'x' => (2, 16, 255),
            'u' => (4, 16, u32::from(char::MAX)),
            'U' => (8, 16, u32::from(char::MAX)),
            _ => return Err(format!("unknown escape sequence {}", code_point(c))),
        };
        let mut value: u64 = 0;
        for _ in 0..count {
            let Some(c) = self.next() else { return Err("escape sequence not terminated".to_owned()) };
            let Some(digit) = c.to_digit(base) else {
                return Err(format!("illegal character {} in escape sequence", code_point(c)));
            };
            value = value * u64::from(base) + u64::from(digit);
        }
        if value > u64::from(max) || (0xd800..0xe000).contains(&value) {
            return Err("escape sequence is an invalid Unicode code point".to_owned());
        }
        Ok(())
    }
}

/// What Prometheus prints for a character after the end of the text: its end mark, -1, is no code point.
const EOF: char = char::REPLACEMENT_CHARACTER;

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Writes a character as Go's `%#U`.
fn code_point(c: char) -> String {
    format!("U+{:04X} '{c}'", c as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<Kind> {
        lex(query).tokens.into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn numbers_and_durations_are_told_apart() {
        for (text, value) in [
            ("1", 1.0),
            ("4.23", 4.23),
            (".3", 0.3),
            ("5.", 5.0),
            ("0x1f", 31.0),
            ("010", 8.0),
            ("1_000", 1e3),
            ("1e-5", 1e-5),
        ] {
            assert_eq!(kinds(text), [Kind::Number(value), Kind::End], "{text}");
        }
        for (text, millis) in [("5s", 5_000), ("1h30m", 5_400_000), ("5ms", 5)] {
            assert_eq!(kinds(text), [Kind::Duration(millis), Kind::End], "{text}");
        }
    }

    #[test]
    fn bad_numbers_say_how_far_they_were_read() {
        for (query, read) in [
            ("0deadbeef", "0de"),
            ("100..4", "100.."),
            ("2.5.", "2.5."),
            ("1e", "1e"),
            ("1__0", "1__"),
            ("0b11", "0"),
            ("5mm", "5mm"),
            ("1_", "1_"),
            ("0x1.5", "0x1."),
            ("1d1y", "1d1"),
            ("1sé", ""),
        ] {
            let error = lex(query).error.unwrap().message;
            if read.is_empty() {
                assert_eq!(error, "unexpected character: 'é'");
            } else {
                assert_eq!(error, format!("bad number or duration syntax: \"{read}\""), "{query}");
            }
        }
    }

    #[test]
    fn spans_cut_the_text_exactly() {
        let query = "foo{a!='é\\''} # c\n [ 1h30m : step() ] </ `x\ny`";
        let texts: Vec<&str> =
            lex(query).tokens.iter().map(|token| &query[token.span.start as usize..token.span.end as usize]).collect();
        let expected =
            ["foo", "{", "a", "!=", "'é\\''", "}", "[", "1h30m", ":", "step", "(", ")", "]", "</", "`x\ny`", ""];
        assert_eq!(texts, expected);
    }

    #[test]
    fn errors_are_those_of_prometheus() {
        for (query, error, start) in [
            (".", "unexpected character: '.'", 0),
            ("1 !~ 1", "unexpected character after '!': '~'", 2),
            ("1 =~ 1", "unexpected character after '=': '~'", 2),
            ("(1))", "unexpected right parenthesis ')'", 4),
            ("((1)", "unclosed left parenthesis", 4),
            ("a]", "unexpected right bracket ']'", 1),
            ("a[5m", "unclosed left bracket", 4),
            ("a[", "unexpected end of input in duration expression", 2),
            ("a[:5m]", "unexpected colon before duration in duration expression", 3),
            ("a[5m:5m:]", "unexpected repeated colon in duration expression", 7),
            ("a[x]", "unexpected character in duration expression: 'x'", 2),
            ("a{", "unexpected end of input inside braces", 2),
            ("a{{", "unexpected left brace '{'", 2),
            ("a{$", "unexpected character inside braces: '$'", 2),
            ("a{b!5", "unexpected character after '!' inside braces: '5'", 3),
            ("\"a", "unterminated quoted string", 0),
            ("'a\n'", "unterminated quoted string", 0),
            ("`a", "unterminated raw string", 0),
            (r#""\q""#, "unknown escape sequence U+0071 'q'", 0),
            (r#""\xg""#, "illegal character U+0067 'g' in escape sequence", 0),
            (r#""\ud800""#, "escape sequence is an invalid Unicode code point", 0),
            (r#""\400""#, "escape sequence is an invalid Unicode code point", 0),
            ("\"\\", "escape sequence not terminated", 0),
            ("日", "unexpected character: '日'", 0),
        ] {
            let lexed = lex(query);
            let got = lexed.error.unwrap();
            assert_eq!((got.message.as_str(), got.span.start), (error, start), "{query}");
            assert_eq!(lexed.tokens.last().unwrap().kind, Kind::Error);
        }
    }
}
