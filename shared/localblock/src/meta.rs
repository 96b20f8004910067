//! What of a block's `meta.json` a reader needs.

use crate::LocalBlockError;
use farview_model::{ExternalLabels, Labels, TimeRange};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a block says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalMeta {
    /// The time that it covers, ms, both ends inclusive.
    pub range: TimeRange,
    /// The labels of its source; none in a block of Prometheus itself.
    pub external_labels: ExternalLabels,
    /// Distance between its samples, ms; 0 as scraped.
    pub resolution: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    version: u64,
    min_time: i64,
    max_time: i64,
    #[serde(default)]
    thanos: Thanos,
}

#[derive(Deserialize, Default)]
struct Thanos {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    downsample: Downsample,
}

#[derive(Deserialize, Default)]
struct Downsample {
    #[serde(default)]
    resolution: i64,
}

impl LocalMeta {
    pub(crate) fn read(path: &Path) -> Result<Self, LocalBlockError> {
        let bytes = std::fs::read(path).map_err(LocalBlockError::io(path))?;
        let meta = |reason: String| LocalBlockError::Meta { path: path.to_owned(), reason };
        let file: File = serde_json::from_slice(&bytes).map_err(|error| meta(error.to_string()))?;
        if file.version != 1 {
            return Err(meta(format!("version {} is not known", file.version)));
        }
        Ok(Self {
            // The end is exclusive in the file.
            range: TimeRange::new(file.min_time, file.max_time.saturating_sub(1)),
            external_labels: ExternalLabels::new(Labels::from_pairs(file.thanos.labels.unwrap_or_default())),
            resolution: file.thanos.downsample.resolution,
        })
    }
}
