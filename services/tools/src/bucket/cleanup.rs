//! `cleanup`: deletes blocks that are marked for deletion, and what is left of uploads that never ended.

use super::{BucketFlags, fetch, now, time};
use crate::progress;
use clap::Args;
use farview_block::{BlockId, delete};
use farview_bootstrap::Tool;
use farview_config::{Error, Flags, PromDuration};
use farview_telemetry::logs::LogFlags;
use futures::{StreamExt, TryStreamExt, stream};
use std::io::Write;

/// An upload that goes on for longer than this has ended without its description (Thanos `PartialUploadThresholdAge`), ms.
const LONGEST_UPLOAD: i64 = 2 * 86_400_000;

/// The flags of `cleanup`.
#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    #[command(flatten)]
    bucket: BucketFlags,
    /// How long a block must have been marked. Stores need time to take up what replaces it.
    #[arg(long = "delete-delay", default_value = "48h")]
    delete_delay: PromDuration,
    /// Blocks that were written less than this ago are left alone.
    #[arg(long = "consistency-delay", default_value = "30m")]
    consistency_delay: PromDuration,
    /// Blocks that are deleted at a time.
    #[arg(long = "block-sync-concurrency", default_value_t = 20)]
    concurrency: usize,
    /// Only say what would be deleted.
    #[arg(long = "dry-run")]
    dry_run: bool,
}

impl Flags for Cleanup {
    const SERVICE: &'static str = "tools-bucket-cleanup";
    const ABOUT: &'static str =
        "Deletes blocks that are marked for deletion, and what is left of uploads that never ended.";

    fn validate(&self) -> Result<(), Error> {
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for Cleanup {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for Cleanup {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let fetched = fetch(&bucket).await?;
        let now = now();
        let mut condemned: Vec<(BlockId, String)> = Vec::new();
        for (id, block) in &fetched.blocks {
            if let Some(marked) = block.deletion.filter(|marked| now - marked > self.delete_delay.as_millis()) {
                condemned.push((*id, format!("marked for deletion at {}", time(marked))));
            }
        }
        for (id, objects) in &fetched.partial {
            // A mark without a description is what is left of a deletion that was broken off.
            let age = now - objects.modified;
            if objects.deletion_mark.is_some() && age > self.consistency_delay.as_millis() {
                condemned.push((*id, "its deletion was broken off".to_owned()));
            } else if age > LONGEST_UPLOAD.max(self.consistency_delay.as_millis()) {
                condemned.push((*id, format!("partial upload, last written at {}", time(objects.modified))));
            }
        }
        let dry = if self.dry_run { "would be " } else { "" };
        let bar = progress::bar(condemned.len(), "deleting");
        let done = condemned.iter().map(|(id, why)| {
            let (bucket, bar) = (&bucket, &bar);
            async move {
                if !self.dry_run {
                    delete(bucket, *id).await?;
                }
                bar.inc(1);
                anyhow::Ok((id, why))
            }
        });
        let mut done = stream::iter(done).buffered(self.concurrency.max(1));
        while let Some((id, why)) = done.try_next().await? {
            writeln!(out, "{id}: {dry}deleted: {why}")?;
        }
        bar.finish_and_clear();
        writeln!(out, "{} of {} blocks {dry}deleted", condemned.len(), fetched.blocks.len() + fetched.partial.len())?;
        Ok(true)
    }
}
