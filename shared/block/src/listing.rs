//! What is in a bucket, by one listing.

use crate::{BlockId, DeletionMark, MarkFile, NoCompactMark, NoDownsampleMark};
use farview_objstore::{Bucket, BucketError, Object};
use std::collections::BTreeMap;

/// The objects of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockObjects {
    /// `meta.json`: without it the block is not there (yet, or any more).
    pub meta: Option<Object>,
    /// The mark that it is to be deleted.
    pub deletion_mark: Option<Object>,
    /// The mark that it is not to be compacted.
    pub no_compact_mark: Option<Object>,
    /// The mark that it is not to be downsampled.
    pub no_downsample_mark: Option<Object>,
    /// Sizes of everything else, bytes, by path in the block.
    pub files: BTreeMap<String, u64>,
    /// When the last of it was written, ms.
    pub modified: i64,
}

/// The blocks of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// By name; also those that are not complete.
    pub blocks: BTreeMap<BlockId, BlockObjects>,
}

/// Lists the blocks of a bucket. Whatever else is there is left alone.
///
/// # Errors
/// [`BucketError`] if the listing cannot be had whole.
pub async fn list(bucket: &Bucket) -> Result<Listing, BucketError> {
    let mut listing = Listing::default();
    for object in bucket.list("").await? {
        let Some((id, path)) = object.key.split_once('/') else { continue };
        let Ok(id) = id.parse::<BlockId>() else { continue };
        let block = listing.blocks.entry(id).or_default();
        block.modified = block.modified.max(object.modified);
        match path {
            "meta.json" => block.meta = Some(object),
            DeletionMark::NAME => block.deletion_mark = Some(object),
            NoCompactMark::NAME => block.no_compact_mark = Some(object),
            NoDownsampleMark::NAME => block.no_downsample_mark = Some(object),
            path => {
                block.files.insert(path.to_owned(), object.size);
            }
        }
    }
    Ok(listing)
}
