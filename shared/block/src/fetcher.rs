//! Which blocks there are, and what they say of themselves.

use crate::meta::MAX_META_BYTES;
use crate::{BlockError, BlockId, BlockMeta, BlockObjects, DeletionMark, Listing, list};
use farview_objstore::{Bucket, Object};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A larger mark is none, bytes.
const MAX_MARK_BYTES: u64 = 1 << 20;

/// A block that is in the bucket.
#[derive(Debug, Clone)]
pub struct FetchedBlock {
    /// What it says of itself.
    pub meta: Arc<BlockMeta>,
    /// Its objects.
    pub objects: Arc<BlockObjects>,
    /// When it was marked for deletion, if it was, ms since the epoch.
    pub deletion: Option<i64>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The blocks, by name.
    pub blocks: BTreeMap<BlockId, FetchedBlock>,
    /// Blocks without a description: being written, or being deleted.
    pub partial: BTreeMap<BlockId, Arc<BlockObjects>>,
    /// Blocks whose description is none, and why.
    pub corrupt: BTreeMap<BlockId, String>,
    /// Blocks whose description could not be read this time, and why. What is known of them from before is in `blocks`.
    pub failed: BTreeMap<BlockId, String>,
}

/// Finds out which blocks there are: by one listing, and one request for each description that is new.
#[derive(Debug)]
pub struct MetaFetcher {
    bucket: Bucket,
    /// Where descriptions are kept over a restart.
    folder: Option<PathBuf>,
    concurrency: usize,
    metas: HashMap<BlockId, (Version, Result<Arc<BlockMeta>, String>)>,
    marks: HashMap<BlockId, (Version, Option<i64>)>,
}

/// Changes when an object does.
type Version = (u64, i64, Option<String>);

fn version(object: &Object) -> Version {
    (object.size, object.modified, object.tag.clone())
}

impl MetaFetcher {
    /// Makes a fetcher that keeps descriptions in `folder`, if there is one, and reads `concurrency` at a time.
    pub fn new(bucket: Bucket, folder: Option<PathBuf>, concurrency: usize) -> Self {
        let (metas, marks) = (HashMap::new(), HashMap::new());
        Self { bucket, folder, concurrency: concurrency.max(1), metas, marks }
    }

    /// Lists the bucket and reads what is new.
    ///
    /// # Errors
    /// [`BlockError`] if the bucket cannot be listed. A description that cannot be read is no error.
    pub async fn fetch(&mut self) -> Result<Fetched, BlockError> {
        let listing = list(&self.bucket).await?;
        Ok(self.read(listing).await)
    }

    /// Reads what a shipper must know before it uploads: the descriptions of these blocks and, if any of them was compacted, of all
    /// others. A description that cannot be read counts as there: the block is not written over.
    pub(crate) async fn fetch_some(&mut self, ids: &BTreeSet<BlockId>, all: bool) -> Result<Fetched, BlockError> {
        let mut listing = list(&self.bucket).await?;
        if !all {
            listing.blocks.retain(|id, _| ids.contains(id));
        }
        Ok(self.read(listing).await)
    }

    /// Reads what is new in a listing.
    pub async fn read(&mut self, listing: Listing) -> Fetched {
        self.metas.retain(|id, _| listing.blocks.contains_key(id));
        self.marks.retain(|id, _| listing.blocks.contains_key(id));
        let mut fetched = Fetched::default();
        self.read_metas(&listing, &mut fetched).await;
        self.read_marks(&listing).await;
        for (id, objects) in listing.blocks {
            if objects.meta.is_none() {
                fetched.partial.insert(id, Arc::new(objects));
                continue;
            }
            match self.metas.get(&id) {
                Some((_, Ok(meta))) => {
                    let deletion = self.marks.get(&id).and_then(|(_, time)| *time);
                    let deletion = deletion.filter(|_| objects.deletion_mark.is_some());
                    let block = FetchedBlock { meta: Arc::clone(meta), objects: Arc::new(objects), deletion };
                    fetched.blocks.insert(id, block);
                }
                Some((_, Err(reason))) => {
                    fetched.corrupt.insert(id, reason.clone());
                }
                None => {}
            }
        }
        fetched
    }

