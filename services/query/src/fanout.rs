//! Asking every endpoint that matters at the same time, and making one stream of their answers.
//!
//! Each endpoint has a task that reads its frames ahead, a few at most, under three deadlines: for the first frame, between
//! frames, and for the whole query. The merge needs only the heads of the streams, so that memory does not grow with the
//! answer. What an endpoint does wrong ends its stream, not the answer: under `Warn` the answer says so, under `Abort` it fails.

use crate::endpoints::{Endpoint, Endpoints, Matching, Wanted};
use crate::replicas::{Group, InFlight, Replicas, SPARED};
use crate::run::{AccountHandle, QueryRun};
use farview_channels::ClientMetrics;
use farview_model::{BudgetExceeded, ErrorKind, Labels, Reservation, Slots};
use farview_series::merge::without_labels;
use farview_series::{ChunkData, ChunkSeries, Merge};
use farview_storeapi::{
    CallOptions, Component, DecodedFrame, Frame, LabelsAnswer, LabelsRequest, PartialResponse, SelectRequest,
    StoreClient, StoreError,
};
use farview_tsdb::MAX_SAMPLES;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Frames of one endpoint that are read ahead.
const FRAMES_AHEAD: usize = 4;

/// Series in a batch for the engine.
const BATCH: usize = 128;

/// Batches that wait for the engine.
const BATCHES_AHEAD: usize = 2;

/// Bounds on one endpoint's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    /// For the first frame.
    pub(crate) first_frame: Duration,
    /// From frame to frame.
    pub(crate) gap: Duration,
}

/// Merged series on their way to whoever asked; the memory they take is reserved as long as `held` lives.
pub(crate) struct Batch {
    pub(crate) series: Vec<ChunkSeries>,
    pub(crate) held: Reservation,
}

/// Frames of one endpoint.
type FrameStream = Pin<Box<dyn Stream<Item = Result<DecodedFrame, StoreError>> + Send>>;

/// A stream of merged series.
pub(crate) type Batches = mpsc::Receiver<Result<Batch, StoreError>>;

/// Asks endpoints.
pub(crate) struct Fanout {
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) replicas: Replicas,
    pub(crate) deadlines: Deadlines,
    pub(crate) max_message_bytes: usize,
    pub(crate) max_series: u64,
    /// Calls to endpoints.
    pub(crate) calls: ClientMetrics,
}

/// What an endpoint's task sends to the merge. Memory is reserved for series before they wait there.
enum Message {
    Series(Vec<ChunkSeries>, Reservation),
    End,
    Failed(Cut),
}

/// Why a stream ends early.
enum Cut {
    /// The endpoint failed: its part of the answer is missing.
    Theirs(StoreError),
    /// The query hit a limit of ours: there is no answer.
    Ours(StoreError),
}

impl From<StoreError> for Cut {
    fn from(error: StoreError) -> Self {
        Self::Theirs(error)
    }
}

impl From<BudgetExceeded> for Cut {
    fn from(error: BudgetExceeded) -> Self {
        Self::Ours(error.into())
    }
}

impl Fanout {
    /// Says in the answer, or as an error, what cannot be asked. Returns whom to ask.
    pub(crate) fn choose(&self, run: &QueryRun, wanted: &Wanted<'_>) -> Result<Matching, StoreError> {
        let matching = self.endpoints.matching(wanted);
        let now = std::time::SystemTime::now();
        let strict = run.partial_response == PartialResponse::Abort;
        for missing in &matching.missing {
            let text = missing.text(now);
            // Who wants all or nothing gets all from the other one of a pair: an update of Prometheus must not fail every rule.
            if strict && !missing.replica_answers {
                return Err(StoreError::new(ErrorKind::Unavailable, text));
            }
            run.missing(missing, text);
        }
        run.skipped(&matching.skipped);
        for name in &matching.stale {
            run.warn(format!("the addresses of {name} have not been confirmed by DNS for over an hour"));
        }
        if matching.known == 0 && matching.missing.is_empty() {
            let text = if self.endpoints.configured() == 0 {
                "no endpoint is configured: nothing was asked"
            } else {
                "no endpoint is known yet: nothing was asked"
            };
            if strict {
                return Err(StoreError::new(ErrorKind::Unavailable, text));
            }
            run.warn(text);
        }
        Ok(matching)
    }

