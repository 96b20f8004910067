//! Values that must never be seen: passwords, tokens, inline configuration that may hold either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

/// What stands in the place of a secret wherever one would be shown; the same word Prometheus uses.
pub const REDACTED: &str = "<secret>";

/// A string that shows itself to nobody who does not ask for it by [`Secret::expose`].
///
/// `Debug`, `Display` and `Serialize` all give [`REDACTED`], so logs, status pages and panic messages cannot leak it. A
/// flag of this type is redacted in [`crate::Effective`] as well.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns what is hidden.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(s.to_owned()))
    }
}

/// Replaces the password of every `scheme://user:password@host` in `text`.
///
/// Not only for values that are URLs: flags take lists and addresses in which one may hide.
pub fn redact_url(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let authority = &tail[..tail.find(['/', '?', '#', ' ', ',']).unwrap_or(tail.len())];
        match authority.rfind('@').map(|at| (at, authority[..at].find(':'))) {
            Some((at, Some(colon))) => {
                out.push_str(&authority[..=colon]);
                out.push_str(REDACTED);
                out.push_str(&authority[at..]);
            }
            Some((_, None)) | None => out.push_str(authority),
        }
        rest = &tail[authority.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "<secret> <secret> <secret>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<secret>\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn passwords_in_urls_are_redacted_wherever_they_stand() {
        let cases = [
            ("http://localhost:9090/x", "http://localhost:9090/x"),
            ("http://me:pw@localhost:9090", "http://me:<secret>@localhost:9090"),
            ("http://me:p@w@h/a?b=c@d", "http://me:<secret>@h/a?b=c@d"),
            ("http://me@h", "http://me@h"),
            ("a=http://u:p@h,b=https://v:q@i", "a=http://u:<secret>@h,b=https://v:<secret>@i"),
            ("dns+store:10901", "dns+store:10901"),
        ];
        for (text, expected) in cases {
            assert_eq!(redact_url(text), expected);
        }
    }
}
