//! StoreAPI over the blocks of a bucket.
//!
//! Each block of a request is read in a task of its own ([`read_block`]), which stays a batch or two ahead; one task merges what they
//! read ([`Relay`]) and sends frames. What a request holds is charged to its budget before it is fetched.

use crate::block::Block;
use crate::block_set::BlockSet;
use crate::error::ReadError;
use crate::metrics::Metrics;
use crate::read::chunks::{self, Batch};
use crate::read::labels::{self, Question};
use crate::read::postings::{self, Laziness};
use crate::read::series::{self, Series, Wanted};
use crate::sync::Status;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use farview_config::TimeOrDuration;
use farview_model::{Budget, ErrorKind, Matcher, Reservation, Slots, TimeRange};
use farview_proto::hintspb;
use farview_series::{ChunkSeries, Merge, Relabel, RelabelError};
use farview_storeapi::{
    Frame, LabelsAnswer, LabelsRequest, PartialResponse, SelectRequest, SelectStream, Store, StoreError,
};
use farview_tsdb::MAX_SAMPLES;
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// Series of an index that are read at a time.
const SERIES_AT_ONCE: usize = 4_096;
/// Memory of a series of an index that has been read, about, bytes.
const SERIES_COST: u64 = 1_024;
/// The first read is smaller, so that the first series leave early.
const FIRST_SERIES: usize = 256;
/// Batches that are fetched ahead, at each step.
const AHEAD: usize = 4;
/// Bytes of chunks in a batch, at most and at least; between them it depends on how many blocks share the memory.
const LARGEST_BATCH: u64 = 4 << 20;
const SMALLEST_BATCH: u64 = 64 << 10;
/// Frames that wait for a slow client at most.
const FRAMES_AHEAD: usize = 4;
/// Blocks whose labels are read at a time.
const LABELS_AT_ONCE: usize = 16;

/// What one request may take.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Series in an answer, 0 for all.
    pub(crate) series: u64,
    /// Samples in an answer, 0 for all, counted as 120 a chunk.
    pub(crate) samples: u64,
    /// Bytes fetched for it, 0 for all.
    pub(crate) downloaded: u64,
    /// Memory that it may hold, bytes.
    pub(crate) bytes: u64,
    /// Its share of the memory of all requests, if there are as many as there may be, bytes.
    pub(crate) share: u64,
    pub(crate) timeout: Duration,
    pub(crate) min_time: TimeOrDuration,
    pub(crate) max_time: TimeOrDuration,
    pub(crate) laziness: Laziness,
}

impl Limits {
    /// Returns the times that are served now, ms.
    pub(crate) fn range(&self) -> TimeRange {
        let now = now();
        TimeRange::new(self.min_time.millis(now), self.max_time.millis(now))
    }
}

/// A [`Store`] over the blocks of a bucket.
pub(crate) struct BucketStore {
    pub(crate) blocks: Arc<ArcSwap<BlockSet>>,
    pub(crate) status: Arc<ArcSwap<Status>>,
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
}

/// Returns the time, ms.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The blocks of a request, and what is known beforehand to be missing.
struct Plan {
    blocks: Vec<(Arc<Block>, Arc<[Matcher]>)>,
    missing: Vec<String>,
}

impl BucketStore {
    fn plan(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        max_resolution: i64,
        slots: Option<Slots>,
    ) -> Result<Plan, StoreError> {
        let range = range.intersect(self.limits.range());
        let mut missing: Vec<String> = self.status.load().unreadable.clone();
        let set = self.blocks.load();
        if let Some(slots) = slots.filter(|slots| !set.slots.contains_all(*slots)) {
            let text = format!("slots {} are not served here any more", slots.difference(set.slots));
            return Err(StoreError::new(ErrorKind::Unavailable, text));
        }
        let mut blocks = if range.is_empty() { Vec::new() } else { set.choose(range, matchers, max_resolution, slots) };
        blocks.retain(|(block, _)| match block.quarantined() {
            Some(why) => {
                missing.push(why);
                false
            }
            None => true,
        });
        Ok(Plan { blocks, missing })
    }

