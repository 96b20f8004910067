//! Marks: small objects beside a block that say what is to become of it.

use crate::BlockId;
use serde::{Deserialize, Serialize};

/// A mark is a file of a block.
pub trait MarkFile: Serialize + for<'de> Deserialize<'de> {
    /// Its name in the block's folder.
    const NAME: &'static str;
}

/// The block is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionMark {
    /// The block.
    pub id: BlockId,
    /// 1.
    pub version: u64,
    /// Why.
    #[serde(default)]
    pub details: String,
    /// When this was decided, seconds since the epoch.
    pub deletion_time: i64,
}

/// The block is not to be compacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCompactMark {
    /// The block.
    pub id: BlockId,
    /// 1.
    pub version: u64,
    /// Why, in words.
    #[serde(default)]
    pub details: String,
    /// When this was decided, seconds since the epoch.
    pub no_compact_time: i64,
    /// Why, in one of the known words: `manual`, ….
    pub reason: String,
}

/// The block is not to be downsampled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoDownsampleMark {
    /// The block.
    pub id: BlockId,
    /// 1.
    pub version: u64,
    /// Why, in words.
    #[serde(default)]
    pub details: String,
    /// When this was decided, seconds since the epoch.
    pub no_downsample_time: i64,
    /// Why, in one of the known words: `manual`, ….
    pub reason: String,
}

impl MarkFile for DeletionMark {
    const NAME: &'static str = "deletion-mark.json";
}

impl MarkFile for NoCompactMark {
    const NAME: &'static str = "no-compact-mark.json";
}

impl MarkFile for NoDownsampleMark {
    const NAME: &'static str = "no-downsample-mark.json";
}
