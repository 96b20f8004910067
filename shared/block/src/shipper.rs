//! Ships the blocks of a Prometheus' data folder to a bucket (Thanos `pkg/shipper`).
//!
//! A pass looks at what is there, oldest first, and uploads what is not in the bucket. What is uploaded is hard-linked aside first,
//! so that Prometheus may delete its own. The state file says what was uploaded; it is a hint, the bucket is the truth: it is
//! listed once, when there is something that the state file does not know.

use crate::error::BlockError;
use crate::{BlockId, BlockMeta, Fetched, MetaFetcher, Source, ThanosMeta, describe, upload};
use farview_model::Labels;
use farview_objstore::Bucket;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How to ship.
#[derive(Debug, Clone)]
pub struct ShipperConfig {
    /// The data folder of Prometheus.
    pub folder: PathBuf,
    /// Name of the state file in it.
    pub state_file: String,
    /// Ship blocks that Prometheus has compacted, too.
    pub upload_compacted: bool,
    /// Go on with younger blocks after one has failed.
    pub allow_out_of_order: bool,
    /// Leave out blocks whose description cannot be read, instead of stopping at them.
    pub skip_corrupted: bool,
    /// Files of a block to upload at a time; 0 for a few.
    pub concurrency: usize,
    /// Take the SHA-256 of every file.
    pub hash: bool,
    /// What to call the writer of the blocks.
    pub source: Source,
}

/// What is counted, under the names of Thanos; once per process.
#[derive(Debug, Clone, Default)]
pub struct ShipperMetrics {
    passes: Counter,
    pass_failures: Counter,
    uploads: Counter,
    upload_failures: Counter,
    corrupted: Counter,
    compacted_done: Gauge,
    backlog: Gauge,
    uploaded_bytes: Counter,
}

impl ShipperMetrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        let thanos = registry.sub_registry_with_prefix("thanos_shipper");
        thanos.register("dir_syncs", "Passes over the data folder", this.passes.clone());
        thanos.register("dir_sync_failures", "Passes that failed", this.pass_failures.clone());
        thanos.register("uploads", "Blocks uploaded", this.uploads.clone());
        thanos.register("upload_failures", "Blocks whose upload failed", this.upload_failures.clone());
        thanos.register("corrupted_blocks", "Blocks that could not be read", this.corrupted.clone());
        thanos.register(
            "upload_compacted_done",
            "Whether all compacted blocks of the data folder are in the bucket",
            this.compacted_done.clone(),
        );
        let own = registry.sub_registry_with_prefix("farview_shipper");
        own.register(
            "backlog_blocks",
            "Blocks of the data folder that are not in the bucket yet",
            this.backlog.clone(),
        );
        own.register("uploaded_bytes", "Bytes of blocks uploaded", this.uploaded_bytes.clone());
        this
    }
}

/// What a pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Blocks that were uploaded.
    pub uploaded: Vec<BlockId>,
    /// Blocks that still are not in the bucket.
    pub backlog: usize,
}

/// Ships blocks.
#[derive(Debug)]
pub struct Shipper {
    bucket: Bucket,
    config: ShipperConfig,
    metrics: ShipperMetrics,
    uploaded: BTreeSet<BlockId>,
    known: bool,
}

#[derive(Serialize, Deserialize)]
struct StateFile {
    version: u64,
    uploaded: Vec<BlockId>,
}

/// A block that may have to be uploaded.
struct Local {
    folder: PathBuf,
    meta: BlockMeta,
}

impl Shipper {
    /// Makes a shipper; nothing is read yet.
    pub fn new(bucket: Bucket, config: ShipperConfig, metrics: ShipperMetrics) -> Self {
        Self { bucket, config, metrics, uploaded: BTreeSet::new(), known: false }
    }

    /// Uploads what is not in the bucket, under these external labels.
    ///
    /// # Errors
    /// [`BlockError`] at the first block that cannot be uploaded; those before it were, and are known. With
    /// [`ShipperConfig::allow_out_of_order`] the others are tried too, and the first error returned.
    pub async fn pass(&mut self, labels: &Labels) -> Result<Shipped, BlockError> {
        self.metrics.passes.inc();
        let mut shipped = Shipped::default();
        let result = self.try_pass(labels, &mut shipped).await;
        self.metrics.backlog.set(shipped.backlog as i64);
        if result.is_err() {
            self.metrics.pass_failures.inc();
        }
        result.map(|()| shipped)
    }

