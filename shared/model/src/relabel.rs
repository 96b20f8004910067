//! Relabelling, as in Prometheus' `relabel_configs`: rules that rewrite label sets or drop them.

use crate::pattern::{PatternError, Template, compile};
use crate::{Labels, LabelsBuilder};
use md5::{Digest, Md5};
use serde::Deserialize;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelabelAction {
    /// Writes the replacement to the target label, if the pattern matches.
    Replace,
    /// Drops label sets whose source the pattern does not match.
    Keep,
    /// Drops label sets whose source the pattern matches.
    Drop,
    /// Drops label sets whose source is not the target label's value.
    KeepEqual,
    /// Drops label sets whose source is the target label's value.
    DropEqual,
    /// Writes the hash of the source, modulo a number, to the target label.
    HashMod,
    /// Copies labels whose name the pattern matches to the name that the replacement says.
    LabelMap,
    /// Takes away labels whose name the pattern matches.
    LabelDrop,
    /// Takes away labels whose name the pattern does not match.
    LabelKeep,
    /// Writes the source in lower case to the target label.
    Lowercase,
    /// Writes the source in upper case to the target label.
    Uppercase,
}

const ACTIONS: [(&str, RelabelAction); 11] = [
    ("replace", RelabelAction::Replace),
    ("keep", RelabelAction::Keep),
    ("drop", RelabelAction::Drop),
    ("keepequal", RelabelAction::KeepEqual),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("labelmap", RelabelAction::LabelMap),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("lowercase", RelabelAction::Lowercase),
    ("uppercase", RelabelAction::Uppercase),
];

impl RelabelAction {
    /// Returns the name that configurations use.
    pub fn as_str(self) -> &'static str {
        ACTIONS.iter().find(|(_, action)| *action == self).map_or("", |(name, _)| name)
    }
}

/// Why a rule is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// There is no such action.
    #[error("unknown relabel action {0:?}")]
    UnknownAction(String),
    /// The action needs a field that is not set.
    #[error("relabel configuration for {action} action requires '{field}' value")]
    Missing {
        /// The action.
        action: &'static str,
        /// The field that it needs.
        field: &'static str,
    },
    /// The action knows only some of the fields.
    #[error("{action} action requires only {fields}, and no other fields")]
    TooMany {
        /// The action.
        action: &'static str,
        /// The fields that it knows.
        fields: &'static str,
    },
    /// The pattern does not compile.
    #[error("relabel configuration has an invalid regex: {0}")]
    Regex(#[from] PatternError),
}

impl RelabelError {
    /// Says what the caller can do.
    pub fn kind(&self) -> crate::ErrorKind {
        match self {
            Self::Regex(error) => error.kind(),
            _ => crate::ErrorKind::Invalid,
        }
    }
}

/// A rule as it is written; what is left out has Prometheus' defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    source_labels: Vec<String>,
    separator: String,
    target_label: String,
    regex: String,
    modulus: u64,
    replacement: String,
    action: String,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: "(.*)".to_owned(),
            modulus: 0,
            replacement: "$1".to_owned(),
            action: "replace".to_owned(),
        }
    }
}

/// One rule, checked and compiled.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct RelabelConfig {
    action: RelabelAction,
    source_labels: Vec<String>,
    separator: String,
    target_label: String,
    target: Template,
    regex: regex::Regex,
    modulus: u64,
    replacement: Template,
    replacement_text: String,
    /// Nothing depends on the match: an empty source is written as any other.
    constant: bool,
}

impl TryFrom<Written> for RelabelConfig {
    type Error = RelabelError;

