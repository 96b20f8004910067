//! Uploads the finished blocks of Prometheus, as long as its settings make that right.

use crate::config::UploadFlags;
use crate::prometheus::Prometheus;
use crate::state::State;
use anyhow::Context;
use farview_block::{Shipper, ShipperConfig, ShipperMetrics};
use farview_bootstrap::CancellationToken;
use farview_objstore::Bucket;
use farview_storeapi::StoreError;
use farview_telemetry::Readiness;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often the data folder is looked at.
const INTERVAL: Duration = Duration::from_secs(30);

/// Uploads blocks in the background.
pub(crate) struct Upload {
    pub(crate) shipper: Shipper,
    pub(crate) prometheus: Prometheus,
    pub(crate) state: Arc<State>,
    pub(crate) readiness: Readiness,
    pub(crate) rules: Rules,
    pub(crate) timeout: Duration,
    /// If what is in memory only is to be uploaded at the end.
    pub(crate) flush: Option<Flush>,
}

/// Ships the blocks of a snapshot as those of the data folder.
pub(crate) struct Flush {
    pub(crate) bucket: Bucket,
    pub(crate) config: ShipperConfig,
    pub(crate) metrics: ShipperMetrics,
}

/// How long Prometheus may take for a snapshot.
const SNAPSHOT: Duration = Duration::from_secs(60);

/// What Prometheus' settings must be like.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Compacted blocks are uploaded too.
    upload_compacted: bool,
    ignore_unequal_block_size: bool,
    /// Where the state file is, as Prometheus may know it.
    state_file: String,
}

impl Rules {
    pub(crate) fn new(flags: &UploadFlags) -> Self {
        Self {
            upload_compacted: flags.upload_compacted,
            ignore_unequal_block_size: flags.ignore_unequal_block_size,
            state_file: flags.meta_file_name.clone(),
        }
    }

    /// Returns why blocks must not be uploaded from a Prometheus with these flags: it would compact them before they are in the
    /// bucket, and what is compacted is not uploaded.
    fn objection(&self, flags: &BTreeMap<String, String>) -> Option<String> {
        if self.ignore_unequal_block_size || self.upload_compacted {
            return None;
        }
        let flag = |name: &str| flags.get(name).map_or("", String::as_str);
        let (min, max) = (flag("storage.tsdb.min-block-duration"), flag("storage.tsdb.max-block-duration"));
        // From 3.9 on Prometheus can be told to wait with compaction until the state file names a block.
        let waits = std::path::Path::new(flag("storage.tsdb.delay-compact-file.path"))
            .file_name()
            .is_some_and(|name| name == self.state_file.as_str());
        if min == max || waits {
            return None;
        }
        Some(format!(
            "blocks are not uploaded: Prometheus compacts them itself (storage.tsdb.min-block-duration={min}, max-block-duration={max}); set both to 2h, or storage.tsdb.delay-compact-file.path to the file {} in its data folder",
            self.state_file
        ))
    }
}

impl Upload {
    /// Runs until told to stop; never gives up.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut known = None;
        loop {
            let pass = async {
                let snapshot = self.state.get();
                if !snapshot.is_ready() {
                    return;
                }
                // Asked for again when another Prometheus may be there.
                if known != Some(snapshot.generation) {
                    match self.check().await {
                        Ok(()) => known = Some(snapshot.generation),
                        Err(error) => {
                            return tracing::warn!(%error, "the flags of Prometheus are not known, nothing is uploaded");
                        }
                    }
                }
                if self.state.get().notices.iter().any(|notice| notice.starts_with("blocks are not uploaded")) {
                    known = None;
                    return;
                }
                let problem = match self.shipper.pass(&snapshot.external).await {
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                };
                if let Some(problem) = &problem {
                    tracing::warn!(error = problem, "upload");
                }
                self.readiness.note("upload", problem);
            };
            tokio::select! {
                () = stop.cancelled() => return self.finish().await,
                () = pass => {}
            }
            let wait = if self.state.get().is_ready() { INTERVAL } else { Duration::from_secs(1) };
            tokio::select! {
                () = stop.cancelled() => return self.finish().await,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Uploads what Prometheus holds in memory only, if that is wanted; the end of the process does not wait for a Prometheus that fails.
    async fn finish(self) -> anyhow::Result<()> {
        let Some(flush) = &self.flush else { return Ok(()) };
        match self.flush(flush).await {
            Ok(blocks) => tracing::info!(blocks, "what Prometheus held in memory is in the bucket"),
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "what Prometheus holds in memory only is not in the bucket"
                );
            }
        }
        Ok(())
    }

    async fn flush(&self, flush: &Flush) -> anyhow::Result<usize> {
        let name = self.prometheus.snapshot(SNAPSHOT).await?;
        let folder = flush.config.folder.join("snapshots").join(name);
        anyhow::ensure!(
            folder.is_dir(),
            "--tsdb.path has no {}: it is not the folder of this Prometheus",
            folder.display()
        );
        let config = ShipperConfig { folder: folder.clone(), ..flush.config.clone() };
        let mut shipper = Shipper::new(flush.bucket.clone(), config, flush.metrics.clone());
        let shipped = shipper.pass(&self.state.get().external).await;
        // Hard links of blocks that Prometheus means to delete would keep them.
        let removed = std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()));
        let shipped = shipped?.uploaded.len();
        removed.map(|()| shipped)
    }

    async fn check(&self) -> Result<(), StoreError> {
        let objection = self.rules.objection(&self.prometheus.flags(self.timeout).await?);
        if let Some(objection) = &objection {
            tracing::error!("{objection}");
        }
        self.readiness.note("upload", objection.clone());
        self.state.update(|snapshot| {
            snapshot.notices.retain(|notice| !notice.starts_with("blocks are not uploaded"));
            snapshot.notices.extend(objection.clone());
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_prometheus_compacts_are_not_uploaded_behind_its_back() {
        let rules =
            Rules { upload_compacted: false, ignore_unequal_block_size: false, state_file: "s.json".to_owned() };
        let flags = |min: &str, max: &str, file: &str| -> BTreeMap<String, String> {
            [
                ("storage.tsdb.min-block-duration", min),
                ("storage.tsdb.max-block-duration", max),
                ("storage.tsdb.delay-compact-file.path", file),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
        };
        assert_eq!(rules.objection(&flags("2h", "2h", "")), None);
        assert_eq!(rules.objection(&flags("2h", "31h", "/data/s.json")), None);
        let objection = rules.objection(&flags("2h", "31h", "/data/other.json")).unwrap();
        assert!(objection.contains("max-block-duration=31h") && objection.contains("s.json"));
        let rules = Rules { ignore_unequal_block_size: true, ..rules };
        assert_eq!(rules.objection(&flags("2h", "31h", "")), None);
    }
}
