//! PromQL at hand: scripts run against the engine, queries checked and laid out, blocks in local folders asked.

mod query;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use farview_promql::{parse, pretty, script};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Returns the subcommand with its own subcommands.
pub(crate) fn command() -> Command {
    let files = Arg::new("file").value_name("FILE").required(true).action(ArgAction::Append);
    let query = Arg::new("query").value_name("QUERY").required(true);
    Command::new("promql")
        .about("Tests, checks and formats PromQL")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("test")
                .about("Runs scripts of Prometheus' promqltest language against the engine")
                .arg(files.value_parser(value_parser!(PathBuf))),
        )
        .subcommand(query::command())
        .subcommand(Command::new("format").about("Prints a query laid out, or what is wrong with it").arg(query))
}

/// Runs the subcommand with what follows its name. Exits with 0, with 1 if a case failed or a query is none, and with 2 if
/// the command line is not understood.
pub(crate) fn run(argv: Vec<OsString>) -> ExitCode {
    let name = OsString::from("farview promql");
    let result = match command().bin_name("farview promql").try_get_matches_from(std::iter::once(name).chain(argv)) {
        Ok(matches) => act(&matches, &mut io::stdout().lock()),
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => farview_bootstrap::refuse(&format!("farview promql: error: {error}")),
    }
}

/// Does what was asked; tells whether all was well.
fn act(matches: &ArgMatches, out: &mut dyn Write) -> io::Result<bool> {
    match matches.subcommand() {
        Some(("test", matches)) => {
            let files: Vec<&PathBuf> = matches.get_many("file").into_iter().flatten().collect();
            let score = script::run_files(&files, out)?;
            writeln!(out, "all: {} of {} passed", score.passed(), score.total())?;
            Ok(score.passed() == score.total())
        }
        Some(("format", matches)) => {
            let query = matches.get_one::<String>("query").map_or("", String::as_str);
            match parse::parse(query, &parse::Options::all()) {
                Ok(expr) => writeln!(out, "{}", pretty::pretty(&expr)).map(|()| true),
                Err(error) => writeln!(out, "{error}").map(|()| false),
            }
        }
        Some(("query", matches)) => query::run(matches, out),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acted(words: &[&str]) -> (bool, String) {
        let matches = command().try_get_matches_from([&["promql"], words].concat()).unwrap();
        let mut out = Vec::new();
        let well = act(&matches, &mut out).unwrap();
        (well, String::from_utf8(out).unwrap())
    }

    #[test]
    fn queries_are_laid_out_or_refused() {
        assert_eq!(acted(&["format", "sum(a)by(b)"]), (true, "sum by (b) (a)\n".to_owned()));
        assert_eq!(acted(&["format", "sum(a"]), (false, "1:6: parse error: unclosed left parenthesis\n".to_owned()));
    }

    #[test]
    fn a_block_is_asked_at_a_time_and_over_a_range_and_replicas_become_one() {
        use farview_localblock::LocalBlockWriter;
        use farview_model::Labels;
        use farview_series::{AggrChunk, ChunkData};
        let dir = tempfile::tempdir().unwrap();
        let symbols = ["__name__", "a", "b", "replica", "up"];
        let mut writer = LocalBlockWriter::create(dir.path(), symbols).unwrap();
        for replica in ["a", "b"] {
            let data = ChunkData::Raw(farview_tsdb::Chunk::encode_xor(&[10_000, 20_000], &[1.0, 0.5]));
            let labels = Labels::from_pairs([("__name__", "up"), ("replica", replica)]);
            writer.add_series(&labels, &[AggrChunk { mint: 10_000, maxt: 20_000, data }]).unwrap();
        }
        writer.finish().unwrap();
        let meta = r#"{"ulid": "01M8306V5SQS8SG5D2E89EC6GZ", "minTime": 10000, "maxTime": 20001, "version": 1}"#;
        std::fs::write(dir.path().join("meta.json"), meta).unwrap();
        let block = dir.path().to_str().unwrap();

        let (well, out) = acted(&["query", "up", "--block", block]);
        assert!(well, "{out}");
        assert_eq!(
            out,
            "{__name__=\"up\", replica=\"a\"} => 0.5 @[20]\n{__name__=\"up\", replica=\"b\"} => 0.5 @[20]\n"
        );
        let range = ["--start", "10", "--end", "20", "--step", "10"];
        let (well, out) =
            acted(&[&["query", "up", "--block", block, "--replica-label", "replica"][..], &range].concat());
        assert!(well, "{out}");
        assert_eq!(out, "{__name__=\"up\"} =>\n1 @[10]\n0.5 @[20]\n");
    }

    #[test]
    fn a_server_is_asked_and_answers_as_json_or_as_lines() {
        use farview_testkit::prometheus::{Prometheus, Version};
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let prometheus = runtime.block_on(async {
            let text = "# TYPE m gauge\nm{a=\"b\"} 1 10\nm{a=\"b\"} 2.5 20";
            Prometheus::builder().version(Version::Two).openmetrics(text).start().await.unwrap()
        });
        let url = prometheus.url();
        assert_eq!(acted(&["query", "m", "--url", &url, "--time", "20"]).1, "{__name__=\"m\", a=\"b\"} => 2.5 @[20]\n");
        let range = ["query", "m", "--url", &url, "--start", "10", "--end", "20", "--step", "10"];
        assert_eq!(acted(&range).1, "{__name__=\"m\", a=\"b\"} =>\n1 @[10]\n2.5 @[20]\n");
        let (well, out) = acted(&["query", "1 + 1", "--url", &url, "--time", "20", "--output", "json"]);
        assert!(well && out.contains("\"result\":[20,\"2\"]"), "{out}");
        let (well, out) = acted(&["query", "sum(", "--url", &url]);
        assert!(!well && out.contains("parse error"), "{out}");
        let (well, out) = acted(&["query", "m", "--url", "http://127.0.0.1:1"]);
        assert!(!well && out.contains("http://127.0.0.1:1/api/v1/query"), "{out}");
    }

    #[test]
    fn a_block_that_is_not_there_is_named() {
        let (well, out) = acted(&["query", "up", "--block", "/no/such/block"]);
        assert!(!well && out.starts_with("error: ") && out.contains("/no/such/block"), "{out}");
    }

    #[test]
    fn a_failing_case_is_named_and_counted() {
        let path = std::env::temp_dir().join(format!("farview-promql-{}.test", std::process::id()));
        std::fs::write(&path, "load 1m\n a 1 2\n\neval instant at 1m a\n a 2\n\neval instant at 1m a\n a 3\n").unwrap();
        let (well, out) = acted(&["test", path.to_str().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert!(!well && out.contains(":7: a: expected 3") && out.ends_with("all: 1 of 2 passed\n"), "{out}");
    }
}
