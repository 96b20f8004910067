//! Requests in the words of the domain, and their protobuf forms.

use crate::StoreError;
pub use farview_model::ShardInfo;
use farview_model::{Aggregate, ErrorKind, MatchOp, Matcher, Slots, TimeRange};
use farview_proto::thanos;
use prost_types::Any;

/// What to do when a part of the answer cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartialResponse {
    /// Answer with what there is and a warning for what there is not.
    #[default]
    Warn,
    /// Fail.
    Abort,
}

/// What the asking engine does with the series: a store may use it and may ignore it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryHints {
    /// Step of the query, ms.
    pub step: i64,
    /// Nearest function or aggregation above the selector; empty if none.
    pub func: String,
    /// `by` or `without` and the labels of the nearest aggregation.
    pub grouping: Option<(bool, Vec<String>)>,
    /// Range of the range selector, ms.
    pub range: i64,
}

/// A request for series.
#[derive(Debug, Clone)]
pub struct SelectRequest {
    /// Samples wanted, both ends inclusive, ms. A store may send chunks that overhang.
    pub range: TimeRange,
    /// What the labels must match; external labels count.
    pub matchers: Vec<Matcher>,
    /// Coarsest resolution that will do, ms; 0 for raw.
    pub max_resolution: i64,
    /// Aggregates wanted of downsampled blocks; empty for raw.
    pub aggregates: Vec<Aggregate>,
    /// What to do when a part cannot be had.
    pub partial_response: PartialResponse,
    /// Send labels only.
    pub skip_chunks: bool,
    /// Drop these labels, and sort by what is left.
    pub without_replica_labels: Vec<String>,
    /// Part of the series wanted.
    pub shard: Option<ShardInfo>,
    /// At most so many series; 0 for all.
    pub limit: usize,
    /// Up to so many series in a frame; 0 or 1 for frames of one series.
    pub batch_size: usize,
    /// What the engine does with them.
    pub hints: Option<QueryHints>,
    /// Further hints, by type (`hintspb.SeriesRequestHints`).
    pub any_hints: Option<Any>,
    /// Who asks; empty for nobody in particular. Travels as gRPC metadata.
    pub tenant: String,
    /// Only blocks of these slots, of a store that divides them with others. Travels as gRPC metadata.
    pub slots: Option<Slots>,
}

impl SelectRequest {
    /// Makes a request for all samples in `range` of the series that match, in batches, with defaults otherwise.
    pub fn new(range: TimeRange, matchers: Vec<Matcher>) -> Self {
        Self {
            range,
            matchers,
            max_resolution: 0,
            aggregates: Vec::new(),
            partial_response: PartialResponse::Warn,
            skip_chunks: false,
            without_replica_labels: Vec::new(),
            shard: None,
            limit: 0,
            batch_size: 64,
            hints: None,
            any_hints: None,
            tenant: String::new(),
            slots: None,
        }
    }

    /// Reads the protobuf form.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a matcher or an enum value is not valid.
    pub fn from_proto(request: thanos::SeriesRequest) -> Result<Self, StoreError> {
        let partial_response = partial_response(request.partial_response_strategy, request.partial_response_disabled);
        let shard = request.shard_info.filter(|shard| shard.total_shards > 0).map(|shard| {
            Ok::<_, StoreError>(ShardInfo {
                index: count(shard.shard_index, "shard_index")? as u64,
                total: count(shard.total_shards, "total_shards")? as u64,
                by: shard.by,
                labels: shard.labels,
            })
        });
        Ok(Self {
            range: TimeRange::new(request.min_time, request.max_time),
            matchers: matchers_from_proto(&request.matchers)?,
            max_resolution: request.max_resolution_window,
            aggregates: request
                .aggregates
                .iter()
                .map(|aggregate| aggregate_from_proto(*aggregate))
                .collect::<Result<_, _>>()?,
            partial_response,
            skip_chunks: request.skip_chunks,
            without_replica_labels: request.without_replica_labels,
            shard: shard.transpose()?,
            limit: count(request.limit, "limit")?,
            batch_size: count(request.response_batch_size, "response_batch_size")?,
            hints: request.query_hints.map(|hints| QueryHints {
                step: hints.step_millis,
                func: hints.func.map(|func| func.name).unwrap_or_default(),
                grouping: hints.grouping.map(|grouping| (grouping.by, grouping.labels)),
                range: hints.range.map(|range| range.millis).unwrap_or_default(),
            }),
            any_hints: request.hints,
            tenant: String::new(),
            slots: None,
        })
    }