    /// Waits for its turn.
    async fn enter(&self) -> Result<Entered, StoreError> {
        let asked = tokio::time::Instant::now();
        let gate = Arc::clone(&self.gate).acquire_owned().await;
        self.metrics.gate_duration.observe(asked.elapsed().as_secs_f64());
        let permit = gate.map_err(|_| StoreError::new(ErrorKind::Cancelled, "the store is stopping"))?;
        self.metrics.gate_in_flight.inc();
        Ok(Entered { _permit: permit, metrics: self.metrics.clone() })
    }

    async fn labels(&self, question: Question<'_>, request: &LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        // Labels are the same at every resolution, and the raw blocks may be gone already.
        let plan = self.plan(request.range, &request.matchers, i64::MAX, request.slots)?;
        let mut answer = LabelsAnswer::default();
        for why in plan.missing {
            missing(request.partial_response, &mut answer, StoreError::new(ErrorKind::Corrupt, why))?;
        }
        let _entered = self.enter().await?;
        let laziness = self.limits.laziness;
        let range = request.range;
        let reads = plan.blocks.into_iter().map(|(block, matchers)| async move {
            let mut found = BTreeSet::new();
            let read = labels::read(&block, question, &matchers, range, laziness, &mut found).await;
            match &read {
                Ok(()) => block.succeeded(),
                Err(error) => block.failed(error).await,
            }
            read.map(|()| found).map_err(|error| error.of_block(block.id))
        });
        let mut reads = stream::iter(reads).buffer_unordered(LABELS_AT_ONCE);
        let mut values = BTreeSet::new();
        while let Some(read) = reads.next().await {
            match read {
                Ok(found) => values.extend(found),
                Err(error) => missing(request.partial_response, &mut answer, error)?,
            }
        }
        let without = &request.without_replica_labels;
        answer.values = match question {
            Question::Names => values.into_iter().filter(|name| !without.contains(name)).collect(),
            Question::Values(label) if without.iter().any(|name| name == label) => Vec::new(),
            Question::Values(_) => values.into_iter().collect(),
        };
        if request.limit > 0 {
            answer.values.truncate(request.limit);
        }
        Ok(answer)
    }
}

/// Says that a part of the answer is missing, or gives up if the whole is wanted.
fn missing(policy: PartialResponse, answer: &mut LabelsAnswer, error: StoreError) -> Result<(), StoreError> {
    if policy == PartialResponse::Abort || error.kind == ErrorKind::LimitExceeded {
        return Err(error);
    }
    answer.warnings.add(error.message);
    Ok(())
}

/// A request that is being answered.
struct Entered {
    _permit: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.metrics.gate_in_flight.dec();
    }
}

