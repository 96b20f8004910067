//! `/series`, `/labels`, `/label/{name}/values`.

use super::Api;
use super::error::ApiError;
use super::params::Params;
use super::response::{self, Notes};
use crate::run::QueryRun;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use farview_model::{ErrorKind, Labels, Matcher, TimeRange};
use farview_promql::answer_json;
use farview_storeapi::{LabelsRequest, SelectRequest};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

fn range(api: &Api, params: &Params) -> Result<TimeRange, ApiError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let (mint, maxt) = match api.settings.metadata_range {
        0 => (i64::MIN, i64::MAX),
        range => (now - range, now),
    };
    let range = TimeRange::new(params.time("start")?.unwrap_or(mint), params.time("end")?.unwrap_or(maxt));
    if range.is_empty() {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    Ok(range)
}

fn limited(notes: &mut Notes, limit: usize, values: &mut Vec<String>) {
    if limit > 0 && values.len() > limit {
        values.truncate(limit);
        notes.warnings.push("results truncated due to limit".to_owned());
    }
}

/// `/series`
pub(super) async fn series(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let selectors = params.selectors("match[]")?;
    if selectors.is_empty() {
        return Err(ApiError::new(ErrorKind::Invalid, "no match[] parameter provided"));
    }
    let (range, limit) = (range(&api, &params)?, params.limit()?);
    let run = params.run(&api.settings, api.engine.budget())?;
    let _cancel = run.cancelled.clone().drop_guard();
    let mut found: BTreeSet<Labels> = BTreeSet::new();
    let mut held = run.budget.reserve(0).map_err(over_budget)?;
    for matchers in selectors {
        let request = SelectRequest {
            skip_chunks: true,
            partial_response: run.partial_response,
            without_replica_labels: run.replica_labels.clone(),
            // One more than wanted tells whether there are more.
            limit: if limit > 0 { limit + 1 } else { 0 },
            tenant: run.tenant.id.clone(),
            ..SelectRequest::new(range, matchers)
        };
        let mut batches = api.engine.fanout.select(&run, request)?;
        while let Some(batch) = batches.recv().await {
            for series in batch?.series {
                held.grow(series.labels.size_bytes() as u64 + 32).map_err(over_budget)?;
                found.insert(series.labels);
            }
            if limit > 0 && found.len() > limit {
                break;
            }
        }
    }
    let mut notes = Notes::of(&run);
    if limit > 0 && found.len() > limit {
        notes.warnings.push("results truncated due to limit".to_owned());
    }
    let mut data = String::from("[");
    for (i, labels) in found.iter().take(if limit > 0 { limit } else { usize::MAX }).enumerate() {
        if i > 0 {
            data.push(',');
        }
        answer_json::push_labels(&mut data, labels);
    }
    data.push(']');
    Ok(response::success(&data, &notes))
}

fn over_budget(error: farview_model::BudgetExceeded) -> ApiError {
    ApiError::new(ErrorKind::LimitExceeded, error.to_string())
}

/// `/labels`
pub(super) async fn names(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    values_of(&api, &params, "").await
}

/// `/label/{name}/values`
pub(super) async fn values(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8.
    let Path(name) = name.map_err(|error| ApiError::new(ErrorKind::Invalid, error.body_text()))?;
    let name = farview_model::escape::unescape_name(&name);
    if name.is_empty() {
        return Err(ApiError::new(ErrorKind::Invalid, format!("invalid label name: {name:?}")));
    }
    values_of(&api, &params, &name).await
}

async fn values_of(api: &Api, params: &Params, label: &str) -> Result<Response, ApiError> {
    let selectors = params.selectors("match[]")?;
    let (range, limit) = (range(api, params)?, params.limit()?);
    let run = params.run(&api.settings, api.engine.budget())?;
    let _cancel = run.cancelled.clone().drop_guard();
    let each: Vec<Vec<Matcher>> = if selectors.is_empty() { vec![Vec::new()] } else { selectors };
    let mut all = BTreeSet::new();
    for matchers in each {
        all.extend(ask(api, &run, label, range, matchers, limit).await?);
    }
    let mut notes = Notes::of(&run);
    let mut all: Vec<String> = all.into_iter().collect();
    limited(&mut notes, limit, &mut all);
    Ok(response::json(&json!(all), &notes))
}

async fn ask(
    api: &Api,
    run: &Arc<QueryRun>,
    label: &str,
    range: TimeRange,
    matchers: Vec<Matcher>,
    limit: usize,
) -> Result<Vec<String>, ApiError> {
    let request = LabelsRequest {
        partial_response: run.partial_response,
        without_replica_labels: run.replica_labels.clone(),
        limit: if limit > 0 { limit + 1 } else { 0 },
        tenant: run.tenant.id.clone(),
        ..LabelsRequest::values(label, range, matchers)
    };
    Ok(api.engine.fanout.labels(run, request).await?)
}
