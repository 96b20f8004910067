//! From a declaration and the outside world to a typed configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use crate::kingpin::{adapt, check_missing_values, expand_files, negation};
use crate::layers::{Layer, Merged, merge};
use crate::schema::{FlagKind, FlagSpec, Schema};
use crate::secret::{REDACTED, redact_url};
use crate::{Effective, EffectiveValue, Error, Origin, suggest};

/// The flags of one service.
///
/// ```
/// use farview_config::{Flags, PromDuration, load};
///
/// /// What the service takes.
/// #[derive(Debug, clap::Args)]
/// #[command(next_help_heading = "Example")]
/// struct Config {
///     /// How long to wait.
///     #[arg(long = "example.timeout", default_value = "2m")]
///     timeout: PromDuration,
///     /// Names to greet; repeatable.
///     #[arg(long = "example.name")]
///     names: Vec<String>,
///     /// Greet loudly.
///     #[arg(long = "example.loud")]
///     loud: bool,
/// }
///
/// impl Flags for Config {
///     const SERVICE: &'static str = "example";
///     const ABOUT: &'static str = "Greets.";
/// }
///
/// let env = |name: &str| (name == "FARVIEW_EXAMPLE_EXAMPLE_TIMEOUT").then(|| "30s".to_owned());
/// let loaded = load::<Config>(["--example.name=a", "--example.name", "b", "--no-example.loud"], env).unwrap();
/// assert_eq!(loaded.config.timeout, PromDuration::from_secs(30));
/// assert_eq!(loaded.config.names, ["a", "b"]);
/// assert_eq!(loaded.effective.get("example.timeout").unwrap().origin.to_string(), "env");
/// ```
pub trait Flags: Args {
    /// The subcommand, also the middle of the environment variables (`FARVIEW_<SERVICE>_…`).
    const SERVICE: &'static str;
    /// What the service is, in a sentence.
    const ABOUT: &'static str;
    /// Flags that Thanos had and removed, or that farview answers in another way, each with what to do instead.
    const REMOVED: &'static [(&'static str, &'static str)] = &[];

    /// Says what does not fit together. Does no I/O.
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What the service is built from.
    pub config: T,
    /// All flags with values and origins, fit to be shown.
    pub effective: Effective,
    /// Flags that were given and mean nothing here, each with the line to log.
    pub ignored: Vec<String>,
}

/// Flags every service takes beside its own.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "General")]
pub struct GeneralFlags {
    /// YAML file with values for any flag; the dotted name of the flag is the path of the key. Environment and command
    /// line win over it.
    #[arg(long = "farview.config-file")]
    pub config_file: Option<PathBuf>,
    /// Accepted for Thanos' sake and ignored: there is no Go runtime to limit.
    #[arg(long = "enable-auto-gomemlimit", hide = true)]
    pub enable_auto_gomemlimit: bool,
    /// Accepted for Thanos' sake and ignored: there is no Go runtime to limit.
    #[arg(long = "auto-gomemlimit.ratio", hide = true, default_value_t = 0.9)]
    pub auto_gomemlimit_ratio: f64,
}

const CONFIG_FILE: &str = "farview.config-file";
const IGNORED: &[&str] = &["enable-auto-gomemlimit", "auto-gomemlimit.ratio"];

/// Returns the command of a service as `--help` and shell completions show it, and what it declares.
pub fn command<T: Flags>() -> (Command, Schema) {
    let command = Command::new(T::SERVICE).bin_name(format!("farview {}", T::SERVICE)).about(T::ABOUT);
    let command = GeneralFlags::augment_args(T::augment_args(command));
    // clap's own `--help` lists an argument without a heading first, apart from the groups.
    let command = command.mut_args(|arg| match arg.get_help_heading() {
        None => arg.help_heading("General"),
        Some(_) => arg,
    });
    let schema = Schema::of(&command, T::SERVICE);
    (adapt(command, &schema).max_term_width(120), schema)
}

