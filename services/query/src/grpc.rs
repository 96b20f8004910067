//! What the query service serves over gRPC: StoreAPI over everything it sees, Info, the Query API and the federated APIs, so
//! that a query over queries gives the view over clusters.

mod query_api;

use crate::endpoints::Endpoints;
use crate::engine::QueryEngine;
use crate::federate::Federate;
use crate::run::{QueryRun, Tenancy};
use async_trait::async_trait;
use farview_model::{Labels, TimeRange, Warnings};
use farview_proto::thanos;
use farview_proto::thanos::info::{InfoRequest, InfoResponse, info_server::Info};
use farview_storeapi::request::partial_response;
use farview_storeapi::{
    EndpointInfo, Frame, LabelsAnswer, LabelsRequest, PartialResponse, SelectRequest, SelectStream, Store, StoreError,
    StoreInfo, TsdbInfo,
};
use futures::stream::{self, BoxStream, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Everything that is served over gRPC.
pub(crate) struct Grpc {
    pub(crate) engine: Arc<QueryEngine>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) federate: Arc<Federate>,
    pub(crate) tenancy: Tenancy,
    pub(crate) timeout: Duration,
    pub(crate) selector_labels: Labels,
    pub(crate) replica_labels: Vec<String>,
    pub(crate) instance_id: String,
    pub(crate) limits: RequestLimits,
}

/// What one answer of our StoreAPI may have; 0 for no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    /// `--store.limits.request-series`
    pub(crate) series: u64,
    /// `--store.limits.request-samples`, counted as 120 a chunk
    pub(crate) samples: u64,
}

impl Grpc {
    fn run(&self, partial: PartialResponse, tenant: &str) -> Result<Arc<QueryRun>, StoreError> {
        let tenant = self.tenancy.tenant(tenant)?;
        Ok(QueryRun::new(partial, Vec::new(), Vec::new(), tenant, self.timeout, self.engine.budget()))
    }
}

// === StoreAPI ===