    /// Starts to ask for series. What is missing is in the run's warnings when this returns; what fails later comes there, or
    /// through the stream if the run is strict.
    pub(crate) fn select(
        self: &Arc<Self>,
        run: &Arc<QueryRun>,
        mut request: SelectRequest,
    ) -> Result<Batches, StoreError> {
        request.matchers.extend(run.tenant.enforced.clone());
        let wanted = Wanted {
            range: request.range,
            matchers: &request.matchers,
            store_matchers: &run.store_matchers,
            replica_labels: &request.without_replica_labels,
            api: crate::endpoints::Api::Store,
        };
        let matching = self.choose(run, &wanted)?;
        let (out, batches) = mpsc::channel(BATCHES_AHEAD);
        let request = Arc::new(request);
        let mut inputs = Vec::with_capacity(matching.chosen.len());
        for Group { replicas, slots } in self.replicas.group(matching.chosen) {
            let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
            let spared: Vec<_> = replicas[1..].iter().map(|replica| (replica.address.clone(), SPARED)).collect();
            run.skipped(&spared);
            let endpoint = replicas[0].clone();
            let asking = Asking {
                fanout: Arc::clone(self),
                run: Arc::clone(run),
                request: Arc::clone(&request),
                replicas,
                slots,
                sender,
            };
            tokio::spawn(asking.run());
            inputs.push(Input { endpoint, receiver, last: None, held: None });
        }
        let merging = Merging {
            run: Arc::clone(run),
            merge: Merge::new(inputs.len()),
            inputs,
            out,
            max_series: self.max_series,
            sent: 0,
        };
        tokio::spawn(merging.run());
        Ok(batches)
    }
}

impl Fanout {
    /// Says that `what` an endpoint owes at first did not come within `limit`, and which flag sets that.
    pub(crate) fn late(&self, what: &str, limit: Duration) -> StoreError {
        let flag = if limit < self.deadlines.first_frame { "--query.timeout" } else { "--query.first-frame-timeout" };
        late(what, limit, flag)
    }
}

fn late(what: &str, limit: Duration, flag: &str) -> StoreError {
    let seconds = limit.as_secs_f64();
    StoreError::new(ErrorKind::Timeout, format!("{what} did not come within {seconds:.1}s ({flag})"))
}

// === one endpoint ===

struct Asking {
    fanout: Arc<Fanout>,
    run: Arc<QueryRun>,
    request: Arc<SelectRequest>,
    /// Interchangeable, in the order in which to ask them.
    replicas: Vec<Endpoint>,
    /// Of stores that divide blocks: which are wanted.
    slots: Option<Slots>,
    sender: mpsc::Sender<Message>,
}

/// A stream whose first frame has come.
struct Opened<'a> {
    asked: Asked<'a>,
    frames: FrameStream,
    /// None if the answer is empty.
    first: Option<DecodedFrame>,
}

/// One endpoint that is asked.
struct Asked<'a> {
    endpoint: &'a Endpoint,
    account: AccountHandle,
    started: Instant,
    /// It cannot leave out replica labels: that is done here.
    strip_here: bool,
    _in_flight: InFlight,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.account.update(|account| account.duration = self.started.elapsed());
    }
}

