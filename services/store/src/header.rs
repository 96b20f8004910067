//! Index headers: made from a few ranged reads of an index, kept on disk, loaded when a query needs them, within a budget.

use crate::error::ReadError;
use crate::metrics::Metrics;
use bytes::Bytes;
use farview_block::{BlockId, BlockObjects};
use farview_objstore::{Bucket, Purpose};
use farview_tsdb::index::{INDEX_HEAD_LEN, IndexHeader, IndexVersion, TOC_LEN, Toc};
use moka::future::Cache;
use std::collections::BTreeSet;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So much of an index is read at either end at once, at least: mostly enough for symbols here and the table there.
const GUESS: u64 = 128 << 10;

/// The index headers of all blocks.
#[derive(Debug, Clone)]
pub(crate) struct Headers {
    bucket: Bucket,
    folder: Option<PathBuf>,
    loaded: Cache<BlockId, Arc<Loaded>>,
    metrics: Metrics,
}

/// A header that is in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) header: IndexHeader,
    /// Its memory, bytes.
    bytes: u32,
}

impl Headers {
    /// Keeps headers in `folder`, if there is one, and up to `memory` bytes of them loaded.
    pub(crate) fn new(bucket: &Bucket, folder: Option<PathBuf>, memory: u64, metrics: Metrics) -> Self {
        let loaded = Cache::builder().weigher(|_, loaded: &Arc<Loaded>| loaded.bytes).max_capacity(memory).build();
        Self { bucket: bucket.purpose(Purpose::IndexHeader), folder, loaded, metrics }
    }

    /// Returns the header of a block. Requests for the same one wait for each other.
    pub(crate) async fn get(&self, id: BlockId, objects: &Arc<BlockObjects>) -> Result<Arc<Loaded>, ReadError> {
        let load = self.load(id, objects);
        let loaded = self.loaded.try_get_with(id, load).await.map_err(|error: Arc<ReadError>| error.as_ref().clone());
        self.metrics.header_bytes.set(self.loaded.weighted_size() as i64);
        loaded
    }

    /// Makes sure that the header is on disk, without keeping it in memory.
    pub(crate) async fn prepare(&self, id: BlockId, objects: &Arc<BlockObjects>) -> Result<(), ReadError> {
        match self.path(id) {
            Some(path) if path.exists() => Ok(()),
            Some(_) => self.load(id, objects).await.map(drop),
            None => Ok(()),
        }
    }

    /// Forgets the headers of all blocks but these.
    pub(crate) fn retain(&self, ids: &BTreeSet<BlockId>) {
        for (id, _) in &self.loaded {
            if !ids.contains(&*id) {
                let (loaded, id) = (self.loaded.clone(), *id);
                tokio::spawn(async move { loaded.invalidate(&id).await });
            }
        }
        let Some(folder) = &self.folder else { return };
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if let Ok(id) = entry.file_name().to_string_lossy().parse::<BlockId>()
                && !ids.contains(&id)
                && let Err(error) = std::fs::remove_dir_all(entry.path())
            {
                tracing::warn!(%error, block = %id, "index header of a block that is gone not removed");
            }
        }
    }

    /// Forgets the header of a block, in memory and on disk: it may be at fault.
    pub(crate) async fn forget(&self, id: BlockId) {
        self.loaded.invalidate(&id).await;
        if let Some(path) = self.path(id) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn path(&self, id: BlockId) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(id.to_string()).join("index-header"))
    }

    async fn load(&self, id: BlockId, objects: &Arc<BlockObjects>) -> Result<Arc<Loaded>, ReadError> {
        let path = self.path(id);
        if let Some(path) = path.clone() {
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            if let Ok(Some(loaded)) = read {
                return Ok(Arc::new(loaded));
            }
        }
        let bytes: Bytes = self.build(id, objects).await?.into();
        let decode = |bytes: Bytes| {
            let object = format!("{id}/index");
            let len = bytes.len();
            let header =
                IndexHeader::decode(bytes).map_err(|error| ReadError::Corrupt { object, reason: error.to_string() })?;
            Ok::<_, ReadError>(Arc::new(Loaded { header, bytes: u32::try_from(len).unwrap_or(u32::MAX) }))
        };
        let loaded = decode(bytes.clone())?;
        if let Some(path) = path
            && let Err(error) = keep(&path, &bytes)
        {
            // It is made again after a restart.
            tracing::warn!(%error, block = %id, "index header not kept on disk");
        }
        Ok(loaded)
    }

    /// Makes a header from the index in the bucket: two reads, mostly, and one for a small index.
    async fn build(&self, id: BlockId, objects: &BlockObjects) -> Result<Vec<u8>, ReadError> {
        let object = format!("{id}/index");
        let corrupt = |error| ReadError::format(object.clone(), error);
        let len = match objects.files.get("index") {
            Some(len) => *len,
            None => self.bucket.size(&object).await?,
        };
        let guess = GUESS.max(len / 8);
        let (start, end) = if len <= 2 * guess { (0..len, len..len) } else { (0..guess, len - guess..len) };
        let reads = async {
            let first = self.bucket.get_range(&object, start.clone());
            let last = self.bucket.get_range(&object, end.clone());
            tokio::try_join!(first, last)
        };
        let (first, last) = reads.await?;
        let pieces = [(start, first), (end, last)];
        let version = IndexVersion::decode(&self.piece(&object, &pieces, 0..INDEX_HEAD_LEN as u64).await?);
        let version = version.map_err(corrupt)?;
        let toc = self.piece(&object, &pieces, len.saturating_sub(TOC_LEN as u64)..len).await?;
        let toc = Toc::decode(&toc).map_err(corrupt)?;
        let (symbols, table) = tokio::try_join!(
            self.piece(&object, &pieces, clip(toc.symbols_range(), len)),
            self.piece(&object, &pieces, clip(toc.postings_table_range(len), len)),
        )?;
        Ok(IndexHeader::encode(version, toc.postings_table, &symbols, &table))
    }

    /// Returns a range of the index from what was read already, or from the bucket.
    async fn piece(
        &self,
        object: &str,
        pieces: &[(Range<u64>, Bytes)],
        wanted: Range<u64>,
    ) -> Result<Bytes, ReadError> {
        for (range, bytes) in pieces {
            if range.start <= wanted.start && wanted.end <= range.end {
                return Ok(bytes.slice((wanted.start - range.start) as usize..(wanted.end - range.start) as usize));
            }
        }
        Ok(self.bucket.get_range(object, wanted).await?)
    }
}

/// A corrupt table of contents may point anywhere.
fn clip(range: Range<u64>, len: u64) -> Range<u64> {
    range.start.min(len)..range.end.min(len).max(range.start.min(len))
}

/// Reads a header from disk; `None` if there is none that can be used.
fn read(path: &Path) -> Option<Loaded> {
    let bytes = std::fs::read(path).ok()?;
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match IndexHeader::decode(bytes.into()) {
        Ok(header) => Some(Loaded { header, bytes: len }),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "index header on disk");
            None
        }
    }
}

/// Writes a file so that it is there whole or not at all.
fn keep(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