#[async_trait]
impl Store for Grpc {
    async fn select(&self, mut request: SelectRequest) -> Result<SelectStream, StoreError> {
        let run = self.run(request.partial_response, &request.tenant)?;
        let (limit, shard) = (request.limit, request.shard.take());
        // Shards are cut here: not every store below understands them.
        if shard.is_some() {
            request.limit = 0;
        }
        let mut batches = self.engine.fanout.select(&run, request)?;
        let (frames, receiver) = mpsc::channel(4);
        let limits = self.limits;
        tokio::spawn(async move {
            let _cancel = run.cancelled.clone().drop_guard();
            let (mut sent, mut chunks) = (0usize, 0u64);
            loop {
                let batch = tokio::select! {
                    biased;
                    () = frames.closed() => return,
                    batch = batches.recv() => batch,
                };
                let Some(batch) = batch else { break };
                let mut series = match batch {
                    Ok(batch) => batch.series,
                    Err(error) => {
                        let _ = frames.send(Err(error)).await;
                        return;
                    }
                };
                if let Some(shard) = &shard {
                    series.retain(|series| shard.matches(&series.labels));
                }
                if limit > 0 {
                    series.truncate(limit.saturating_sub(sent));
                }
                sent += series.len();
                chunks += series.iter().map(|series| series.chunks.len() as u64).sum::<u64>();
                if let Some(error) = limits.exceeded(sent as u64, chunks) {
                    let _ = frames.send(Err(error)).await;
                    return;
                }
                if !series.is_empty() && frames.send(Ok(Frame::Series(series))).await.is_err() {
                    return;
                }
                if limit > 0 && sent >= limit {
                    break;
                }
            }
            for text in run.warnings_for_above() {
                if frames.send(Ok(Frame::Warning(text))).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn label_names(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        self.labels(request).await
    }

    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        self.labels(request).await
    }
}

impl RequestLimits {
    fn exceeded(self, series: u64, chunks: u64) -> Option<StoreError> {
        let samples = chunks * farview_tsdb::MAX_SAMPLES as u64;
        let (name, limit, got) = if self.series > 0 && series > self.series {
            ("--store.limits.request-series", self.series, series)
        } else if self.samples > 0 && samples > self.samples {
            ("--store.limits.request-samples", self.samples, samples)
        } else {
            return None;
        };
        let text = format!("the answer has {got} of what {name} limits to {limit}");
        Some(StoreError::new(farview_model::ErrorKind::LimitExceeded, text))
    }
}

impl Grpc {
    async fn labels(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        let run = self.run(request.partial_response, &request.tenant)?;
        let _cancel = run.cancelled.clone().drop_guard();
        let limit = request.limit;
        let mut values = self.engine.fanout.labels(&run, request).await?;
        if limit > 0 {
            values.truncate(limit);
        }
        let mut warnings = Warnings::default();
        run.warnings_for_above().into_iter().for_each(|text| warnings.add(text));
        Ok(LabelsAnswer { values, warnings })
    }

    /// Says what is seen through us: the labels and times of all endpoints in use, and those still expected.
    fn info(&self) -> EndpointInfo {
        let mut info = EndpointInfo {
            component: farview_storeapi::Component::QUERY.to_owned(),
            query: true,
            rules: true,
            targets: true,
            metric_metadata: true,
            exemplars: Some(TimeRange::ALL),
            instance_id: self.instance_id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..EndpointInfo::default()
        };
        let mut range: Option<TimeRange> = None;
        let mut tsdbs = Vec::new();
        for endpoint in self.endpoints.all() {
            let Some(live) = endpoint.live else {
                if endpoint.info.is_none() {
                    // It may hold anything. Whoever asks for that must ask us, to be told that it is not known.
                    range = Some(TimeRange::ALL);
                    info.label_sets.push(Labels::empty());
                }
                continue;
            };
            let below = &live.identity;
            let Some(store) = &below.store else { continue };
            range = Some(widen(range, store.range));
            info.label_sets.extend(below.label_sets.iter().filter(|labels| self.endpoints.keeps(labels)).cloned());
            info.notices.extend(below.notices.iter().map(|notice| format!("{}: {notice}", endpoint.address)));
            if store.tsdbs.is_empty() {
                tsdbs.extend(
                    below.label_sets.iter().map(|labels| TsdbInfo { labels: labels.clone(), range: store.range }),
                );
            } else {
                tsdbs.extend(store.tsdbs.iter().cloned());
            }
        }
        // What is missing stays announced: whoever asks for it must be told, and is told only if it asks us.
        for (labels, expected) in self.endpoints.expected() {
            range = Some(widen(range, expected));
            if !labels.is_empty() {
                info.label_sets.push(labels.clone());
                tsdbs.push(TsdbInfo { labels, range: expected });
            }
        }
        if !self.selector_labels.is_empty() {
            info.label_sets.push(self.selector_labels.clone());
        }
        info.label_sets.sort_unstable();
        info.label_sets.dedup();
        tsdbs.retain(|tsdb| self.endpoints.keeps(&tsdb.labels));
        tsdbs.sort_by(|a, b| a.labels.cmp(&b.labels).then(a.range.mint.cmp(&b.range.mint)));
        tsdbs.dedup();
        info.store = Some(StoreInfo {
            range: range.unwrap_or(TimeRange::new(i64::MAX, i64::MIN)),
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdbs,
        });
        info
    }
}

fn widen(range: Option<TimeRange>, other: TimeRange) -> TimeRange {
    range.map_or(other, |range| TimeRange::new(range.mint.min(other.mint), range.maxt.max(other.maxt)))
}

/// The other services, which need a handle that can be cloned.
#[derive(Clone)]
pub(crate) struct Services(pub(crate) Arc<Grpc>);

#[async_trait]
impl Info for Services {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        Ok(Response::new(self.0.info().to_proto()))
    }
}

// === federated APIs ===

type Frames<T> = BoxStream<'static, Result<T, Status>>;

/// The items of an answer and then what it lacks.
fn with_warnings<T: Send + 'static>(
    items: Vec<T>,
    run: &QueryRun,
    warning: impl Fn(String) -> T,
) -> Response<Frames<T>> {
    let said = run.warnings_for_above().into_iter();
    let all: Vec<Result<T, Status>> = items.into_iter().chain(said.map(warning)).map(Ok).collect();
    Response::new(stream::iter(all).boxed())
}

#[async_trait]
impl thanos::rules_server::Rules for Services {
    type RulesStream = Frames<thanos::RulesResponse>;