impl Asking {
    async fn run(self) {
        // Whoever reads the stream going away, or the query ending, ends the call to the endpoint.
        let result = tokio::select! {
            biased;
            () = self.sender.closed() => return,
            () = self.run.cancelled.cancelled() => Err(cancelled().into()),
            result = self.ask() => result,
        };
        let message = match result {
            Ok(()) => Message::End,
            Err(cut) => Message::Failed(cut),
        };
        let _ = self.sender.send(message).await;
    }

    /// Asks one replica; if it fails, the next goes on where it ended.
    async fn ask(&self) -> Result<(), Cut> {
        let mut last = None;
        let mut tried = 0;
        loop {
            let result = match self.open_any(&mut tried).await {
                Ok(opened) => {
                    let address = &opened.asked.endpoint.address;
                    let result = self.relay(&opened.asked, opened.frames, opened.first, &mut last).await;
                    result.map_err(|cut| (address, cut))
                }
                Err((endpoint, cut)) => Err((&endpoint.address, cut)),
            };
            match result {
                Err((address, Cut::Theirs(error))) if tried < self.replicas.len() && !is_ours(&error) => {
                    tracing::debug!(endpoint = address, %error, "asking another store with the same data");
                    self.run.account(address).update(|account| account.error = Some(error.to_string()));
                }
                Err((address, Cut::Theirs(error))) if tried > 1 => {
                    let text = format_args!("none of {tried} stores with the same data answered; the last, {address}");
                    return Err(error.within(text).into());
                }
                result => return result.map_err(|(_, cut)| cut),
            }
        }
    }

