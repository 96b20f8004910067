//! The other APIs, asked of every endpoint that offers them: rules, targets, metadata, exemplars, statistics. Answers of
//! replicas are made one by leaving their replica labels out and joining what has become equal.

use crate::endpoints::{Api, Endpoint, Wanted};
use crate::fanout::Fanout;
use crate::run::QueryRun;
use farview_channels::{Channel, Measured};
use farview_model::{ErrorKind, Matcher, TimeRange};
use farview_proto::thanos::{self, Label, LabelSet};
use farview_storeapi::StoreError;
use farview_storeapi::request::{matchers_to_proto, strategy};
use futures::future::join_all;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tonic::Status;

/// Asks endpoints.
pub(crate) struct Federate {
    pub(crate) fanout: Arc<Fanout>,
    /// `--query.max-message-bytes`
    pub(crate) max_message_bytes: usize,
}

/// Reads a stream of messages to its end, bounded in number.
macro_rules! drain {
    ($stream:expr) => {{
        let mut stream = $stream.into_inner();
        let mut all = Vec::new();
        while let Some(message) = stream.message().await? {
            if let Some(result) = message.result {
                all.push(result);
            }
        }
        Ok::<_, Status>(all)
    }};
}

impl Federate {
    /// Asks all endpoints that offer `api` at the same time. Who fails is in the run's warnings, or the error if it is strict.
    async fn ask<T, F: Future<Output = Result<Vec<T>, Status>>>(
        &self,
        run: &Arc<QueryRun>,
        api: Api,
        matchers: &[Matcher],
        call: impl Fn(Measured<Channel>) -> F,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let wanted = Wanted {
            range: TimeRange::ALL,
            matchers,
            store_matchers: &run.store_matchers,
            replica_labels: &run.replica_labels,
            api,
        };
        let matching = self.fanout.choose(run, &wanted)?;
        let calls = matching.chosen.iter().map(|endpoint: &Endpoint| {
            let call = endpoint.live.as_ref().map(|live| call(self.fanout.calls.measure(live.channel.clone())));
            async move {
                let Some(call) = call else {
                    return Err(StoreError::new(ErrorKind::Unavailable, endpoint.problem()));
                };
                let limit = self.fanout.deadlines.first_frame.min(run.remaining());
                match tokio::time::timeout(limit, call).await {
                    Ok(answer) => answer.map_err(StoreError::from),
                    Err(_) => Err(self.fanout.late("an answer", limit)),
                }
            }
        });
        let answers = join_all(calls).await;
        let mut all = Vec::new();
        for (endpoint, answer) in matching.chosen.iter().zip(answers) {
            match answer {
                Ok(items) => all.extend(items.into_iter().map(|item| (endpoint.address.clone(), item))),
                Err(error) => run.failed(endpoint, error)?,
            }
        }
        Ok(all)
    }

    /// Returns the rule groups, by file and name, their rules made one.
    pub(crate) async fn rules(
        &self,
        run: &Arc<QueryRun>,
        mut request: thanos::RulesRequest,
    ) -> Result<Vec<thanos::RuleGroup>, StoreError> {
        use thanos::rules_response::Result as Part;
        request.partial_response_strategy = strategy(run.partial_response);
        let answers = self.ask(run, Api::Rules, &[], |channel| {
            let request = request.clone();
            async move {
                let mut client =
                    thanos::rules_client::RulesClient::new(channel).max_decoding_message_size(self.max_message_bytes);
                drain!(client.rules(request).await?)
            }
        });
        let mut groups: BTreeMap<(String, String), thanos::RuleGroup> = BTreeMap::new();
        for (address, part) in answers.await? {
            match part {
                Part::Warning(text) => run.failed_below(&address, &text)?,
                Part::Group(mut group) => {
                    group.rules.iter_mut().for_each(|rule| strip_rule(rule, &run.replica_labels));
                    match groups.get_mut(&(group.file.clone(), group.name.clone())) {
                        Some(known) => known.rules.append(&mut group.rules),
                        None => {
                            groups.insert((group.file.clone(), group.name.clone()), group);
                        }
                    }
                }
            }
        }
        Ok(groups
            .into_values()
            .map(|mut group| {
                group.rules = join_rules(group.rules);
                group
            })
            .collect())
    }

