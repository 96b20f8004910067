//! PromQL at hand: scripts run against the engine, queries checked and laid out.

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
    fn a_failing_case_is_named_and_counted() {
        let path = std::env::temp_dir().join(format!("farview-promql-{}.test", std::process::id()));
        std::fs::write(&path, "load 1m\n a 1 2\n\neval instant at 1m a\n a 2\n\neval instant at 1m a\n a 3\n").unwrap();
        let (well, out) = acted(&["test", path.to_str().unwrap()]);
        std::fs::remove_file(&path).unwrap();
        assert!(!well && out.contains(":7: a: expected 3") && out.ends_with("all: 1 of 2 passed\n"), "{out}");
    }
}
