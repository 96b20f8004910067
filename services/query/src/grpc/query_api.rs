//! The Query API: evaluated answers over gRPC, as rulers and distributed queries of Thanos ask for them.

use super::{Frames, Services};
use crate::api::MAX_POINTS;
use crate::engine::{Query, QueryError, When};
use crate::run::QueryRun;
use farview_model::histogram::{CounterResetHint, FloatHistogram, Span};
use farview_promql::annotations::Severity;
use farview_promql::engine::{Answer, Series, Value};
use farview_proto::prometheus_copy::{self, BucketSpan, Sample, TimeSeries, histogram};
use farview_proto::thanos::{self, Label};
use farview_storeapi::request::matchers_from_proto;
use farview_storeapi::{PartialResponse, StoreError};
use futures::stream::{self, StreamExt};
use std::time::Duration;
use tonic::{Request, Response, Status};

fn status(error: QueryError) -> Status {
    match error {
        QueryError::Refused(refused) => Status::resource_exhausted(refused.to_string()),
        QueryError::Engine(error) => StoreError::new(error.kind(), error.to_string()).into(),
    }
}

struct Asked {
    text: String,
    when: When,
    timeout_seconds: i64,
    max_resolution_seconds: i64,
    lookback_seconds: i64,
    replica_labels: Vec<String>,
    dedup: bool,
    partial: bool,
    store_matchers: Vec<thanos::StoreMatchers>,
}

impl Services {
    async fn evaluate(&self, asked: Asked, tenant: String) -> Result<(Answer, Vec<String>), Status> {
        let replica_labels = match (asked.dedup, asked.replica_labels.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => self.0.replica_labels.clone(),
            (true, false) => asked.replica_labels,
        };
        let partial = if asked.partial { PartialResponse::Warn } else { PartialResponse::Abort };
        let store_matchers = asked
            .store_matchers
            .iter()
            .map(|set| matchers_from_proto(&set.label_matchers))
            .collect::<Result<_, _>>()?;
        let timeout = match asked.timeout_seconds {
            seconds if seconds > 0 => Duration::from_secs(seconds as u64).min(self.0.timeout),
            _ => self.0.timeout,
        };
        let tenant = self.0.tenancy.tenant(&tenant)?;
        let run = QueryRun::new(partial, replica_labels, store_matchers, tenant, timeout, self.0.engine.budget());
        let query = Query {
            text: asked.text.clone(),
            when: asked.when,
            max_resolution: asked.max_resolution_seconds.saturating_mul(1_000),
            lookback_delta: (asked.lookback_seconds > 0).then(|| asked.lookback_seconds.saturating_mul(1_000)),
            analyze: false,
        };
        let answer = self.0.engine.evaluate(&run, query).await.map_err(status)?;
        let mut warnings = run.warnings_for_above();
        warnings.extend(answer.annotations.shown(Severity::Warning, &asked.text));
        warnings.extend(answer.annotations.shown(Severity::Info, &asked.text));
        Ok((answer, warnings))
    }
}

fn float_histogram(timestamp: i64, from: &FloatHistogram) -> prometheus_copy::Histogram {
    use histogram::{Count, ResetHint, ZeroCount};
    let spans = |spans: &[Span]| spans.iter().map(|s| BucketSpan { offset: s.offset, length: s.length }).collect();
    let hint = match from.counter_reset_hint {
        CounterResetHint::Unknown => ResetHint::Unknown,
        CounterResetHint::Reset => ResetHint::Yes,
        CounterResetHint::NotReset => ResetHint::No,
        CounterResetHint::Gauge => ResetHint::Gauge,
    };
    prometheus_copy::Histogram {
        sum: from.sum,
        schema: from.schema,
        zero_threshold: from.zero_threshold,
        negative_spans: spans(&from.negative_spans),
        negative_counts: from.negative_buckets.clone(),
        positive_spans: spans(&from.positive_spans),
        positive_counts: from.positive_buckets.clone(),
        reset_hint: hint.into(),
        timestamp,
        custom_values: from.custom_bounds().to_vec(),
        count: Some(Count::CountFloat(from.count)),
        zero_count: Some(ZeroCount::ZeroCountFloat(from.zero_count)),
        ..prometheus_copy::Histogram::default()
    }
}