    async fn rules(&self, request: Request<thanos::RulesRequest>) -> Result<Response<Self::RulesStream>, Status> {
        use thanos::rules_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let run = self.0.run(partial_response(request.partial_response_strategy, false), &tenant)?;
        let groups = self.0.federate.rules(&run, request).await?;
        let response = |part| thanos::RulesResponse { result: Some(part) };
        let items = groups.into_iter().map(|group| response(Part::Group(group))).collect();
        Ok(with_warnings(items, &run, |text| response(Part::Warning(text))))
    }
}

#[async_trait]
impl thanos::targets_server::Targets for Services {
    type TargetsStream = Frames<thanos::TargetsResponse>;

    async fn targets(&self, request: Request<thanos::TargetsRequest>) -> Result<Response<Self::TargetsStream>, Status> {
        use thanos::targets_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let run = self.0.run(partial_response(request.partial_response_strategy, false), &tenant)?;
        let targets = self.0.federate.targets(&run, request.state).await?;
        let response = |part| thanos::TargetsResponse { result: Some(part) };
        Ok(with_warnings(vec![response(Part::Targets(targets))], &run, |text| response(Part::Warning(text))))
    }
}

#[async_trait]
impl thanos::metadata_server::Metadata for Services {
    type MetricMetadataStream = Frames<thanos::MetricMetadataResponse>;

    async fn metric_metadata(
        &self,
        request: Request<thanos::MetricMetadataRequest>,
    ) -> Result<Response<Self::MetricMetadataStream>, Status> {
        use thanos::metric_metadata_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let run = self.0.run(partial_response(request.partial_response_strategy, false), &tenant)?;
        let all = self.0.federate.metadata(&run, &request.metric, request.limit).await?;
        let metadata = all.into_iter().map(|(name, metas)| (name, thanos::MetricMetadataEntry { metas })).collect();
        let response = |part| thanos::MetricMetadataResponse { result: Some(part) };
        let items = vec![response(Part::Metadata(thanos::MetricMetadata { metadata }))];
        Ok(with_warnings(items, &run, |text| response(Part::Warning(text))))
    }
}

#[async_trait]
impl thanos::exemplars_server::Exemplars for Services {
    type ExemplarsStream = Frames<thanos::ExemplarsResponse>;

    async fn exemplars(
        &self,
        request: Request<thanos::ExemplarsRequest>,
    ) -> Result<Response<Self::ExemplarsStream>, Status> {
        use thanos::exemplars_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let run = self.0.run(partial_response(request.partial_response_strategy, false), &tenant)?;
        let range = TimeRange::new(request.start, request.end);
        let all = self.0.federate.exemplars(&run, &request.query, range).await?;
        let response = |part| thanos::ExemplarsResponse { result: Some(part) };
        let items = all.into_iter().map(|data| response(Part::Data(data))).collect();
        Ok(with_warnings(items, &run, |text| response(Part::Warning(text))))
    }
}

#[async_trait]
impl thanos::status_server::Status for Services {
    type TSDBStatisticsStream = Frames<thanos::TsdbStatisticsResponse>;

    async fn tsdb_statistics(
        &self,
        request: Request<thanos::TsdbStatisticsRequest>,
    ) -> Result<Response<Self::TSDBStatisticsStream>, Status> {
        use thanos::tsdb_statistics_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let run = self.0.run(partial_response(request.partial_response_strategy, false), &tenant)?;
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(10);
        let entry = self.0.federate.statistics(&run, limit).await?;
        let all = thanos::TsdbStatistics { statistics: [(String::new(), entry)].into() };
        let response = |part| thanos::TsdbStatisticsResponse { result: Some(part) };
        Ok(with_warnings(vec![response(Part::Statistics(all))], &run, |text| response(Part::Warning(text))))
    }
}