    /// Returns active and dropped targets, replicas made one.
    pub(crate) async fn targets(&self, run: &Arc<QueryRun>, state: i32) -> Result<thanos::TargetDiscovery, StoreError> {
        use thanos::targets_response::Result as Part;
        let request = thanos::TargetsRequest { state, partial_response_strategy: strategy(run.partial_response) };
        let answers = self.ask(run, Api::Targets, &[], |channel| async move {
            let mut client =
                thanos::targets_client::TargetsClient::new(channel).max_decoding_message_size(self.max_message_bytes);
            drain!(client.targets(request).await?)
        });
        let mut all = thanos::TargetDiscovery::default();
        for (address, part) in answers.await? {
            match part {
                Part::Warning(text) => run.failed_below(&address, &text)?,
                Part::Targets(targets) => {
                    all.active_targets.extend(targets.active_targets);
                    all.dropped_targets.extend(targets.dropped_targets);
                }
            }
        }
        for target in &mut all.active_targets {
            strip(&mut target.labels, &run.replica_labels);
            strip(&mut target.discovered_labels, &run.replica_labels);
        }
        for target in &mut all.dropped_targets {
            strip(&mut target.discovered_labels, &run.replica_labels);
        }
        // Of equal targets the one scraped last tells how it is.
        let seconds = |t: &Option<Timestamp>| t.map_or((0, 0), |t| (t.seconds, t.nanos));
        let key = |target: &thanos::ActiveTarget| {
            (target.scrape_pool.clone(), pairs(&target.labels), target.scrape_url.clone())
        };
        all.active_targets.sort_by_cached_key(|target| (key(target), std::cmp::Reverse(seconds(&target.last_scrape))));
        all.active_targets.dedup_by(|a, b| key(a) == key(b));
        all.dropped_targets.sort_by_cached_key(|target| pairs(&target.discovered_labels));
        all.dropped_targets.dedup_by(|a, b| a.discovered_labels == b.discovered_labels);
        Ok(all)
    }