    fn try_from(written: Written) -> Result<Self, RelabelError> {
        let lower = written.action.to_lowercase();
        let action = ACTIONS
            .iter()
            .find(|(name, _)| *name == lower)
            .map(|(_, action)| *action)
            .ok_or_else(|| RelabelError::UnknownAction(written.action.clone()))?;
        check(action, &written)?;
        let regex = compile(&written.regex)?;
        let constant = written.regex == Written::default().regex
            && !written.target_label.contains('$')
            && !written.replacement.contains('$');
        Ok(Self {
            action,
            target: Template::parse(&written.target_label, &regex),
            replacement: Template::parse(&written.replacement, &regex),
            regex,
            source_labels: written.source_labels,
            separator: written.separator,
            target_label: written.target_label,
            modulus: written.modulus,
            replacement_text: written.replacement,
            constant,
        })
    }
}

fn check(action: RelabelAction, written: &Written) -> Result<(), RelabelError> {
    use RelabelAction::{DropEqual, HashMod, KeepEqual, LabelDrop, LabelKeep, LabelMap, Lowercase, Replace, Uppercase};
    let missing = |field| Err(RelabelError::Missing { action: action.as_str(), field });
    let too_many = |fields| Err(RelabelError::TooMany { action: action.as_str(), fields });
    let default = Written { action: written.action.clone(), ..Written::default() };
    let needs_target = matches!(action, Replace | HashMod | Lowercase | Uppercase | KeepEqual | DropEqual);
    if action == HashMod && written.modulus == 0 {
        return missing("modulus");
    }
    if needs_target && written.target_label.is_empty() {
        return missing("target_label");
    }
    if action == LabelMap && written.replacement.is_empty() {
        return missing("replacement");
    }
    let known = match action {
        KeepEqual | DropEqual => Written {
            source_labels: written.source_labels.clone(),
            target_label: written.target_label.clone(),
            separator: written.separator.clone(),
            ..default
        },
        LabelDrop | LabelKeep => Written { regex: written.regex.clone(), ..default },
        _ => return Ok(()),
    };
    if known == *written {
        return Ok(());
    }
    too_many(if matches!(action, LabelDrop | LabelKeep) { "'regex'" } else { "'source_labels' and 'target_label'" })
}

impl RelabelConfig {
    /// Returns what the rule does. Some users of rules allow only some actions.
    pub fn action(&self) -> RelabelAction {
        self.action
    }

    /// Applies the rule. False if the label set is dropped.
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        let source = self
            .source_labels
            .iter()
            .map(|label| labels.get(label).unwrap_or(""))
            .collect::<Vec<_>>()
            .join(&self.separator);
        match self.action {
            RelabelAction::Keep => return self.regex.is_match(&source),
            RelabelAction::Drop => return !self.regex.is_match(&source),
            RelabelAction::KeepEqual => return labels.get(&self.target_label).unwrap_or("") == source,
            RelabelAction::DropEqual => return labels.get(&self.target_label).unwrap_or("") != source,
            RelabelAction::Replace => self.replace(&source, labels),
            RelabelAction::Lowercase => {
                labels.set(&self.target_label, &source.to_lowercase());
            }
            RelabelAction::Uppercase => {
                labels.set(&self.target_label, &source.to_uppercase());
            }
            RelabelAction::HashMod => {
                labels.set(&self.target_label, &(hash(&source) % self.modulus.max(1)).to_string());
            }
            RelabelAction::LabelMap => self.map(labels),
            RelabelAction::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            RelabelAction::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
        }
        true
    }

    fn replace(&self, source: &str, labels: &mut LabelsBuilder) {
        if self.constant {
            labels.set(&self.target_label, &self.replacement_text);
            return;
        }
        let Some(found) = self.regex.captures(source) else { return };
        let target = self.target.expand(&found);
        if !target.is_empty() {
            labels.set(&target, &self.replacement.expand(&found));
        }
    }

    fn map(&self, labels: &mut LabelsBuilder) {
        let mapped: Vec<_> = labels
            .iter()
            .filter_map(|(name, value)| Some((self.replacement.expand(&self.regex.captures(name)?), value.to_owned())))
            .collect();
        for (name, value) in mapped.iter().filter(|(name, _)| !name.is_empty()) {
            labels.set(name, value);
        }
    }
}

