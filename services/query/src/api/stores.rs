//! `/stores` in Thanos' shape, `/endpoints` with everything there is to know.

use super::Api;
use super::response;
use crate::endpoints::Endpoint;
use axum::extract::State;
use axum::response::Response;
use farview_model::{Labels, TimeRange};
use jiff::Timestamp;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::SystemTime;

fn rfc3339(t: SystemTime) -> String {
    Timestamp::try_from(t).map(|t| t.to_string()).unwrap_or_default()
}

fn labels(labels: &Labels) -> Json {
    Json::Object(labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>())
}

fn range(endpoint: &Endpoint) -> TimeRange {
    let store = endpoint.info.as_ref().and_then(|info| info.store.as_ref());
    store.map_or(TimeRange::new(0, 0), |store| store.range)
}

/// `/stores`: component → list of endpoints.
pub(super) async fn stores(State(api): State<Arc<Api>>) -> Response {
    let mut by_component: Map<String, Json> = Map::new();
    for endpoint in api.endpoints.all() {
        let component = endpoint.info.as_ref().map_or("unknown", |info| info.component.as_str()).to_owned();
        let range = range(&endpoint);
        let sets: Vec<Json> = endpoint.info.iter().flat_map(|info| &info.label_sets).map(labels).collect();
        let last_error = if endpoint.live.is_some() { Json::Null } else { json!(endpoint.problem()) };
        let entry = json!({
            "name": endpoint.address,
            "lastCheck": rfc3339(endpoint.status.last_healthy.unwrap_or(endpoint.status.since)),
            "lastError": last_error,
            "labelSets": sets,
            "minTime": range.mint,
            "maxTime": range.maxt,
        });
        if let Json::Array(list) = by_component.entry(component).or_insert_with(|| json!([])) {
            list.push(entry);
        }
    }
    response::local(&Json::Object(by_component))
}

/// `/endpoints`: state, since when, last error, what was announced, what led here; and the names behind them.
pub(super) async fn endpoints(State(api): State<Arc<Api>>) -> Response {
    let endpoints = api.endpoints.all().into_iter().map(|endpoint| {
        let range = range(&endpoint);
        let info = endpoint.info.as_deref().cloned().unwrap_or_default();
        let transitions = api.endpoints.transitions(&endpoint.address).into_iter().map(|change| {
            json!({ "at": rfc3339(change.at), "from": change.from.name(), "to": change.to.name(), "reason": change.reason })
        });
        let last_error = endpoint.status.last_error.as_ref().map(|(at, text)| json!({ "at": rfc3339(*at), "text": text }));
        json!({
            "address": endpoint.address,
            "component": info.component,
            "version": info.version,
            "instanceId": info.instance_id,
            "state": endpoint.status.state.name(),
            "inUse": endpoint.live.is_some(),
            "strict": endpoint.strict,
            "group": endpoint.group,
            "since": rfc3339(endpoint.status.since),
            "lastHealthy": endpoint.status.last_healthy.map(rfc3339),
            "lastError": last_error,
            "generation": endpoint.status.generation,
            "connects": endpoint.status.connects,
            "labelSets": info.label_sets.iter().map(labels).collect::<Vec<_>>(),
            "minTime": range.mint,
            "maxTime": range.maxt,
            "notices": info.notices,
            "history": transitions.collect::<Vec<_>>(),
        })
    });
    let names = api.endpoints.targets().into_iter().map(|target| {
        json!({
            "target": target.target.to_string(),
            "addresses": target.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "lastAnswer": target.last_answer,
            "lastLookup": target.last_lookup.map(rfc3339),
            "lastSuccess": target.last_success.map(rfc3339),
            "stale": target.stale,
        })
    });
    let history = api.endpoints.history().into_iter().map(|change| {
        json!({
            "at": rfc3339(change.at),
            "target": change.target,
            "address": change.address.to_string(),
            "change": change.movement.to_string(),
        })
    });
    let files = api
        .endpoints
        .files()
        .into_iter()
        .map(|(flag, status)| json!({ "flag": flag, "loaded": status.loaded.map(rfc3339), "error": status.error }));
    response::local(&json!({
        "files": files.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "names": names.collect::<Vec<_>>(),
        "history": history.collect::<Vec<_>>(),
    }))
}