#[async_trait]
impl Store for BucketStore {
    async fn select(&self, request: SelectRequest) -> Result<SelectStream, StoreError> {
        let plan = self.plan(request.range, &request.matchers, request.max_resolution, request.slots)?;
        let entered = self.enter().await?;
        self.metrics.series_blocks_queried.observe(plan.blocks.len() as f64);
        // At each of two steps some batches are ahead, and one is with the merge.
        let batches = plan.blocks.len() as u64 * (2 * AHEAD as u64 + 2);
        let share = self.limits.bytes.min(self.limits.share) / batches.max(1);
        let task = Arc::new(Request {
            range: request.range,
            select: request,
            budget: self.budget.child("--store.limits.request-bytes", self.limits.bytes),
            batch_bytes: share.clamp(SMALLEST_BATCH, LARGEST_BATCH),
            downloaded: AtomicU64::new(0),
            limits: self.limits.clone(),
        });
        let mut tasks = JoinSet::new();
        let inputs = plan.blocks.into_iter().map(|(block, matchers)| {
            let (sender, batches) = mpsc::channel(1);
            tasks.spawn(read_block(Arc::clone(&block), matchers, Arc::clone(&task), sender));
            Input { block, batches, held: [None, None] }
        });
        let (frames, receiver) = mpsc::channel(FRAMES_AHEAD);
        let relay = Relay {
            inputs: inputs.collect(),
            missing: plan.missing,
            request: task,
            metrics: self.metrics.clone(),
            frames,
            sent: 0,
            chunks: 0,
            chunk_bytes: 0,
        };
        tokio::spawn(relay.run(tasks, entered));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn label_names(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        self.labels(Question::Names, &request).await
    }

    async fn label_values(&self, request: LabelsRequest) -> Result<LabelsAnswer, StoreError> {
        self.labels(Question::Values(&request.label.clone()), &request).await
    }
}

/// What all blocks of a request share.
struct Request {
    select: SelectRequest,
    range: TimeRange,
    budget: Arc<Budget>,
    /// Bytes of chunks in a batch.
    batch_bytes: u64,
    downloaded: AtomicU64,
    limits: Limits,
}

impl Request {
    fn download(&self, bytes: u64) -> Result<(), ReadError> {
        let before = self.downloaded.fetch_add(bytes, Ordering::Relaxed);
        let limit = self.limits.downloaded;
        if limit == 0 || before + bytes <= limit {
            return Ok(());
        }
        Err(ReadError::Limit(format!(
            "--store.grpc.downloaded-bytes-limit of {limit} bytes reached: {before} were fetched and {bytes} more are needed"
        )))
    }
}

/// Series of a block in their final order, or why it cannot go on.
type Batches = mpsc::Sender<Result<Batch, ReadError>>;

/// Reads what a request wants of a block and sends it in order.
async fn read_block(block: Arc<Block>, matchers: Arc<[Matcher]>, request: Arc<Request>, batches: Batches) {
    match read_batches(&block, &matchers, &request, &batches).await {
        Ok(()) => block.succeeded(),
        Err(error) => {
            block.failed(&error).await;
            // Nobody listens any more if the client has gone.
            let _ = batches.send(Err(error)).await;
        }
    }
}

async fn read_batches(
    block: &Arc<Block>,
    matchers: &[Matcher],
    request: &Arc<Request>,
    batches: &Batches,
) -> Result<(), ReadError> {
    let loaded = block.header().await?;
    let chosen = postings::choose(block, &loaded, matchers, request.limits.laziness).await?;
    if chosen.refs.is_empty() {
        return Ok(());
    }
    let select = &request.select;
    let names: BTreeSet<&str> = loaded.header.postings.names().collect();
    let relabel = Relabel::new(
        block.external.labels(),
        &select.without_replica_labels,
        |name| names.contains(name),
        &request.budget,
    );
    let mut relabel = relabel?;
    let wanted = Wanted { range: request.range, untested: &chosen.untested };
    let count = chosen.refs.len();
    let at_once = ((request.batch_bytes / SERIES_COST) as usize).clamp(FIRST_SERIES, SERIES_AT_ONCE);
    let rest = (FIRST_SERIES..count).step_by(at_once).map(|from| from..(from + at_once).min(count));
    let reads: Vec<Range<usize>> = std::iter::once(0..count.min(FIRST_SERIES)).chain(rest).collect();
    let (refs, loaded) = (&chosen.refs, &loaded);
    let series = stream::iter(reads).map(|these| async move {
        let held = request.budget.reserve(SERIES_COST * these.len() as u64)?;
        let series = series::read(block, loaded, &refs[these], wanted).await?;
        Ok::<_, ReadError>((series, Arc::new(held)))
    });
    let parts = series.buffered(AHEAD).map_ok(|(series, held)| {
        let parts = parts(block, request, series).into_iter();
        stream::iter(parts.map(move |part| Ok::<_, ReadError>((part, Arc::clone(&held)))))
    });
    let fetched = parts.try_flatten().map(|part| async move {
        let (part, listed) = part?;
        let batch = fetch(block, request, part).await?;
        Ok::<_, ReadError>(Batch { listed: Some(listed), ..batch })
    });
    let fetched = fetched.buffered(AHEAD);
    let mut fetched = std::pin::pin!(fetched);
    while let Some(batch) = fetched.next().await {
        let batch = batch?;
        let mut ordered = Vec::with_capacity(batch.series.len());
        for series in batch.series {
            relabel.push(series, &mut ordered).map_err(of_relabel)?;
        }
        let batch = Batch { series: ordered, ..batch };
        if batches.send(Ok(batch)).await.is_err() {
            return Ok(());
        }
    }
    let mut rest = Vec::new();
    relabel.finish(&mut rest);
    if !rest.is_empty() {
        let batch = Batch { series: rest, needed: 0, fetched: 0, held: request.budget.reserve(0)?, listed: None };
        let _ = batches.send(Ok(batch)).await;
    }
    Ok(())
}

fn of_relabel(error: RelabelError) -> ReadError {
    ReadError::Limit(error.to_string())
}

/// Divides series into parts whose chunks have no more bytes than a batch may have; leaves out what is in another shard.
fn parts(block: &Block, request: &Request, mut series: Vec<Series>) -> Vec<Vec<Series>> {
    let select = &request.select;
    if let Some(shard) = &select.shard {
        let without = &select.without_replica_labels;
        series.retain(|one| {
            let labels = block.external.merge(&one.labels).without(|name| without.iter().any(|label| label == name));
            shard.matches(&labels)
        });
    }
    let guess = chunks::guess(block);
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for one in series {
        let more: u64 = one.chunks.iter().map(|place| chunks::size(place, guess)).sum();
        if bytes + more > request.batch_bytes && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += more;
        part.push(one);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

async fn fetch(block: &Block, request: &Request, series: Vec<Series>) -> Result<Batch, ReadError> {
    if request.select.skip_chunks {
        let series = series.into_iter().map(|one| ChunkSeries { labels: one.labels, chunks: Vec::new() }).collect();
        return Ok(Batch { series, needed: 0, fetched: 0, held: request.budget.reserve(0)?, listed: None });
    }
    let batch = chunks::read(block, series, &request.select.aggregates, &request.budget).await?;
    request.download(batch.fetched)?;
    Ok(batch)
}

struct Input {
    block: Arc<Block>,
    batches: mpsc::Receiver<Result<Batch, ReadError>>,
    /// The memory of the batch that is being merged, and of the one before it: frames that are on their way still point into it.
    held: [Option<(Reservation, Option<Arc<Reservation>>)>; 2],
}

/// Merges the blocks of a request and sends frames.
struct Relay {
    inputs: Vec<Input>,
    missing: Vec<String>,
    request: Arc<Request>,
    metrics: Metrics,
    frames: mpsc::Sender<Result<Frame, StoreError>>,
    sent: u64,
    chunks: u64,
    chunk_bytes: u64,
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

impl Relay {
    /// Runs to the end of the answer; the tasks that read blocks end with it.
    async fn run(mut self, tasks: JoinSet<()>, entered: Entered) {
        let timeout = self.request.limits.timeout;
        let result = tokio::time::timeout(timeout, self.relay()).await.unwrap_or_else(|_| {
            let text = format!("the request took longer than --store.request-timeout={timeout:?}");
            Err(Stop::Failed(StoreError::new(ErrorKind::Timeout, text)))
        });
        if let Err(Stop::Failed(error)) = result {
            if error.kind == ErrorKind::LimitExceeded {
                self.metrics.dropped("limit");
            }
            let _ = self.frames.send(Err(error)).await;
        }
        self.metrics.series_sent.inc_by(self.sent);
        self.metrics.chunks_sent.inc_by(self.chunks);
        self.metrics.chunk_bytes_needed.inc_by(self.chunk_bytes);
        drop((tasks, entered));
    }

    async fn relay(&mut self) -> Result<(), Stop> {
        for why in std::mem::take(&mut self.missing) {
            self.lacks(StoreError::new(ErrorKind::Corrupt, why)).await?;
        }
        let batch = self.request.select.batch_size.max(1);
        let mut merge = Merge::new(self.inputs.len());
        let mut ready = Vec::with_capacity(batch);
        while !merge.is_done() {
            for input in merge.needs().to_vec() {
                self.feed(&mut merge, input).await?;
            }
            while let Some(series) = merge.pop() {
                ready.push(series);
                if ready.len() >= batch {
                    self.send_series(std::mem::take(&mut ready)).await?;
                }
            }
        }
        self.send_series(ready).await?;
        self.send_hints().await
    }

    /// Takes the next batch of a block, but waits no longer than the client does.
    async fn feed(&mut self, merge: &mut Merge, input: usize) -> Result<(), Stop> {
        let Input { block, batches, held } = &mut self.inputs[input];
        let batch = tokio::select! {
            biased;
            () = self.frames.closed() => return Err(Stop::Enough),
            batch = batches.recv() => batch,
        };
        held.swap(0, 1);
        held[1] = None;
        let id = block.id;
        match batch {
            Some(Ok(batch)) => {
                held[1] = Some((batch.held, batch.listed));
                self.chunk_bytes += batch.needed;
                if let Err(error) = merge.feed(input, batch.series) {
                    merge.finish(input);
                    let error = ReadError::Corrupt { object: format!("{id}/index"), reason: error.to_string() };
                    block.failed(&error).await;
                    self.lacks(error.of_block(id)).await?;
                }
            }
            Some(Err(error)) => {
                merge.finish(input);
                if error.is_limit() {
                    return Err(error.of_block(id).into());
                }
                self.lacks(error.of_block(id)).await?;
            }
            None => merge.finish(input),
        }
        Ok(())
    }

    /// Says what the answer lacks, or ends it if the whole is wanted.
    async fn lacks(&self, error: StoreError) -> Result<(), Stop> {
        if self.request.select.partial_response == PartialResponse::Abort {
            return Err(error.into());
        }
        self.send(Frame::Warning(error.message)).await
    }

    async fn send_series(&mut self, mut series: Vec<ChunkSeries>) -> Result<(), Stop> {
        let limit = self.request.select.limit as u64;
        let mut enough = false;
        if limit > 0 {
            let left = limit.saturating_sub(self.sent);
            enough = series.len() as u64 >= left;
            series.truncate(left as usize);
        }
        self.sent += series.len() as u64;
        self.chunks += series.iter().map(|series| series.chunks.len() as u64).sum::<u64>();
        self.check_limits()?;
        if !series.is_empty() {
            self.send(Frame::Series(series)).await?;
        }
        if enough { Err(Stop::Enough) } else { Ok(()) }
    }

    fn check_limits(&self) -> Result<(), Stop> {
        let limits = &self.request.limits;
        let over = |name: &str, limit: u64, got: u64| {
            let text = format!("the answer has {got} of what {name} limits to {limit}");
            Err(StoreError::new(ErrorKind::LimitExceeded, text).into())
        };
        let samples = self.chunks * MAX_SAMPLES as u64;
        if limits.series > 0 && self.sent > limits.series {
            return over("--store.limits.request-series", limits.series, self.sent);
        }
        if limits.samples > 0 && samples > limits.samples {
            return over("--store.limits.request-samples", limits.samples, samples);
        }
        Ok(())
    }

    /// Sends what was read, to those who ask for it.
    async fn send_hints(&self) -> Result<(), Stop> {
        let Some(asked) = &self.request.select.any_hints else { return Ok(()) };
        let wants_stats =
            hintspb::SeriesRequestHints::decode(&asked.value[..]).is_ok_and(|hints| hints.enable_query_stats);
        let blocks = self.inputs.iter().map(|input| hintspb::Block { id: input.block.id.to_string() });
        let hints = hintspb::SeriesResponseHints {
            queried_blocks: blocks.collect(),
            query_stats: wants_stats.then(|| hintspb::QueryStats {
                blocks_queried: self.inputs.len() as i64,
                merged_series_count: self.sent as i64,
                merged_chunks_count: self.chunks as i64,
                chunks_fetched_size_sum: self.request.downloaded.load(Ordering::Relaxed) as i64,
                ..hintspb::QueryStats::default()
            }),
        };
        let type_url = "type.googleapis.com/hintspb.SeriesResponseHints".to_owned();
        self.send(Frame::Hints(prost_types::Any { type_url, value: hints.encode_to_vec() })).await
    }

    async fn send(&self, frame: Frame) -> Result<(), Stop> {
        self.frames.send(Ok(frame)).await.map_err(|_| Stop::Enough)
    }
}
