//! Regular expressions as Prometheus means them: RE2's syntax as Go has it, on the `regex` crate.
//!
//! Both engines are linear and close relatives, but not the same language: Go's `\d`, `\w`, `\s` and `\b` are ASCII, it knows
//! `\Q…\E` and octal escapes, has no operations on classes, refuses stacked repetitions and counts above 1000. [`translate`]
//! rewrites what differs and refuses what Go refuses, with Go's words.

mod shape;
mod template;
mod translate;

use regex_syntax::hir::Hir;
pub(crate) use shape::Shape;
pub use template::Template;

/// The longest pattern in bytes.
pub const MAX_PATTERN_BYTES: usize = 32 << 10;
/// The largest compiled program in bytes.
pub const MAX_PROGRAM_BYTES: usize = 10 << 20;
/// The deepest nesting, as in Go.
const MAX_DEPTH: u32 = 1_000;
/// The greatest count of a repetition, and of repetitions within each other multiplied, as in Go.
const MAX_REPEAT: u32 = 1_000;

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The pattern is no regular expression by Go's rules.
    #[error("error parsing regexp: {0}")]
    Syntax(String),
    /// The pattern is too long.
    #[error("the pattern has {0} bytes, more than the limit max pattern size of {MAX_PATTERN_BYTES} bytes")]
    TooLong(usize),
    /// The compiled program is too large.
    #[error("the compiled pattern is larger than the limit max program size of {MAX_PROGRAM_BYTES} bytes")]
    ProgramTooLarge,
}

impl PatternError {
    /// Says what the caller can do.
    pub fn kind(&self) -> crate::ErrorKind {
        match self {
            Self::Syntax(_) => crate::ErrorKind::Invalid,
            Self::TooLong(_) | Self::ProgramTooLarge => crate::ErrorKind::LimitExceeded,
        }
    }
}

/// Compiles a pattern, anchored at both ends, `.` matching newlines too: what matchers, `label_replace` and relabelling use.
///
/// # Errors
/// [`PatternError`] if Go would refuse the pattern, or if it is over a limit.
pub fn compile(pattern: &str) -> Result<regex::Regex, PatternError> {
    let translated = checked(pattern)?.0;
    build(&translated)
}

/// Rewrites a pattern for the `regex` crate and parses it.
fn checked(pattern: &str) -> Result<(String, Hir), PatternError> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(PatternError::TooLong(pattern.len()));
    }
    let translated = translate::translate(pattern).map_err(PatternError::Syntax)?;
    let syntax = |error: &dyn std::fmt::Display| PatternError::Syntax(format!("{error}"));
    let ast = regex_syntax::ast::parse::ParserBuilder::new()
        .nest_limit(MAX_DEPTH)
        .build()
        .parse(&translated)
        .map_err(|error| syntax(error.kind()))?;
    translate::check_repeats(&ast, MAX_REPEAT).map_err(PatternError::Syntax)?;
    let hir = regex_syntax::hir::translate::TranslatorBuilder::new()
        .dot_matches_new_line(true)
        .build()
        .translate(&translated, &ast)
        .map_err(|error| syntax(error.kind()))?;
    Ok((translated, hir))
}

fn build(translated: &str) -> Result<regex::Regex, PatternError> {
    regex::RegexBuilder::new(&format!("^(?s:{translated})$"))
        .size_limit(MAX_PROGRAM_BYTES)
        .nest_limit(MAX_DEPTH + 2)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::ProgramTooLarge,
            other => PatternError::Syntax(other.to_string()),
        })
}

/// An anchored pattern as a test of strings: as cheap as it allows.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    shape: Shape,
    /// Present when the shape alone does not decide.
    regex: Option<regex::Regex>,
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        let (translated, hir) = checked(pattern)?;
        let shape = Shape::of(&hir);
        let regex = if shape.decides() { None } else { Some(build(&translated)?) };
        Ok(Self { shape, regex })
    }

    #[inline]
    pub(crate) fn is_match(&self, text: &str) -> bool {
        self.shape.may_match(text) && self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }
}

#[cfg(test)]
mod tests;
