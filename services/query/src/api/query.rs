//! `/query`, `/query_range`, `/format_query`, `/parse_query`.

use super::error::ApiError;
use super::params::{Params, time};
use super::response::{self, Notes};
use super::{Api, MAX_POINTS, Settings};
use crate::engine::{Query, When};
use axum::extract::State;
use axum::response::Response;
use farview_model::ErrorKind;
use farview_promql::answer_json;
use farview_promql::engine::{Answer, Stats, Value};
use serde_json::json;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn required<'a>(params: &'a Params, name: &str) -> Result<&'a str, ApiError> {
    params.get(name).ok_or_else(|| ApiError::parameter(name, "it is missing"))
}

fn required_time(params: &Params, name: &str) -> Result<i64, ApiError> {
    let text = required(params, name)?;
    time(text).ok_or_else(|| ApiError::parameter(name, format_args!("cannot parse {text:?} to a valid timestamp")))
}

/// Reads `max_source_resolution`, ms: a duration, or a fifth of the step.
fn max_resolution(params: &Params, default: i64, auto: Option<i64>) -> Result<i64, ApiError> {
    match (params.get("max_source_resolution"), auto) {
        (Some("auto"), Some(step)) => Ok(step / 5),
        (Some("auto"), None) => Ok(default),
        (Some(_), _) => Ok(params.duration("max_source_resolution")?.unwrap_or(default)),
        (None, _) => Ok(default),
    }
}

/// `/query`
pub(super) async fn instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let query = required(&params, "query")?;
    let resolution = max_resolution(&params, api.settings.instant_resolution, None)?;
    answer(&api, &params, query, When::Instant(time_of(&params)?), resolution).await
}

/// `/query_range`
pub(super) async fn range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let query = required(&params, "query")?;
    let (start, end, step) = range_of(&api, &params)?;
    let default = if api.settings.auto_downsampling { step / 5 } else { 0 };
    let resolution = max_resolution(&params, default, Some(step))?;
    answer(&api, &params, query, When::Range { start, end, step }, resolution).await
}

/// `/query_explain`
pub(super) async fn explain_instant(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let t = time_of(&params)?;
    explain(&api, &params, (t, t, 0)).await
}

/// `/query_range_explain`
pub(super) async fn explain_range(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let times = range_of(&api, &params)?;
    explain(&api, &params, times).await
}

/// Answers with the operators that a query would be evaluated by.
async fn explain(api: &Api, params: &Params, (start, end, step): (i64, i64, i64)) -> Result<Response, ApiError> {
    let engine = Arc::clone(&api.engine.engine);
    let expr = engine.parse(required(params, "query")?)?;
    let explained = tokio::task::spawn_blocking(move || engine.explain(&expr, start, end, step)).await;
    let tree = explained.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    Ok(response::local(&response::explanation(&tree)))
}

fn time_of(params: &Params) -> Result<i64, ApiError> {
    Ok(params.time("time")?.unwrap_or_else(now))
}

/// Returns start, end and step of a range query, ms.
fn range_of(api: &Api, params: &Params) -> Result<(i64, i64, i64), ApiError> {
    let (start, end) = (required_time(params, "start")?, required_time(params, "end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = step(params, &api.settings, end.saturating_sub(start))?;
    if end.saturating_sub(start) / step > MAX_POINTS {
        let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::new(ErrorKind::Invalid, text));
    }
    Ok((start, end, step))
}

fn step(params: &Params, settings: &Settings, range: i64) -> Result<i64, ApiError> {
    let step = params.duration("step")?.unwrap_or_else(|| (range / 250).max(settings.default_step));
    if step <= 0 {
        let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", text));
    }
    Ok(step)
}

async fn answer(api: &Api, params: &Params, text: &str, when: When, max_resolution: i64) -> Result<Response, ApiError> {
    if let Some(engine) = params.get("engine")
        && !matches!(engine, "prometheus" | "thanos")
    {
        return Err(ApiError::parameter("engine", format_args!("unknown engine {engine:?}: prometheus or thanos")));
    }
    let limit = params.limit()?;
    let lookback_delta = params.duration("lookback_delta")?;
    if lookback_delta.is_some_and(|delta| delta <= 0) {
        return Err(ApiError::parameter("lookback_delta", "it must be positive"));
    }
    let run = params.run(&api.settings, api.engine.budget())?;
    let analyze = params.switch("analyze", false)?;
    let query = Query { text: text.to_owned(), when, max_resolution, lookback_delta, analyze };
    let began = Instant::now();
    let mut answer = api.engine.evaluate(&run, query).await?;
    api.engine.metrics.observe(when, began.elapsed());
    let mut notes = Notes::of(&run).with(&answer.annotations, text);
    if truncate(&mut answer.value, limit) {
        notes.warnings.push("results truncated due to limit".to_owned());
    }
    let mut data = String::with_capacity(1 << 12);
    data.push('{');
    answer_json::push_value(&mut data, &answer.value);
    if params.get("stats").is_some() {
        data.push_str(&format!(",\"stats\":{}", stats(&answer, began)));
    }
    if let Some(root) = &answer.analysis {
        let mut analysis = response::analysis(root);
        analysis["executionTime"] = json!(format!("{:?}", began.elapsed()));
        analysis["peakSamples"] = json!(answer.stats.peak_samples);
        analysis["totalSamples"] = json!(answer.stats.total_samples);
        analysis["fanout"] = response::fanout(&run.accounts());
        data.push_str(&format!(",\"analysis\":{analysis}"));
    }
    if params.switch("completeness", false)? {
        data.push_str(&format!(",\"completeness\":{}", response::completeness(&run)));
    }
    data.push('}');
    Ok(response::success(&data, &notes))
}

fn truncate(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(series) | Value::Matrix(series) if limit > 0 && series.len() > limit => {
            series.truncate(limit);
            true
        }
        _ => false,
    }
}

fn stats(answer: &Answer, began: Instant) -> serde_json::Value {
    let Stats { total_samples, samples_read, peak_samples, .. } = answer.stats;
    json!({
        "timings": { "evalTotalTime": began.elapsed().as_secs_f64() },
        "samples": { "totalQueryableSamples": total_samples, "samplesRead": samples_read, "peakSamples": peak_samples },
    })
}

/// `/format_query`
pub(super) async fn format(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let expr = api.engine.engine.parse(required(&params, "query")?)?;
    Ok(response::local(&json!(farview_promql::pretty::pretty(&expr))))
}

/// `/parse_query`
pub(super) async fn parse(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let expr = api.engine.engine.parse(required(&params, "query")?)?;
    Ok(response::local(&farview_promql::json::tree(&expr)))
}
