//! Answers as JSON, written straight from the engine's columns.

use crate::run::{Account, MissingSource, QueryRun};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use farview_promql::annotations::{Annotations, Severity};
use farview_promql::engine::OperatorNode;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Says on every answer whether everything that should have been asked has answered.
const COMPLETE: HeaderName = HeaderName::from_static("x-farview-complete");

/// What an answer has to say beside its data.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    pub(crate) complete: bool,
}

impl Notes {
    /// Collects what a run has to say.
    pub(crate) fn of(run: &QueryRun) -> Self {
        let (warnings, infos) = run.texts();
        Self { warnings, infos, complete: run.is_complete() }
    }

    /// Adds the annotations of an evaluation.
    pub(crate) fn with(mut self, annotations: &Annotations, query: &str) -> Self {
        self.warnings.extend(annotations.shown(Severity::Warning, query));
        self.infos.extend(annotations.shown(Severity::Info, query));
        self
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(COMPLETE, HeaderValue::from_static(if self.complete { "true" } else { "false" }));
        if !self.complete {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        headers
    }
}

/// Answers with `data`, which is JSON already.
pub(crate) fn success(data: &str, notes: &Notes) -> Response {
    let mut body = String::with_capacity(data.len() + 256);
    body.push_str("{\"status\":\"success\",\"data\":");
    body.push_str(data);
    for (name, texts) in [("warnings", &notes.warnings), ("infos", &notes.infos)] {
        if !texts.is_empty() {
            body.push_str(&format!(",\"{name}\":{}", json!(texts)));
        }
    }
    body.push('}');
    (StatusCode::OK, notes.headers(), body).into_response()
}

/// Answers with `data`.
pub(crate) fn json(data: &Json, notes: &Notes) -> Response {
    success(&data.to_string(), notes)
}

/// Answers that came from this process alone are complete.
pub(crate) fn local(data: &Json) -> Response {
    json(data, &Notes { complete: true, ..Notes::default() })
}

/// The tree of operators with what each cost, under the names that Thanos' analysis uses; times include the children's.
pub(crate) fn analysis(node: &OperatorNode) -> Json {
    json!({
        "name": node.name,
        "executionTime": format!("{:?}", Duration::from_nanos(node.nanos)),
        "totalSamples": node.samples,
        "series": node.series,
        "children": node.children.iter().map(analysis).collect::<Vec<_>>(),
    })
}

/// The tree of operators.
pub(crate) fn explanation(node: &OperatorNode) -> Json {
    json!({ "name": node.name, "children": node.children.iter().map(explanation).collect::<Vec<_>>() })
}

/// The account of every endpoint, under the names that Thanos' analysis uses.
pub(crate) fn fanout(accounts: &BTreeMap<String, Account>) -> Json {
    let all = accounts.iter().map(|(address, account)| {
        let mut entry = json!({
            "endpointAddr": address,
            "duration": account.duration.as_secs_f64(),
            "bytesProcessed": account.bytes,
            "numResponses": account.responses,
            "series": account.series,
            "chunks": account.chunks,
            "samples": account.samples,
        });
        if let Some(error) = &account.error {
            entry["error"] = json!(error);
        }
        entry
    });
    Json::Array(all.collect())
}

/// The account of `completeness=true`: who was expected, who answered, who failed, who is unknown.
pub(crate) fn completeness(run: &QueryRun) -> Json {
    let accounts = run.accounts();
    let missing: Vec<MissingSource> = run.missing_sources();
    let failed = accounts.values().filter(|account| account.error.is_some()).count();
    let unknown = missing.iter().filter(|source| !source.known).count();
    json!({
        "complete": run.is_complete(),
        "expected": accounts.len() + missing.len(),
        "answered": accounts.len() - failed,
        "failed": failed + missing.len() - unknown,
        "unknown": unknown,
        "endpoints": fanout(&accounts),
        "missing": missing,
        "skipped": run.skipped_endpoints(),
    })
}
