//! What the first words of the command line mean.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, ValueEnum};
use clap_complete::Shell;
use farview_bootstrap::{App, run, version};
use farview_config::{Flags, Schema, nearest};

use crate::{BUILD, docs, promql};

/// A service, as far as the binary knows it.
pub(crate) struct Service {
    /// The subcommand.
    pub(crate) name: &'static str,
    /// Runs it with what follows the subcommand.
    pub(crate) run: fn(Vec<OsString>) -> ExitCode,
    /// Its command and flags.
    pub(crate) command: fn() -> (Command, Schema),
}

impl Service {
    fn of<A: App>() -> Self {
        Self {
            name: A::Config::SERVICE,
            run: |argv| run::<A>(argv, BUILD),
            command: farview_config::command::<A::Config>,
        }
    }
}

/// The services of this binary.
pub(crate) fn services() -> Vec<Service> {
    vec![
        Service::of::<farview_sidecar::App>(),
        Service::of::<farview_store::App>(),
        Service::of::<farview_query::App>(),
    ]
}

/// Subcommands of Thanos that farview does not have, each with what to know about it.
const ABSENT: &[(&str, &str)] = &[
    ("compact", "the compactor is not part of this version"),
    ("rule", "the ruler is not part of this version; let Prometheus evaluate rules"),
    ("receive", "the receiver is not part of this version; use the sidecar"),
    ("query-frontend", "the query frontend is not part of this version; ask query itself"),
];

/// What to do.
pub(crate) enum Invocation {
    /// Run a service.
    Service {
        /// The service.
        service: Service,
        /// Its arguments.
        argv: Vec<OsString>,
    },
    /// Test, check or format PromQL, with these arguments.
    Promql(Vec<OsString>),
    /// Run a tool, with these arguments.
    Tools(Vec<OsString>),
    /// Print a text.
    Print(String),
    /// Say what is wrong.
    Refuse(String),
}

/// Understands a command line that goes without the name of the program.
///
/// Flags may stand before the subcommand, as kingpin allows for those that all commands take.
pub(crate) fn understand(argv: &[OsString]) -> Invocation {
    // Their arguments, queries and values of flags, may read like the name of a service.
    match argv.split_first() {
        Some((word, rest)) if word == "promql" => return Invocation::Promql(rest.to_vec()),
        Some((word, rest)) if word == "tools" => return Invocation::Tools(rest.to_vec()),
        _ => {}
    }
    let services = services();
    let words = || argv.iter().enumerate().filter_map(|(i, a)| Some((i, a.to_str()?)));
    let known = |word: &str| services.iter().any(|s| s.name == word);
    let at = words().find(|(_, w)| known(w)).or_else(|| words().find(|(_, w)| !w.starts_with('-')));
    let Some((at, name)) = at else {
        return match words().next() {
            Some((_, "--version")) => Invocation::Print(version(&BUILD)),
            None | Some((_, "-h" | "--help" | "--help-long")) => Invocation::Print(help()),
            Some((_, flag)) => refuse(&format!("flag {flag} needs a command in front of it")),
        };
    };
    let rest: Vec<OsString> = argv[..at].iter().chain(&argv[at + 1..]).cloned().collect();
    let words: Vec<&str> = rest.iter().filter_map(|w| w.to_str()).collect();
    if let Some(service) = self::services().into_iter().find(|s| s.name == name) {
        return Invocation::Service { service, argv: rest };
    }
    match (name, words.as_slice()) {
        ("version", _) => Invocation::Print(version(&BUILD)),
        ("help", _) => Invocation::Print(help()),
        ("completions", [shell]) => completions(shell),
        ("completions", _) => refuse("completions takes the name of a shell: bash, zsh, fish, elvish or powershell"),
        ("docs", ["flags"]) => Invocation::Print(docs::flags(&self::services())),
        ("docs", _) => refuse("docs takes what to document: flags"),
        _ => match ABSENT.iter().find(|(absent, _)| *absent == name) {
            Some((_, why)) => refuse(&format!("command {name}: {why}")),
            None => unknown(name),
        },
    }
}

fn refuse(text: &str) -> Invocation {
    Invocation::Refuse(format!("farview: error: {text}\nTry 'farview --help'."))
}

fn unknown(name: &str) -> Invocation {
    let command = command();
    let names = command.get_subcommands().map(Command::get_name);
    let hint = nearest(name, names).map(|n| format!(", did you mean {n}?")).unwrap_or_default();
    refuse(&format!("unknown command {name}{hint}"))
}

/// The whole command line, for help and completions.
fn command() -> Command {
    let command = Command::new("farview")
        .about("Answers PromQL over any number of Prometheus servers as if they were one")
        .after_help("Flags are those of Thanos. 'farview <COMMAND> --help' lists them.")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .version(BUILD.version);
    let command = services().into_iter().fold(command, |command, s| command.subcommand((s.command)().0));
    command
        .subcommand(promql::command())
        .subcommand(farview_tools::command())
        .subcommand(Command::new("version").about("Prints the version, as --version does"))
        .subcommand(Command::new("completions").about("Prints completions for a shell").arg(clap::arg!(<SHELL>)))
}

fn help() -> String {
    command().render_long_help().to_string()
}

fn completions(shell: &str) -> Invocation {
    let Ok(shell) = Shell::from_str(shell, true) else {
        return refuse(&format!(
            "completions: unknown shell {shell}, valid are bash, zsh, fish, elvish and powershell"
        ));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "farview", &mut script);
    Invocation::Print(String::from_utf8_lossy(&script).into_owned())
}
