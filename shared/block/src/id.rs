//! The name of a block.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use ulid::Ulid;

/// The name of a block: a ULID, written in its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(Ulid);

/// A text is no name of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no ULID")]
pub struct NoBlockId(String);

impl BlockId {
    /// Makes the name of a block that is written now.
    pub fn generate() -> Self {
        Self(Ulid::generate())
    }

    /// Returns when the block was written, ms since the epoch.
    pub fn time(self) -> i64 {
        i64::try_from(self.0.timestamp_ms()).unwrap_or(i64::MAX)
    }
}

impl FromStr for BlockId {
    type Err = NoBlockId;

    fn from_str(text: &str) -> Result<Self, NoBlockId> {
        // Only the canonical form: what else a decoder would take is the name of another folder.
        let id = Ulid::from_string(text).ok().filter(|id| id.to_string() == text);
        id.map(Self).ok_or_else(|| NoBlockId(text.chars().take(64).collect()))
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for BlockId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BlockId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_name() {
        let text = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let id: BlockId = text.parse().unwrap();
        assert_eq!((id.to_string().as_str(), id.time()), (text, 1_469_922_850_259));
        for wrong in [
            "",
            "01arz3ndektsv4rrffq69g5fav",
            "../../etc/passwd",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV0",
        ] {
            assert!(wrong.parse::<BlockId>().is_err(), "{wrong}");
        }
    }
}
