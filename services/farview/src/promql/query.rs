//! `farview promql query`: evaluates a query over blocks in local folders, or asks a server.

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use farview_localblock::{LocalBlock, LocalBlocks, LocalBlocksConfig};
use farview_model::Labels;
use farview_promql::annotations::Severity;
use farview_promql::answer_json::push_value;
use farview_promql::engine::{Answer, Engine, EngineOptions, QueryContext};
use serde_json::{Value as Json, json};
use std::io::{self, Write};
use std::path::PathBuf;

/// Returns the subcommand.
pub(super) fn command() -> Command {
    let seconds = |name: &'static str, about: &'static str| {
        Arg::new(name).long(name).value_name("SECONDS").value_parser(value_parser!(f64)).help(about)
    };
    Command::new("query")
        .about("Evaluates a query over blocks in local folders, or asks a server")
        .arg(Arg::new("query").value_name("QUERY").required(true))
        .arg(
            Arg::new("block")
                .long("block")
                .value_name("DIR")
                .required_unless_present("url")
                .conflicts_with("url")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Folder of a block, with its meta.json; repeatable"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("Server to ask instead: a Prometheus, a Farview or a Thanos query"),
        )
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("text: a line for every sample; json: as the HTTP API answers"),
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

/// What is printed, wherever it comes from.
struct Printed {
    warnings: Vec<String>,
    infos: Vec<String>,
    /// `{"resultType": …, "result": …}`
    data: Json,
}

/// Evaluates and prints; tells whether there is an answer.
pub(super) fn run(matches: &ArgMatches, out: &mut dyn Write) -> io::Result<bool> {
    let query = matches.get_one::<String>("query").map_or("", String::as_str);
    let printed = match matches.get_one::<String>("url") {
        Some(url) => ask(matches, query, url),
        None => evaluate(matches, query).and_then(|answer| of_engine(&answer, query)),
    };
    match printed {
        Ok(printed) if matches.get_one::<String>("output").is_some_and(|format| format == "json") => {
            let Printed { warnings, infos, data } = printed;
            let mut all = json!({ "status": "success", "data": data });
            for (name, texts) in [("warnings", warnings), ("infos", infos)] {
                if !texts.is_empty() {
                    all[name] = json!(texts);
                }
            }
            writeln!(out, "{all}").map(|()| true)
        }
        Ok(printed) => print(&printed, out).map(|()| true),
        Err(error) => writeln!(out, "error: {error:#}").map(|()| false),
    }
}

/// Returns what a server answers.
fn ask(matches: &ArgMatches, query: &str, url: &str) -> anyhow::Result<Printed> {
    let mut form = vec![("query", query.to_owned())];
    for name in ["time", "start", "end", "step"] {
        form.extend(matches.get_one::<f64>(name).map(|seconds| (name, seconds.to_string())));
    }
    for label in matches.get_many::<String>("replica-label").into_iter().flatten() {
        form.push(("replicaLabels[]", label.clone()));
    }
    let path = if matches.contains_id("start") { "query_range" } else { "query" };
    let url = format!("{}/api/v1/{path}", url.trim_end_matches('/'));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let answer = reqwest::Client::new().post(&url).form(&form).send().await?;
        Ok::<_, reqwest::Error>((answer.status(), answer.text().await?))
    });
    let (status, text) = text.with_context(|| format!("ask {url}"))?;
    let mut answer: Json =
        serde_json::from_str(&text).with_context(|| format!("{url} answered {status} and no JSON: {text:.200}"))?;
    if let Some(error) = answer["error"].as_str() {
        anyhow::bail!("{error}");
    }
    let texts = |name: &str| {
        let list = answer[name].as_array().into_iter().flatten();
        list.filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let (warnings, infos) = (texts("warnings"), texts("infos"));
    Ok(Printed { warnings, infos, data: answer["data"].take() })
}

fn of_engine(answer: &Answer, query: &str) -> anyhow::Result<Printed> {
    let mut data = "{".to_owned();
    push_value(&mut data, &answer.value);
    data.push('}');
    let shown = |severity| answer.annotations.shown(severity, query);
    let (warnings, infos) = (shown(Severity::Warning), shown(Severity::Info));
    Ok(Printed { warnings, infos, data: serde_json::from_str(&data)? })
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
fn print(printed: &Printed, out: &mut dyn Write) -> io::Result<()> {
    for text in printed.warnings.iter().chain(&printed.infos) {
        writeln!(out, "# {text}")?;
    }
    let result = &printed.data["result"];
    match printed.data["resultType"].as_str() {
        Some(kind @ ("scalar" | "string")) => writeln!(out, "{kind}: {}", line(result)),
        Some(kind) => result.as_array().into_iter().flatten().try_for_each(|series| {
            let labels = series["metric"].as_object().into_iter().flatten();
            let labels = Labels::from_pairs(labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or(""))));
            if kind == "vector" {
                let sample = series.get("value").unwrap_or(&series["histogram"]);
                return writeln!(out, "{labels} => {}", line(sample));
            }
            writeln!(out, "{labels} =>")?;
            let of = |name: &str| series[name].as_array().cloned().unwrap_or_default();
            let mut samples = [of("values"), of("histograms")].concat();
            samples.sort_by(|a, b| a[0].as_f64().unwrap_or(0.0).total_cmp(&b[0].as_f64().unwrap_or(0.0)));
            samples.iter().try_for_each(|sample| writeln!(out, "{}", line(sample)))
        }),
        None => writeln!(out, "error: the answer has no result"),
    }
}

/// Returns a sample, `[time, value]`, as text.
fn line(sample: &Json) -> String {
    let value = sample[1].as_str().map_or_else(|| sample[1].to_string(), str::to_owned);
    format!("{value} @[{}]", sample[0])
}