    async fn read_metas(&mut self, listing: &Listing, fetched: &mut Fetched) {
        let wanted: Vec<(BlockId, Object)> = listing
            .blocks
            .iter()
            .filter_map(|(id, objects)| Some((*id, objects.meta.clone()?)))
            .filter(|(id, object)| self.metas.get(id).is_none_or(|(known, _)| *known != version(object)))
            .collect();
        let (bucket, folder) = (&self.bucket, self.folder.as_deref());
        let reads = wanted.into_iter().map(|(id, object)| async move {
            let read = match folder.and_then(|folder| kept(folder, id, &object)) {
                Some(meta) => Ok(meta),
                None => fetch_meta(bucket, folder, id, &object).await,
            };
            (id, object, read)
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.concurrency);
        while let Some((id, object, read)) = reads.next().await {
            match read {
                Ok(meta) => {
                    self.metas.insert(id, (version(&object), Ok(Arc::new(meta))));
                }
                Err(BlockError::Meta { reason, .. }) => {
                    self.metas.insert(id, (version(&object), Err(reason)));
                }
                // Deleted since the listing.
                Err(error) if error.kind() == farview_model::ErrorKind::NotFound => {}
                Err(error) => {
                    fetched.failed.insert(id, error.to_string());
                }
            }
        }
    }

    async fn read_marks(&mut self, listing: &Listing) {
        let wanted: Vec<(BlockId, Object)> = listing
            .blocks
            .iter()
            .filter_map(|(id, objects)| Some((*id, objects.deletion_mark.clone()?)))
            .filter(|(id, object)| self.marks.get(id).is_none_or(|(known, _)| *known != version(object)))
            .collect();
        let bucket = &self.bucket;
        let reads = wanted.into_iter().map(|(id, object)| async move {
            let read = bucket.get(&object.key, MAX_MARK_BYTES).await;
            (id, object, read)
        });
        let mut reads = stream::iter(reads).buffer_unordered(self.concurrency);
        while let Some((id, object, read)) = reads.next().await {
            // A mark that cannot be understood was still put there by somebody: the block counts as marked when it was written.
            let time = match read {
                Ok(bytes) => serde_json::from_slice::<DeletionMark>(&bytes)
                    .map_or(object.modified, |mark| mark.deletion_time.saturating_mul(1_000)),
                Err(error) if error.is_not_found() => continue,
                Err(error) => {
                    tracing::warn!(%error, block = %id, "a mark cannot be read, using the time it was written");
                    object.modified
                }
            };
            self.marks.insert(id, (version(&object), Some(time)));
        }
    }
}

fn kept_path(folder: &Path, id: BlockId) -> PathBuf {
    folder.join(id.to_string()).join("meta.json")
}

/// Returns the description that was kept, if it is the one that is in the bucket as far as one can see.
fn kept(folder: &Path, id: BlockId, object: &Object) -> Option<BlockMeta> {
    let bytes = std::fs::read(kept_path(folder, id)).ok()?;
    let meta = BlockMeta::parse(&bytes, "").ok()?;
    (bytes.len() as u64 == object.size && meta.ulid == id).then_some(meta)
}

async fn fetch_meta(
    bucket: &Bucket,
    folder: Option<&Path>,
    id: BlockId,
    object: &Object,
) -> Result<BlockMeta, BlockError> {
    let place = &object.key;
    if object.size > MAX_META_BYTES {
        let reason = format!("it has {} bytes, more than {MAX_META_BYTES}", object.size);
        return Err(BlockError::Meta { place: place.clone(), reason });
    }
    let bytes = bucket.get(place, MAX_META_BYTES).await?;
    let meta = BlockMeta::parse(&bytes, place)?;
    if meta.ulid != id {
        let reason = format!("it describes block {} and not {id}", meta.ulid);
        return Err(BlockError::Meta { place: place.clone(), reason });
    }
    if let Some(folder) = folder
        && let Err(error) = keep(&kept_path(folder, id), &bytes)
    {
        // It is read from the bucket again after a restart.
        tracing::debug!(%error, block = %id, "a description is not kept");
    }
    Ok(meta)
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
