//! External labels: what a Prometheus server or a block says of all its series, without the series having it themselves.

use crate::{Labels, Matcher};
use std::cmp::Ordering;

/// Labels that all series of one source carry towards the outside. They win over labels of the same name on a series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ExternalLabels(Labels);

impl ExternalLabels {
    /// Takes the labels.
    pub fn new(labels: Labels) -> Self {
        Self(labels)
    }

    /// Returns the labels.
    pub fn labels(&self) -> &Labels {
        &self.0
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the series' labels with the external ones.
    pub fn merge(&self, series: &Labels) -> Labels {
        if self.0.is_empty() {
            return series.clone();
        }
        let (mut own, mut external) = (series.iter().peekable(), self.0.iter().peekable());
        let merged = std::iter::from_fn(|| {
            let order = match (own.peek(), external.peek()) {
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            if order.is_eq() {
                own.next();
            }
            if order.is_lt() { own.next() } else { external.next() }
        });
        Labels::from_sorted(merged).expect("two sorted sets, merged, are sorted")
    }

    /// Tests the matchers that name an external label, and returns the others: what the source itself has to be asked.
    /// `None` if one of the tests fails: nothing of the source matches.
    pub fn strip(&self, matchers: &[Matcher]) -> Option<Vec<Matcher>> {
        self.matches(matchers)
            .then(|| matchers.iter().filter(|matcher| self.0.get(matcher.name()).is_none()).cloned().collect())
    }

    /// Tells whether a series of the source could pass: no matcher fails on an external label.
    pub fn matches(&self, matchers: &[Matcher]) -> bool {
        matchers.iter().all(|matcher| self.0.get(matcher.name()).is_none_or(|value| matcher.matches(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LabelsBuilder, MatchOp};
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn external_labels_win() {
        let external = ExternalLabels::new(labels(&[("cluster", "a"), ("job", "outer")]));
        let merged = external.merge(&labels(&[("__name__", "up"), ("job", "inner"), ("z", "1")]));
        assert_eq!(merged, labels(&[("__name__", "up"), ("cluster", "a"), ("job", "outer"), ("z", "1")]));
    }

    #[test]
    fn matchers_on_external_labels_are_answered_and_taken_off() {
        let external = ExternalLabels::new(labels(&[("cluster", "a")]));
        let matcher = |op, name: &str, value: &str| Matcher::new(op, name, value).unwrap();
        let job = Matcher::equal("job", "x");
        assert_eq!(external.strip(&[Matcher::equal("cluster", "a"), job.clone()]), Some(vec![job.clone()]));
        assert_eq!(external.strip(&[Matcher::equal("cluster", "b"), job]), None);
        assert_eq!(external.strip(&[matcher(MatchOp::NotRegex, "cluster", "a|b")]), None);
        assert_eq!(external.strip(&[matcher(MatchOp::Equal, "cluster", "")]), None);
        assert_eq!(external.strip(&[]), Some(vec![]));
    }

    proptest! {
        #[test]
        fn merging_is_setting_label_by_label(
            own in prop::collection::btree_map("[a-e]", "[x-z]{0,2}", 0..5),
            external in prop::collection::btree_map("[a-e]", "[x-z]{1,2}", 0..5),
        ) {
            let (own, external) = (Labels::from_pairs(own), Labels::from_pairs(external));
            let mut builder = LabelsBuilder::new(&own);
            external.iter().for_each(|(name, value)| { builder.set(name, value); });
            prop_assert_eq!(ExternalLabels::new(external).merge(&own), builder.build());
        }
    }
}
