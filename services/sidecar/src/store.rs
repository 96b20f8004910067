//! StoreAPI over one Prometheus.

use crate::metrics::Metrics;
use crate::prometheus::Prometheus;
use crate::prometheus::remote_read::{ReadRequest, ReadStream};
use crate::state::{Snapshot, State};
use async_trait::async_trait;
use farview_config::TimeOrDuration;
use farview_model::{Budget, ErrorKind, Labels, Matcher, TimeRange, Warnings};
use farview_series::{ChunkData, ChunkSeries, Relabel, RelabelError};
use farview_storeapi::{Frame, LabelsAnswer, LabelsRequest, SelectRequest, SelectStream, Store, StoreError};
use farview_tsdb::MAX_SAMPLES;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What one request may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Series in an answer, 0 for all (`--store.limits.request-series`).
    pub(crate) series: u64,
    /// Samples in an answer, 0 for all, counted as 120 a chunk (`--store.limits.request-samples`).
    pub(crate) samples: u64,
    /// Oldest time that is served (`--min-time`); a relative one slides with the clock.
    pub(crate) min_time: TimeOrDuration,
    /// Bytes that one request may hold while it restores the order of the series.
    pub(crate) request_bytes: u64,
    /// How long Prometheus may take for an answer that is read whole.
    pub(crate) timeout: Duration,
}

/// Frames that wait for a slow client at most: a few hundred KiB.
const FRAMES_AHEAD: usize = 4;

/// A [`Store`] over the Prometheus beside us.
pub(crate) struct PrometheusStore {
    pub(crate) prometheus: Prometheus,
    pub(crate) state: Arc<State>,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) metrics: Metrics,
}

/// A request after the external labels have had their say.
struct Narrowed {
    /// What Prometheus is asked beside; empty if external labels were all that was to be matched.
    matchers: Vec<Matcher>,
    range: TimeRange,
}

impl Narrowed {
    /// Returns the matchers for the label APIs, which take none, or at least one that an absent label fails.
    fn selective(&self) -> Vec<Matcher> {
        if self.matchers.is_empty() { Vec::new() } else { with_a_name(&self.matchers) }
    }
}

impl PrometheusStore {
    fn ready(&self) -> Result<Arc<Snapshot>, StoreError> {
        let snapshot = self.state.get();
        if snapshot.is_ready() {
            return Ok(snapshot);
        }
        let why = snapshot.down.clone().unwrap_or_else(|| "its external labels are not known yet".to_owned());
        Err(StoreError::new(
            ErrorKind::Unavailable,
            format!("Prometheus at {} cannot answer: {why}", self.prometheus.base()),
        ))
    }

    /// Matches the external labels and takes their matchers off; `None` if nothing can match.
    fn narrow(&self, snapshot: &Snapshot, matchers: &[Matcher], range: TimeRange) -> Option<Narrowed> {
        let mut rest = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            match snapshot.external.get(matcher.name()) {
                Some(value) if matcher.matches(value) => {}
                Some(_) => return None,
                None => rest.push(matcher.clone()),
            }
        }
        let range = TimeRange::new(range.mint.max(self.limits.min_time.millis(now())), range.maxt);
        if range.is_empty() {
            return None;
        }
        Some(Narrowed { matchers: rest, range })
    }

    async fn read(&self, request: &SelectRequest, narrowed: &Narrowed) -> Result<Source, StoreError> {
        let matchers = with_a_name(&narrowed.matchers);
        if request.skip_chunks {
            let (sets, warnings) = self.prometheus.series(&matchers, narrowed.range, 0, self.limits.timeout).await?;
            let mut series: Vec<ChunkSeries> =
                sets.into_iter().map(|labels| ChunkSeries { labels, chunks: Vec::new() }).collect();
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            return Ok(Source { stream: ReadStream::Samples(Some(series)), warnings });
        }
        let read = ReadRequest { matchers: &matchers, range: narrowed.range, hints: request.hints.as_ref() };
        Ok(Source { stream: self.prometheus.remote_read(read).await?, warnings: Vec::new() })
    }
}

/// Returns the time, ms.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Prometheus wants at least one matcher; every series has a name, or can have none.
fn with_a_name(matchers: &[Matcher]) -> Vec<Matcher> {
    let mut matchers = matchers.to_vec();
    if matchers.iter().all(Matcher::matches_empty) {
        let any = Matcher::new(farview_model::MatchOp::NotEqual, farview_model::METRIC_NAME, "");
        matchers.extend(any);
    }
    matchers
}

