//! Layers of configuration: defaults, file, environment, flags, into typed structs.
//!
//! A service declares its flags once, as a struct that derives [`clap::Args`], with the flag names of Thanos verbatim.
//! From that one declaration follow the parsing, the grouped `--help`, the environment variable and the key in the
//! configuration file of every flag ([`Schema`]), and where each value in effect came from ([`Effective`]).
//!
//! [`load`] lays the layers over each other, later ones winning:
//!
//! 1. the defaults in the declaration,
//! 2. a YAML file (`--farview.config-file`); the dotted flag is the path of the key,
//! 3. the environment (`FARVIEW_QUERY_HTTP_ADDRESS` for `--http-address` of `query`),
//! 4. the command line, with the habits of kingpin: `--flag=value`, `--flag value`, `--flag` and `--no-flag` for
//!    switches, repeats, values that begin with `-`, `@file` for a file with one argument a line.
//!
//! Nothing is ignored: an unknown flag or key is an error that names the nearest valid one, a flag Thanos has removed is
//! an error that says what took its place.
//!
//! Beside the layers live the types flags are made of ([`PromDuration`], [`ByteSize`], [`TimeOrDuration`], [`Secret`],
//! [`PathOrContent`]), the one place that reads YAML ([`yaml`]) and TLS files that are re-read when they change ([`tls`]).
//!
//! The crate does not know any service, opens no socket and prints nothing.

mod bytes;
mod duration;
mod effective;
mod error;
mod flags;
mod kingpin;
mod layers;
mod pair;
mod schema;
mod secret;
mod suggest;
mod time_bound;
pub mod tls;
pub mod yaml;

pub use bytes::ByteSize;
pub use duration::PromDuration;
pub use effective::{Effective, EffectiveValue, Origin};
pub use error::Error;
pub use flags::{Flags, GeneralFlags, Loaded, command, load, parse};
pub use pair::{PairSpec, PathOrContent, expand_env};
pub use schema::{FlagKind, FlagSpec, Schema};
pub use secret::{REDACTED, Secret, redact_url};
pub use suggest::nearest;
pub use time_bound::TimeOrDuration;
