//! A history that no Prometheus holds any more: blocks of a service mesh's series, whose values follow from time in closed form.

use anyhow::Context;
use farview_block::{BlockId, BlockMeta, BlockObjects, upload};
use farview_model::{Labels, TimeRange};
use farview_objstore::Bucket;
use farview_series::{AggrChunk, ChunkData};
use farview_tsdb::Chunk;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Distance between samples, ms.
pub const STEP: i64 = 60_000;
/// A block covers so much time, ms.
const BLOCK: i64 = 2 * 86_400_000;
/// Samples of a chunk.
const CHUNK: usize = 120;
/// Services of the mesh.
pub const SERVICES: usize = 4;
/// Where counters begin, ms: 2026-01-01.
const ORIGIN: i64 = 1_767_225_600_000;

/// What is told of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Requests that were answered, a counter.
    Requests,
    /// Requests that failed, a counter.
    Errors,
    /// Open connections, a gauge.
    Connections,
}

impl Metric {
    /// All of them, by name.
    pub const ALL: [Self; 3] = [Self::Connections, Self::Errors, Self::Requests];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "mesh_active_connections",
            Self::Errors => "mesh_errors_total",
            Self::Requests => "mesh_requests_total",
        }
    }

    /// Returns what rises in a second, for a counter.
    pub fn per_second(self, service: usize) -> f64 {
        match self {
            Self::Requests => 10.0 * (service + 1) as f64,
            Self::Errors => 0.5 * (service + 1) as f64,
            Self::Connections => 0.0,
        }
    }

    /// Returns its value for a service at a time, ms.
    pub fn value(self, service: usize, t: i64) -> f64 {
        let seconds = (t - ORIGIN) as f64 / 1_000.0;
        match self {
            Self::Connections => (100.0 * (service + 1) as f64 + 50.0 * (seconds / 86_400.0).sin()).round(),
            counter => counter.per_second(service) * seconds,
        }
    }
}

/// Returns the name of a service.
pub fn service(service: usize) -> String {
    format!("service-{service}")
}

/// Times at which a replica scrapes: every [`STEP`], each replica at its own second.
fn times(range: TimeRange, replica: usize) -> impl Iterator<Item = i64> {
    let offset = 7_300 * replica as i64;
    let first = (range.mint - offset).div_euclid(STEP) * STEP + offset;
    (0..).map(move |n| first + n * STEP).skip_while(move |t| *t < range.mint).take_while(move |t| *t <= range.maxt)
}

/// Writes `range` (ms) of a source's history into the bucket, in blocks of two days; returns how many. `folder` is for what is
/// being written.
///
/// # Errors
/// If a block cannot be written or uploaded.
pub async fn write(
    bucket: &Bucket,
    folder: &Path,
    labels: &[(&str, &str)],
    replica: usize,
    range: TimeRange,
) -> anyhow::Result<usize> {
    let mut blocks = 0;
    let mut start = range.mint;
    while start <= range.maxt {
        let end = ((start.div_euclid(BLOCK) + 1) * BLOCK - 1).min(range.maxt);
        let part = TimeRange::new(start, end);
        let id = BlockId::generate();
        let place = folder.join(id.to_string());
        let meta = block(&place, id, labels, replica, part)?;
        upload(bucket, &place, &meta, 4, &BlockObjects::default()).await.context("upload a block of the history")?;
        std::fs::remove_dir_all(&place)?;
        blocks += 1;
        start = end + 1;
    }
    Ok(blocks)
}

fn block(
    folder: &Path,
    id: BlockId,
    labels: &[(&str, &str)],
    replica: usize,
    range: TimeRange,
) -> anyhow::Result<BlockMeta> {
    let mut symbols = BTreeSet::from(["__name__".to_owned(), "service".to_owned()]);
    symbols.extend(Metric::ALL.map(|metric| metric.name().to_owned()));
    symbols.extend((0..SERVICES).map(service));
    let all: Vec<i64> = times(range, replica).collect();
    let series =
        Metric::ALL.into_iter().flat_map(|metric| (0..SERVICES).map(move |i| (metric, i))).map(|(metric, i)| {
            let chunks = all.chunks(CHUNK).map(|times| {
                let values: Vec<f64> = times.iter().map(|t| metric.value(i, *t)).collect();
                let data = ChunkData::Raw(Chunk::encode_xor(times, &values));
                AggrChunk { mint: times[0], maxt: times[times.len() - 1], data }
            });
            (Labels::from_pairs([("__name__", metric.name()), ("service", &service(i))]), chunks.collect())
        });
    crate::blocks::write(folder, id, labels, range, symbols, series)
}

/// Returns `range` (ms) of the history as OpenMetrics text, of which promtool makes blocks.
pub fn openmetrics(range: TimeRange, replica: usize) -> String {
    let mut text = String::new();
    for metric in Metric::ALL {
        let kind = if metric == Metric::Connections { "gauge" } else { "counter" };
        let _ = writeln!(text, "# TYPE {} {kind}", metric.name().trim_end_matches("_total"));
        for i in 0..SERVICES {
            for t in times(range, replica) {
                let (name, service, value) = (metric.name(), service(i), metric.value(i, t));
                let _ = writeln!(text, "{name}{{service=\"{service}\"}} {value} {}.{:03}", t / 1_000, t % 1_000);
            }
        }
    }
    text
}
