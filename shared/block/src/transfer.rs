//! Blocks into the bucket and out of it.

use crate::{BlockError, BlockFile, BlockId, BlockMeta, BlockObjects, DeletionMark, MarkFile};
use farview_objstore::{Bucket, BucketError};
use futures::{StreamExt, TryStreamExt, stream};
use sha2::Digest;
use std::path::Path;

/// Returns the files of the block in a folder, as its description lists them: segments, index and `meta.json`, which has no size.
/// With `hash` the SHA-256 of each is taken too.
///
/// # Errors
/// [`BlockError`] if a file is missing or cannot be read.
pub fn describe(folder: &Path, hash: bool) -> Result<Vec<BlockFile>, BlockError> {
    let chunks = folder.join("chunks");
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&chunks).map_err(BlockError::io(&chunks))? {
        let name = entry.map_err(BlockError::io(&chunks))?.file_name().to_string_lossy().into_owned();
        // What is left of a write that was broken off is no segment.
        if name.len() == 6 && name.bytes().all(|b| b.is_ascii_digit()) {
            paths.push(format!("chunks/{name}"));
        }
    }
    paths.sort();
    paths.push("index".to_owned());
    let mut files = Vec::with_capacity(paths.len() + 1);
    for rel_path in paths {
        let path = folder.join(&rel_path);
        let size_bytes = std::fs::metadata(&path).map_err(BlockError::io(&path))?.len();
        let hash = if hash { Some(serde_json::json!({"hashFunc": "SHA256", "value": sha256(&path)?})) } else { None };
        files.push(BlockFile { rel_path, size_bytes, hash });
    }
    files.push(BlockFile { rel_path: "meta.json".to_owned(), size_bytes: 0, hash: None });
    Ok(files)
}

fn sha256(path: &Path) -> Result<String, BlockError> {
    let mut file = std::fs::File::open(path).map_err(BlockError::io(path))?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer).map_err(BlockError::io(path))?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Puts the block in `folder` into the bucket under the name in `meta`, whose section `thanos` must list its files
/// ([`describe`]): segments first, `concurrency` at a time, then the index, then the description, so that nobody sees half a block.
/// Files that are there already with the right size stay; returns how many bytes were written.
///
/// # Errors
/// [`BlockError`] if a file cannot be read or written. Trying again goes on where it ended.
pub async fn upload(
    bucket: &Bucket,
    folder: &Path,
    meta: &BlockMeta,
    concurrency: usize,
    present: &BlockObjects,
) -> Result<u64, BlockError> {
    if present.meta.is_some() {
        return Err(BlockError::Exists(meta.ulid));
    }
    let id = meta.ulid;
    let files = meta.thanos.as_ref().map(|thanos| thanos.files.as_slice()).unwrap_or_default();
    if !files.iter().any(|file| file.rel_path == "index") {
        let reason = "it does not list its files".to_owned();
        return Err(BlockError::Meta { place: folder.join("meta.json").display().to_string(), reason });
    }
    let missing = |file: &&BlockFile| present.files.get(&file.rel_path) != Some(&file.size_bytes);
    let put = |file: BlockFile| async move {
        let size = bucket.upload(&format!("{id}/{}", file.rel_path), &folder.join(&file.rel_path)).await?;
        if size == file.size_bytes {
            return Ok(size);
        }
        let reason = format!("{} has {size} bytes and not {}", file.rel_path, file.size_bytes);
        Err(BlockError::Meta { place: folder.display().to_string(), reason })
    };
    let segments: Vec<BlockFile> =
        files.iter().filter(|file| file.rel_path.starts_with("chunks/")).filter(missing).cloned().collect();
    let index: Vec<BlockFile> = files.iter().filter(|file| file.rel_path == "index").filter(missing).cloned().collect();
    let mut written = 0;
    for group in [segments, index] {
        let sizes = stream::iter(group.into_iter().map(put)).buffer_unordered(concurrency.max(1));
        written += sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await?;
    }
    let json = meta.to_json();
    written += json.len() as u64;
    bucket.put(&format!("{id}/meta.json"), json.into()).await?;
    Ok(written)
}

/// Deletes a block: first its description, so that nobody begins to read it, last the mark that says why.
///
/// # Errors
/// [`BucketError`] if an object cannot be deleted. Trying again goes on where it ended.
pub async fn delete(bucket: &Bucket, id: BlockId) -> Result<(), BucketError> {
    let objects = bucket.list(&id.to_string()).await?;
    let rank = |key: &str| match key.split_once('/').map_or(key, |(_, path)| path) {
        "meta.json" => 0,
        DeletionMark::NAME => 2,
        _ => 1,
    };
    let mut keys: Vec<String> = objects.into_iter().map(|object| object.key).collect();
    keys.sort_by_key(|key| rank(key));
    for key in keys {
        bucket.delete(&key).await?;
    }
    Ok(())
}
