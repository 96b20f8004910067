//! `upload-blocks`: puts the blocks of a folder into a bucket.

use super::{BucketFlags, label};
use clap::Args;
use farview_block::{Shipper, ShipperConfig, ShipperMetrics, Source};
use farview_bootstrap::Tool;
use farview_config::{Error, Flags};
use farview_model::Labels;
use farview_telemetry::logs::LogFlags;
use std::io::Write;
use std::path::PathBuf;

/// The state of these uploads; the sidecar's own is left alone.
const STATE_FILE: &str = "thanos.shipper.json";

/// The flags of `upload-blocks`.
#[derive(Debug, Args)]
pub(crate) struct UploadBlocks {
    #[command(flatten)]
    bucket: BucketFlags,
    /// Folder with the blocks.
    #[arg(long = "path", default_value = "./data")]
    path: PathBuf,
    /// External label that the blocks get: key="value"; repeatable.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Upload blocks that Prometheus has compacted, too.
    #[arg(long = "shipper.upload-compacted")]
    upload_compacted: bool,
    /// Files of a block that are uploaded at a time.
    #[arg(long = "shipper.upload-concurrency", default_value_t = 5)]
    concurrency: usize,
}

impl Flags for UploadBlocks {
    const SERVICE: &'static str = "tools-bucket-upload-blocks";
    const ABOUT: &'static str = "Puts the blocks of a folder into a bucket.";

    fn validate(&self) -> Result<(), Error> {
        if self.labels.is_empty() {
            return Err(Error::Usage(
                "--label is missing: without external labels nobody can tell whose blocks they are".to_owned(),
            ));
        }
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for UploadBlocks {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for UploadBlocks {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let config = ShipperConfig {
            folder: self.path,
            state_file: STATE_FILE.to_owned(),
            upload_compacted: self.upload_compacted,
            allow_out_of_order: false,
            skip_corrupted: false,
            concurrency: self.concurrency,
            hash: false,
            source: Source(Source::BUCKET_UPLOAD.to_owned()),
        };
        let mut shipper = Shipper::new(bucket, config, ShipperMetrics::default());
        let shipped = shipper.pass(&Labels::from_pairs(self.labels)).await?;
        for id in &shipped.uploaded {
            writeln!(out, "{id}: uploaded")?;
        }
        writeln!(out, "{} blocks uploaded", shipped.uploaded.len())?;
        Ok(true)
    }
}
