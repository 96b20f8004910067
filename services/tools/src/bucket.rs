//! What all tools for buckets share.

mod cleanup;
mod inspect;
mod ls;
mod mark;
mod upload;
mod verify;

pub(crate) use cleanup::Cleanup;
pub(crate) use inspect::Inspect;
pub(crate) use ls::Ls;
pub(crate) use mark::Mark;
pub(crate) use upload::UploadBlocks;
pub(crate) use verify::Verify;

use anyhow::Context;
use clap::Args;
use farview_block::{Fetched, MetaFetcher};
use farview_config::{Error, PathOrContent, PromDuration};
use farview_objstore::{Bucket, BucketConfig, BucketFlag, BucketMetrics, Purpose};
use farview_telemetry::logs::LogFlags;
use std::time::{Duration, SystemTime};

/// Descriptions that are read at a time.
const METAS_AT_ONCE: usize = 32;

/// Which bucket.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bucket")]
pub(crate) struct BucketFlags {
    #[command(flatten)]
    objstore: PathOrContent<BucketFlag>,
    #[command(flatten)]
    log: LogFlags,
}

impl AsRef<LogFlags> for BucketFlags {
    fn as_ref(&self) -> &LogFlags {
        &self.log
    }
}

impl BucketFlags {
    fn validate(&self) -> Result<(), Error> {
        if self.objstore.is_set() {
            return Ok(());
        }
        Err(Error::Usage("which bucket? Give --objstore.config or --objstore.config-file".to_owned()))
    }

    fn open(&self) -> anyhow::Result<Bucket> {
        let config = BucketConfig::read(&self.objstore)?.context("the object store's configuration is empty")?;
        // Nobody scrapes a tool.
        let metrics = BucketMetrics::register(&mut prometheus_client::registry::Registry::default());
        Ok(config.open(metrics)?.purpose(Purpose::Tools))
    }
}

/// Reads what there is; says on standard error which blocks cannot be understood.
async fn fetch(bucket: &Bucket) -> anyhow::Result<Fetched> {
    let fetched = MetaFetcher::new(bucket.clone(), None, METAS_AT_ONCE).fetch().await?;
    for (id, why) in fetched.corrupt.iter().chain(&fetched.failed) {
        tracing::warn!(block = %id, why, "block left out");
    }
    Ok(fetched)
}

/// Does `work` for no longer than `--timeout`.
async fn within<T>(timeout: PromDuration, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let limit = Duration::from(timeout);
    tokio::time::timeout(limit, work).await.with_context(|| format!("not done within --timeout={timeout}"))?
}

/// Returns the time, ms.
fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Writes a time (ms) as RFC 3339 without fractions; a time no calendar has as a number.
fn time(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis.div_euclid(1_000).saturating_mul(1_000));
    time.map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// Writes a span (ms) as Go does: `2h0m0s`.
fn span(millis: i64) -> String {
    let (sign, rest) = if millis < 0 { ("-", millis.unsigned_abs()) } else { ("", millis.unsigned_abs()) };
    let (hours, minutes, part) = (rest / 3_600_000, rest / 60_000 % 60, rest % 60_000);
    let seconds = match part % 1_000 {
        0 => (part / 1_000).to_string(),
        _ => format!("{}.{}", part / 1_000, format!("{:03}", part % 1_000).trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) if part > 0 && part < 1_000 => format!("{sign}{part}ms"),
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Reads `name="value"`, as selectors and labels are given.
fn label(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("{text} is not of the form name=\"value\"");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    if name.is_empty() || value.contains('"') {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_go_does() {
        for (millis, text) in [
            (0, "0s"),
            (7_200_000, "2h0m0s"),
            (300_000, "5m0s"),
            (1_500, "1.5s"),
            (20, "20ms"),
            (-60_000, "-1m0s"),
            (864_000_000, "240h0m0s"),
        ] {
            assert_eq!(span(millis), text);
        }
        assert_eq!(time(1_767_225_600_999), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn labels_are_read_with_and_without_quotes() {
        assert_eq!(label("a=\"b\""), Ok(("a".to_owned(), "b".to_owned())));
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        for wrong in ["a", "=b", "a=\"b\"c\""] {
            assert!(label(wrong).unwrap_err().contains(wrong));
        }
    }
}