fn time_series(value: Value) -> Vec<TimeSeries> {
    let one = |series: Series| TimeSeries {
        labels: series
            .labels
            .iter()
            .map(|(name, value)| Label { name: name.to_owned(), value: value.to_owned() })
            .collect(),
        samples: series
            .timestamps
            .iter()
            .zip(&series.values)
            .map(|(timestamp, value)| Sample { value: *value, timestamp: *timestamp })
            .collect(),
        exemplars: Vec::new(),
        histograms: series.histograms.iter().map(|(t, histogram)| float_histogram(*t, histogram)).collect(),
    };
    match value {
        Value::Vector(all) | Value::Matrix(all) => all.into_iter().map(one).collect(),
        Value::Scalar(timestamp, value) => {
            vec![TimeSeries { samples: vec![Sample { value, timestamp }], ..TimeSeries::default() }]
        }
        Value::String(..) => Vec::new(),
    }
}

#[async_trait::async_trait]
impl thanos::query_server::Query for Services {
    type QueryStream = Frames<thanos::QueryResponse>;
    type QueryRangeStream = Frames<thanos::QueryRangeResponse>;

    async fn query(&self, request: Request<thanos::QueryRequest>) -> Result<Response<Self::QueryStream>, Status> {
        use thanos::query_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        let asked = Asked {
            when: When::Instant(request.time_seconds.saturating_mul(1_000)),
            text: request.query,
            timeout_seconds: request.timeout_seconds,
            max_resolution_seconds: request.max_resolution_seconds,
            lookback_seconds: request.lookback_delta_seconds,
            replica_labels: request.replica_labels,
            dedup: request.enable_dedup,
            partial: request.enable_partial_response,
            store_matchers: request.store_matchers,
        };
        let (answer, warnings) = self.evaluate(asked, tenant).await?;
        let stats = thanos::QueryStatistics {
            samples_total: answer.stats.total_samples as i64,
            peak_samples: answer.stats.peak_samples as i64,
        };
        let parts = warnings.into_iter().map(Part::Warnings);
        let parts =
            parts.chain(time_series(answer.value).into_iter().map(Part::Timeseries)).chain([Part::Stats(stats)]);
        let responses: Vec<_> = parts.map(|part| Ok(thanos::QueryResponse { result: Some(part) })).collect();
        Ok(Response::new(stream::iter(responses).boxed()))
    }

    async fn query_range(
        &self,
        request: Request<thanos::QueryRangeRequest>,
    ) -> Result<Response<Self::QueryRangeStream>, Status> {
        use thanos::query_range_response::Result as Part;
        let tenant = farview_storeapi::server::tenant(request.metadata());
        let request = request.into_inner();
        // As over HTTP: what cannot be meant is refused before it is evaluated.
        if request.interval_seconds <= 0 {
            return Err(Status::invalid_argument("interval_seconds must be positive"));
        }
        let span = request.end_time_seconds.checked_sub(request.start_time_seconds).filter(|span| *span >= 0);
        let Some(span) = span else {
            return Err(Status::invalid_argument("end_time_seconds must not be before start_time_seconds"));
        };
        if span / request.interval_seconds > MAX_POINTS {
            return Err(Status::invalid_argument(format!("more than {MAX_POINTS} points per series")));
        }
        let asked = Asked {
            when: When::Range {
                start: request.start_time_seconds.saturating_mul(1_000),
                end: request.end_time_seconds.saturating_mul(1_000),
                step: request.interval_seconds.saturating_mul(1_000),
            },
            text: request.query,
            timeout_seconds: request.timeout_seconds,
            max_resolution_seconds: request.max_resolution_seconds,
            lookback_seconds: request.lookback_delta_seconds,
            replica_labels: request.replica_labels,
            dedup: request.enable_dedup,
            partial: request.enable_partial_response,
            store_matchers: request.store_matchers,
        };
        let (answer, warnings) = self.evaluate(asked, tenant).await?;
        let stats = thanos::QueryStatistics {
            samples_total: answer.stats.total_samples as i64,
            peak_samples: answer.stats.peak_samples as i64,
        };
        let parts = warnings.into_iter().map(Part::Warnings);
        let parts =
            parts.chain(time_series(answer.value).into_iter().map(Part::Timeseries)).chain([Part::Stats(stats)]);
        let responses: Vec<_> = parts.map(|part| Ok(thanos::QueryRangeResponse { result: Some(part) })).collect();
        Ok(Response::new(stream::iter(responses).boxed()))
    }
}