    /// Asks the next replica, and the one after it too if it is slow; counts those that were tried.
    async fn open_any(&self, tried: &mut usize) -> Result<Opened<'_>, (&Endpoint, Cut)> {
        let from = *tried;
        let rest = &self.replicas[from..];
        let next = AtomicUsize::new(0);
        let attempt = || async {
            let endpoint = &rest[next.fetch_add(1, Ordering::Relaxed).min(rest.len() - 1)];
            self.open(endpoint).await.map_err(|cut| (endpoint, cut))
        };
        let opened = match rest {
            [_] => attempt().await,
            _ => self.fanout.replicas.hedge.run(attempt).await,
        };
        *tried = from + next.load(Ordering::Relaxed).clamp(1, rest.len());
        opened
    }

    /// Asks an endpoint and waits for its first frame.
    async fn open<'a>(&self, endpoint: &'a Endpoint) -> Result<Opened<'a>, Cut> {
        let Some(live) = &endpoint.live else {
            return Err(StoreError::new(ErrorKind::Unavailable, endpoint.problem()).into());
        };
        let store = live.identity.store.as_ref();
        let strips = store.is_some_and(|store| store.supports_without_replica_labels);
        let mut request = SelectRequest::clone(&self.request);
        request.matchers.extend(endpoint.narrowed.iter().cloned());
        request.slots = self.slots;
        let strip_here = !strips && !request.without_replica_labels.is_empty();
        if strip_here {
            request.without_replica_labels.clear();
        }
        let asked = Asked {
            endpoint,
            account: self.run.account(&endpoint.address),
            started: Instant::now(),
            strip_here,
            _in_flight: self.fanout.replicas.enter(&endpoint.address),
        };
        let remaining = self.run.remaining();
        let options = CallOptions { timeout: Some(remaining), max_message_bytes: Some(self.fanout.max_message_bytes) };
        let client = StoreClient::new(self.fanout.calls.measure(live.channel.clone()));
        let limit = self.fanout.deadlines.first_frame.min(remaining);
        let opened = tokio::time::timeout(limit, async {
            let mut frames: FrameStream = Box::pin(client.select(&request, &options).await?);
            let first = frames.next().await.transpose()?;
            Ok::<_, StoreError>((frames, first))
        });
        let (frames, first) = opened.await.map_err(|_| self.fanout.late("the first frame", limit))??;
        Ok(Opened { asked, frames, first })
    }

    /// Passes frames on. `last` is the last series that was passed on: what comes up to it from another replica is left out.
    async fn relay(
        &self,
        asked: &Asked<'_>,
        mut frames: FrameStream,
        first: Option<DecodedFrame>,
        last: &mut Option<Labels>,
    ) -> Result<(), Cut> {
        let gap = self.fanout.deadlines.gap;
        let resume = last.clone();
        let mut stripped = Vec::new();
        let mut stripped_held = self.run.budget.reserve(0)?;
        let mut next = first;
        while let Some(frame) = next {
            self.note(asked, &frame)?;
            match frame.frame {
                Frame::Series(mut series) => {
                    self.check_labels(asked.endpoint, &series)?;
                    if let Some(resume) = &resume {
                        series.retain(|series| series.labels > *resume);
                    }
                    let held = self.run.budget.reserve(series.iter().map(size).sum())?;
                    if asked.strip_here {
                        stripped_held.absorb(held);
                        stripped.extend(series);
                    } else if let Some(end) = series.last().map(|series| series.labels.clone()) {
                        if self.sender.send(Message::Series(series, held)).await.is_err() {
                            return Ok(());
                        }
                        *last = Some(end);
                    }
                }
                Frame::Warning(text) => self.run.failed_below(&asked.endpoint.address, &text)?,
                Frame::Hints(_) => {}
            }
            next = tokio::time::timeout(gap, frames.next())
                .await
                .map_err(|_| late("the next frame", gap, "--store.response-timeout"))?
                .transpose()?;
        }
        if asked.strip_here {
            let series = without_labels(stripped, &self.request.without_replica_labels);
            let _ = self.sender.send(Message::Series(series, stripped_held)).await;
        }
        Ok(())
    }

    fn note(&self, asked: &Asked<'_>, frame: &DecodedFrame) -> Result<(), StoreError> {
        asked.account.update(|account| {
            account.bytes += frame.bytes as u64;
            account.responses += 1;
            if let Frame::Series(series) = &frame.frame {
                account.series += series.len() as u64;
                let chunks: usize = series.iter().map(|series| series.chunks.len()).sum();
                account.chunks += chunks as u64;
                account.samples += series.iter().flat_map(|series| &series.chunks).map(samples).sum::<u64>();
            }
        });
        for encoding in &frame.unknown_encodings {
            let text =
                format!("chunks with encoding {encoding} cannot be read by this version; their samples are missing");
            self.run.failed_below(&asked.endpoint.address, &text)?;
        }
        Ok(())
    }

    /// A sidecar that sends series of labels it did not announce is not the one that was asked. What a query or a store
    /// gateway announces may have grown since it was last asked.
    fn check_labels(&self, endpoint: &Endpoint, series: &[ChunkSeries]) -> Result<(), StoreError> {
        let Some(live) = &endpoint.live else { return Ok(()) };
        let sets = &live.identity.label_sets;
        if sets.is_empty() || live.identity.component != Component::SIDECAR {
            return Ok(());
        }
        let dropped = &self.request.without_replica_labels;
        let announced = |series: &ChunkSeries| {
            sets.iter().any(|set| {
                let mut labels = set.iter().filter(|(name, _)| !dropped.iter().any(|label| label == name));
                labels.all(|(name, value)| series.labels.get(name) == Some(value))
            })
        };
        match series.iter().find(|series| !announced(series)) {
            None => Ok(()),
            Some(series) => Err(StoreError::new(
                ErrorKind::Corrupt,
                format!("it sent the series {}, whose external labels it does not announce", series.labels),
            )),
        }
    }
}

/// Tells whether the request is at fault, so that a replica would answer the same.
fn is_ours(error: &StoreError) -> bool {
    matches!(error.kind, ErrorKind::Invalid | ErrorKind::LimitExceeded | ErrorKind::Cancelled)
}

