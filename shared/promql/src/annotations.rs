//! Warnings and infos of an evaluation, with Prometheus' texts and positions.

use crate::ast::Span;
use crate::parse::line_and_column;
use crate::quote::quote;
use farview_model::number::{format_g, format_g_rounded};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How serious an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The answer is probably wrong.
    Warning,
    /// The answer may be wrong.
    Info,
}

/// The annotations of one query. A text counts once, whatever series or steps it comes from; its position is that of the part of the
/// query that Prometheus evaluates last, whichever worker was faster here.
#[derive(Debug, Default)]
pub struct Annotations(Mutex<BTreeMap<(Severity, String), Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    span: Span,
    detail: Detail,
}

/// What is merged from all the places where one text arose, and written behind it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Detail {
    None,
    /// How often.
    Occurrences(u64),
    /// Which buckets of classic histograms were raised, by how much, and when (ms).
    Raised {
        min_bucket: f64,
        max_bucket: f64,
        max_diff: f64,
        samples: u64,
        mint: i64,
        maxt: i64,
    },
}

impl Detail {
    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Occurrences(n), Self::Occurrences(more)) => *n += more,
            (
                Self::Raised { min_bucket, max_bucket, max_diff, samples, mint, maxt },
                Self::Raised { min_bucket: b, max_bucket: c, max_diff: d, samples: n, mint: from, maxt: to },
            ) => {
                *min_bucket = min_bucket.min(b);
                *max_bucket = max_bucket.max(c);
                *max_diff = max_diff.max(d);
                *samples += n;
                *mint = (*mint).min(from);
                *maxt = (*maxt).max(to);
            }
            _ => {}
        }
    }

    fn text(self) -> String {
        match self {
            Self::Occurrences(n) if n > 1 => format!(" ({n} occurrences)"),
            Self::None | Self::Occurrences(_) => String::new(),
            Self::Raised { min_bucket, max_bucket, max_diff, samples, mint, maxt } => {
                let time = |t: i64| {
                    jiff::Timestamp::from_millisecond(t)
                        .map_or_else(|_| t.to_string(), |t| t.strftime("%FT%TZ").to_string())
                };
                format!(
                    ", from buckets {} to {}, with a max diff of {}, over {samples} samples from {} to {}",
                    format_g(min_bucket),
                    format_g(max_bucket),
                    format_g_rounded(max_diff, 2),
                    time(mint),
                    time(maxt)
                )
            }
        }
    }
}

/// Annotations of a kind in an answer at most, as Prometheus shows them.
const SHOWN: usize = 10;

impl Annotations {
    /// Adds a warning about the expression at `span`. `text` is without prefix and position.
    pub fn warn(&self, span: Span, text: impl Into<String>) {
        self.add(Severity::Warning, span, text.into(), Detail::None);
    }

    /// Adds an info.
    pub fn info(&self, span: Span, text: impl Into<String>) {
        self.add(Severity::Info, span, text.into(), Detail::None);
    }

