//! `/rules`, `/alerts`, `/targets`, `/metadata`, `/query_exemplars`: JSON in Prometheus' shapes.

use super::Api;
use super::error::ApiError;
use super::params::Params;
use super::response::{self, Notes};
use crate::federate::pairs;
use axum::extract::State;
use axum::response::Response;
use farview_model::{ErrorKind, Matcher, TimeRange, number};
use farview_proto::thanos::{self, LabelSet};
use prost_types::Timestamp;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

fn object(labels: &Option<LabelSet>) -> Json {
    Json::Object(pairs(labels).into_iter().map(|(name, value)| (name, json!(value))).collect::<Map<_, _>>())
}

fn rfc3339(t: &Option<Timestamp>) -> String {
    let t = t.and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok());
    t.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

fn state(state: i32) -> &'static str {
    match thanos::AlertState::try_from(state) {
        Ok(thanos::AlertState::Firing) => "firing",
        Ok(thanos::AlertState::Pending) => "pending",
        Ok(thanos::AlertState::Inactive) => "inactive",
        _ => "unknown",
    }
}

fn alert(instance: &thanos::AlertInstance) -> Json {
    json!({
        "labels": object(&instance.labels),
        "annotations": object(&instance.annotations),
        "state": state(instance.state),
        "activeAt": rfc3339(&instance.active_at),
        "value": instance.value,
        "partialResponseStrategy": "ABORT",
    })
}

fn rule(rule: &thanos::Rule) -> Json {
    use thanos::rule::Result as Kind;
    match &rule.result {
        Some(Kind::Alert(a)) => json!({
            "type": "alerting",
            "state": state(a.state),
            "name": a.name,
            "query": a.query,
            "duration": a.duration_seconds,
            "keepFiringFor": a.keep_firing_for_seconds,
            "labels": object(&a.labels),
            "annotations": object(&a.annotations),
            "alerts": a.alerts.iter().map(alert).collect::<Vec<_>>(),
            "health": a.health,
            "lastError": a.last_error,
            "evaluationTime": a.evaluation_duration_seconds,
            "lastEvaluation": rfc3339(&a.last_evaluation),
        }),
        Some(Kind::Recording(r)) => json!({
            "type": "recording",
            "name": r.name,
            "query": r.query,
            "labels": object(&r.labels),
            "health": r.health,
            "lastError": r.last_error,
            "evaluationTime": r.evaluation_duration_seconds,
            "lastEvaluation": rfc3339(&r.last_evaluation),
        }),
        None => Json::Null,
    }
}

fn labels_of(rule: &thanos::Rule) -> Vec<(String, String)> {
    use thanos::rule::Result as Kind;
    match &rule.result {
        Some(Kind::Alert(a)) => pairs(&a.labels),
        Some(Kind::Recording(r)) => pairs(&r.labels),
        None => Vec::new(),
    }
}

/// `/rules`
pub(super) async fn rules(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    use thanos::rules_request::Type;
    let kind = match params.get("type").map(str::to_ascii_lowercase).as_deref() {
        None | Some("all") => Type::All,
        Some("alert") => Type::Alert,
        Some("record") => Type::Record,
        Some(other) => return Err(ApiError::parameter("type", format_args!("not supported value {other:?}"))),
    };
    let list = |name: &str| params.all(name).map(str::to_owned).collect::<Vec<_>>();
    let selectors = params.selectors("match[]")?;
    let run = params.run(&api.settings, api.engine.budget())?;
    let request = thanos::RulesRequest {
        r#type: kind.into(),
        partial_response_strategy: 0,
        matcher_string: list("match[]"),
        rule_name: list("rule_name[]"),
        rule_group: list("rule_group[]"),
        file: list("file[]"),
    };
    let mut groups = api.federate.rules(&run, request).await?;
    if !selectors.is_empty() {
        let matches = |labels: &[(String, String)], set: &Vec<Matcher>| {
            set.iter().all(|matcher| {
                let value = labels.iter().find(|(name, _)| name == matcher.name()).map_or("", |(_, value)| value);
                matcher.matches(value)
            })
        };
        for group in &mut groups {
            group.rules.retain(|rule| {
                let labels = labels_of(rule);
                selectors.iter().any(|set| matches(&labels, set))
            });
        }
        groups.retain(|group| !group.rules.is_empty());
    }
    let groups = groups.iter().map(|group| {
        json!({
            "name": group.name,
            "file": group.file,
            "rules": group.rules.iter().map(rule).collect::<Vec<_>>(),
            "interval": group.interval,
            "limit": group.limit,
            "evaluationTime": group.evaluation_duration_seconds,
            "lastEvaluation": rfc3339(&group.last_evaluation),
            "partialResponseStrategy": "ABORT",
        })
    });
    Ok(response::json(&json!({ "groups": groups.collect::<Vec<_>>() }), &Notes::of(&run)))
}

