//! Blocks written into folders, with what Thanos adds to their description.

use farview_block::{BlockId, BlockMeta, Source, Stats, describe};
use farview_localblock::LocalBlockWriter;
use farview_model::{Labels, TimeRange};
use farview_series::AggrChunk;
use std::collections::BTreeSet;
use std::path::Path;

/// Writes the block `id` of the source with `labels` into `folder`: series in the order of their labels with chunks that lie in `range`
/// (ms). `symbols` are all names and values of their labels.
///
/// # Errors
/// If it cannot be written.
pub fn write(
    folder: &Path,
    id: BlockId,
    labels: &[(&str, &str)],
    range: TimeRange,
    symbols: BTreeSet<String>,
    series: impl IntoIterator<Item = (Labels, Vec<AggrChunk>)>,
) -> anyhow::Result<BlockMeta> {
    let mut writer = LocalBlockWriter::create(folder, symbols)?;
    for (labels, chunks) in series {
        writer.add_series(&labels, &chunks)?;
    }
    let summary = writer.finish()?;
    let stats = Stats {
        num_samples: summary.samples,
        num_series: summary.series,
        num_chunks: summary.chunks,
        ..Stats::default()
    };
    let (source, files) = (Source(Source::BUCKET_UPLOAD.to_owned()), describe(folder, false)?);
    let meta = BlockMeta::new(id, range, stats, &Labels::from_pairs(labels.iter().copied()), source, files);
    std::fs::write(folder.join("meta.json"), meta.to_json())?;
    Ok(meta)
}
