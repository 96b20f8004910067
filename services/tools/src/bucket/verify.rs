//! `verify`: finds out what is wrong with the blocks of a bucket.

use super::{BucketFlags, fetch, now, time};
use crate::progress;
use anyhow::Context;
use clap::{Args, ValueEnum};
use farview_block::{BlockId, DeletionMark, FetchedBlock, MarkFile};
use farview_bootstrap::Tool;
use farview_config::{Error, Flags};
use farview_localblock::LocalBlock;
use farview_model::{Labels, Samples, TimeRange};
use farview_objstore::Bucket;
use farview_series::{AggrChunk, ChunkData};
use farview_telemetry::logs::LogFlags;
use farview_tsdb::ChunkError;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// Bytes of an object that are fetched at a time.
const PART: u64 = 16 << 20;

/// The flags of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    bucket: BucketFlags,
    /// Mark blocks for deletion that hold nothing else than others do.
    #[arg(long = "repair", short = 'r')]
    repair: bool,
    /// What to look for; repeatable.
    #[arg(long = "issues", short = 'i', value_enum, value_delimiter = ',',
        default_values = ["index_known_issues", "duplicated_compaction", "overlapped_blocks"])]
    issues: Vec<Issue>,
    /// Only these blocks; repeatable.
    #[arg(long = "id")]
    ids: Vec<BlockId>,
    /// Only say what --repair would do.
    #[arg(long = "dry-run")]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Issue {
    /// Every series and every chunk is read.
    #[value(name = "index_known_issues")]
    Index,
    /// Blocks of one source and resolution that were made of the same blocks.
    #[value(name = "duplicated_compaction")]
    Duplicated,
    /// Blocks of one source and resolution that cover the same time.
    #[value(name = "overlapped_blocks")]
    Overlapped,
}

impl Flags for Verify {
    const SERVICE: &'static str = "tools-bucket-verify";
    const ABOUT: &'static str = "Finds out what is wrong with the blocks of a bucket.";

