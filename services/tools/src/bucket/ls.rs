//! `ls`: names the blocks of a bucket.

use super::{BucketFlags, fetch, now, span, time, within};
use clap::Args;
use farview_block::BlockMeta;
use farview_bootstrap::Tool;
use farview_config::{Error, Flags, PromDuration, TimeOrDuration};
use farview_model::TimeRange;
use farview_telemetry::logs::LogFlags;
use serde_json::Value;
use std::io::Write;

/// The flags of `ls`.
#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    bucket: BucketFlags,
    /// How to print a block: json, wide, or a template of texts and fields such as '{{.ULID}} {{.Thanos.Source}}'; its name by
    /// default.
    #[arg(long = "output", short = 'o', default_value = "")]
    output: String,
    /// Leave out blocks that are marked for deletion.
    #[arg(long = "exclude-delete")]
    exclude_delete: bool,
    /// Only blocks with something after this time: RFC 3339, or relative to now, such as -2w.
    #[arg(long = "min-time", default_value = TimeOrDuration::MIN)]
    min_time: TimeOrDuration,
    /// Only blocks with something before this time.
    #[arg(long = "max-time", default_value = TimeOrDuration::MAX)]
    max_time: TimeOrDuration,
    /// Longest time to look for.
    #[arg(long = "timeout", default_value = "5m")]
    timeout: PromDuration,
}

impl Flags for Ls {
    const SERVICE: &'static str = "tools-bucket-ls";
    const ABOUT: &'static str = "Names the blocks of a bucket.";

    fn validate(&self) -> Result<(), Error> {
        Format::parse(&self.output).map_err(|why| Error::Usage(format!("--output={}: {why}", self.output)))?;
        self.bucket.validate()
    }
}

impl AsRef<LogFlags> for Ls {
    fn as_ref(&self) -> &LogFlags {
        self.bucket.as_ref()
    }
}

impl Tool for Ls {
    async fn run(self, out: &mut dyn Write) -> anyhow::Result<bool> {
        let bucket = self.bucket.open()?;
        let fetched = within(self.timeout, fetch(&bucket)).await?;
        let format = Format::parse(&self.output).map_err(anyhow::Error::msg)?;
        let range = TimeRange::new(self.min_time.millis(now()), self.max_time.millis(now()));
        for block in fetched.blocks.values().filter(|block| block.meta.range().overlaps(range)) {
            if !(self.exclude_delete && block.deletion.is_some()) {
                format.print(&block.meta, out)?;
            }
        }
        Ok(true)
    }
}

/// How to print a block.
#[derive(Debug)]
enum Format {
    Name,
    Wide,
    Json,
    Template(Vec<Piece>),
}

#[derive(Debug)]
enum Piece {
    Text(String),
    /// Names of fields, from the outside in.
    Field(Vec<String>),
}

impl Format {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::Name),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            text => template(text).map(Self::Template),
        }
    }

    fn print(&self, meta: &BlockMeta, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Name => writeln!(out, "{}", meta.ulid)?,
            Self::Wide => {
                let (min, max, id) = (meta.min_time, meta.max_time, meta.ulid);
                let source = meta.thanos.as_ref().map_or("", |thanos| thanos.source.0.as_str());
                writeln!(
                    out,
                    "{id} -- {} - {} Diff: {}, Compaction: {}, Downsample: {}, Source: {source}",
                    time(min),
                    time(max),
                    span(max - min),
                    meta.compaction.level,
                    meta.resolution(),
                )?;
            }
            Self::Json => {
                out.write_all(&meta.to_json())?;
                writeln!(out)?;
            }
            Self::Template(pieces) => {
                let whole = serde_json::to_value(meta)?;
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => write!(out, "{text}")?,
                        Piece::Field(path) => write!(out, "{}", field(&whole, path)?)?,
                    }
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

/// Reads the part of Go's templates that names fields.
fn template(text: &str) -> Result<Vec<Piece>, String> {
    if !text.contains("{{") {
        return Err("it is neither json nor wide, and as a template it names no field, such as {{.ULID}}".to_owned());
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once("{{") {
        let (inside, after) = inside.split_once("}}").ok_or("{{ is not closed")?;
        let path = inside
            .trim()
            .strip_prefix('.')
            .ok_or_else(|| format!("{{{{{inside}}}}} is no field: only those can be printed"))?;
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        if names.iter().any(|name| name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
            return Err(format!("{{{{{inside}}}}} is no field: only those can be printed"));
        }
        pieces.extend([Piece::Text(before.to_owned()), Piece::Field(names)]);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Finds a field by its name in Go, which is that in JSON but for case and underscores.
fn field(whole: &Value, path: &[String]) -> anyhow::Result<String> {
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let mut value = whole;
    for name in path {
        let object = value.as_object();
        let found = object.and_then(|object| object.iter().find(|(key, _)| plain(key) == plain(name)));
        match found {
            Some((_, inner)) => value = inner,
            // What is empty is left out of the description.
            None => return Ok(String::new()),
        }
    }
    Ok(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_print_fields() {
        let text = r#"{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":7200001,"version":1,"compaction":{"level":2},
            "thanos":{"labels":{"cluster":"east"},"source":"sidecar","downsample":{"resolution":300000}}}"#;
        let meta = BlockMeta::parse(text.as_bytes(), "").unwrap();
        let printed = |format: &str| {
            let mut out = Vec::new();
            Format::parse(format).unwrap().print(&meta, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(""), "01ARZ3NDEKTSV4RRFFQ69G5FAV\n");
        assert_eq!(
            printed("wide"),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV -- 1970-01-01T00:00:00Z - 1970-01-01T02:00:00Z Diff: 2h0m0s, Compaction: 2, Downsample: 300000, Source: sidecar\n"
        );
        assert_eq!(
            printed("{{ .ULID }}|{{.Thanos.Labels}} {{.Compaction.Level}}{{.No.Such}}"),
            "01ARZ3NDEKTSV4RRFFQ69G5FAV|{\"cluster\":\"east\"} 2\n"
        );
        assert!(printed("json").contains("\t\"ulid\": \"01ARZ"));
        for (wrong, why) in
            [("short", "neither"), ("{{.A", "closed"), ("{{range .A}}", "no field"), ("{{.}}", "no field")]
        {
            assert!(Format::parse(wrong).unwrap_err().contains(why), "{wrong}");
        }
    }
}
