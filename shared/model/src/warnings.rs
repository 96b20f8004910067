//! What an answer has to say beside its data.

use std::collections::BTreeSet;

/// Warnings of one answer: ordered, each text once. A warning is not an error: the answer stands, and says what it lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings(BTreeSet<String>);

impl Warnings {
    /// Adds a warning.
    pub fn add(&mut self, text: impl Into<String>) {
        self.0.insert(text.into());
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}
