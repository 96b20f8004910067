//! What is declared: every flag with its key, its environment variable, its default and its help.

use std::any::TypeId;
use std::collections::BTreeMap;

use clap::{ArgAction, Command};

use crate::kingpin::{is_switch, value_name};
use crate::{Error, Secret};

/// Flags of Thanos that are at once a leaf and the prefix of other flags, and the key that holds them.
///
/// In a tree of keys a node cannot be both, and whichever is set later would silently replace the other. A flag not
/// listed here has its own name as key; [`Schema::check`] finds the pairs that are missing.
const LEAF_KEYS: &[(&str, &str)] =
    &[("endpoint", "endpoint.addresses"), ("endpoint-group", "endpoint-group.addresses"), ("query", "query.addresses")];

/// How a flag takes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagKind {
    /// None: `--flag` or `--no-flag`.
    Switch,
    /// One value.
    Value,
    /// Any number of values, by repeating the flag; a list in the file.
    List,
}

/// One declared flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagSpec {
    /// Name without dashes.
    pub flag: String,
    /// The name clap knows the argument by.
    pub(crate) id: String,
    /// Dotted path in the configuration file.
    pub key: String,
    /// Environment variable.
    pub env: String,
    /// How it takes values.
    pub kind: FlagKind,
    /// What a value is, as shown in the help (`DURATION`).
    pub value_name: String,
    /// Default values as text; empty if there is none.
    pub default: Vec<String>,
    /// The values that may be chosen from; empty if any.
    pub possible: Vec<String>,
    /// What the flag does.
    pub help: String,
    /// The heading the help lists it under.
    pub group: String,
    /// Not shown in the help.
    pub hidden: bool,
    /// Never shown with its value.
    pub secret: bool,
    /// Separates several values in one; only for lists.
    pub delimiter: Option<char>,
}

/// All flags of a command, by name.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    flags: BTreeMap<String, FlagSpec>,
}

impl Schema {
    /// Reads the flags out of a declared command (before [`crate::kingpin::adapt`]).
    pub(crate) fn of(command: &Command, service: &str) -> Self {
        let specs = command.get_arguments().filter_map(|arg| {
            let flag = arg.get_long()?.to_owned();
            let kind = match arg.get_action() {
                ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version => return None,
                _ if is_switch(arg) => FlagKind::Switch,
                ArgAction::Append => FlagKind::List,
                _ => FlagKind::Value,
            };
            let text = |s: &clap::builder::StyledStr| s.to_string();
            let spec = FlagSpec {
                id: arg.get_id().to_string(),
                key: key_of(&flag),
                env: env_of(service, &flag),
                kind,
                value_name: value_name(arg.get_value_parser()).map(str::to_owned).unwrap_or_else(|| {
                    arg.get_value_names().and_then(|n| n.first()).map(ToString::to_string).unwrap_or_default()
                }),
                default: arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect(),
                possible: match kind {
                    FlagKind::Switch => Vec::new(),
                    FlagKind::Value | FlagKind::List => {
                        arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect()
                    }
                },
                help: arg.get_long_help().or_else(|| arg.get_help()).map(text).unwrap_or_default(),
                group: arg.get_help_heading().unwrap_or("General").to_owned(),
                hidden: arg.is_hide_set(),
                secret: arg.get_value_parser().type_id() == TypeId::of::<Secret>(),
                delimiter: arg.get_value_delimiter(),
                flag: flag.clone(),
            };
            Some((flag, spec))
        });
        Self { flags: specs.collect() }
    }

    /// Returns the flag called `name`, which has no dashes in front.
    pub fn flag(&self, name: &str) -> Option<&FlagSpec> {
        self.flags.get(name)
    }

    /// Returns all flags in the order of their names.
    pub fn flags(&self) -> impl Iterator<Item = &FlagSpec> {
        self.flags.values()
    }

    /// Returns the flag whose key is `key`.
    pub fn by_key(&self, key: &str) -> Option<&FlagSpec> {
        self.flags.values().find(|f| f.key == key)
    }

    /// Tells whether some key lies below `prefix`.
    pub fn is_section(&self, prefix: &str) -> bool {
        self.flags.values().any(|f| f.key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')))
    }

    /// Checks that no two flags claim the same key or variable and that no key is the prefix of another.
    pub fn check(&self) -> Result<(), Error> {
        let mut envs = BTreeMap::new();
        for a in self.flags.values() {
            let collision = |b: &FlagSpec, place: &str| {
                Err(Error::Collision { a: a.flag.clone(), b: b.flag.clone(), place: place.to_owned() })
            };
            if let Some(b) = envs.insert(&a.env, a) {
                return collision(b, &a.env);
            }
            let below = |b: &&FlagSpec| b.key.strip_prefix(&a.key).is_some_and(|r| r.is_empty() || r.starts_with('.'));
            if let Some(b) = self.flags.values().filter(|b| b.flag != a.flag).find(below) {
                return collision(b, &a.key);
            }
        }
        Ok(())
    }
}

fn key_of(flag: &str) -> String {
    LEAF_KEYS.iter().find(|(f, _)| *f == flag).map_or(flag, |(_, key)| key).to_owned()
}

/// `FARVIEW_QUERY_HTTP_ADDRESS` for `--http-address` of `query`; flags of farview itself are the same for all services.
fn env_of(service: &str, flag: &str) -> String {
    let upper = |s: &str| s.replace(['.', '-'], "_").to_ascii_uppercase();
    match flag.strip_prefix("farview.") {
        Some(own) => format!("FARVIEW_{}", upper(own)),
        None => format!("FARVIEW_{}_{}", upper(service), upper(flag)),
    }
}
