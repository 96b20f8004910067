//! `--selector.relabel-config`: which of the announced label sets this query looks at.

use farview_model::{Labels, MatchOp, Matcher, RelabelAction, RelabelConfig, relabel};
use std::collections::{BTreeMap, BTreeSet};

/// The rules; without any, everything is looked at.
#[derive(Default)]
pub(crate) struct Selector(Vec<RelabelConfig>);

impl Selector {
    /// Makes a selector of relabelling rules.
    ///
    /// # Errors
    /// Rules that do more than choose.
    pub(crate) fn new(rules: Vec<RelabelConfig>) -> anyhow::Result<Self> {
        for rule in &rules {
            let action = rule.action();
            if !matches!(action, RelabelAction::Keep | RelabelAction::Drop | RelabelAction::HashMod) {
                anyhow::bail!(
                    "--selector.relabel-config: action {} chooses nothing; use keep, drop or hashmod",
                    action.as_str()
                );
            }
        }
        Ok(Self(rules))
    }

    /// Tells whether series with these external labels are looked at. Who announces none may hold any.
    pub(crate) fn keeps(&self, labels: &Labels) -> bool {
        self.0.is_empty() || labels.is_empty() || relabel(labels, &self.0).is_some()
    }

    /// Returns what series of an endpoint with these label sets must match beside the query's own matchers; none if nothing of it
    /// is looked at.
    pub(crate) fn narrow(&self, sets: &[Labels]) -> Option<Vec<Matcher>> {
        let kept: Vec<&Labels> = sets.iter().filter(|labels| self.keeps(labels)).collect();
        if kept.len() == sets.len() {
            return Some(Vec::new());
        }
        if kept.is_empty() {
            return None;
        }
        let names: BTreeSet<&str> = sets.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
        let values = names.into_iter().map(|name| {
            let values: BTreeSet<&str> = kept.iter().map(|labels| labels.get(name).unwrap_or_default()).collect();
            (name, values)
        });
        let values: BTreeMap<&str, BTreeSet<&str>> = values.collect();
        Some(values.into_iter().filter_map(|(name, values)| any_of(name, &values)).collect())
    }
}

fn any_of(name: &str, values: &BTreeSet<&str>) -> Option<Matcher> {
    let pattern: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
    Matcher::new(MatchOp::Regex, name, pattern.join("|")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(yaml: &str) -> anyhow::Result<Selector> {
        Selector::new(farview_config::yaml::from_str(yaml, "test").unwrap())
    }

    fn set(labels: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(labels.iter().copied())
    }

    #[test]
    fn an_endpoint_is_left_out_narrowed_or_asked_as_it_is() {
        let selector = selector("[{source_labels: [cluster], regex: 'ea.*', action: keep}]").unwrap();
        let (east, west) = (set(&[("cluster", "east"), ("replica", "a")]), set(&[("cluster", "west")]));
        assert!(selector.narrow(std::slice::from_ref(&west)).is_none());
        assert!(selector.narrow(std::slice::from_ref(&east)).unwrap().is_empty());
        assert!(selector.narrow(&[]).unwrap().is_empty());
        assert!(selector.narrow(&[Labels::empty()]).unwrap().is_empty(), "it may hold anything");
        let narrowed = selector.narrow(&[east.clone(), west.clone()]).unwrap();
        let may = |labels: &Labels| narrowed.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or_default()));
        assert!(may(&east) && !may(&west));
    }

    #[test]
    fn rules_that_rewrite_are_refused() {
        let error = selector("[{target_label: a, replacement: b}]").err().unwrap().to_string();
        assert!(error.contains("replace") && error.contains("keep, drop or hashmod"), "{error}");
    }
}