    /// Returns metadata by metric, each once.
    pub(crate) async fn metadata(
        &self,
        run: &Arc<QueryRun>,
        metric: &str,
        limit: i32,
    ) -> Result<BTreeMap<String, Vec<thanos::Meta>>, StoreError> {
        use thanos::metric_metadata_response::Result as Part;
        let request = thanos::MetricMetadataRequest {
            metric: metric.to_owned(),
            limit,
            partial_response_strategy: strategy(run.partial_response),
        };
        let answers = self.ask(run, Api::Metadata, &[], |channel| {
            let request = request.clone();
            async move {
                let mut client = thanos::metadata_client::MetadataClient::new(channel)
                    .max_decoding_message_size(self.max_message_bytes);
                drain!(client.metric_metadata(request).await?)
            }
        });
        let mut all: BTreeMap<String, Vec<thanos::Meta>> = BTreeMap::new();
        for (address, part) in answers.await? {
            match part {
                Part::Warning(text) => run.failed_below(&address, &text)?,
                Part::Metadata(metadata) => {
                    for (name, entry) in metadata.metadata {
                        let known = all.entry(name).or_default();
                        for meta in entry.metas {
                            if !known.contains(&meta) {
                                known.push(meta);
                            }
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// Returns exemplars by series, replicas made one.
    pub(crate) async fn exemplars(
        &self,
        run: &Arc<QueryRun>,
        query: &str,
        range: TimeRange,
    ) -> Result<Vec<thanos::ExemplarData>, StoreError> {
        use thanos::exemplars_response::Result as Part;
        let request = thanos::ExemplarsRequest {
            query: query.to_owned(),
            start: range.mint,
            end: range.maxt,
            partial_response_strategy: strategy(run.partial_response),
        };
        let answers = self.ask(run, Api::Exemplars, &[], |channel| {
            let request = request.clone();
            async move {
                let mut client = thanos::exemplars_client::ExemplarsClient::new(channel)
                    .max_decoding_message_size(self.max_message_bytes);
                drain!(client.exemplars(request).await?)
            }
        });
        let mut series: BTreeMap<Vec<(String, String)>, thanos::ExemplarData> = BTreeMap::new();
        for (address, part) in answers.await? {
            match part {
                Part::Warning(text) => run.failed_below(&address, &text)?,
                Part::Data(mut data) => {
                    strip(&mut data.series_labels, &run.replica_labels);
                    let key = pairs(&data.series_labels);
                    match series.get_mut(&key) {
                        Some(known) => known.exemplars.append(&mut data.exemplars),
                        None => {
                            series.insert(key, data);
                        }
                    }
                }
            }
        }
        Ok(series
            .into_values()
            .map(|mut data| {
                data.exemplars.sort_by_key(|exemplar| exemplar.ts);
                data.exemplars.dedup();
                data
            })
            .collect())
    }

    /// Returns the statistics of all heads, added up; of each table the `limit` greatest.
    pub(crate) async fn statistics(
        &self,
        run: &Arc<QueryRun>,
        limit: usize,
    ) -> Result<thanos::TsdbStatisticsEntry, StoreError> {
        use thanos::tsdb_statistics_response::Result as Part;
        let request = thanos::TsdbStatisticsRequest {
            limit: i32::try_from(limit).unwrap_or(i32::MAX),
            partial_response_strategy: strategy(run.partial_response),
            matchers: matchers_to_proto(run.tenant.enforced.as_slice()),
            ..Default::default()
        };
        let answers = self.ask(run, Api::Status, &[], |channel| {
            let request = request.clone();
            async move {
                let mut client =
                    thanos::status_client::StatusClient::new(channel).max_decoding_message_size(self.max_message_bytes);
                drain!(client.tsdb_statistics(request).await?)
            }
        });
        let mut head = thanos::HeadStatistics { min_time: i64::MAX, max_time: i64::MIN, ..Default::default() };
        let mut tables: [BTreeMap<String, u64>; 4] = Default::default();
        for (address, part) in answers.await? {
            let statistics = match part {
                Part::Warning(text) => {
                    run.failed_below(&address, &text)?;
                    continue;
                }
                Part::Statistics(statistics) => statistics,
            };
            for entry in statistics.statistics.into_values() {
                if let Some(one) = entry.head_statistics {
                    head.num_series = head.num_series.saturating_add(one.num_series);
                    head.num_label_pairs = head.num_label_pairs.saturating_add(one.num_label_pairs);
                    head.chunk_count = head.chunk_count.saturating_add(one.chunk_count);
                    head.min_time = head.min_time.min(one.min_time);
                    head.max_time = head.max_time.max(one.max_time);
                }
                let lists = [
                    entry.series_count_by_metric_name,
                    entry.label_value_count_by_label_name,
                    entry.memory_in_bytes_by_label_name,
                    entry.series_count_by_label_value_pair,
                ];
                for (table, list) in tables.iter_mut().zip(lists) {
                    for count in list {
                        let sum = table.entry(count.name).or_default();
                        *sum = sum.saturating_add(count.value);
                    }
                }
            }
        }
        let [metrics, values, memory, pairs] = tables.map(|table| greatest(table, limit));
        Ok(thanos::TsdbStatisticsEntry {
            head_statistics: Some(head),
            series_count_by_metric_name: metrics,
            label_value_count_by_label_name: values,
            memory_in_bytes_by_label_name: memory,
            series_count_by_label_value_pair: pairs,
        })
    }
}

fn greatest(table: BTreeMap<String, u64>, limit: usize) -> Vec<thanos::Statistic> {
    let mut all: Vec<thanos::Statistic> =
        table.into_iter().map(|(name, value)| thanos::Statistic { name, value }).collect();
    all.sort_by_key(|statistic| std::cmp::Reverse(statistic.value));
    all.truncate(limit);
    all
}

fn strip(labels: &mut Option<LabelSet>, replica_labels: &[String]) {
    if let Some(set) = labels {
        set.labels.retain(|label| !replica_labels.contains(&label.name));
        set.labels.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// Returns names and values of a set, for comparing.
pub(crate) fn pairs(labels: &Option<LabelSet>) -> Vec<(String, String)> {
    let all: &[Label] = labels.as_ref().map_or(&[], |set| &set.labels);
    all.iter().map(|label| (label.name.clone(), label.value.clone())).collect()
}

fn strip_rule(rule: &mut thanos::Rule, replica_labels: &[String]) {
    use thanos::rule::Result as Kind;
    match &mut rule.result {
        Some(Kind::Recording(recording)) => strip(&mut recording.labels, replica_labels),
        Some(Kind::Alert(alert)) => {
            strip(&mut alert.labels, replica_labels);
            alert.alerts.iter_mut().for_each(|instance| strip(&mut instance.labels, replica_labels));
        }
        None => {}
    }
}

type RuleKey = (bool, String, Vec<(String, String)>, String, u64);

fn rule_key(rule: &thanos::Rule) -> RuleKey {
    use thanos::rule::Result as Kind;
    match &rule.result {
        Some(Kind::Alert(a)) => (true, a.name.clone(), pairs(&a.labels), a.query.clone(), a.duration_seconds.to_bits()),
        Some(Kind::Recording(r)) => (false, r.name.clone(), pairs(&r.labels), r.query.clone(), 0),
        None => Default::default(),
    }
}

/// Of equal rules one stays: the more critical alert, then the one evaluated later.
fn join_rules(rules: Vec<thanos::Rule>) -> Vec<thanos::Rule> {
    use thanos::rule::Result as Kind;
    let weight = |rule: &thanos::Rule| match &rule.result {
        Some(Kind::Alert(a)) => (a.state, a.last_evaluation.map_or((0, 0), |t| (t.seconds, t.nanos))),
        Some(Kind::Recording(r)) => (0, r.last_evaluation.map_or((0, 0), |t| (t.seconds, t.nanos))),
        None => (0, (0, 0)),
    };
    let mut index: BTreeMap<RuleKey, usize> = BTreeMap::new();
    let mut joined: Vec<thanos::Rule> = Vec::new();
    for rule in rules {
        match index.get(&rule_key(&rule)) {
            Some(at) if weight(&rule) > weight(&joined[*at]) => joined[*at] = rule,
            Some(_) => {}
            None => {
                index.insert(rule_key(&rule), joined.len());
                joined.push(rule);
            }
        }
    }
    joined
}
