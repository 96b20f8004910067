//! `/status/*`

use super::Api;
use super::error::ApiError;
use super::params::Params;
use super::response::{self, Notes};
use axum::extract::State;
use axum::response::Response;
use farview_proto::thanos::Statistic;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// `/status/buildinfo`. There must be no `features` key: Grafana would take us for Mimir.
pub(super) async fn build_info() -> Response {
    response::local(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": option_env!("FARVIEW_REVISION").unwrap_or(""),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `/status/runtimeinfo`
pub(super) async fn runtime_info(State(api): State<Arc<Api>>) -> Response {
    let start = jiff::Timestamp::try_from(api.started).map(|t| t.to_string()).unwrap_or_default();
    let cwd = std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default();
    response::local(&json!({
        "startTime": start,
        "CWD": cwd,
        "reloadConfigSuccess": true,
        "lastConfigTime": start,
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": api.engine.engine.options().workers,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": "",
    }))
}

/// `/status/flags`: secrets are not shown.
pub(super) async fn flags(State(api): State<Arc<Api>>) -> Response {
    let flags = api.effective.0.iter().map(|flag| (flag.flag.clone(), json!(flag.value)));
    response::local(&Json::Object(flags.collect::<Map<_, _>>()))
}

/// `/status/tsdb`
pub(super) async fn tsdb(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.limit()? {
        0 => 10,
        limit => limit,
    };
    let run = params.run(&api.settings, api.engine.budget())?;
    let statistics = api.federate.statistics(&run, limit).await?;
    let head = statistics.head_statistics.unwrap_or_default();
    let table = |all: &[Statistic]| {
        Json::Array(all.iter().map(|one| json!({ "name": one.name, "value": one.value })).collect())
    };
    let data = json!({
        "headStats": {
            "numSeries": head.num_series,
            "numLabelPairs": head.num_label_pairs,
            "chunkCount": head.chunk_count,
            "minTime": head.min_time,
            "maxTime": head.max_time,
        },
        "seriesCountByMetricName": table(&statistics.series_count_by_metric_name),
        "labelValueCountByLabelName": table(&statistics.label_value_count_by_label_name),
        "memoryInBytesByLabelName": table(&statistics.memory_in_bytes_by_label_name),
        "seriesCountByLabelValuePair": table(&statistics.series_count_by_label_value_pair),
    });
    Ok(response::json(&data, &Notes::of(&run)))
}
