//! The other gRPC APIs: what Prometheus' own HTTP API says about rules, targets, metadata, exemplars and its head, with the
//! external labels added.

use crate::prometheus::{Prometheus, seconds};
use crate::state::State;
use crate::store::with_external;
use farview_model::{ErrorKind, Labels};
use farview_proto::thanos::{self, LabelSet};
use farview_storeapi::StoreError;
use farview_storeapi::info::labels_to_proto;
use futures::stream::{self, BoxStream, StreamExt};
use prost_types::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, async_trait};

/// Serves Rules, Targets, Metadata, Exemplars and Status.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) prometheus: Prometheus,
    pub(crate) state: Arc<State>,
    pub(crate) timeout: Duration,
}

type Frames<T> = BoxStream<'static, Result<T, Status>>;

fn frames<T: Send + 'static>(items: Vec<T>) -> Response<Frames<T>> {
    Response::new(stream::iter(items.into_iter().map(Ok)).boxed())
}

type Pairs = BTreeMap<String, String>;

fn proto_labels(pairs: &Pairs) -> LabelSet {
    labels_to_proto(&Labels::from_pairs(pairs))
}

/// Times as Prometheus writes them; none for Go's zero time.
fn timestamp(text: &str) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    (parsed.as_second() > 0).then(|| Timestamp { seconds: parsed.as_second(), nanos: parsed.subsec_nanosecond() })
}

impl Proxy {
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<(T, Vec<String>), Status> {
        Ok(self.prometheus.get(path, params, self.timeout).await?)
    }

    fn external(&self) -> Result<Labels, Status> {
        let snapshot = self.state.get();
        if snapshot.external.is_empty() {
            let text = "the external labels of Prometheus are not known yet";
            return Err(StoreError::new(ErrorKind::Unavailable, text).into());
        }
        Ok(snapshot.external.clone())
    }

    fn labelled(&self, pairs: &Pairs, external: &Labels) -> LabelSet {
        labels_to_proto(&with_external(&Labels::from_pairs(pairs), external))
    }
}

// === rules ===

#[derive(Deserialize)]
struct RuleGroups {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleGroup {
    name: String,
    #[serde(default)]
    file: String,
    #[serde(default)]
    interval: f64,
    #[serde(default)]
    evaluation_time: f64,
    #[serde(default)]
    last_evaluation: String,
    #[serde(default)]
    limit: i64,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    query: String,
    #[serde(default)]
    labels: Pairs,
    #[serde(default)]
    annotations: Pairs,
    #[serde(default)]
    duration: f64,
    #[serde(default)]
    keep_firing_for: f64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    alerts: Vec<AlertInstance>,
    #[serde(default)]
    health: String,
    #[serde(default)]
    last_error: String,
    #[serde(default)]
    evaluation_time: f64,
    #[serde(default)]
    last_evaluation: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertInstance {
    #[serde(default)]
    labels: Pairs,
    #[serde(default)]
    annotations: Pairs,
    #[serde(default)]
    state: String,
    #[serde(default)]
    active_at: String,
    #[serde(default)]
    value: String,
}

fn alert_state(state: &str) -> i32 {
    match state {
        "inactive" => thanos::AlertState::Inactive,
        "pending" => thanos::AlertState::Pending,
        "firing" => thanos::AlertState::Firing,
        _ => thanos::AlertState::Unknown,
    }
    .into()
}

impl Proxy {
    fn rule(&self, rule: Rule, external: &Labels) -> thanos::Rule {
        use thanos::rule::Result as Kind;
        let labels = Some(self.labelled(&rule.labels, external));
        let last_evaluation = timestamp(&rule.last_evaluation);
        let result = if rule.kind == "alerting" {
            let alerts = rule.alerts.iter().map(|alert| thanos::AlertInstance {
                labels: Some(self.labelled(&alert.labels, external)),
                annotations: Some(proto_labels(&alert.annotations)),
                state: alert_state(&alert.state),
                active_at: timestamp(&alert.active_at),
                value: alert.value.clone(),
                partial_response_strategy: thanos::PartialResponseStrategy::Abort.into(),
            });
            Kind::Alert(thanos::Alert {
                state: alert_state(&rule.state),
                name: rule.name,
                query: rule.query,
                duration_seconds: rule.duration,
                labels,
                annotations: Some(proto_labels(&rule.annotations)),
                alerts: alerts.collect(),
                health: rule.health,
                last_error: rule.last_error,
                evaluation_duration_seconds: rule.evaluation_time,
                last_evaluation,
                keep_firing_for_seconds: rule.keep_firing_for,
            })
        } else {
            Kind::Recording(thanos::RecordingRule {
                name: rule.name,
                query: rule.query,
                labels,
                health: rule.health,
                last_error: rule.last_error,
                evaluation_duration_seconds: rule.evaluation_time,
                last_evaluation,
            })
        };
        thanos::Rule { result: Some(result) }
    }
}

#[async_trait]
impl thanos::rules_server::Rules for Proxy {
    type RulesStream = Frames<thanos::RulesResponse>;