    async fn try_pass(&mut self, labels: &Labels, shipped: &mut Shipped) -> Result<(), BlockError> {
        if !self.known {
            self.clear_stage();
            self.uploaded = self.read_state();
            self.known = true;
        }
        let (local, corrupted) = self.local_blocks()?;
        let here: BTreeSet<BlockId> = local.iter().map(|block| block.meta.ulid).collect();
        let mut wanted: Vec<Local> = local.into_iter().filter(|block| self.is_wanted(&block.meta)).collect();
        shipped.backlog = wanted.len();
        let mut first_error = corrupted;
        if !wanted.is_empty() {
            let compacted = wanted.iter().any(|block| block.meta.compaction.level > 1);
            let mut fetcher = MetaFetcher::new(self.bucket.clone(), None, 16);
            let present = fetcher.fetch_some(&wanted.iter().map(|block| block.meta.ulid).collect(), compacted).await?;
            wanted.retain(|block| {
                let id = &block.meta.ulid;
                // Also one whose description cannot be read is not written over.
                let there = present.blocks.contains_key(id) || present.corrupt.contains_key(id);
                if there {
                    self.uploaded.insert(block.meta.ulid);
                    shipped.backlog -= 1;
                }
                !there
            });
            for block in wanted {
                if first_error.is_some() && !self.config.allow_out_of_order {
                    break;
                }
                let id = block.meta.ulid;
                match self.ship(block, labels, &present).await {
                    Ok(()) => {
                        self.uploaded.insert(id);
                        shipped.uploaded.push(id);
                        shipped.backlog -= 1;
                        self.write_state(&here)?;
                    }
                    Err(error) => {
                        self.metrics.upload_failures.inc();
                        tracing::warn!(block = %id, %error, "block not uploaded");
                        first_error.get_or_insert(error);
                    }
                }
            }
        }
        self.write_state(&here)?;
        self.metrics.compacted_done.set(i64::from(self.config.upload_compacted && shipped.backlog == 0));
        first_error.map_or(Ok(()), Err)
    }

    fn is_wanted(&self, meta: &BlockMeta) -> bool {
        !self.uploaded.contains(&meta.ulid)
            && meta.stats.num_samples > 0
            && (meta.compaction.level <= 1 || self.config.upload_compacted)
    }

    /// Returns the blocks of the data folder, oldest first, and what was wrong with the first that cannot be read.
    fn local_blocks(&self) -> Result<(Vec<Local>, Option<BlockError>), BlockError> {
        let (mut blocks, mut wrong) = (Vec::new(), None);
        let root = &self.config.folder;
        for entry in std::fs::read_dir(root).map_err(BlockError::io(root))? {
            let entry = entry.map_err(BlockError::io(root))?;
            let Ok(id) = entry.file_name().to_string_lossy().parse::<BlockId>() else { continue };
            let folder = entry.path();
            let read = BlockMeta::read(&folder).and_then(|meta| match meta.ulid == id {
                true => Ok(meta),
                false => {
                    let reason = format!("it describes block {} and not {id}", meta.ulid);
                    Err(BlockError::Meta { place: folder.join("meta.json").display().to_string(), reason })
                }
            });
            match read {
                Ok(meta) => blocks.push(Local { folder, meta }),
                // Being deleted by Prometheus, whose own deletion takes the description away first.
                Err(error) if error.kind() == farview_model::ErrorKind::NotFound => {}
                Err(error) => {
                    self.metrics.corrupted.inc();
                    tracing::warn!(block = %id, %error, skipped = self.config.skip_corrupted, "block cannot be read");
                    if !self.config.skip_corrupted {
                        wrong.get_or_insert(error);
                    }
                }
            }
        }
        blocks.sort_by_key(|block| (block.meta.min_time, block.meta.ulid));
        Ok((blocks, wrong))
    }

