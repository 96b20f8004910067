//! `mark`: says what is to become of blocks, or takes that back.

use super::{BucketFlags, now};
use anyhow::Context;
use clap::{Args, ValueEnum};
use farview_block::{BlockId, DeletionMark, MarkFile, NoCompactMark, NoDownsampleMark, list};
use farview_bootstrap::Tool;
use farview_config::{Error, Flags};
use farview_objstore::Bucket;
use farview_telemetry::logs::LogFlags;
use std::io::Write;

/// The flags of `mark`.
#[derive(Debug, Args)]
pub(crate) struct Mark {
    #[command(flatten)]
    bucket: BucketFlags,
    /// Block to mark; repeatable.
    #[arg(long = "id", required = true)]
    ids: Vec<BlockId>,
    /// Which mark.
    #[arg(long = "marker", value_enum, required = true)]
    marker: Option<Marker>,
    /// Why, for those who will read the mark.
    #[arg(long = "details", default_value = "")]
    details: String,
    /// Take the mark away.
    #[arg(long = "remove")]
    remove: bool,
    /// Only say what would be done.
    #[arg(long = "dry-run")]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Marker {
    /// To be deleted.
    #[value(name = DeletionMark::NAME)]
    Deletion,
    /// Not to be compacted.
    #[value(name = NoCompactMark::NAME)]
    NoCompact,
    /// Not to be downsampled.
    #[value(name = NoDownsampleMark::NAME)]
    NoDownsample,
}

impl Marker {
    fn name(self) -> &'static str {
        match self {
            Self::Deletion => DeletionMark::NAME,
            Self::NoCompact => NoCompactMark::NAME,
            Self::NoDownsample => NoDownsampleMark::NAME,
        }
    }

    fn content(self, id: BlockId, details: String) -> serde_json::Result<Vec<u8>> {
        let (version, time, reason) = (1, now() / 1_000, "manual".to_owned());
        match self {
            Self::Deletion => serde_json::to_vec(&DeletionMark { id, version, details, deletion_time: time }),
            Self::NoCompact => {
                serde_json::to_vec(&NoCompactMark { id, version, details, no_compact_time: time, reason })
            }
            Self::NoDownsample => {
                serde_json::to_vec(&NoDownsampleMark { id, version, details, no_downsample_time: time, reason })
            }
        }
    }
}

impl Flags for Mark {
    const SERVICE: &'static str = "tools-bucket-mark";
    const ABOUT: &'static str = "Says what is to become of blocks, or takes that back.";

    fn validate(&self) -> Result<(), Error> {
        if self.details.is_empty() && !self.remove {
            return Err(Error::Usage("--details must say why".to_owned()));
        }
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for Mark {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for Mark {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let marker = self.marker.context("--marker is missing")?;
        let listing = list(&bucket).await?;
        let mut well = true;
        for id in &self.ids {
            let Some(objects) = listing.blocks.get(id) else {
                writeln!(out, "{id}: there is no such block")?;
                well = false;
                continue;
            };
            let there = match marker {
                Marker::Deletion => objects.deletion_mark.is_some(),
                Marker::NoCompact => objects.no_compact_mark.is_some(),
                Marker::NoDownsample => objects.no_downsample_mark.is_some(),
            };
            let done = match (self.remove, there) {
                (false, true) => "is marked already",
                (true, false) => "is not marked",
                (false, false) => "marked",
                (true, true) => "mark removed",
            };
            if self.remove == there && !self.dry_run {
                self.apply(&bucket, marker, *id).await?;
            }
            let dry = if self.dry_run { " (dry run)" } else { "" };
            writeln!(out, "{id}: {done}: {}{dry}", marker.name())?;
        }
        Ok(well)
    }
}

impl Mark {
    async fn apply(&self, bucket: &Bucket, marker: Marker, id: BlockId) -> anyhow::Result<()> {
        let key = format!("{id}/{}", marker.name());
        match self.remove {
            true => bucket.delete(&key).await?,
            false => bucket.put(&key, marker.content(id, self.details.clone())?.into()).await?,
        }
        Ok(())
    }
}
