//! Tools for people at the command line: `farview tools bucket …` looks into a bucket and tidies it up, with Thanos' flags and outputs.
//!
//! Each tool is a [`Tool`] with flags of its own. What it finds goes to standard output, what it does and how far it is to standard
//! error.

mod bucket;
mod progress;

use clap::Command;
use farview_bootstrap::{Tool, run_tool};
use farview_config::{Schema, nearest};
use std::ffi::OsString;
use std::process::ExitCode;

/// A tool, as far as the command line knows it.
pub struct Entry {
    /// Its name behind `tools bucket`.
    pub name: &'static str,
    /// Runs it with its flags.
    run: fn(Vec<OsString>) -> ExitCode,
    /// Its command and flags.
    pub command: fn() -> (Command, Schema),
}

impl Entry {
    fn of<T: Tool>(name: &'static str) -> Self {
        Self { name, run: |argv| run_tool::<T>(argv), command: farview_config::command::<T> }
    }
}

/// Returns the tools for buckets.
pub fn bucket_tools() -> Vec<Entry> {
    vec![
        Entry::of::<bucket::Ls>("ls"),
        Entry::of::<bucket::Inspect>("inspect"),
        Entry::of::<bucket::Verify>("verify"),
        Entry::of::<bucket::UploadBlocks>("upload-blocks"),
        Entry::of::<bucket::Cleanup>("cleanup"),
        Entry::of::<bucket::Mark>("mark"),
    ]
}

/// Tools of Thanos that are not here.
const ABSENT: &[&str] = &["web", "replicate", "downsample", "rewrite", "retention"];

/// Returns the command with its tools, for help and completions.
pub fn command() -> Command {
    let mut bucket =
        Command::new("bucket").about("Looks into a bucket of blocks and tidies it up").subcommand_required(true);
    for tool in bucket_tools() {
        bucket = bucket.subcommand((tool.command)().0.name(tool.name));
    }
    Command::new("tools").about("Tools for people").subcommand_required(true).subcommand(bucket)
}

/// Runs what follows `tools`. Exits with 0, with 1 if the tool failed or found something wrong, and with 2 if the command line is not
/// understood.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let words: Vec<&str> = argv.iter().filter_map(|word| word.to_str()).collect();
    let asks_for_help = words.iter().any(|word| matches!(*word, "-h" | "--help" | "help"));
    // Flags may stand anywhere, as kingpin allows.
    let Some(bucket) = words.iter().position(|word| *word == "bucket") else {
        return match words.iter().find(|word| !word.starts_with('-')) {
            None | Some(&"help") if asks_for_help => farview_bootstrap::print(&help(&mut command())),
            Some(word) => refuse(&format!("unknown tool {word}, did you mean bucket?")),
            None => refuse("which tool? There is: bucket"),
        };
    };
    let tools = bucket_tools();
    let named = |(at, word): (usize, &&str)| Some((at, tools.iter().find(|tool| tool.name == *word)?));
    let Some((at, tool)) = words.iter().enumerate().find_map(named) else {
        if asks_for_help {
            return farview_bootstrap::print(&help(&mut bucket_command()));
        }
        let names = || tools.iter().map(|tool| tool.name);
        return match words[bucket + 1..].iter().find(|word| !word.starts_with('-')) {
            Some(word) if ABSENT.contains(word) => refuse(&format!("bucket {word} is not part of this version")),
            Some(word) => {
                let hint = nearest(word, names()).map(|near| format!(", did you mean {near}?")).unwrap_or_default();
                refuse(&format!("unknown tool bucket {word}{hint}"))
            }
            None => {
                refuse(&format!("what to do with the bucket? There are: {}", names().collect::<Vec<_>>().join(", ")))
            }
        };
    };
    let rest = argv.iter().enumerate().filter(|(i, _)| *i != bucket && *i != at).map(|(_, word)| word.clone());
    (tool.run)(rest.collect())
}

fn bucket_command() -> Command {
    let mut tools = command();
    tools.build();
    tools.find_subcommand("bucket").cloned().unwrap_or_default()
}

fn help(command: &mut Command) -> String {
    command.render_long_help().to_string()
}

fn refuse(text: &str) -> ExitCode {
    farview_bootstrap::refuse(&format!("farview tools: error: {text}\nTry 'farview tools bucket --help'."))
}
