//! `meta.json`: what a block says of itself.

use crate::{BlockError, BlockId};
use farview_model::{ExternalLabels, Labels, TimeRange};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// A larger description is none, bytes.
pub(crate) const MAX_META_BYTES: u64 = 16 << 20;

/// What a block says of itself. Fields that are not known are kept as they were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// The block.
    pub ulid: BlockId,
    /// First time that it covers, ms.
    pub min_time: i64,
    /// First time behind what it covers, ms.
    pub max_time: i64,
    /// What is in it.
    #[serde(default)]
    pub stats: Stats,
    /// How it came to be.
    #[serde(default)]
    pub compaction: Compaction,
    /// Version of this description.
    pub version: u64,
    /// What Thanos adds; absent in a block of Prometheus itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thanos: Option<ThanosMeta>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What is in a block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Stats {
    #[serde(skip_serializing_if = "is_zero")]
    pub num_samples: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_series: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_chunks: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_tombstones: u64,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a block came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compaction {
    /// 1 for a block cut from the head.
    pub level: u32,
    /// The level 1 blocks that are in it.
    #[serde(deserialize_with = "nullable")]
    pub sources: Vec<BlockId>,
    /// The blocks it was made of.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub parents: Vec<Parent>,
    /// Whether a compaction with it has failed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A block of which another was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Parent {
    pub ulid: BlockId,
    pub min_time: i64,
    pub max_time: i64,
}

/// What Thanos adds to the description of a block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThanosMeta {
    /// Version of this section; 0 is read as 1.
    pub version: u64,
    /// The labels of the block's source, which all its series carry.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Whether its samples were downsampled.
    pub downsample: Downsample,
    /// Who wrote it.
    pub source: Source,
    /// Names of its segments.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub segment_files: Vec<String>,
    /// Its files.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub files: Vec<BlockFile>,
    /// By which sizes of reads can be guessed.
    #[serde(skip_serializing_if = "IndexStats::is_empty")]
    pub index_stats: IndexStats,
    /// When it came into the bucket, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_time: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Whether samples were downsampled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Downsample {
    /// Distance between samples, ms; 0 as scraped.
    pub resolution: i64,
}

/// Who wrote a block: `sidecar`, `compactor`, `receive`, ….
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source(pub String);

impl Source {
    /// A sidecar.
    pub const SIDECAR: &str = "sidecar";
    /// Somebody with blocks of their own.
    pub const BUCKET_UPLOAD: &str = "bucket.upload";

    /// Tells whether the block was made of blocks that are in the bucket: all of its data was there before it.
    pub fn rewrites(&self) -> bool {
        matches!(self.0.as_str(), "compactor" | "compactor.repair" | "bucket.repair" | "bucket.rewrite")
    }
}

/// A file of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFile {
    /// Its path in the block.
    pub rel_path: String,
    /// Its size, bytes; `meta.json` has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size_bytes: u64,
    /// Its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Value>,
}

/// By which sizes of reads can be guessed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexStats {
    /// Largest series of the index, bytes; 0 if unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub series_max_size: u64,
    /// Largest chunk, bytes; 0 if unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk_max_size: u64,
}

impl IndexStats {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Go writes an empty list as null.
fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl BlockMeta {
    /// Describes a new block that covers `range` (ms, both ends inclusive), made of nothing but itself, with the files that
    /// [`describe`](crate::describe) has found.
    pub fn new(
        id: BlockId,
        range: TimeRange,
        stats: Stats,
        labels: &Labels,
        source: Source,
        files: Vec<BlockFile>,
    ) -> Self {
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self {
            ulid: id,
            min_time: range.mint,
            max_time: range.maxt.saturating_add(1),
            stats,
            compaction: Compaction { level: 1, sources: vec![id], ..Compaction::default() },
            version: 1,
            thanos: Some(ThanosMeta { version: 1, labels, source, files, ..ThanosMeta::default() }),
            rest: Map::new(),
        }
    }

    /// Reads a description; `place` names it in errors.
    ///
    /// # Errors
    /// [`BlockError::Meta`] if it is none, of another version, or says what cannot be.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Self, BlockError> {
        let wrong = |reason: String| BlockError::Meta { place: place.to_owned(), reason };
        if bytes.len() as u64 > MAX_META_BYTES {
            return Err(wrong(format!("it has {} bytes, more than {MAX_META_BYTES}", bytes.len())));
        }
        let meta: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if meta.version != 1 {
            return Err(wrong(format!("version {} is not known", meta.version)));
        }
        if let Some(version) = meta.thanos.as_ref().map(|thanos| thanos.version).filter(|version| *version > 1) {
            return Err(wrong(format!("version {version} of the section thanos is not known")));
        }
        if meta.min_time > meta.max_time {
            return Err(wrong(format!("it ends at {} before it begins at {}", meta.max_time, meta.min_time)));
        }
        Ok(meta)
    }

