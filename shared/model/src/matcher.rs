//! Label matchers, as in `{job="api",code=~"5.."}`.

use std::fmt;

/// How a matcher compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// Returns the operator as PromQL writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// Why a matcher cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatcherError {
    /// The regular expression does not compile, or is over its limits.
    #[error("invalid regular expression {pattern:?} in the matcher for label {name:?}: {reason}")]
    Regex {
        /// Label of the matcher.
        name: String,
        /// The expression as given.
        pattern: String,
        /// What the expression compiler says.
        reason: String,
    },
}

/// A test of one label's value. A series without the label is tested as if the value were empty.
///
/// Regular expressions are RE2's as Prometheus 3 uses them: anchored at both ends, `.` matches newline.
#[derive(Clone)]
pub struct Matcher {
    op: MatchOp,
    name: String,
    value: String,
    regex: Option<regex::Regex>,
}

impl Matcher {
    /// Makes a matcher; compiles `value` if `op` is one of the regular-expression operators.
    ///
    /// # Errors
    /// [`MatcherError::Regex`] if the expression does not compile.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => {
                Some(regex::RegexBuilder::new(&format!("^(?s:{value})$")).build().map_err(|error| {
                    MatcherError::Regex { name: name.clone(), pattern: value.clone(), reason: error.to_string() }
                })?)
            }
        };
        Ok(Self { op, name, value, regex })
    }

    /// Makes the matcher `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { op: MatchOp::Equal, name: name.into(), value: value.into(), regex: None }
    }

    /// Returns the operator.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// Returns the label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value or pattern as given.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Tells whether a label with this value passes.
    pub fn matches(&self, value: &str) -> bool {
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => self.regex.as_ref().is_some_and(|regex| regex.is_match(value)),
            MatchOp::NotRegex => !self.regex.as_ref().is_some_and(|regex| regex.is_match(value)),
        }
    }

    /// Tells whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    /// Writes the matcher as PromQL does: `name=~"value"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}
