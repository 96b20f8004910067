//! The habits of kingpin, Thanos' flag library, on top of clap.
//!
//! A declaration stays plain clap; [`adapt`] turns the command it makes into one that also takes `--no-switch`,
//! `--switch=false`, values beginning with `-`, and shows each flag's environment variable in the help.

use std::any::TypeId;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{BoolishValueParser, ValueParser};
use clap::{Arg, ArgAction, Command};

use crate::schema::{FlagKind, Schema};
use crate::{ByteSize, Error, PromDuration, Secret, TimeOrDuration};

/// The id of the hidden opposite of the switch `name`.
pub(crate) fn negation(name: &str) -> String {
    format!("no-{name}")
}

/// Gives every flag of `command` the habits; `schema` is of the same command.
pub(crate) fn adapt(command: Command, schema: &Schema) -> Command {
    let switches: Vec<(String, String)> = command
        .get_arguments()
        .filter(|a| is_switch(a))
        .filter_map(|a| Some((a.get_id().to_string(), a.get_long()?.to_owned())))
        .collect();
    let command = command.mut_args(|arg| adapt_arg(arg, schema));
    let command = command.args(switches.iter().map(|(id, long)| {
        Arg::new(negation(id))
            .long(negation(long))
            .hide(true)
            .action(ArgAction::SetTrue)
            .overrides_with_all([id.clone(), negation(id)])
    }));
    command.mut_args(|arg| match switches.iter().find(|(id, _)| arg.get_id() == id.as_str()) {
        Some((id, _)) => arg.overrides_with(negation(id)),
        None => arg,
    })
}

/// Tells whether `arg` is a flag that is given without a value.
pub(crate) fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse)
}

fn adapt_arg(arg: Arg, schema: &Schema) -> Arg {
    let Some(spec) = arg.get_long().and_then(|long| schema.flag(long)) else { return arg };
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let arg = arg.long_help(format!("{help} [env: {}]", spec.env));
    match spec.kind {
        FlagKind::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value(spec.default.first().cloned().unwrap_or_else(|| "false".to_owned()))
            .hide_default_value(true)
            .value_parser(BoolishValueParser::new())
            .value_name("BOOL"),
        FlagKind::Value | FlagKind::List => arg.allow_hyphen_values(true).value_name(spec.value_name.clone()),
    }
}

/// Names what a flag takes by its type, which says more than the name of a field.
pub(crate) fn value_name(parser: &ValueParser) -> Option<&'static str> {
    let is = |id: TypeId| parser.type_id() == id;
    let named = [
        (TypeId::of::<PromDuration>(), "DURATION"),
        (TypeId::of::<ByteSize>(), "SIZE"),
        (TypeId::of::<TimeOrDuration>(), "TIME"),
        (TypeId::of::<Secret>(), "CONTENT"),
        (TypeId::of::<PathBuf>(), "FILE"),
        (TypeId::of::<u64>(), "N"),
        (TypeId::of::<u32>(), "N"),
        (TypeId::of::<usize>(), "N"),
        (TypeId::of::<i64>(), "N"),
        (TypeId::of::<f64>(), "NUMBER"),
    ];
    named.into_iter().find(|(id, _)| is(*id)).map(|(_, name)| name)
}

/// Replaces each `@file` argument by the lines of the file, but for empty ones and those beginning with `#`.
pub(crate) fn expand_files(argv: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    for arg in argv {
        let arg = arg.into_string().map_err(|a| Error::Usage(format!("argument {a:?} is not valid UTF-8")))?;
        let Some(path) = arg.strip_prefix('@') else {
            out.push(arg);
            continue;
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: Path::new(path).to_owned(), source })?;
        out.extend(text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned));
    }
    Ok(out)
}

/// Refuses `--flag --other`, where clap, told to take values beginning with `-`, would take `--other` for the value.
pub(crate) fn check_missing_values(argv: &[String], schema: &Schema) -> Result<(), Error> {
    for pair in argv.windows(2) {
        let [flag, next] = pair else { continue };
        let takes_value = flag
            .strip_prefix("--")
            .and_then(|name| schema.flag(name))
            .is_some_and(|spec| !matches!(spec.kind, FlagKind::Switch));
        let next_is_flag = next.strip_prefix("--").is_some_and(|rest| {
            let name = rest.split_once('=').map_or(rest, |(name, _)| name);
            schema.flag(name).or_else(|| schema.flag(name.strip_prefix("no-")?)).is_some()
        });
        if takes_value && next_is_flag {
            return Err(Error::Usage(format!("flag {flag} needs a value")));
        }
    }
    Ok(())
}