    /// Returns the protobuf form. The tenant is not part of it.
    pub fn to_proto(&self) -> thanos::SeriesRequest {
        let hints = self.hints.as_ref();
        thanos::SeriesRequest {
            min_time: self.range.mint,
            max_time: self.range.maxt,
            matchers: matchers_to_proto(&self.matchers),
            max_resolution_window: self.max_resolution,
            aggregates: self.aggregates.iter().map(|aggregate| aggregate_to_proto(*aggregate)).collect(),
            partial_response_disabled: self.partial_response == PartialResponse::Abort,
            partial_response_strategy: strategy(self.partial_response),
            skip_chunks: self.skip_chunks,
            hints: self.any_hints.clone(),
            step: hints.map_or(0, |hints| hints.step),
            range: hints.map_or(0, |hints| hints.range),
            query_hints: hints.map(|hints| thanos::QueryHints {
                step_millis: hints.step,
                func: (!hints.func.is_empty()).then(|| thanos::Func { name: hints.func.clone() }),
                grouping: hints
                    .grouping
                    .as_ref()
                    .map(|(by, labels)| thanos::Grouping { by: *by, labels: labels.clone() }),
                range: (hints.range > 0).then_some(thanos::Range { millis: hints.range }),
                ..thanos::QueryHints::default()
            }),
            shard_info: self.shard.as_ref().map(|shard| thanos::ShardInfo {
                shard_index: shard.index as i64,
                total_shards: shard.total as i64,
                by: shard.by,
                labels: shard.labels.clone(),
            }),
            without_replica_labels: self.without_replica_labels.clone(),
            limit: self.limit as i64,
            response_batch_size: self.batch_size as i64,
        }
    }
}

/// A request for names of labels, or for values of one.
#[derive(Debug, Clone)]
pub struct LabelsRequest {
    /// The label whose values are wanted; empty when names are.
    pub label: String,
    /// Of series with samples in this range, ms.
    pub range: TimeRange,
    /// Of series that match.
    pub matchers: Vec<Matcher>,
    /// What to do when a part cannot be had.
    pub partial_response: PartialResponse,
    /// Labels to leave out.
    pub without_replica_labels: Vec<String>,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// Further hints, by type.
    pub any_hints: Option<Any>,
    /// Who asks; travels as gRPC metadata.
    pub tenant: String,
    /// Only blocks of these slots; travels as gRPC metadata.
    pub slots: Option<Slots>,
}

impl LabelsRequest {
    /// Makes a request for the names of labels.
    pub fn names(range: TimeRange, matchers: Vec<Matcher>) -> Self {
        Self::values("", range, matchers)
    }

    /// Makes a request for the values of `label`.
    pub fn values(label: impl Into<String>, range: TimeRange, matchers: Vec<Matcher>) -> Self {
        Self {
            label: label.into(),
            range,
            matchers,
            partial_response: PartialResponse::Warn,
            without_replica_labels: Vec::new(),
            limit: 0,
            any_hints: None,
            tenant: String::new(),
            slots: None,
        }
    }

    /// Reads the protobuf form of a request for names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a matcher is not valid.
    pub fn from_names_proto(request: thanos::LabelNamesRequest) -> Result<Self, StoreError> {
        Ok(Self {
            label: String::new(),
            range: TimeRange::new(request.start, request.end),
            matchers: matchers_from_proto(&request.matchers)?,
            partial_response: partial_response(request.partial_response_strategy, request.partial_response_disabled),
            without_replica_labels: request.without_replica_labels,
            limit: count(request.limit, "limit")?,
            any_hints: request.hints,
            tenant: String::new(),
            slots: None,
        })
    }

    /// Reads the protobuf form of a request for values.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if a matcher is not valid.
    pub fn from_values_proto(request: thanos::LabelValuesRequest) -> Result<Self, StoreError> {
        if request.label.is_empty() {
            return Err(StoreError::new(ErrorKind::Invalid, "the name of the label whose values are wanted is empty"));
        }
        Ok(Self {
            label: request.label,
            range: TimeRange::new(request.start, request.end),
            matchers: matchers_from_proto(&request.matchers)?,
            partial_response: partial_response(request.partial_response_strategy, request.partial_response_disabled),
            without_replica_labels: request.without_replica_labels,
            limit: count(request.limit, "limit")?,
            any_hints: request.hints,
            tenant: String::new(),
            slots: None,
        })
    }

