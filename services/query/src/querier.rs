//! The engine's view of all endpoints: a selector becomes a fan-out, its merged series are deduplicated as they are decoded.

use crate::fanout::{Batches, Fanout};
use crate::run::QueryRun;
use farview_model::{ErrorKind, Reservation, Samples, TimeRange};
use farview_promql::{Queryable, SampleSource, Select, SeriesStream, SourceError, SourceSeries};
use farview_series::{AggrChunk, ChunkData, DedupFunc, Reading, SeriesReader};
use farview_storeapi::{QueryHints, SelectRequest, StoreError};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Answers the engine from all endpoints.
pub(crate) struct FanoutQueryable {
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) run: Arc<QueryRun>,
    pub(crate) dedup: DedupFunc,
    /// Coarsest resolution that will do, ms; 0 for raw data.
    pub(crate) max_resolution: i64,
    pub(crate) runtime: Handle,
}

fn source_error(error: StoreError) -> SourceError {
    SourceError { kind: error.kind, message: error.message }
}

/// Functions that need two samples in their window.
const NEED_TWO: [&str; 9] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "deriv",
    "predict_linear",
    "holt_winters",
    "double_exponential_smoothing",
];

impl FanoutQueryable {
    fn request(&self, select: &Select) -> SelectRequest {
        let mut max_resolution = self.max_resolution;
        if NEED_TWO.contains(&select.func.as_str()) && select.window > 0 {
            max_resolution = max_resolution.min(select.window / 2);
        }
        let reading = Reading::of(&select.func);
        let grouping = (!select.grouping.is_empty() || select.by).then(|| (select.by, select.grouping.clone()));
        SelectRequest {
            max_resolution,
            aggregates: reading.aggregates().to_vec(),
            partial_response: self.run.partial_response,
            skip_chunks: select.labels_only,
            without_replica_labels: self.run.replica_labels.clone(),
            limit: select.limit,
            hints: Some(QueryHints { step: select.step, func: select.func.clone(), grouping, range: select.window }),
            tenant: self.run.tenant.id.clone(),
            ..SelectRequest::new(select.range, select.matchers.clone())
        }
    }
}

impl Queryable for FanoutQueryable {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        let _runtime = self.runtime.enter();
        let batches = self.fanout.select(&self.run, self.request(select)).map_err(source_error)?;
        // Without deduplication, overlapping chunks of one series come from blocks that hold the same samples.
        let dedup = if self.run.replica_labels.is_empty() { DedupFunc::Chain } else { self.dedup };
        Ok(Box::new(FanoutStream { batches, reader: SeriesReader::new(&select.func, dedup), held: None }))
    }
}

struct FanoutStream {
    batches: Batches,
    reader: SeriesReader,
    /// Memory of the batch that the engine is working on.
    held: Option<Reservation>,
}

impl SeriesStream for FanoutStream {
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError> {
        self.held = None;
        let Some(batch) = self.batches.blocking_recv() else { return Ok(None) };
        let batch = batch.map_err(source_error)?;
        self.held = Some(batch.held);
        let series = batch.series.into_iter().map(|series| SourceSeries {
            labels: series.labels,
            samples: Box::new(Chunks { chunks: series.chunks, reader: self.reader }),
        });
        Ok(Some(series.collect()))
    }
}

/// The chunks of one series, from all endpoints that have it.
struct Chunks {
    chunks: Vec<AggrChunk>,
    reader: SeriesReader,
}

impl SampleSource for Chunks {
    fn read(&self, range: TimeRange, out: &mut Samples) -> Result<(), SourceError> {
        self.reader
            .read(&self.chunks, range, out)
            .map_err(|error| SourceError { kind: ErrorKind::Corrupt, message: error.to_string() })
    }

    fn size_bytes(&self) -> usize {
        let size = |chunk: &AggrChunk| match &chunk.data {
            ChunkData::Raw(raw) => raw.data.len(),
            ChunkData::Aggregated(_) => 512,
        };
        self.chunks.iter().map(size).sum()
    }
}