/// Builds the configuration of a service from the command line (without the name of the program and the subcommand), the
/// file it names and the environment.
pub fn load<T: Flags>(
    argv: impl IntoIterator<Item = impl Into<OsString>>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Loaded<T>, Error> {
    let (command, schema) = command::<T>();
    let argv = expand_files(argv.into_iter().map(Into::into))?;
    if argv.iter().any(|a| a == "--version") {
        return Err(Error::VersionRequested);
    }
    check_missing_values(&argv, &schema)?;
    // What is required may come from another layer: only the second parse, over all of them, insists.
    let lenient = command.clone().mut_args(|arg| arg.required(false));
    let matches = lenient.try_get_matches_from(with_name(argv)).map_err(|e| explain::<T>(&e, &schema, &[]))?;
    let flags = Layer::new(Origin::Flag, given(&matches, &schema));
    let environment = Layer::env(&schema, env);

    let mut layers = vec![Layer::defaults(&schema)];
    let named = merge(&schema, vec![environment.clone(), flags.clone()])?;
    if let Some(path) = named.get(CONFIG_FILE).and_then(|m| m.values.first()) {
        layers.push(Layer::file(&schema, path.as_ref())?);
    }
    layers.extend([environment, flags]);
    let merged = merge(&schema, layers)?;

    let config = typed::<T>(command, &schema, &merged)?;
    config.validate()?;
    let ignored = IGNORED.iter().filter(|f| merged.get(**f).is_some_and(|m| m.origin != Origin::Default));
    Ok(Loaded {
        config,
        ignored: ignored
            .map(|f| format!("flag --{f} is accepted and ignored: there is no Go runtime to limit"))
            .collect(),
        effective: effective(&schema, &merged),
    })
}

/// Builds a configuration from flags alone, as tests and tools do.
pub fn parse<T: Flags>(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Result<T, Error> {
    load(argv, |_| None).map(|loaded| loaded.config)
}

fn with_name(argv: Vec<String>) -> impl Iterator<Item = String> {
    std::iter::once("farview".to_owned()).chain(argv)
}

/// Returns what stands on the command line.
fn given(matches: &ArgMatches, schema: &Schema) -> BTreeMap<String, Vec<String>> {
    let from_command_line = |id: &str| {
        matches.try_contains_id(id).unwrap_or(false) && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let mut values = BTreeMap::new();
    for spec in schema.flags() {
        if spec.kind == FlagKind::Switch && from_command_line(&negation(&spec.id)) {
            values.insert(spec.key.clone(), vec!["false".to_owned()]);
        } else if from_command_line(&spec.id) {
            let raw = matches.get_raw(&spec.id).into_iter().flatten();
            values.insert(spec.key.clone(), raw.map(|v| v.to_string_lossy().into_owned()).collect());
        }
    }
    values
}

/// Lets clap type the merged values, as if all of them stood on the command line.
fn typed<T: Flags>(command: Command, schema: &Schema, merged: &BTreeMap<String, Merged>) -> Result<T, Error> {
    let set = merged.iter().filter(|(_, m)| m.origin != Origin::Default);
    let argv = set.clone().flat_map(|(flag, m)| m.values.iter().map(move |v| format!("--{flag}={v}")));
    let origins: Vec<(&str, Origin)> = set.clone().map(|(flag, m)| (flag.as_str(), m.origin)).collect();
    let matches =
        command.try_get_matches_from(with_name(argv.collect())).map_err(|e| explain::<T>(&e, schema, &origins))?;
    T::from_arg_matches(&matches).map_err(|e| explain::<T>(&e, schema, &origins))
}

fn effective(schema: &Schema, merged: &BTreeMap<String, Merged>) -> Effective {
    let value = |spec: &FlagSpec| {
        let (text, origin) = match merged.get(&spec.flag) {
            Some(m) => (m.values.join(","), m.origin),
            None if spec.kind == FlagKind::Switch => ("false".to_owned(), Origin::Default),
            None => (String::new(), Origin::Default),
        };
        let value = if spec.secret && !text.is_empty() { REDACTED.to_owned() } else { redact_url(&text) };
        EffectiveValue { flag: spec.flag.clone(), value, origin, hidden: spec.hidden }
    };
    Effective(schema.flags().map(value).collect())
}

/// Says in a line what clap says in a paragraph, and where the value came from if not from the command line.
fn explain<T: Flags>(error: &clap::Error, schema: &Schema, origins: &[(&str, Origin)]) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => s.clone(),
        Some(ContextValue::Strings(s)) => s.join(", "),
        _ => String::new(),
    };
    let arg = context(ContextKind::InvalidArg);
    let flag = arg.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::DisplayHelp => Error::HelpRequested(error.render().to_string()),
        ErrorKind::UnknownArgument if arg.starts_with("--") => unknown_flag::<T>(flag, schema),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if schema.flag(&flag).is_some() => {
            let spec = schema.flag(&flag);
            let value = context(ContextKind::InvalidValue);
            let origin = origins.iter().find(|(f, _)| *f == flag).map(|(_, o)| *o);
            let reason = std::error::Error::source(error).map(ToString::to_string);
            let possible = context(ContextKind::ValidValue);
            Error::InvalidValue {
                value: if spec.is_some_and(|s| s.secret) { REDACTED.to_owned() } else { redact_url(&value) },
                origin: match (origin, spec) {
                    (Some(Origin::File), Some(s)) => format!("key {} of the configuration file", s.key),
                    (Some(Origin::Env), Some(s)) => format!("environment variable {}", s.env),
                    _ => String::new(),
                },
                reason: reason.unwrap_or_else(|| match possible.as_str() {
                    "" if value.is_empty() => "a value is required".to_owned(),
                    "" => "not a valid value".to_owned(),
                    _ => format!("valid values are {possible}"),
                }),
                flag,
            }
        }
        _ => {
            let text = error.render().to_string();
            let lines = text.trim_start_matches("error: ").lines().map(str::trim);
            let told = lines.take_while(|l| !l.is_empty() && !l.starts_with("Usage:"));
            Error::Usage(told.collect::<Vec<_>>().join(" "))
        }
    }
}

fn unknown_flag<T: Flags>(flag: String, schema: &Schema) -> Error {
    if let Some((_, instead)) = T::REMOVED.iter().find(|(removed, _)| *removed == flag) {
        return Error::RemovedFlag { flag, instead: (*instead).to_owned() };
    }
    let nearest = suggest::nearest(&flag, schema.flags().map(|f| f.flag.as_str())).map(str::to_owned);
    Error::UnknownFlag { flag, nearest }
}

#[cfg(test)]
mod tests;