/// `/alerts`
pub(super) async fn alerts(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    use thanos::rule::Result as Kind;
    let run = params.run(&api.settings, api.engine.budget())?;
    let request = thanos::RulesRequest { r#type: thanos::rules_request::Type::Alert.into(), ..Default::default() };
    let groups = api.federate.rules(&run, request).await?;
    let alerts = groups.iter().flat_map(|group| &group.rules).filter_map(|rule| match &rule.result {
        Some(Kind::Alert(a)) => Some(a.alerts.iter().map(alert)),
        _ => None,
    });
    Ok(response::json(&json!({ "alerts": alerts.flatten().collect::<Vec<_>>() }), &Notes::of(&run)))
}

/// `/targets`
pub(super) async fn targets(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    use thanos::targets_request::State as Wanted;
    let wanted = match params.get("state").map(str::to_ascii_lowercase).as_deref() {
        None | Some("any") => Wanted::Any,
        Some("active") => Wanted::Active,
        Some("dropped") => Wanted::Dropped,
        Some(other) => return Err(ApiError::parameter("state", format_args!("not supported value {other:?}"))),
    };
    let run = params.run(&api.settings, api.engine.budget())?;
    let targets = api.federate.targets(&run, wanted.into()).await?;
    let active = targets.active_targets.iter().map(|target| {
        let health = match thanos::TargetHealth::try_from(target.health) {
            Ok(thanos::TargetHealth::Up) => "up",
            Ok(thanos::TargetHealth::Down) => "down",
            _ => "unknown",
        };
        json!({
            "discoveredLabels": object(&target.discovered_labels),
            "labels": object(&target.labels),
            "scrapePool": target.scrape_pool,
            "scrapeUrl": target.scrape_url,
            "globalUrl": target.global_url,
            "lastError": target.last_error,
            "lastScrape": rfc3339(&target.last_scrape),
            "lastScrapeDuration": target.last_scrape_duration,
            "health": health,
        })
    });
    let dropped =
        targets.dropped_targets.iter().map(|target| json!({ "discoveredLabels": object(&target.discovered_labels) }));
    let data = json!({
        "activeTargets": active.collect::<Vec<_>>(),
        "droppedTargets": dropped.collect::<Vec<_>>(),
    });
    Ok(response::json(&data, &Notes::of(&run)))
}

/// `/metadata`
pub(super) async fn metadata(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.get("limit") {
        None => -1,
        Some(text) => text.parse::<i32>().map_err(|_| ApiError::parameter("limit", "limit must be a number"))?,
    };
    let run = params.run(&api.settings, api.engine.budget())?;
    let metadata = api.federate.metadata(&run, params.get("metric").unwrap_or_default(), limit).await?;
    let take = if limit < 0 { usize::MAX } else { limit as usize };
    let data = metadata.into_iter().take(take).map(|(name, metas)| {
        let metas = metas.into_iter().map(|meta| json!({ "type": meta.r#type, "help": meta.help, "unit": meta.unit }));
        (name, Json::Array(metas.collect()))
    });
    Ok(response::json(&Json::Object(data.collect::<Map<_, _>>()), &Notes::of(&run)))
}

/// `/query_exemplars`
pub(super) async fn exemplars(State(api): State<Arc<Api>>, params: Params) -> Result<Response, ApiError> {
    let query = params.get("query").ok_or_else(|| ApiError::parameter("query", "it is missing"))?;
    api.engine.engine.parse(query)?;
    let range = TimeRange::new(
        params.time("start")?.unwrap_or(i64::MIN / 1_000_000),
        params.time("end")?.unwrap_or(i64::MAX / 1_000_000),
    );
    if range.is_empty() {
        return Err(ApiError::new(ErrorKind::Invalid, "end timestamp must not be before start time"));
    }
    let run = params.run(&api.settings, api.engine.budget())?;
    let all = api.federate.exemplars(&run, query, range).await?;
    let data = all.iter().map(|series| {
        let exemplars = series.exemplars.iter().map(|exemplar| {
            let mut value = String::new();
            number::push_json(&mut value, exemplar.value);
            json!({ "labels": object(&exemplar.labels), "value": value, "timestamp": exemplar.ts as f64 / 1_000.0 })
        });
        json!({ "seriesLabels": object(&series.series_labels), "exemplars": exemplars.collect::<Vec<_>>() })
    });
    Ok(response::json(&Json::Array(data.collect()), &Notes::of(&run)))
}
