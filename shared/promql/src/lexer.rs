//! Text to tokens.
//!
//! The lexer knows two things of the grammar, as Prometheus' does: within braces every word is an identifier, and within
//! brackets a colon separates instead of being part of a name.

use crate::ast::Span;
use crate::duration;
use crate::parse::ParseError;
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

pub(crate) fn lex(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, braces: false, brackets: false, tokens: Vec::new() };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    braces: bool,
    brackets: bool,
    tokens: Vec<Token>,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl Lexer<'_> {
    fn error(&self, start: usize, message: impl Into<String>) -> ParseError {
        ParseError::new(Span { start: start as u32, end: self.at.max(start) as u32 }, message)
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn push(&mut self, start: usize, kind: Kind) {
        self.tokens.push(Token { span: Span { start: start as u32, end: self.at as u32 }, kind });
    }

    fn run(&mut self) -> Result<(), ParseError> {
        loop {
            while self.byte(0).is_ascii_whitespace() && self.at < self.bytes.len() {
                self.at += 1;
            }
            let start = self.at;
            if start == self.bytes.len() {
                self.push(start, Kind::End);
                return Ok(());
            }
            self.token(start)?;
        }
    }

    fn token(&mut self, start: usize) -> Result<(), ParseError> {
        let byte = self.byte(0);
        match byte {
            b'#' => {
                while self.at < self.bytes.len() && self.byte(0) != b'\n' {
                    self.at += 1;
                }
                return Ok(());
            }
            b'"' | b'\'' | b'`' => return self.string(start, byte),
            b'0'..=b'9' if !self.braces => return self.number(start),
            b'.' if !self.braces && self.byte(1).is_ascii_digit() => return self.number(start),
            _ => {}
        }
        if byte.is_ascii_alphabetic() || byte == b'_' || (byte == b':' && !self.brackets && !self.braces) {
            let colon = !self.brackets && !self.braces;
            while is_word(self.byte(0)) || (colon && self.byte(0) == b':') {
                self.at += 1;
            }
            self.push(start, Kind::Word);
            return Ok(());
        }
        let (kind, len) = self.punctuation(byte, start)?;
        self.at += len;
        self.push(start, kind);
        Ok(())
    }

    fn punctuation(&mut self, byte: u8, start: usize) -> Result<(Kind, usize), ParseError> {
        let next = self.byte(1);
        Ok(match (byte, next) {
            (b'{', _) => {
                if self.braces {
                    return Err(self.error(start, "unexpected left brace '{'"));
                }
                self.braces = true;
                (Kind::LeftBrace, 1)
            }
            (b'}', _) => {
                if !self.braces {
                    return Err(self.error(start, "unexpected right brace '}'"));
                }
                self.braces = false;
                (Kind::RightBrace, 1)
            }
            (b',', _) => (Kind::Comma, 1),
            (b'=', b'~') => (Kind::EqualRegex, 2),
            (b'!', b'~') => (Kind::NotEqualRegex, 2),
            (b'!', b'=') => (Kind::NotEqual, 2),
            (b'=', b'=') if !self.braces => (Kind::EqlEql, 2),
            (b'=', _) => (Kind::Equal, 1),
            (_, _) if self.braces => {
                return Err(self.error(start, format!("unexpected character inside braces: {}", self.quoted(start))));
            }
            (b'(', _) => (Kind::LeftParen, 1),
            (b')', _) => (Kind::RightParen, 1),
            (b'[', _) => {
                if self.brackets {
                    return Err(self.error(start, "unexpected left bracket '['"));
                }
                self.brackets = true;
                (Kind::LeftBracket, 1)
            }
            (b']', _) => {
                if !self.brackets {
                    return Err(self.error(start, "unexpected right bracket ']'"));
                }
                self.brackets = false;
                (Kind::RightBracket, 1)
            }
            (b':', _) => (Kind::Colon, 1),
            (b'@', _) => (Kind::At, 1),
            (b'+', _) => (Kind::Add, 1),
            (b'-', _) => (Kind::Sub, 1),
            (b'*', _) => (Kind::Mul, 1),
            (b'/', _) => (Kind::Div, 1),
            (b'%', _) => (Kind::Mod, 1),
            (b'^', _) => (Kind::Pow, 1),
            (b'<', b'/') => (Kind::TrimUpper, 2),
            (b'>', b'/') => (Kind::TrimLower, 2),
            (b'<', b'=') => (Kind::LessEqual, 2),
            (b'<', _) => (Kind::Less, 1),
            (b'>', b'=') => (Kind::GreaterEqual, 2),
            (b'>', _) => (Kind::Greater, 1),
            (b'!', _) => {
                let next = self.text[start + 1..].chars().next();
                let shown = next.map_or_else(|| "end of input".to_owned(), crate::quote::quote_char);
                return Err(self.error(start, format!("unexpected character after '!': {shown}")));
            }
            _ => return Err(self.error(start, format!("unexpected character: {}", self.quoted(start)))),
        })
    }

    fn quoted(&self, start: usize) -> String {
        self.text[start..].chars().next().map(crate::quote::quote_char).unwrap_or_default()
    }

    fn string(&mut self, start: usize, quote: u8) -> Result<(), ParseError> {
        self.at += 1;
        loop {
            match self.byte(0) {
                _ if self.at >= self.bytes.len() => {
                    let kind = if quote == b'`' { "raw" } else { "quoted" };
                    return Err(self.error(start, format!("unterminated {kind} string")));
                }
                b'\n' if quote != b'`' => return Err(self.error(start, "unterminated quoted string")),
                b'\\' if quote != b'`' => self.at += 2,
                byte => {
                    self.at += 1;
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        self.at = self.at.min(self.bytes.len());
        let value = crate::quote::unquote(&self.text[start..self.at]).map_err(|error| {
            self.error(
                start,
                format!("error unquoting string {}: {error}", crate::quote::quote(&self.text[start..self.at])),
            )
        })?;
        self.push(start, Kind::String(value));
        Ok(())
    }

    /// A number or a duration: everything that can belong to one is taken, and must then be one.
    fn number(&mut self, start: usize) -> Result<(), ParseError> {
        let hex = self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X');
        while is_word(self.byte(0)) || self.byte(0) == b'.' {
            let exponent = !hex && matches!(self.byte(0), b'e' | b'E') && matches!(self.byte(1), b'+' | b'-');
            self.at += if exponent { 2 } else { 1 };
        }
        let text = &self.text[start..self.at];
        let kind = match duration::parse(text) {
            Ok(millis) if text != "0" => Kind::Duration(millis),
            Err(error @ duration::DurationError::OutOfRange) => return Err(self.error(start, error.to_string())),
            _ => match number::parse_go(text) {
                Some(value) => Kind::Number(value),
                None => {
                    let text = crate::quote::quote(text);
                    return Err(self.error(start, format!("bad number or duration syntax: {text}")));
                }
            },
        };
        self.push(start, kind);
        Ok(())
    }
}