    fn validate(&self) -> Result<(), Error> {
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for Verify {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for Verify {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let fetched = fetch(&bucket).await?;
        let chosen = |id: &BlockId| self.ids.is_empty() || self.ids.contains(id);
        let mut found = 0;
        for (id, why) in fetched.corrupt.iter().chain(&fetched.failed).filter(|(id, _)| chosen(id)) {
            writeln!(out, "{id}: its description cannot be read: {why}")?;
            found += 1;
        }
        for id in self.ids.iter().filter(|id| !fetched.blocks.contains_key(id) && !fetched.corrupt.contains_key(id)) {
            writeln!(out, "{id}: there is no such block")?;
            found += 1;
        }
        let blocks: Vec<&FetchedBlock> = fetched
            .blocks
            .iter()
            .filter(|(id, block)| chosen(id) && block.deletion.is_none())
            .map(|(_, block)| block)
            .collect();
        for issue in &self.issues {
            found += match issue {
                Issue::Index => read_all(&bucket, &blocks, out).await?,
                Issue::Duplicated => self.duplicated(&bucket, &blocks, out).await?,
                Issue::Overlapped => overlapped(&blocks, out)?,
            };
        }
        writeln!(out, "{} blocks looked at, {found} found wrong", blocks.len())?;
        Ok(found == 0)
    }
}

impl Verify {
    async fn duplicated(
        &self,
        bucket: &Bucket,
        blocks: &[&FetchedBlock],
        out: &mut dyn Write,
    ) -> anyhow::Result<usize> {
        let mut same: BTreeMap<(Labels, i64, BTreeSet<BlockId>), Vec<&FetchedBlock>> = BTreeMap::new();
        for block in blocks {
            let sources: BTreeSet<BlockId> = block.meta.compaction.sources.iter().copied().collect();
            let key = (block.meta.external_labels().labels().clone(), block.meta.resolution(), sources);
            same.entry(key).or_default().push(block);
        }
        let mut found = 0;
        for mut group in same.into_values().filter(|group| group.len() > 1) {
            // The one with the most samples is kept, of equal ones the youngest.
            group.sort_by_key(|block| std::cmp::Reverse((block.meta.stats.num_samples, block.meta.ulid)));
            let kept = group[0].meta.ulid;
            for block in &group[1..] {
                let id = block.meta.ulid;
                found += 1;
                if !self.repair {
                    writeln!(out, "{id}: made of the same blocks as {kept}")?;
                } else if self.dry_run {
                    writeln!(out, "{id}: made of the same blocks as {kept}; would be marked for deletion")?;
                } else {
                    let details = format!("made of the same blocks as {kept}");
                    let mark = DeletionMark { id, version: 1, details, deletion_time: now() / 1_000 };
                    bucket.put(&format!("{id}/{}", DeletionMark::NAME), serde_json::to_vec(&mark)?.into()).await?;
                    writeln!(out, "{id}: made of the same blocks as {kept}; marked for deletion")?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads every series and every chunk of every block.
async fn read_all(bucket: &Bucket, blocks: &[&FetchedBlock], out: &mut dyn Write) -> anyhow::Result<usize> {
    let bar = progress::bar(blocks.len(), "reading");
    let mut found = 0;
    for block in blocks {
        let id = block.meta.ulid;
        bar.set_message(id.to_string());
        let folder = tempfile::tempdir().context("a folder for the block")?;
        let verdict = match download(bucket, block, folder.path()).await {
            Ok(()) => {
                let path = folder.path().to_owned();
                tokio::task::spawn_blocking(move || read_whole(&path)).await?
            }
            Err(error) => Err(error),
        };
        if let Err(error) = verdict.and_then(|read| read.compare(block)) {
            writeln!(out, "{id}: {error:#}")?;
            found += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found)
}

async fn download(bucket: &Bucket, block: &FetchedBlock, folder: &Path) -> anyhow::Result<()> {
    let id = block.meta.ulid;
    tokio::fs::create_dir_all(folder.join("chunks")).await?;
    tokio::fs::write(folder.join("meta.json"), block.meta.to_json()).await?;
    let listed = block.meta.thanos.iter().flat_map(|thanos| &thanos.files);
    for file in listed.filter(|file| file.rel_path != "meta.json") {
        let size = block.objects.files.get(&file.rel_path);
        anyhow::ensure!(
            size == Some(&file.size_bytes),
            "{} should have {} bytes and {}",
            file.rel_path,
            file.size_bytes,
            size.map_or("is missing".to_owned(), |size| format!("has {size}"))
        );
    }
    for (path, size) in &block.objects.files {
        let wanted = path == "index" || path == "tombstones" || path.starts_with("chunks/");
        if !wanted || path.split('/').any(|part| part == "..") {
            continue;
        }
        let mut file = tokio::fs::File::create(folder.join(path)).await?;
        let mut at = 0;
        while at < *size {
            let end = (at + PART).min(*size);
            let bytes = bucket.get_range(&format!("{id}/{path}"), at..end).await?;
            tokio::io::AsyncWriteExt::write_all(&mut file, &bytes).await?;
            at = end;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await?;
    }
    Ok(())
}

/// What a block holds.
struct Held {
    series: u64,
    chunks: u64,
    range: TimeRange,
}

fn read_whole(folder: &Path) -> anyhow::Result<Held> {
    let block = LocalBlock::open(folder)?;
    let all = block.series(&[], TimeRange::ALL, usize::MAX)?;
    let mut held = Held { series: all.len() as u64, chunks: 0, range: TimeRange::new(i64::MAX, i64::MIN) };
    let mut before: Option<&Labels> = None;
    for series in &all {
        if let Some(before) = before {
            anyhow::ensure!(*before < series.labels, "series {} comes after {before}", series.labels);
        }
        before = Some(&series.labels);
        let mut last = i64::MIN;
        for meta in &series.chunks {
            anyhow::ensure!(meta.mint <= meta.maxt, "{} has a chunk that ends before it begins", series.labels);
            anyhow::ensure!(meta.mint > last, "{} has chunks that overlap at {}", series.labels, time(meta.mint));
            last = meta.maxt;
            held.range = TimeRange::new(held.range.mint.min(meta.mint), held.range.maxt.max(meta.maxt));
        }
        held.chunks += series.chunks.len() as u64;
        for chunk in block.chunks(series)? {
            decode(&chunk).with_context(|| format!("{} at {}", series.labels, time(chunk.mint)))?;
        }
    }
    Ok(held)
}

/// Reads all samples of a chunk.
fn decode(chunk: &AggrChunk) -> Result<(), ChunkError> {
    let mut samples = Samples::default();
    match &chunk.data {
        ChunkData::Raw(chunk) => chunk.decode(TimeRange::ALL, &mut samples),
        ChunkData::Aggregated(all) => {
            for chunk in [&all.count, &all.sum, &all.min, &all.max].into_iter().flatten() {
                samples = Samples::default();
                chunk.decode(TimeRange::ALL, &mut samples)?;
            }
            samples = Samples::default();
            all.counter.as_ref().map_or(Ok(()), |chunk| chunk.decode_counter(TimeRange::ALL, &mut samples))
        }
    }
}

impl Held {
    fn compare(&self, block: &FetchedBlock) -> anyhow::Result<()> {
        let (stats, range) = (&block.meta.stats, block.meta.range());
        // Deleted series are still counted.
        if stats.num_tombstones == 0 && stats.num_series > 0 {
            anyhow::ensure!(
                self.series == stats.num_series,
                "it has {} series and says {}",
                self.series,
                stats.num_series
            );
            anyhow::ensure!(
                self.chunks == stats.num_chunks,
                "it has {} chunks and says {}",
                self.chunks,
                stats.num_chunks
            );
        }
        let outside = !self.range.is_empty() && (self.range.mint < range.mint || self.range.maxt > range.maxt);
        anyhow::ensure!(
            !outside,
            "it has samples from {} to {}, outside of its time",
            time(self.range.mint),
            time(self.range.maxt)
        );
        Ok(())
    }
}

/// Names blocks of one source and resolution that cover the same time.
fn overlapped(blocks: &[&FetchedBlock], out: &mut dyn Write) -> anyhow::Result<usize> {
    let mut groups: BTreeMap<(Labels, i64), Vec<&FetchedBlock>> = BTreeMap::new();
    for block in blocks {
        groups.entry((block.meta.external_labels().labels().clone(), block.meta.resolution())).or_default().push(block);
    }
    let mut found = 0;
    for mut group in groups.into_values() {
        group.sort_by_key(|block| (block.meta.min_time, block.meta.ulid));
        // Of those before it, a block has most in common with the one that reaches furthest.
        let mut furthest: Option<&FetchedBlock> = None;
        for block in group {
            if let Some(other) = furthest.filter(|other| other.meta.range().overlaps(block.meta.range())) {
                let (id, from) = (block.meta.ulid, time(block.meta.min_time));
                let until = time(block.meta.max_time.min(other.meta.max_time));
                writeln!(out, "{id}: overlaps {} from {from} until {until}", other.meta.ulid)?;
                found += 1;
            }
            if furthest.is_none_or(|other| other.meta.max_time < block.meta.max_time) {
                furthest = Some(block);
            }
        }
    }
    Ok(found)
}