    async fn rules(&self, request: Request<thanos::RulesRequest>) -> Result<Response<Self::RulesStream>, Status> {
        use thanos::rules_request::Type;
        let request = request.into_inner();
        let external = self.external()?;
        let mut params = Vec::new();
        match request.r#type() {
            Type::All => {}
            Type::Alert => params.push(("type", "alert".to_owned())),
            Type::Record => params.push(("type", "record".to_owned())),
        }
        let (groups, _): (RuleGroups, _) = self.get("/api/v1/rules", &params).await?;
        let wanted = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
        let groups = groups
            .groups
            .into_iter()
            .filter(|group| wanted(&request.rule_group, &group.name) && wanted(&request.file, &group.file));
        let responses = groups.map(|group| {
            let rules = group.rules.into_iter().filter(|rule| wanted(&request.rule_name, &rule.name));
            let group = thanos::RuleGroup {
                name: group.name,
                file: group.file,
                rules: rules.map(|rule| self.rule(rule, &external)).collect(),
                interval: group.interval,
                evaluation_duration_seconds: group.evaluation_time,
                last_evaluation: timestamp(&group.last_evaluation),
                partial_response_strategy: thanos::PartialResponseStrategy::Abort.into(),
                limit: group.limit,
            };
            thanos::RulesResponse { result: Some(thanos::rules_response::Result::Group(group)) }
        });
        Ok(frames(responses.collect()))
    }
}

// === targets ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    #[serde(default)]
    active_targets: Vec<ActiveTarget>,
    #[serde(default)]
    dropped_targets: Vec<DroppedTarget>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget {
    #[serde(default)]
    discovered_labels: Pairs,
    #[serde(default)]
    labels: Pairs,
    #[serde(default)]
    scrape_pool: String,
    #[serde(default)]
    scrape_url: String,
    #[serde(default)]
    global_url: String,
    #[serde(default)]
    last_error: String,
    #[serde(default)]
    last_scrape: String,
    #[serde(default)]
    last_scrape_duration: f64,
    #[serde(default)]
    health: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DroppedTarget {
    #[serde(default)]
    discovered_labels: Pairs,
}

#[async_trait]
impl thanos::targets_server::Targets for Proxy {
    type TargetsStream = Frames<thanos::TargetsResponse>;

    async fn targets(&self, request: Request<thanos::TargetsRequest>) -> Result<Response<Self::TargetsStream>, Status> {
        use thanos::targets_request::State as Wanted;
        let external = self.external()?;
        let state = match request.into_inner().state() {
            Wanted::Any => "any",
            Wanted::Active => "active",
            Wanted::Dropped => "dropped",
        };
        let (targets, _): (Targets, _) = self.get("/api/v1/targets", &[("state", state.to_owned())]).await?;
        let active = targets.active_targets.into_iter().map(|target| thanos::ActiveTarget {
            discovered_labels: Some(self.labelled(&target.discovered_labels, &external)),
            labels: Some(self.labelled(&target.labels, &external)),
            scrape_pool: target.scrape_pool,
            scrape_url: target.scrape_url,
            global_url: target.global_url,
            last_error: target.last_error,
            last_scrape: timestamp(&target.last_scrape),
            last_scrape_duration: target.last_scrape_duration,
            health: match target.health.as_str() {
                "up" => thanos::TargetHealth::Up,
                "down" => thanos::TargetHealth::Down,
                _ => thanos::TargetHealth::Unknown,
            }
            .into(),
        });
        let dropped = targets.dropped_targets.into_iter().map(|target| thanos::DroppedTarget {
            discovered_labels: Some(self.labelled(&target.discovered_labels, &external)),
        });
        let discovery =
            thanos::TargetDiscovery { active_targets: active.collect(), dropped_targets: dropped.collect() };
        let response = thanos::TargetsResponse { result: Some(thanos::targets_response::Result::Targets(discovery)) };
        Ok(frames(vec![response]))
    }
}

// === metadata ===

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    help: String,
    #[serde(default)]
    unit: String,
}

#[async_trait]
impl thanos::metadata_server::Metadata for Proxy {
    type MetricMetadataStream = Frames<thanos::MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: Request<thanos::MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        let request = request.into_inner();
        let mut params = Vec::new();
        if !request.metric.is_empty() {
            params.push(("metric", request.metric));
        }
        if request.limit >= 0 {
            params.push(("limit", request.limit.to_string()));
        }
        let (metadata, _): (BTreeMap<String, Vec<Meta>>, _) = self.get("/api/v1/metadata", &params).await?;
        let metadata = metadata.into_iter().map(|(name, metas)| {
            let metas =
                metas.into_iter().map(|meta| thanos::Meta { r#type: meta.kind, help: meta.help, unit: meta.unit });
            (name, thanos::MetricMetadataEntry { metas: metas.collect() })
        });
        let metadata = thanos::MetricMetadata { metadata: metadata.collect() };
        let result = thanos::metric_metadata_response::Result::Metadata(metadata);
        Ok(frames(vec![thanos::MetricMetadataResponse { result: Some(result) }]))
    }
}

// === exemplars ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExemplarSeries {
    #[serde(default)]
    series_labels: Pairs,
    #[serde(default)]
    exemplars: Vec<Exemplar>,
}

#[derive(Deserialize)]
struct Exemplar {
    #[serde(default)]
    labels: Pairs,
    value: String,
    timestamp: f64,
}

#[async_trait]
impl thanos::exemplars_server::Exemplars for Proxy {
    type ExemplarsStream = Frames<thanos::ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: Request<thanos::ExemplarsRequest>,
    ) -> Result<Response<Self::ExemplarsStream>, Status> {
        let request = request.into_inner();
        let external = self.external()?;
        let params = [("query", request.query), ("start", seconds(request.start)), ("end", seconds(request.end))];
        let (all, _): (Vec<ExemplarSeries>, _) = self.get("/api/v1/query_exemplars", &params).await?;
        let responses = all.into_iter().map(|series| {
            let exemplars = series.exemplars.iter().map(|exemplar| thanos::Exemplar {
                labels: Some(proto_labels(&exemplar.labels)),
                value: exemplar.value.parse().unwrap_or(f64::NAN),
                ts: (exemplar.timestamp * 1_000.0).round() as i64,
            });
            let data = thanos::ExemplarData {
                series_labels: Some(self.labelled(&series.series_labels, &external)),
                exemplars: exemplars.collect(),
            };
            thanos::ExemplarsResponse { result: Some(thanos::exemplars_response::Result::Data(data)) }
        });
        Ok(frames(responses.collect()))
    }
}

