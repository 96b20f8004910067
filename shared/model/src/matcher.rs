//! Label matchers, as in `{job="api",code=~"5.."}`.

use crate::labels::is_legacy_name;
use crate::pattern::{Pattern, PatternError};
use crate::quote::quote;
use std::fmt;
use std::hash::{Hash, Hasher};

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
        /// The expression as given; the beginning of it, if it is long.
        pattern: String,
        /// What is wrong with it.
        reason: PatternError,
    },
}

impl MatcherError {
    /// Says what the caller can do.
    pub fn kind(&self) -> crate::ErrorKind {
        let Self::Regex { reason, .. } = self;
        reason.kind()
    }
}

/// A test of one label's value. A series without the label is tested as if the value were empty.
///
/// Regular expressions are RE2's as Prometheus 3 uses them: anchored at both ends, `.` matches newline.
#[derive(Clone)]
pub struct Matcher {
    op: MatchOp,
    name: String,
    value: String,
    pattern: Option<Pattern>,
}

impl Matcher {
    /// Makes a matcher; compiles `value` if `op` is one of the regular-expression operators.
    ///
    /// # Errors
    /// [`MatcherError::Regex`] if the expression does not compile, or is longer or larger than the limits allow.
    pub fn new(op: MatchOp, name: impl Into<String>, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let pattern = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => match Pattern::new(&value) {
                Ok(pattern) => Some(pattern),
                Err(reason) => {
                    let pattern = value.chars().take(1_000).collect();
                    return Err(MatcherError::Regex { name, pattern, reason });
                }
            },
        };
        Ok(Self { op, name, value, pattern })
    }

    /// Makes the matcher `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { op: MatchOp::Equal, name: name.into(), value: value.into(), pattern: None }
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
    #[inline]
    pub fn matches(&self, value: &str) -> bool {
        match &self.pattern {
            None => (self.value == value) == (self.op == MatchOp::Equal),
            Some(pattern) => pattern.is_match(value) == (self.op == MatchOp::Regex),
        }
    }

    /// Tells whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// Returns the values, sorted, that the matcher's value or pattern stands for, if these are few: `a|b[12]` is `a`, `b1`
    /// and `b2`. They pass `=` and `=~`, and all others pass `!=` and `!~`.
    pub fn set_matches(&self) -> Option<&[String]> {
        match &self.pattern {
            None => Some(std::slice::from_ref(&self.value)),
            Some(pattern) => pattern.shape().set(),
        }
    }

    /// Returns what every value that the matcher's value or pattern stands for begins with; may be empty.
    pub fn prefix(&self) -> &str {
        match &self.pattern {
            None => &self.value,
            Some(pattern) => pattern.shape().prefix(),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.op == other.op && self.name == other.name && self.value == other.value
    }
}

impl Eq for Matcher {}

impl Hash for Matcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.op, &self.name, &self.value).hash(state);
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matcher {
    /// Writes the matcher as PromQL does: `name=~"value"`, with the name in quotes if it is no plain one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_legacy_name(&self.name) {
            f.write_str(&self.name)?;
        } else {
            f.write_str(&quote(&self.name))?;
        }
        write!(f, "{}{}", self.op.as_str(), quote(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_tests_as_it_says() {
        for (op, value, passes, fails) in [
            (MatchOp::Equal, "a", "a", "b"),
            (MatchOp::NotEqual, "a", "b", "a"),
            (MatchOp::Regex, "a.c", "abc", "abcd"),
            (MatchOp::NotRegex, "a.c", "abcd", "abc"),
            (MatchOp::Regex, "a|b", "b", ""),
            (MatchOp::NotRegex, ".*", "", ""),
        ] {
            let matcher = Matcher::new(op, "l", value).unwrap();
            assert_eq!(matcher.matches(passes), value != ".*", "{matcher}");
            assert!(!matcher.matches(fails), "{matcher}");
        }
    }

    #[test]
    fn text_is_promql() {
        let text = |name: &str, value: &str| Matcher::new(MatchOp::NotEqual, name, value).unwrap().to_string();
        assert_eq!(text("job", "a\"\n\\"), r#"job!="a\"\n\\""#);
        assert_eq!(text("my.label", "ü"), r#""my.label"!="ü""#);
    }

    #[test]
    fn sets_and_prefixes_help_look_ups() {
        let matcher = |op, value: &str| Matcher::new(op, "l", value).unwrap();
        assert_eq!(matcher(MatchOp::Regex, "b[12]|a").set_matches().unwrap(), ["a", "b1", "b2"]);
        assert_eq!(matcher(MatchOp::NotEqual, "x").set_matches().unwrap(), ["x"]);
        assert_eq!(matcher(MatchOp::Regex, "a.+").set_matches(), None);
        assert_eq!(matcher(MatchOp::Regex, "api-(a|b).*").prefix(), "api-");
        assert_eq!(matcher(MatchOp::Regex, "api-a.*|api-b.*").prefix(), "api-");
        assert_eq!(matcher(MatchOp::Regex, ".*x").prefix(), "");
    }

    #[test]
    fn errors_name_the_label_and_the_limit() {
        let error = |value: &str| Matcher::new(MatchOp::Regex, "job", value).unwrap_err();
        let text = error("a(").to_string();
        assert!(text.contains("\"job\"") && text.contains("missing closing )"), "{text}");
        let long = error(&"a".repeat(40_000));
        assert!(long.to_string().contains("max pattern size"));
        assert_eq!(long.kind(), crate::ErrorKind::LimitExceeded);
    }

    #[test]
    fn equal_matchers_are_told_by_what_they_say() {
        let matcher = |op| Matcher::new(op, "l", "a").unwrap();
        let set: std::collections::HashSet<_> =
            [matcher(MatchOp::Regex), matcher(MatchOp::Regex), matcher(MatchOp::Equal)].into();
        assert_eq!(set.len(), 2);
    }
}