    /// Reads the description of the block in a folder, which must bear its name.
    ///
    /// # Errors
    /// [`BlockError`] if it cannot be read or is none.
    pub fn read(folder: &Path) -> Result<Self, BlockError> {
        let path = folder.join("meta.json");
        let bytes = std::fs::read(&path).map_err(BlockError::io(&path))?;
        Self::parse(&bytes, &path.display().to_string())
    }

    /// Returns the description as it is written.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut serializer =
            serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b"\t"));
        // Numbers, texts and lists of them: there is nothing that cannot be written.
        self.serialize(&mut serializer).expect("a description is plain data");
        out
    }

    /// Returns the time that is covered, both ends inclusive, ms.
    pub fn range(&self) -> TimeRange {
        TimeRange::new(self.min_time, self.max_time.saturating_sub(1))
    }

    /// Returns the labels of the block's source.
    pub fn external_labels(&self) -> ExternalLabels {
        ExternalLabels::new(self.thanos.as_ref().map_or_else(Labels::empty, |t| Labels::from_pairs(&t.labels)))
    }

    /// Returns the distance between samples, ms; 0 as scraped.
    pub fn resolution(&self) -> i64 {
        self.thanos.as_ref().map_or(0, |thanos| thanos.downsample.resolution)
    }

    /// Returns what the sizes of reads can be guessed by.
    pub fn index_stats(&self) -> IndexStats {
        self.thanos.as_ref().map(|thanos| thanos.index_stats.clone()).unwrap_or_default()
    }

    /// Returns when the block came into the bucket, ms since the epoch: its own word, or else when it was named.
    pub fn upload_time(&self) -> i64 {
        let said = self.thanos.as_ref().and_then(|thanos| thanos.upload_time.as_deref());
        let said = said.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(|time| time.as_millisecond());
        said.filter(|time| *time > 0).unwrap_or_else(|| self.ulid.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: &str = r#"{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":7200000,"stats":{"numSamples":5,"numFloatSamples":5},"compaction":{"level":1,"sources":["01ARZ3NDEKTSV4RRFFQ69G5FAV"],"hints":["from-out-of-order"]},"version":1,"new":{"x":1}}"#;

    #[test]
    fn what_is_not_known_is_kept() {
        let mut meta = BlockMeta::parse(PLAIN.as_bytes(), "x").unwrap();
        assert_eq!((meta.range(), meta.resolution()), (TimeRange::new(1, 7_199_999), 0));
        assert_eq!(meta.upload_time(), 1_469_922_850_259);
        let before: Value = serde_json::from_str(PLAIN).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&meta.to_json()).unwrap(), before);
        meta.thanos = Some(ThanosMeta { version: 1, labels: [("a".into(), "b".into())].into(), ..Default::default() });
        let again = BlockMeta::parse(&meta.to_json(), "x").unwrap();
        assert_eq!(again, meta);
        assert_eq!(again.external_labels().labels().get("a"), Some("b"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (text, reason) in [
            ("", "EOF"),
            ("{}", "ulid"),
            (&PLAIN.replace("\"version\":1", "\"version\":9"), "version 9"),
            (&PLAIN.replace("\"maxTime\":7200000", "\"maxTime\":0"), "ends at 0"),
            (&PLAIN.replace("\"ulid\":\"0", "\"ulid\":\"../0"), "no ULID"),
            (&PLAIN.replace("\"new\":{\"x\":1}", "\"thanos\":{\"version\":3}"), "version 3"),
        ] {
            let error = BlockMeta::parse(text.as_bytes(), "b/meta.json").unwrap_err().to_string();
            assert!(error.starts_with("b/meta.json") && error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..PLAIN.len(), byte: u8) {
            let _ = BlockMeta::parse(&bytes, "x");
            let mut changed = PLAIN.as_bytes().to_vec();
            changed[at] = byte;
            let _ = BlockMeta::parse(&changed, "x");
        }
    }
}