fn samples(chunk: &farview_series::AggrChunk) -> u64 {
    match &chunk.data {
        ChunkData::Raw(raw) => raw.num_samples().unwrap_or(0) as u64,
        ChunkData::Aggregated(_) => MAX_SAMPLES as u64,
    }
}

// === the merge ===

struct Input {
    endpoint: Endpoint,
    receiver: mpsc::Receiver<Message>,
    /// The last labels of the batch that is being merged: its last series may go on in the next batch.
    last: Option<Labels>,
    /// Memory of the batch, and of the batches before in which its first series began.
    held: Option<Reservation>,
}

impl Input {
    /// Keeps the memory of a new batch reserved for as long as the merge may hold some of it.
    fn hold(&mut self, series: &[ChunkSeries], held: Reservation) {
        let goes_on = series.first().is_some_and(|first| self.last.as_ref() == Some(&first.labels));
        match &mut self.held {
            Some(before) if goes_on => before.absorb(held),
            before => *before = Some(held),
        }
        if let Some(last) = series.last() {
            self.last = Some(last.labels.clone());
        }
    }
}

fn cancelled() -> StoreError {
    StoreError::new(ErrorKind::Cancelled, "the query was cancelled")
}

struct Merging {
    run: Arc<QueryRun>,
    merge: Merge,
    inputs: Vec<Input>,
    out: mpsc::Sender<Result<Batch, StoreError>>,
    max_series: u64,
    sent: u64,
}

impl Merging {
    async fn run(mut self) {
        if let Err(error) = self.drive().await {
            let _ = self.out.send(Err(error)).await;
        }
    }

    async fn drive(&mut self) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.merge.is_done() {
            for input in self.merge.needs().to_vec() {
                self.feed(input).await?;
            }
            while let Some(series) = self.merge.pop() {
                batch.push(series);
                if batch.len() == BATCH && !self.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))).await? {
                    return Ok(());
                }
            }
        }
        if !batch.is_empty() {
            self.send(batch).await?;
        }
        Ok(())
    }

    async fn feed(&mut self, input: usize) -> Result<(), StoreError> {
        let message = tokio::select! {
            biased;
            () = self.out.closed() => Some(Message::End),
            message = self.inputs[input].receiver.recv() => message,
        };
        match message {
            Some(Message::Series(series, held)) => {
                self.inputs[input].hold(&series, held);
                if let Err(error) = self.merge.feed(input, series) {
                    self.failed(input, StoreError::new(ErrorKind::Corrupt, error.to_string()))?;
                }
            }
            Some(Message::End) => self.merge.finish(input),
            Some(Message::Failed(Cut::Ours(error))) => return Err(error),
            Some(Message::Failed(Cut::Theirs(error))) => self.failed(input, error)?,
            None => self.failed(input, StoreError::new(ErrorKind::Internal, "its task ended without a word"))?,
        }
        Ok(())
    }

    /// Ends an input that failed: a warning, or the end of the answer.
    fn failed(&mut self, input: usize, error: StoreError) -> Result<(), StoreError> {
        self.merge.finish(input);
        self.inputs[input].receiver.close();
        let endpoint = &self.inputs[input].endpoint;
        if self.run.cancelled.is_cancelled() || error.kind == ErrorKind::Cancelled {
            return Err(cancelled());
        }
        // A limit that the query hit must not be taken for a store that is down.
        if error.kind == ErrorKind::Invalid {
            return Err(error.within(format_args!("endpoint {}", endpoint.address)));
        }
        self.run.failed(endpoint, error)
    }

    /// Returns whether anybody still listens.
    async fn send(&mut self, series: Vec<ChunkSeries>) -> Result<bool, StoreError> {
        self.sent += series.len() as u64;
        if self.max_series > 0 && self.sent > self.max_series {
            let text = format!(
                "the query selects more than {} series, which --query.max-series allows: narrow its matchers",
                self.max_series
            );
            return Err(StoreError::new(ErrorKind::LimitExceeded, text));
        }
        let held = self.run.budget.reserve(series.iter().map(size).sum())?;
        Ok(self.out.send(Ok(Batch { series, held })).await.is_ok())
    }
}