// === status ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TsdbStatus {
    head_stats: Option<HeadStats>,
    #[serde(default)]
    series_count_by_metric_name: Vec<Count>,
    #[serde(default)]
    label_value_count_by_label_name: Vec<Count>,
    #[serde(default)]
    memory_in_bytes_by_label_name: Vec<Count>,
    #[serde(default)]
    series_count_by_label_value_pair: Vec<Count>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    #[serde(default)]
    num_series: u64,
    #[serde(default)]
    num_label_pairs: i64,
    #[serde(default)]
    chunk_count: i64,
    #[serde(default)]
    min_time: i64,
    #[serde(default)]
    max_time: i64,
}

#[derive(Deserialize)]
struct Count {
    name: String,
    value: u64,
}

fn statistics(counts: Vec<Count>) -> Vec<thanos::Statistic> {
    counts.into_iter().map(|count| thanos::Statistic { name: count.name, value: count.value }).collect()
}

#[async_trait]
impl thanos::status_server::Status for Proxy {
    type TSDBStatisticsStream = Frames<thanos::TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: Request<thanos::TsdbStatisticsRequest>,
    ) -> Result<Response<Self::TSDBStatisticsStream>, Status> {
        let limit = request.into_inner().limit;
        let mut params = Vec::new();
        if limit > 0 {
            params.push(("limit", limit.to_string()));
        }
        let (status, _): (TsdbStatus, _) = self.get("/api/v1/status/tsdb", &params).await?;
        let entry = thanos::TsdbStatisticsEntry {
            head_statistics: status.head_stats.map(|head| thanos::HeadStatistics {
                num_series: head.num_series,
                num_label_pairs: head.num_label_pairs,
                chunk_count: head.chunk_count,
                min_time: head.min_time,
                max_time: head.max_time,
            }),
            series_count_by_metric_name: statistics(status.series_count_by_metric_name),
            label_value_count_by_label_name: statistics(status.label_value_count_by_label_name),
            memory_in_bytes_by_label_name: statistics(status.memory_in_bytes_by_label_name),
            series_count_by_label_value_pair: statistics(status.series_count_by_label_value_pair),
        };
        let all = thanos::TsdbStatistics { statistics: [(String::new(), entry)].into() };
        let result = thanos::tsdb_statistics_response::Result::Statistics(all);
        Ok(frames(vec![thanos::TsdbStatisticsResponse { result: Some(result) }]))
    }
}
