//! Which values are in effect and where each came from, fit to be shown.

use std::fmt;

use serde::Serialize;

/// The layer a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The declaration.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Env,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Env => "env",
            Self::Flag => "flag",
        })
    }
}

/// One flag as it is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EffectiveValue {
    /// Name without dashes.
    pub flag: String,
    /// Its value, lists joined by commas; secrets and passwords in URLs redacted.
    pub value: String,
    /// Where the value came from.
    pub origin: Origin,
    /// Not shown in the help.
    #[serde(skip)]
    pub hidden: bool,
}

/// All flags as they are in effect, by name. What `/api/v1/status/flags` and the status page show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Effective(pub Vec<EffectiveValue>);

impl Effective {
    /// Returns the flag called `name`, without dashes.
    pub fn get(&self, name: &str) -> Option<&EffectiveValue> {
        self.0.iter().find(|v| v.flag == name)
    }

    /// Returns the flags that somebody set.
    pub fn set(&self) -> impl Iterator<Item = &EffectiveValue> {
        self.0.iter().filter(|v| v.origin != Origin::Default)
    }
}
