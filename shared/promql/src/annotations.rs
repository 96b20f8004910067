//! Warnings and infos of an evaluation, with Prometheus' texts and positions.

use crate::ast::Span;
use crate::parse::line_and_column;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// How serious an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The answer is probably wrong.
    Warning,
    /// The answer may be wrong.
    Info,
}

/// The annotations of one query. A text counts once, whatever series or steps it comes from; its position is the first in
/// the text, so that it does not depend on which worker was faster.
#[derive(Debug, Default)]
pub struct Annotations(Mutex<BTreeMap<(Severity, String), Span>>);

/// Annotations of a kind in an answer at most, as Prometheus shows them.
const SHOWN: usize = 10;

impl Annotations {
    /// Adds a warning about the expression at `span`. `text` is without prefix and position.
    pub fn warn(&self, span: Span, text: impl Into<String>) {
        self.add(Severity::Warning, span, text.into());
    }

    /// Adds an info.
    pub fn info(&self, span: Span, text: impl Into<String>) {
        self.add(Severity::Info, span, text.into());
    }

    fn add(&self, severity: Severity, span: Span, text: String) {
        let mut all = self.0.lock();
        let slot = all.entry((severity, text)).or_insert(span);
        if (span.start, span.end) < (slot.start, slot.end) {
            *slot = span;
        }
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Returns all texts of a kind with their positions in `query`.
    pub fn texts(&self, severity: Severity, query: &str) -> Vec<String> {
        let prefix = match severity {
            Severity::Warning => "PromQL warning: ",
            Severity::Info => "PromQL info: ",
        };
        let all = self.0.lock();
        let of_kind = all.iter().filter(|((s, _), _)| *s == severity);
        of_kind
            .map(|((_, text), span)| {
                let (line, column) = line_and_column(query, span.start);
                format!("{prefix}{text} ({line}:{column})")
            })
            .collect()
    }

    /// Returns the texts of a kind as an answer shows them: ten at most, and how many more there are.
    pub fn shown(&self, severity: Severity, query: &str) -> Vec<String> {
        let mut texts = self.texts(severity, query);
        if texts.len() > SHOWN {
            let kind = if severity == Severity::Warning { "warning" } else { "info" };
            let more = texts.len() - SHOWN;
            texts.truncate(SHOWN);
            texts.push(format!("{more} more {kind} annotations omitted"));
        }
        texts
    }
}
