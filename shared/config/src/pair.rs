//! Pairs of flags that give the same configuration as a file or inline: `--X-file` and `--X`.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::{Error, Secret};

/// Names one pair of flags.
pub trait PairSpec: 'static {
    /// The inline flag; the other is called `<NAME>-file`.
    const NAME: &'static str;
    /// What the content configures, as the beginning of a sentence: "YAML with the tracing configuration".
    const ABOUT: &'static str;
    /// The heading in the help.
    const GROUP: &'static str;
    /// Whether `$(VAR)` in the content is replaced by the environment, as Thanos does for this pair.
    const EXPAND_ENV: bool = true;
}

/// The content of a pair, or where it is. Declared with `#[command(flatten)] tracing: PathOrContent<TracingConfig>`.
///
/// Giving both flags is an error. The inline content may hold passwords and is redacted wherever flags are shown.
pub struct PathOrContent<P> {
    path: Option<PathBuf>,
    content: Option<Secret>,
    spec: PhantomData<fn() -> P>,
}

impl<P: PairSpec> PathOrContent<P> {
    /// Makes the pair as if `--X=<content>` had been given.
    pub fn inline(content: impl Into<String>) -> Self {
        Self { path: None, content: Some(Secret::new(content)), spec: PhantomData }
    }

    /// Makes the pair as if `--X-file=<path>` had been given.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()), content: None, spec: PhantomData }
    }

    /// Returns the file, if a file was given, for those who watch it.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Tells whether either flag was given with something in it.
    pub fn is_set(&self) -> bool {
        self.path.is_some() || self.content.as_ref().is_some_and(|c| !c.is_empty())
    }

    /// Names the flag that was given, for messages: `--X-file=path` or `--X`.
    pub fn origin(&self) -> String {
        match &self.path {
            Some(path) => format!("--{}-file={}", P::NAME, path.display()),
            None => format!("--{}", P::NAME),
        }
    }

    /// Returns the content, reading the file anew, with `$(VAR)` expanded where the pair does so; `None` if neither
    /// flag was given.
    pub fn read(&self) -> Result<Option<Secret>, Error> {
        let text = match (&self.path, &self.content) {
            (Some(path), _) => {
                std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?
            }
            (None, Some(content)) if !content.is_empty() => content.expose().to_owned(),
            (None, _) => return Ok(None),
        };
        if !P::EXPAND_ENV {
            return Ok(Some(Secret::new(text)));
        }
        expand_env(&text, &self.origin(), |name| std::env::var(name).ok()).map(|text| Some(Secret::new(text)))
    }

    /// Reads the content as YAML; `None` if neither flag was given.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        self.read()?.map(|text| crate::yaml::from_str(text.expose(), &self.origin())).transpose()
    }
}

/// Replaces every `$(VAR)` in `text`, as the reloader and the configuration readers of Thanos do. An unset variable is an
/// error that names `origin`; `$` without `(` stays, so regular expressions and passwords survive.
pub fn expand_env(text: &str, origin: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, Error> {
    let is_name = |s: &str| {
        !s.is_empty()
            && !s.starts_with(|c: char| c.is_ascii_digit())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("$(") {
        let (before, tail) = rest.split_at(start);
        out.push_str(before);
        match tail[2..].split_once(')') {
            Some((name, after)) if is_name(name) => {
                let value = lookup(name);
                out.push_str(
                    &value.ok_or_else(|| Error::UnsetVariable { origin: origin.to_owned(), name: name.to_owned() })?,
                );
                rest = after;
            }
            Some(_) | None => {
                out.push_str("$(");
                rest = &tail[2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

impl<P: PairSpec> Args for PathOrContent<P> {
    fn augment_args(command: Command) -> Command {
        let file = format!("{}-file", P::NAME);
        let inline = Arg::new(P::NAME)
            .long(P::NAME)
            .help(format!("{} (mutually exclusive with --{file})", P::ABOUT))
            .help_heading(P::GROUP)
            .action(ArgAction::Set)
            .value_name("CONTENT")
            .value_parser(clap::value_parser!(Secret));
        let path = Arg::new(file.clone())
            .long(file)
            .help(format!("Path to a file: {}", P::ABOUT))
            .help_heading(P::GROUP)
            .action(ArgAction::Set)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf));
        command.arg(path).arg(inline)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<P: PairSpec> FromArgMatches for PathOrContent<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut this = Self::default();
        this.update_from_arg_matches(matches)?;
        Ok(this)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.path = matches.get_one::<PathBuf>(&format!("{}-file", P::NAME)).cloned();
        self.content = matches.get_one::<Secret>(P::NAME).cloned();
        if self.path.is_some() && self.content.is_some() {
            let message = format!("--{0} and --{0}-file are mutually exclusive, give one of them", P::NAME);
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }
}

// The marker needs none of these, so they are not derived.
impl<P> Default for PathOrContent<P> {
    fn default() -> Self {
        Self { path: None, content: None, spec: PhantomData }
    }
}

impl<P> Clone for PathOrContent<P> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), content: self.content.clone(), spec: PhantomData }
    }
}

impl<P: PairSpec> fmt::Debug for PathOrContent<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(P::NAME).field("path", &self.path).field("content", &self.content).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_references_are_expanded() {
        let lookup = |name: &str| (name == "POD").then(|| "prom-0".to_owned());
        let expand = |text| expand_env(text, "here", lookup).map_err(|e| e.to_string());
        assert_eq!(expand("replica: $(POD), $(POD)"), Ok("replica: prom-0, prom-0".to_owned()));
        assert_eq!(expand("re: ^a$(b|c)$ $1 ${POD} $( $()"), Ok("re: ^a$(b|c)$ $1 ${POD} $( $()".to_owned()));
        assert_eq!(expand("$(NOPE)"), Err("here: environment variable NOPE is not set".to_owned()));
    }
}