    pub(crate) fn add(&self, severity: Severity, span: Span, text: String, detail: Detail) {
        let mut all = self.0.lock();
        match all.entry((severity, text)) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(Entry { span, detail });
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let entry = slot.get_mut();
                entry.detail.merge(detail);
                let order = |span: Span| (span.end, Reverse(span.start));
                if order(span) > order(entry.span) {
                    entry.span = span;
                }
            }
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
            .map(|((_, text), entry)| {
                let (line, column) = line_and_column(query, entry.span.start);
                format!("{prefix}{text}{} ({line}:{column})", entry.detail.text())
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

/// What a warning says of how histograms are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// The kinds of annotation that several operators make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Note<'a> {
    QuantileOutOfRange(f64),
    MixedTypes(&'a str),
    MixedTypesInAggregation,
    MixedClassicAndNative(&'a str),
    NotCounter(&'a str),
    NotGauge(&'a str),
    MixedSchemas(&'a str),
    IncompatibleBuckets(&'a str),
    BadBucketLabel { le: &'a str, name: &'a str },
    SortInRange,
    ConflictingResets(Operation),
    Reconciled(Operation),
    PerhapsNoCounter(&'a str),
    PerhapsNoCounterType { kind: &'a str, name: &'a str },
    IncompatibleTypes { left: &'a str, operator: &'a str, right: &'a str },
    IgnoredInAggregation(&'a str),
    IgnoredInRange(&'a str),
    QuantileIsNan(&'a str),
    QuantileSkewed(&'a str),
    FractionExcludesNan(&'a str),
    StartOverlaps { name: &'a str, times: u64 },
    Raised { name: &'a str, detail: Detail },
    RatioCapped { got: f64, capped: f64 },
}

impl Note<'_> {
    /// Adds the note about the expression at `span`.
    pub(crate) fn add(self, to: &Annotations, span: Span) {
        use Severity::{Info, Warning};
        let named =
            |name: &str| if name.is_empty() { String::new() } else { format!(" for metric name {}", quote(name)) };
        let mut detail = Detail::None;
        let (severity, text) = match self {
            Self::QuantileOutOfRange(q) => {
                (Warning, format!("quantile value should be between 0 and 1, got {}", format_g(q)))
            }
            Self::RatioCapped { got, capped } => {
                let (got, capped) = (format_g(got), format_g(capped));
                (Warning, format!("ratio value should be between -1 and 1, got {got}, capping to {capped}"))
            }
            Self::MixedTypes(name) => {
                (Warning, format!("encountered a mix of histograms and floats for metric name {}", quote(name)))
            }
            Self::MixedTypesInAggregation => {
                (Warning, "encountered a mix of histograms and floats for aggregation".to_owned())
            }
            Self::MixedClassicAndNative(name) => {
                (Warning, format!("vector contains a mix of classic and native histograms{}", named(name)))
            }
            Self::NotCounter(name) => {
                (Warning, format!("this native histogram metric is not a counter: {}", quote(name)))
            }
            Self::NotGauge(name) => (Warning, format!("this native histogram metric is not a gauge: {}", quote(name))),
            Self::MixedSchemas(name) => (
                Warning,
                format!(
                    "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
                    quote(name)
                ),
            ),
            Self::IncompatibleBuckets(operator) => {
                (Warning, format!("incompatible bucket layout encountered for binary operator {operator}"))
            }
            Self::BadBucketLabel { le, name } => (
                Warning,
                format!("bucket label \"le\" is missing or has a malformed value of {}{}", quote(le), named(name)),
            ),
            Self::SortInRange => {
                (Warning, "sort is ineffective for range queries since results are always ordered by labels".to_owned())
            }
            Self::ConflictingResets(operation) => {
                (Warning, format!("conflicting counter resets during histogram {}", operation.text()))
            }
            Self::StartOverlaps { name, times } => {
                detail = Detail::Occurrences(times);
                let text = "sample has start time that overlaps with previous sample timestamp for metric";
                (Warning, format!("{text} {}", quote(name)))
            }
            Self::Reconciled(operation) => {
                (Info, format!("mismatched custom buckets were reconciled during {}", operation.text()))
            }
            Self::PerhapsNoCounter(name) => {
                let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
                (Info, format!("{text} {}", quote(name)))
            }
            Self::PerhapsNoCounterType { kind, name } => {
                let text =
                    r#"metric might not be a counter, __type__ label is not set to "counter" or "histogram", got"#;
                (Info, format!("{text} {}: {}", quote(kind), quote(name)))
            }
            Self::IncompatibleTypes { left, operator, right } => {
                let text = "incompatible sample types encountered for binary operator";
                (Info, format!("{text} {}: {left} {operator} {right}", quote(operator)))
            }
            Self::IgnoredInAggregation(operator) => (Info, format!("ignored histogram in {operator} aggregation")),
            Self::IgnoredInRange(name) => {
                let text = "ignored histograms in a range containing both floats and histograms for metric name";
                (Info, format!("{text} {}", quote(name)))
            }
            Self::QuantileIsNan(name) => {
                (Info, format!("input to histogram_quantile has NaN observations, result is NaN{}", named(name)))
            }
            Self::QuantileSkewed(name) => (
                Info,
                format!("input to histogram_quantile has NaN observations, result is skewed higher{}", named(name)),
            ),
            Self::FractionExcludesNan(name) => {
                let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
                (Info, format!("{text}{}", named(name)))
            }
            Self::Raised { name, detail: raised } => {
                detail = raised;
                let text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
                (Info, format!("{text}{}", named(name)))
            }
        };
        to.add(severity, span, text, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_counts_once_and_stands_where_it_arose_last() {
        let all = Annotations::default();
        Note::MixedTypes("m").add(&all, Span { start: 9, end: 10 });
        Note::MixedTypes("m").add(&all, Span { start: 4, end: 8 });
        let texts = all.texts(Severity::Warning, "rate(m[5m])");
        assert_eq!(texts, [r#"PromQL warning: encountered a mix of histograms and floats for metric name "m" (1:10)"#]);
    }

    #[test]
    fn no_more_than_ten_are_shown() {
        let all = Annotations::default();
        (0..13).for_each(|i| all.info(Span::default(), format!("text {i:02}")));
        let shown = all.shown(Severity::Info, "");
        assert_eq!(shown.len(), 11);
        assert_eq!(shown[10], "3 more info annotations omitted");
        assert!(all.shown(Severity::Warning, "").is_empty());
    }

    #[test]
    fn raised_buckets_are_merged_over_steps() {
        let all = Annotations::default();
        for (bucket, diff, t) in [(0.5, 2.0, 60_000), (1.0, 12.345, 0)] {
            let (min_bucket, max_bucket) = (bucket, bucket);
            let detail = Detail::Raised { min_bucket, max_bucket, max_diff: diff, samples: 1, mint: t, maxt: t };
            Note::Raised { name: "", detail }.add(&all, Span::default());
        }
        let text = &all.texts(Severity::Info, "x")[0];
        let end = ", from buckets 0.5 to 1, with a max diff of 12, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)";
        assert!(text.ends_with(end), "{text}");
    }
}
