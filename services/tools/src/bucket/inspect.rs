//! `inspect`: lays out the blocks of a bucket in a table.

use super::{BucketFlags, fetch, label, span, time, within};
use clap::{Args, ValueEnum};
use farview_block::BlockMeta;
use farview_bootstrap::Tool;
use farview_config::{Error, Flags, PromDuration};
use farview_telemetry::logs::LogFlags;
use std::cmp::Ordering;
use std::io::Write;

/// A raw block is downsampled once it covers so much, ms (Thanos `downsample.ResLevel1DownsampleRange`).
const RAW_RANGE: i64 = 40 * 3_600_000;
/// A block of 5 minutes is downsampled again once it covers so much, ms.
const MIDDLE_RANGE: i64 = 10 * 86_400_000;

const HEADER: [&str; 13] = [
    "ULID",
    "FROM",
    "UNTIL",
    "RANGE",
    "UNTIL-DOWN",
    "#SERIES",
    "#SAMPLES",
    "#CHUNKS",
    "COMP-LEVEL",
    "COMP-FAILED",
    "LABELS",
    "RESOLUTION",
    "SOURCE",
];

/// The flags of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    bucket: BucketFlags,
    /// Only blocks with this external label: key="value"; repeatable.
    #[arg(long = "selector", short = 'l', value_parser = label)]
    selector: Vec<(String, String)>,
    /// Columns to sort by, first one first; repeatable.
    #[arg(long = "sort-by", default_values = ["FROM", "UNTIL"])]
    sort_by: Vec<String>,
    /// How to print it.
    #[arg(long = "output", value_enum, default_value = "table")]
    output: Output,
    /// Longest time to look for.
    #[arg(long = "timeout", default_value = "5m")]
    timeout: PromDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns for people.
    Table,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
}

impl Flags for Inspect {
    const SERVICE: &'static str = "tools-bucket-inspect";
    const ABOUT: &'static str = "Lays out the blocks of a bucket in a table.";

    fn validate(&self) -> Result<(), Error> {
        for column in &self.sort_by {
            if !HEADER.contains(&column.to_uppercase().as_str()) {
                return Err(Error::Usage(format!("--sort-by={column}: the columns are {}", HEADER.join(", "))));
            }
        }
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for Inspect {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for Inspect {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let fetched = within(self.timeout, fetch(&bucket)).await?;
        let mut metas: Vec<&BlockMeta> = fetched.blocks.values().map(|block| block.meta.as_ref()).collect();
        metas.retain(|meta| {
            let external = meta.external_labels();
            self.selector.iter().all(|(name, value)| external.labels().get(name) == Some(value.as_str()))
        });
        metas.sort_by(|a, b| {
            let columns = self.sort_by.iter().map(|column| by_column(column, a, b));
            columns.fold(Ordering::Equal, Ordering::then).then(a.ulid.cmp(&b.ulid))
        });
        let rows: Vec<[String; 13]> = metas.into_iter().map(|meta| row(meta, self.output)).collect();
        match self.output {
            Output::Table => table(&rows, out)?,
            Output::Csv => separated(&rows, ',', out)?,
            Output::Tsv => separated(&rows, '\t', out)?,
        }
        Ok(true)
    }
}

fn by_column(column: &str, a: &BlockMeta, b: &BlockMeta) -> Ordering {
    match column.to_uppercase().as_str() {
        "FROM" => a.min_time.cmp(&b.min_time),
        "UNTIL" => a.max_time.cmp(&b.max_time),
        "RANGE" => (a.max_time - a.min_time).cmp(&(b.max_time - b.min_time)),
        "UNTIL-DOWN" => until_down(a).cmp(&until_down(b)),
        "#SERIES" => a.stats.num_series.cmp(&b.stats.num_series),
        "#SAMPLES" => a.stats.num_samples.cmp(&b.stats.num_samples),
        "#CHUNKS" => a.stats.num_chunks.cmp(&b.stats.num_chunks),
        "COMP-LEVEL" => a.compaction.level.cmp(&b.compaction.level),
        "COMP-FAILED" => a.compaction.failed.cmp(&b.compaction.failed),
        "LABELS" => labels(a).cmp(&labels(b)),
        "RESOLUTION" => a.resolution().cmp(&b.resolution()),
        "SOURCE" => source(a).cmp(source(b)),
        _ => a.ulid.cmp(&b.ulid),
    }
}

/// Returns how much more a block has to cover to be downsampled, ms; none if it will not be.
fn until_down(meta: &BlockMeta) -> Option<i64> {
    let covered = meta.max_time - meta.min_time;
    match meta.resolution() {
        0 => Some(RAW_RANGE - covered),
        300_000 => Some(MIDDLE_RANGE - covered),
        _ => None,
    }
}

fn source(meta: &BlockMeta) -> &str {
    meta.thanos.as_ref().map_or("", |thanos| thanos.source.0.as_str())
}

fn labels(meta: &BlockMeta) -> String {
    let external = meta.external_labels();
    external.labels().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn row(meta: &BlockMeta, output: Output) -> [String; 13] {
    let count = |n: u64| if output == Output::Table { thousands(n) } else { n.to_string() };
    [
        meta.ulid.to_string(),
        time(meta.min_time),
        time(meta.max_time),
        span(meta.max_time - meta.min_time),
        until_down(meta).map_or_else(|| "-".to_owned(), span),
        count(meta.stats.num_series),
        count(meta.stats.num_samples),
        count(meta.stats.num_chunks),
        meta.compaction.level.to_string(),
        meta.compaction.failed.to_string(),
        labels(meta),
        span(meta.resolution()),
        source(meta).to_owned(),
    ]
}

/// Writes a number with commas: `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn table(rows: &[[String; 13]], out: &mut dyn Write) -> std::io::Result<()> {
    let header = HEADER.map(str::to_owned);
    let width = |column: usize| {
        std::iter::once(&header).chain(rows).map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: [usize; 13] = std::array::from_fn(width);
    let mut line = |cells: &[String; 13]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} "));
        writeln!(out, "|{}|", padded.collect::<Vec<_>>().join("|"))
    };
    line(&header)?;
    line(&widths.map(|width| "-".repeat(width)))?;
    rows.iter().try_for_each(&mut line)
}

fn separated(rows: &[[String; 13]], separator: char, out: &mut dyn Write) -> std::io::Result<()> {
    let header = HEADER.map(str::to_owned);
    for row in std::iter::once(&header).chain(rows) {
        // RFC 4180: what holds a separator, a quote or a line break is quoted.
        let cells = row.iter().map(|cell| match cell.contains([separator, '"', '\n', '\r']) {
            true => format!("\"{}\"", cell.replace('"', "\"\"")),
            false => cell.clone(),
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join(&separator.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