    async fn ship(&self, block: Local, labels: &Labels, present: &Fetched) -> Result<(), BlockError> {
        let Local { folder, mut meta } = block;
        let id = meta.ulid;
        if meta.compaction.level > 1 {
            self.check_overlap(&meta, labels, present)?;
        }
        let stage = Stage::new(&self.config.folder, &folder, id);
        meta.thanos = Some(ThanosMeta {
            version: 1,
            labels: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            source: self.config.source.clone(),
            ..ThanosMeta::default()
        });
        let (place, hash) = (stage.folder().to_owned(), self.config.hash);
        let files = tokio::task::spawn_blocking(move || describe(&place, hash)).await;
        let files = files.map_err(|error| BlockError::io(&folder)(std::io::Error::other(error)))??;
        if let Some(thanos) = &mut meta.thanos {
            let segments = files.iter().filter_map(|file| file.rel_path.strip_prefix("chunks/"));
            thanos.segment_files = segments.map(str::to_owned).collect();
            thanos.files = files;
            thanos.upload_time = Some(jiff::Timestamp::now().to_string());
        }
        let concurrency = if self.config.concurrency == 0 { 4 } else { self.config.concurrency };
        let before = present.partial.get(&id).map(|objects| objects.as_ref().clone()).unwrap_or_default();
        let bytes = upload(&self.bucket, stage.folder(), &meta, concurrency, &before).await?;
        self.metrics.uploads.inc();
        self.metrics.uploaded_bytes.inc_by(bytes);
        tracing::info!(block = %id, from = meta.min_time, to = meta.max_time, bytes, "block uploaded");
        Ok(())
    }

    /// Refuses a compacted block if the bucket has something of its time already: the same samples would be there twice.
    fn check_overlap(&self, meta: &BlockMeta, labels: &Labels, present: &Fetched) -> Result<(), BlockError> {
        let same = present.blocks.values().filter(|block| block.meta.external_labels().labels() == labels);
        let Some(other) = same.into_iter().find(|block| block.meta.range().overlaps(meta.range())) else {
            return Ok(());
        };
        let reason = format!("block {} of the same source in the bucket overlaps it", other.meta.ulid);
        Err(BlockError::Meta { place: format!("compacted block {}", meta.ulid), reason })
    }

    fn clear_stage(&self) {
        let stage = self.config.folder.join("thanos").join("upload");
        if let Err(error) = std::fs::remove_dir_all(&stage)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %stage.display(), "what an earlier upload left is still there");
        }
    }

    fn state_path(&self) -> PathBuf {
        self.config.folder.join(&self.config.state_file)
    }

    fn read_state(&self) -> BTreeSet<BlockId> {
        let path = self.state_path();
        let read = std::fs::read(&path).map(|bytes| serde_json::from_slice::<StateFile>(&bytes));
        match read {
            Ok(Ok(state)) if state.version == 1 => state.uploaded.into_iter().collect(),
            Ok(state) => {
                let why = state.map_or_else(|error| error.to_string(), |state| format!("version {}", state.version));
                tracing::warn!(path = %path.display(), why, "state file not understood, the bucket is asked");
                BTreeSet::new()
            }
            Err(_) => BTreeSet::new(),
        }
    }

    /// Writes what is uploaded of what is here, so that it is there whole or not at all.
    fn write_state(&mut self, here: &BTreeSet<BlockId>) -> Result<(), BlockError> {
        self.uploaded.retain(|id| here.contains(id));
        let path = self.state_path();
        if self.uploaded == self.read_state() && path.exists() {
            return Ok(());
        }
        let state = StateFile { version: 1, uploaded: self.uploaded.iter().copied().collect() };
        let text = serde_json::to_vec_pretty(&state).expect("a list of names is plain data");
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.config.folder)?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        if let Err(error) = write() {
            // Only a hint: without it the bucket is listed more often.
            tracing::warn!(%error, path = %path.display(), "state file not written");
        }
        Ok(())
    }
}

/// Hard links to the files of a block; removed when dropped.
struct Stage {
    folder: PathBuf,
    linked: bool,
}

impl Stage {
    /// Links the block aside. Where that is not possible, on a file system without links or one that is read-only, the block is
    /// read where it is.
    fn new(root: &Path, block: &Path, id: BlockId) -> Self {
        let folder = root.join("thanos").join("upload").join(id.to_string());
        match link(block, &folder) {
            Ok(()) => Self { folder, linked: true },
            Err(error) => {
                tracing::debug!(%error, block = %id, "no hard links, reading the block in place");
                let _ = std::fs::remove_dir_all(&folder);
                Self { folder: block.to_owned(), linked: false }
            }
        }
    }

    fn folder(&self) -> &Path {
        &self.folder
    }
}

fn link(block: &Path, stage: &Path) -> std::io::Result<()> {
    let _ = std::fs::remove_dir_all(stage);
    std::fs::create_dir_all(stage.join("chunks"))?;
    std::fs::hard_link(block.join("index"), stage.join("index"))?;
    for entry in std::fs::read_dir(block.join("chunks"))? {
        let name = entry?.file_name();
        std::fs::hard_link(block.join("chunks").join(&name), stage.join("chunks").join(&name))?;
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.linked {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
