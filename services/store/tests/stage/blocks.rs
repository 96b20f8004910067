//! Blocks of a source, written into a folder.

use farview_block::{BlockId, BlockMeta, Source, Stats, describe};
use farview_localblock::LocalBlockWriter;
use farview_model::{Labels, TimeRange};
use farview_series::{AggrChunk, ChunkData};
use farview_tsdb::Chunk;
use std::collections::BTreeSet;
use std::path::Path;

/// A block covers so much time, ms.
pub(crate) const BLOCK: i64 = 7_200_000;
/// Distance between samples, ms.
const STEP: i64 = 15_000;
/// Samples of a chunk.
const CHUNK: usize = 120;

/// Writes block `number` of a source into `bucket`: `series` series over [`BLOCK`] from `number * BLOCK` on.
pub(crate) fn write(bucket: &Path, number: i64, series: usize, labels: &[(&str, &str)]) -> BlockId {
    let id = BlockId::generate();
    let folder = bucket.join(id.to_string());
    let pods: Vec<String> = (0..series).map(|pod| format!("pod-{pod:05}")).collect();
    let mut symbols = BTreeSet::from(["__name__".to_owned(), "pod".to_owned(), "requests_total".to_owned()]);
    symbols.extend(pods.iter().cloned());
    let mut writer = LocalBlockWriter::create(&folder, symbols).unwrap();
    let times: Vec<i64> = (0..BLOCK / STEP).map(|n| number * BLOCK + n * STEP).collect();
    for (pod, name) in pods.iter().enumerate() {
        let chunks = times.chunks(CHUNK).map(|times| {
            let values: Vec<f64> = times.iter().map(|t| (t / 1_000 * (pod as i64 + 1)) as f64).collect();
            let data = ChunkData::Raw(Chunk::encode_xor(times, &values));
            AggrChunk { mint: times[0], maxt: times[times.len() - 1], data }
        });
        let series = Labels::from_pairs([("__name__", "requests_total"), ("pod", name)]);
        writer.add_series(&series, &chunks.collect::<Vec<_>>()).unwrap();
    }
    let summary = writer.finish().unwrap();
    let stats = Stats {
        num_samples: summary.samples,
        num_series: summary.series,
        num_chunks: summary.chunks,
        ..Stats::default()
    };
    let (source, files) = (Source(Source::SIDECAR.to_owned()), describe(&folder, false).unwrap());
    let meta = BlockMeta::new(
        id,
        TimeRange::new(number * BLOCK, (number + 1) * BLOCK - 1),
        stats,
        &Labels::from_pairs(labels.iter().copied()),
        source,
        files,
    );
    std::fs::write(folder.join("meta.json"), serde_json::to_vec(&meta).unwrap()).unwrap();
    id
}