struct Source {
    stream: ReadStream,
    warnings: Vec<String>,
}

#[async_trait]
impl Store for PrometheusStore {
    async fn select(&self, request: SelectRequest) -> Result<SelectStream, StoreError> {
        let snapshot = self.ready()?;
        let Some(narrowed) = self.narrow(&snapshot, &request.matchers, request.range) else {
            return Ok(Box::pin(futures::stream::empty()));
        };
        let relabel = Relabel::new(
            &snapshot.external,
            &request.without_replica_labels,
            |name| snapshot.label_names.contains(name),
            &self.budget.child("--store.limits.request-bytes", self.limits.request_bytes),
        )?;
        let source = self.read(&request, &narrowed).await?;
        let relabel = match &source.stream {
            ReadStream::Chunks(_) => relabel.expect_merged(),
            ReadStream::Samples(_) => relabel,
        };
        let (frames, receiver) = mpsc::channel(FRAMES_AHEAD);
        let relay = Relay {
            source,
            relabel,
            sent: 0,
            chunks: 0,
            limits: self.limits.clone(),
            batch: request.batch_size.max(1),
            generation: snapshot.generation,
            state: Arc::clone(&self.state),
            metrics: self.metrics.clone(),
            request,
            frames,
        };
        tokio::spawn(relay.run());
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn label_names(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        let snapshot = self.ready()?;
        let Some(narrowed) = self.narrow(&snapshot, &request.matchers, request.range) else {
            return Ok(LabelsAnswer::default());
        };
        let matchers = narrowed.selective();
        let asked = self.prometheus.label_names(&matchers, narrowed.range, self.limits.timeout);
        let (mut names, warnings) = asked.await?;
        if !names.is_empty() {
            names.extend(snapshot.external.iter().map(|(name, _)| name.to_owned()));
        }
        names.retain(|name| !request.without_replica_labels.contains(name));
        Ok(answer(names, warnings, request.limit))
    }

    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        let snapshot = self.ready()?;
        let Some(narrowed) = self.narrow(&snapshot, &request.matchers, request.range) else {
            return Ok(LabelsAnswer::default());
        };
        if request.without_replica_labels.contains(&request.label) {
            return Ok(LabelsAnswer::default());
        }
        let timeout = self.limits.timeout;
        if let Some(value) = snapshot.external.get(&request.label) {
            // Only if there is a series to carry it.
            if !narrowed.matchers.is_empty() {
                let matchers = with_a_name(&narrowed.matchers);
                let (series, _) = self.prometheus.series(&matchers, narrowed.range, 1, timeout).await?;
                if series.is_empty() {
                    return Ok(LabelsAnswer::default());
                }
            }
            return Ok(answer(vec![value.to_owned()], Vec::new(), request.limit));
        }
        let matchers = narrowed.selective();
        let asked = self.prometheus.label_values(&request.label, &matchers, narrowed.range, timeout);
        let (values, warnings) = asked.await?;
        Ok(answer(values, warnings, request.limit))
    }
}

fn answer(mut values: Vec<String>, warnings: Vec<String>, limit: usize) -> LabelsAnswer {
    values.sort_unstable();
    values.dedup();
    if limit > 0 {
        values.truncate(limit);
    }
    let mut answer = LabelsAnswer { values, warnings: Warnings::default() };
    warnings.into_iter().for_each(|warning| answer.warnings.add(warning));
    answer
}

/// Passes one answer on, in a task of its own. The client going away closes the channel, which ends the task, which closes
/// the connection to Prometheus.
struct Relay {
    source: Source,
    relabel: Relabel,
    request: SelectRequest,
    limits: Limits,
    batch: usize,
    sent: u64,
    chunks: u64,
    generation: u64,
    state: Arc<State>,
    metrics: Metrics,
    frames: mpsc::Sender<Result<Frame, StoreError>>,
}

/// Why a relay ends before the answer does.
enum Stop {
    /// The client has gone, or has as much as it wanted.
    Enough,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<RelabelError> for Stop {
    fn from(error: RelabelError) -> Self {
        let kind = match &error {
            RelabelError::Budget(_) => ErrorKind::LimitExceeded,
            RelabelError::NewLabel(_) | RelabelError::Changed(_) => ErrorKind::Unavailable,
        };
        Self::Failed(StoreError::new(kind, error.to_string()))
    }
}

impl Relay {
    async fn run(mut self) {
        if let Err(Stop::Failed(error)) = self.relay().await {
            let _ = self.frames.send(Err(error)).await;
        }
        self.metrics.series_sent.inc_by(self.sent);
        self.metrics.chunks_sent.inc_by(self.chunks);
    }

