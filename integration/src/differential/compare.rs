//! When two answers are the same.

use farview_promql::answer_json::push_value;
use farview_promql::engine::Value;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How far numbers may be apart, relative to the larger one.
const RELATIVE: f64 = 1e-12;

/// The answer of one engine.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// `{"resultType": …, "result": …}`
    pub(super) value: Json,
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
    pub(super) error: Option<String>,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "error: {error}"),
            None => f.pad(&format!("{:?} {:?} {}", self.warnings, self.infos, self.value["result"])),
        }
    }
}

/// Returns where two answers differ, if they do.
pub(super) fn difference(ours: &Side, theirs: &Side, query: &str) -> Option<String> {
    if ours.error.is_some() || theirs.error.is_some() {
        let (ours, theirs) = (ours.error.as_deref().map(in_order), theirs.error.as_deref().map(in_order));
        let matching = |error: &str| {
            ["found duplicate series", "multiple matches for labels", "same labelset"]
                .iter()
                .any(|text| error.contains(text))
        };
        match (ours, theirs) {
            // From 3.14 on an error even where the comparison filters the samples out.
            (Some(ours), None) if ours.starts_with("multiple matches for labels") => return None,
            // Steps may fail for several reasons; which one is told depends on what is evaluated first.
            (Some(ours), Some(theirs)) if matching(ours) && matching(theirs) => return None,
            // Prometheus evaluates a step of subqueries that have none, and does not join series that only take turns.
            (None, Some(theirs)) if matching(theirs) && [":", "label_"].iter().any(|text| query.contains(text)) => {
                return None;
            }
            _ => {}
        }
        return (ours != theirs).then(|| "errors".to_owned());
    }
    if ours.value["resultType"] != theirs.value["resultType"] {
        return Some(format!("types {} and {}", ours.value["resultType"], theirs.value["resultType"]));
    }
    let what = match theirs.value["resultType"].as_str() {
        Some("vector" | "matrix") => series(&ours.value["result"], &theirs.value["result"]),
        _ => values(&ours.value["result"], &theirs.value["result"]),
    };
    // Prometheus loses the positions within subqueries.
    let positions = !query.contains(":");
    let differ = |ours: &[String], theirs: &[String]| said(ours, positions) != said(theirs, positions);
    what.or_else(|| differ(&ours.warnings, &theirs.warnings).then(|| "warnings".to_owned()))
        .or_else(|| differ(&ours.infos, &theirs.infos).then(|| "infos".to_owned()))
}

/// Which of several duplicates is met first follows from the order of series, which Prometheus does not promise.
fn in_order(error: &str) -> &str {
    error.split_once(" for the match group ").map_or(error, |(head, _)| head)
}

/// What is said, without what Prometheus says in other words before 3.14: the names of metrics whose names are gone.
fn said(texts: &[String], positions: bool) -> BTreeSet<String> {
    let plain = |text: &String| {
        let (text, position) = text.rsplit_once(" (").unwrap_or((text, ""));
        let text = text.split_once(" for metric name").map_or(text, |(head, _)| head);
        // Of nested ones with the same text Prometheus shows the outer one.
        let positions = positions && !text.contains("quantile value should be") && !text.contains("malformed value");
        if positions { format!("{text} ({position}") } else { text.to_owned() }
    };
    texts.iter().map(plain).collect()
}

fn by_labels(list: &Json) -> BTreeMap<String, &Json> {
    list.as_array().into_iter().flatten().map(|series| (series["metric"].to_string(), series)).collect()
}

fn series(ours: &Json, theirs: &Json) -> Option<String> {
    let (ours, theirs) = (by_labels(ours), by_labels(theirs));
    if let Some(labels) = ours.keys().find(|labels| !theirs.contains_key(*labels)) {
        return Some(format!("only ours has {labels}"));
    }
    for (labels, theirs) in theirs {
        let Some(ours) = ours.get(&labels) else { return Some(format!("only theirs has {labels}")) };
        for field in ["value", "histogram", "values", "histograms"] {
            if let Some(what) = values(&ours[field], &theirs[field]) {
                return Some(format!("{labels} {field}: {what}"));
            }
        }
    }
    None
}

/// Compares two trees whose strings may be numbers.
fn values(ours: &Json, theirs: &Json) -> Option<String> {
    match (ours, theirs) {
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => a.iter().zip(b).find_map(|(a, b)| values(a, b)),
        (Json::Object(a), Json::Object(b)) if a.len() == b.len() => {
            a.iter().find_map(|(name, a)| b.get(name).map_or_else(|| Some(format!("no {name}")), |b| values(a, b)))
        }
        (Json::String(a), Json::String(b)) => {
            let same = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => close(a, b),
                _ => a == b,
            };
            (!same).then(|| format!("{a} and {b}"))
        }
        (a, b) => {
            let same = match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => a == b,
                _ => a == b,
            };
            (!same).then(|| format!("{a:.200} and {b:.200}", a = a.to_string(), b = b.to_string()))
        }
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= RELATIVE * a.abs().max(b.abs())
}

/// Returns a value as the HTTP API writes it.
pub(super) fn json(value: &Value) -> Json {
    let mut text = "{".to_owned();
    push_value(&mut text, value);
    text.push('}');
    serde_json::from_str(&text).unwrap_or_default()
}
