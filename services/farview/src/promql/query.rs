//! `farview promql query`: evaluates a query over blocks in local folders.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use farview_localblock::{LocalBlock, LocalBlocks, LocalBlocksConfig};
use farview_model::number::push_plain;
use farview_promql::annotations::Severity;
use farview_promql::engine::{Answer, Engine, EngineOptions, QueryContext, Series, Value};
use std::io::{self, Write};
use std::path::PathBuf;

/// Returns the subcommand.
pub(super) fn command() -> Command {
    let seconds = |name: &'static str, about: &'static str| {
        Arg::new(name).long(name).value_name("SECONDS").value_parser(value_parser!(f64)).help(about)
    };
    Command::new("query")
        .about("Evaluates a query over blocks in local folders")
        .arg(Arg::new("query").value_name("QUERY").required(true))
        .arg(
            Arg::new("block")
                .long("block")
                .value_name("DIR")
                .required(true)
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Folder of a block, with its meta.json; repeatable"),
        )
        .arg(
            Arg::new("replica-label")
                .long("replica-label")
                .value_name("LABEL")
                .action(ArgAction::Append)
                .help("Label that tells replicas apart: they become one series; repeatable"),
        )
        .arg(seconds("time", "Time of an instant query, Unix seconds; the end of the blocks if none is given"))
        .arg(
            seconds("start", "Begin of a range query, Unix seconds")
                .requires_all(["end", "step"])
                .conflicts_with("time"),
        )
        .arg(seconds("end", "End of a range query, Unix seconds").requires_all(["start", "step"]))
        .arg(seconds("step", "Step of a range query").requires_all(["start", "end"]))
}

/// Evaluates and prints; tells whether there is an answer.
pub(super) fn run(matches: &ArgMatches, out: &mut dyn Write) -> io::Result<bool> {
    let query = matches.get_one::<String>("query").map_or("", String::as_str);
    match evaluate(matches, query) {
        Ok(answer) => print(&answer, query, out).map(|()| true),
        Err(error) => writeln!(out, "error: {error:#}").map(|()| false),
    }
}

fn evaluate(matches: &ArgMatches, query: &str) -> anyhow::Result<Answer> {
    let folders = matches.get_many::<PathBuf>("block").into_iter().flatten();
    let blocks = folders.map(|folder| LocalBlock::open(folder)).collect::<Result<Vec<_>, _>>()?;
    let replica_labels = matches.get_many("replica-label").into_iter().flatten().cloned().collect();
    let blocks = LocalBlocks::new(blocks, LocalBlocksConfig { replica_labels, ..LocalBlocksConfig::default() })?;
    let engine = Engine::new(EngineOptions::default())?;
    let cx = QueryContext::default();
    let millis = |name| matches.get_one::<f64>(name).map(|seconds| (seconds * 1_000.0).round() as i64);
    Ok(match (millis("start"), millis("end"), millis("step")) {
        (Some(start), Some(end), Some(step)) => {
            anyhow::ensure!(step > 0, "--step={} must be at least 0.001", step as f64 / 1_000.0);
            anyhow::ensure!(end >= start, "--end must not be before --start");
            engine.range(&cx, &blocks, query, start, end, step)?
        }
        _ => engine.instant(&cx, &blocks, query, millis("time").unwrap_or(blocks.range().maxt))?,
    })
}

/// Prints series as `promtool query` does: one line per sample, warnings first.
fn print(answer: &Answer, query: &str, out: &mut dyn Write) -> io::Result<()> {
    for severity in [Severity::Warning, Severity::Info] {
        for text in answer.annotations.shown(severity, query) {
            writeln!(out, "# {text}")?;
        }
    }
    match &answer.value {
        Value::Scalar(time, value) => writeln!(out, "scalar: {}", sample(&plain(*value), *time)),
        Value::String(time, text) => writeln!(out, "string: {}", sample(&String::from_utf8_lossy(text), *time)),
        Value::Vector(all) => all.iter().try_for_each(|series| {
            samples(series).into_iter().try_for_each(|(_, line)| writeln!(out, "{} => {line}", series.labels))
        }),
        Value::Matrix(all) => all.iter().try_for_each(|series| {
            writeln!(out, "{} =>", series.labels)?;
            samples(series).into_iter().try_for_each(|(_, line)| writeln!(out, "{line}"))
        }),
    }
}

/// Returns a line for every sample, floats and histograms together, by time.
fn samples(series: &Series) -> Vec<(i64, String)> {
    let floats = series.timestamps.iter().zip(&series.values).map(|(time, value)| (*time, plain(*value)));
    let histograms = series.histograms.iter().map(|(time, histogram)| (*time, histogram.to_string()));
    let mut all: Vec<_> = floats.chain(histograms).map(|(time, text)| (time, sample(&text, time))).collect();
    all.sort_by_key(|(time, _)| *time);
    all
}

fn plain(value: f64) -> String {
    let mut text = String::new();
    push_plain(&mut text, value);
    text
}

fn sample(value: &str, time: i64) -> String {
    format!("{value} @[{}]", plain(time as f64 / 1_000.0))
}