fn size(series: &ChunkSeries) -> u64 {
    let chunks: usize = series
        .chunks
        .iter()
        .map(|chunk| match &chunk.data {
            ChunkData::Raw(raw) => raw.data.len() + 64,
            ChunkData::Aggregated(a) => {
                let parts = [&a.count, &a.sum, &a.min, &a.max, &a.counter];
                64 + parts.iter().filter_map(|part| part.as_ref()).map(|part| part.data.len() + 40).sum::<usize>()
            }
        })
        .sum();
    (labels_size(&series.labels) + chunks) as u64
}

fn labels_size(labels: &Labels) -> usize {
    labels.size_bytes() + 48
}

// === labels ===

impl Fanout {
    /// Asks for names of labels, or for values of one; the union, sorted.
    pub(crate) async fn labels(
        &self,
        run: &Arc<QueryRun>,
        mut request: LabelsRequest,
    ) -> Result<Vec<String>, StoreError> {
        request.matchers.extend(run.tenant.enforced.clone());
        let wanted = Wanted {
            range: request.range,
            matchers: &request.matchers,
            store_matchers: &run.store_matchers,
            replica_labels: &request.without_replica_labels,
            api: crate::endpoints::Api::Store,
        };
        let matching = self.choose(run, &wanted)?;
        let options = CallOptions { timeout: Some(run.remaining()), max_message_bytes: Some(self.max_message_bytes) };
        let limit = self.deadlines.first_frame.min(run.remaining());
        let groups = self.replicas.group(matching.chosen);
        let calls = groups.iter().map(|Group { replicas, slots }| {
            let (request, options) = (LabelsRequest { slots: *slots, ..request.clone() }, &options);
            async move {
                let mut replicas = replicas.iter();
                let mut endpoint = replicas.next();
                loop {
                    let Some(asked) = endpoint else {
                        return Err(StoreError::new(ErrorKind::Internal, "there is nobody to ask"));
                    };
                    endpoint = replicas.next();
                    let answer = self.labels_of(asked, &request, options, limit).await;
                    match answer {
                        Err(error) if endpoint.is_some() && !is_ours(&error) => {}
                        answer => return answer,
                    }
                }
            }
        });
        let answers = futures::future::join_all(calls).await;
        let mut all = std::collections::BTreeSet::new();
        let mut held = run.budget.reserve(0)?;
        for (endpoint, answer) in groups.iter().filter_map(|group| group.replicas.first()).zip(answers) {
            match answer {
                Ok(answer) => {
                    held.grow(answer.values.iter().map(|value| value.len() as u64 + 48).sum())?;
                    all.extend(answer.values);
                    answer.warnings.iter().try_for_each(|text| run.failed_below(&endpoint.address, text))?;
                }
                Err(error) => run.failed(endpoint, error)?,
            }
        }
        Ok(all.into_iter().collect())
    }

    async fn labels_of(
        &self,
        endpoint: &Endpoint,
        request: &LabelsRequest,
        options: &CallOptions,
        limit: Duration,
    ) -> Result<LabelsAnswer, StoreError> {
        let Some(live) = &endpoint.live else {
            return Err(StoreError::new(ErrorKind::Unavailable, endpoint.problem()));
        };
        let _in_flight = self.replicas.enter(&endpoint.address);
        let client = StoreClient::new(self.calls.measure(live.channel.clone()));
        let mut request = request.clone();
        request.matchers.extend(endpoint.narrowed.iter().cloned());
        let request = &request;
        let call = async {
            if request.label.is_empty() {
                client.label_names(request, options).await
            } else {
                client.label_values(request, options).await
            }
        };
        tokio::time::timeout(limit, call).await.map_err(|_| self.late("an answer", limit))?
    }
}