    /// Returns the protobuf form of a request for names.
    pub fn to_names_proto(&self) -> thanos::LabelNamesRequest {
        thanos::LabelNamesRequest {
            partial_response_disabled: self.partial_response == PartialResponse::Abort,
            partial_response_strategy: strategy(self.partial_response),
            start: self.range.mint,
            end: self.range.maxt,
            hints: self.any_hints.clone(),
            matchers: matchers_to_proto(&self.matchers),
            without_replica_labels: self.without_replica_labels.clone(),
            limit: self.limit as i64,
        }
    }

    /// Returns the protobuf form of a request for values.
    pub fn to_values_proto(&self) -> thanos::LabelValuesRequest {
        thanos::LabelValuesRequest {
            label: self.label.clone(),
            partial_response_disabled: self.partial_response == PartialResponse::Abort,
            partial_response_strategy: strategy(self.partial_response),
            start: self.range.mint,
            end: self.range.maxt,
            hints: self.any_hints.clone(),
            matchers: matchers_to_proto(&self.matchers),
            without_replica_labels: self.without_replica_labels.clone(),
            limit: self.limit as i64,
        }
    }
}

fn count(value: i64, field: &str) -> Result<usize, StoreError> {
    usize::try_from(value)
        .map_err(|_| StoreError::new(ErrorKind::Invalid, format!("{field} must not be negative, got {value}")))
}

/// Returns the protobuf form of a partial response strategy.
pub fn strategy(partial_response: PartialResponse) -> i32 {
    match partial_response {
        PartialResponse::Warn => thanos::PartialResponseStrategy::Warn.into(),
        PartialResponse::Abort => thanos::PartialResponseStrategy::Abort.into(),
    }
}

/// Old clients set only the boolean, new ones the strategy too: each of them can forbid a partial answer.
pub fn partial_response(strategy: i32, disabled: bool) -> PartialResponse {
    if disabled || strategy == thanos::PartialResponseStrategy::Abort as i32 {
        PartialResponse::Abort
    } else {
        PartialResponse::Warn
    }
}

/// Reads matchers from their protobuf form.
///
/// # Errors
/// [`ErrorKind::Invalid`] for an unknown operator or a regular expression that does not compile.
pub fn matchers_from_proto(matchers: &[thanos::LabelMatcher]) -> Result<Vec<Matcher>, StoreError> {
    matchers
        .iter()
        .map(|matcher| {
            use thanos::label_matcher::Type;
            let op = match Type::try_from(matcher.r#type) {
                Ok(Type::Eq) => MatchOp::Equal,
                Ok(Type::Neq) => MatchOp::NotEqual,
                Ok(Type::Re) => MatchOp::Regex,
                Ok(Type::Nre) => MatchOp::NotRegex,
                Err(_) => {
                    let text = format!("unknown type {} of the matcher for label {:?}", matcher.r#type, matcher.name);
                    return Err(StoreError::new(ErrorKind::Invalid, text));
                }
            };
            Matcher::new(op, matcher.name.as_str(), matcher.value.as_str())
                .map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))
        })
        .collect()
}

/// Returns the protobuf form of matchers.
pub fn matchers_to_proto(matchers: &[Matcher]) -> Vec<thanos::LabelMatcher> {
    use thanos::label_matcher::Type;
    matchers
        .iter()
        .map(|matcher| thanos::LabelMatcher {
            r#type: match matcher.op() {
                MatchOp::Equal => Type::Eq,
                MatchOp::NotEqual => Type::Neq,
                MatchOp::Regex => Type::Re,
                MatchOp::NotRegex => Type::Nre,
            }
            .into(),
            name: matcher.name().to_owned(),
            value: matcher.value().to_owned(),
        })
        .collect()
}

fn aggregate_from_proto(aggregate: i32) -> Result<Aggregate, StoreError> {
    use thanos::Aggr;
    Ok(match Aggr::try_from(aggregate) {
        Ok(Aggr::Raw) => Aggregate::Raw,
        Ok(Aggr::Count) => Aggregate::Count,
        Ok(Aggr::Sum) => Aggregate::Sum,
        Ok(Aggr::Min) => Aggregate::Min,
        Ok(Aggr::Max) => Aggregate::Max,
        Ok(Aggr::Counter) => Aggregate::Counter,
        Err(_) => return Err(StoreError::new(ErrorKind::Invalid, format!("unknown aggregate {aggregate}"))),
    })
}

fn aggregate_to_proto(aggregate: Aggregate) -> i32 {
    use thanos::Aggr;
    match aggregate {
        Aggregate::Raw => Aggr::Raw,
        Aggregate::Count => Aggr::Count,
        Aggregate::Sum => Aggr::Sum,
        Aggregate::Min => Aggr::Min,
        Aggregate::Max => Aggr::Max,
        Aggregate::Counter => Aggr::Counter,
    }
    .into()
}