/// The last eight bytes of the MD5 sum: the same shards as Prometheus' `hashmod`.
fn hash(text: &str) -> u64 {
    Md5::digest(text).iter().skip(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Applies the rules in order; `None` if one of them drops the set.
pub fn relabel(labels: &Labels, rules: &[RelabelConfig]) -> Option<Labels> {
    let mut builder = LabelsBuilder::new(labels);
    rules.iter().all(|rule| rule.apply(&mut builder)).then(|| builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> RelabelConfig {
        serde_json::from_str(json).unwrap()
    }

    /// Applies a rule to `a="foo", b="bar", c="baz"`; returns the set as text.
    fn applied(json: &str) -> Option<String> {
        let labels = Labels::from_pairs([("a", "foo"), ("b", "bar"), ("c", "baz")]);
        relabel(&labels, &[rule(json)])
            .map(|labels| labels.iter().map(|(name, value)| format!("{name}={value} ")).collect())
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        for (json, result) in [
            (
                r#"{"source_labels":["a"],"regex":"f(.*)","target_label":"d","replacement":"ch${1}-$1"}"#,
                "a=foo b=bar c=baz d=choo-oo ",
            ),
            (
                r#"{"source_labels":["a","b"],"regex":"(f.*);(.*)r","target_label":"a","replacement":"b${1}${2}r"}"#,
                "a=bfoobar b=bar c=baz ",
            ),
            (r#"{"source_labels":["a"],"regex":"x","target_label":"a","replacement":"y"}"#, "a=foo b=bar c=baz "),
            (
                r#"{"source_labels":["a"],"target_label":"${1}_name","replacement":"v"}"#,
                "a=foo b=bar c=baz foo_name=v ",
            ),
            (r#"{"source_labels":["none"],"target_label":"d","replacement":"set"}"#, "a=foo b=bar c=baz d=set "),
            (r#"{"target_label":"a","replacement":""}"#, "b=bar c=baz "),
            (
                r#"{"source_labels":["c"],"target_label":"d","action":"hashmod","modulus":1000}"#,
                "a=foo b=bar c=baz d=976 ",
            ),
            (r#"{"regex":"(b|c)","replacement":"x_$1","action":"labelmap"}"#, "a=foo b=bar c=baz x_b=bar x_c=baz "),
            (r#"{"regex":"b.*","action":"labeldrop"}"#, "a=foo c=baz "),
            (r#"{"regex":"b|c","action":"LabelKeep"}"#, "b=bar c=baz "),
            (r#"{"source_labels":["a"],"target_label":"A","action":"uppercase"}"#, "A=FOO a=foo b=bar c=baz "),
        ] {
            assert_eq!(applied(json).as_deref(), Some(result), "{json}");
        }
    }

    #[test]
    fn sets_are_dropped_or_kept() {
        for (json, kept) in [
            (r#"{"source_labels":["a"],"regex":"foo","action":"keep"}"#, true),
            (r#"{"source_labels":["a"],"regex":"fo","action":"keep"}"#, false),
            (r#"{"source_labels":["a"],"regex":"f.+","action":"drop"}"#, false),
            (r#"{"source_labels":["a"],"target_label":"b","action":"keepequal"}"#, false),
            (r#"{"source_labels":["a"],"target_label":"b","action":"dropequal"}"#, true),
        ] {
            assert_eq!(applied(json).is_some(), kept, "{json}");
        }
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        for (json, reason) in [
            (r#"{"action":"replace"}"#, "requires 'target_label'"),
            (r#"{"action":"hashmod","target_label":"x"}"#, "requires 'modulus'"),
            (r#"{"action":"labeldrop","source_labels":["a"],"regex":"x"}"#, "only 'regex'"),
            (r#"{"action":"keepequal","source_labels":["a"],"target_label":"b","regex":"x"}"#, "only 'source_labels'"),
            (r#"{"action":"explode"}"#, "unknown relabel action"),
            (r#"{"action":"keep","regex":"("}"#, "missing closing )"),
            (r#"{"action":"keep","regexp":"x"}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<RelabelConfig>(json).unwrap_err().to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