    async fn relay(&mut self) -> Result<(), Stop> {
        for warning in std::mem::take(&mut self.source.warnings) {
            self.send(Frame::Warning(warning)).await?;
        }
        let mut ordered = Vec::new();
        while let Some(batch) = self.next_batch().await? {
            for series in batch {
                if let Err(error) = self.relabel.push(series, &mut ordered) {
                    if let RelabelError::NewLabel(name) = &error {
                        // The next request knows it.
                        self.state.update(|snapshot| {
                            snapshot.label_names.insert(name.clone());
                        });
                    }
                    if let RelabelError::Changed(_) = &error {
                        self.state.doubt();
                    }
                    return Err(error.into());
                }
            }
            if ordered.len() >= self.batch {
                self.send_series(std::mem::take(&mut ordered)).await?;
            }
            for encoding in self.source.stream.take_unknown() {
                let text = format!(
                    "Prometheus sent chunks with encoding {encoding}, which this sidecar cannot pass on; their samples are missing"
                );
                self.send(Frame::Warning(text)).await?;
            }
        }
        if self.state.get().generation != self.generation {
            let text = "the external labels of Prometheus changed during the answer: ask again";
            return Err(StoreError::new(ErrorKind::Unavailable, text).into());
        }
        self.relabel.finish(&mut ordered);
        self.send_series(ordered).await
    }

    /// Waits for Prometheus, but not longer than the client does.
    async fn next_batch(&mut self) -> Result<Option<Vec<ChunkSeries>>, Stop> {
        tokio::select! {
            biased;
            () = self.frames.closed() => Err(Stop::Enough),
            batch = self.source.stream.next() => Ok(batch?),
        }
    }

    async fn send_series(&mut self, series: Vec<ChunkSeries>) -> Result<(), Stop> {
        let mut kept: Vec<ChunkSeries> = match &self.request.shard {
            Some(shard) => series.into_iter().filter(|series| shard.matches(&series.labels)).collect(),
            None => series,
        };
        let mut enough = false;
        if self.request.limit > 0 {
            let left = self.request.limit.saturating_sub(self.sent as usize);
            enough = kept.len() >= left;
            kept.truncate(left);
        }
        self.sent += kept.len() as u64;
        self.chunks += kept.iter().map(|series| series.chunks.len() as u64).sum::<u64>();
        self.check_limits()?;
        let mut rest = kept.into_iter();
        loop {
            let frame: Vec<ChunkSeries> = rest.by_ref().take(self.batch).collect();
            if frame.is_empty() {
                break;
            }
            self.metrics.chunk_bytes_sent.inc_by(frame.iter().map(bytes).sum());
            self.send(Frame::Series(frame)).await?;
        }
        if enough { Err(Stop::Enough) } else { Ok(()) }
    }

    fn check_limits(&self) -> Result<(), Stop> {
        let over = |name: &str, limit: u64, got: u64| {
            let text = format!("the answer has {got} of what {name} limits to {limit}");
            Err(StoreError::new(ErrorKind::LimitExceeded, text).into())
        };
        let samples = self.chunks * MAX_SAMPLES as u64;
        if self.limits.series > 0 && self.sent > self.limits.series {
            return over("--store.limits.request-series", self.limits.series, self.sent);
        }
        if self.limits.samples > 0 && samples > self.limits.samples {
            return over("--store.limits.request-samples", self.limits.samples, samples);
        }
        Ok(())
    }

    async fn send(&self, frame: Frame) -> Result<(), Stop> {
        self.frames.send(Ok(frame)).await.map_err(|_| Stop::Enough)
    }
}

fn bytes(series: &ChunkSeries) -> u64 {
    let of_chunk = |chunk: &farview_series::AggrChunk| match &chunk.data {
        ChunkData::Raw(raw) => raw.data.len() as u64,
        ChunkData::Aggregated(_) => 0,
    };
    series.chunks.iter().map(of_chunk).sum()
}

/// Adds the external labels to a set, over labels of the same name.
pub(crate) fn with_external(labels: &Labels, external: &Labels) -> Labels {
    let mut builder = farview_model::LabelsBuilder::new(labels);
    external.iter().for_each(|(name, value)| {
        builder.set(name, value);
    });
    builder.build()
}
