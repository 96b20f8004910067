//! External labels go on, replica labels come off, and the series stay in order, with as little memory as that takes.
//!
//! Prometheus and the indices of blocks have series sorted by their own labels. Labels that are the same for all series change that order in one
//! case only: a set that ends where another goes on. `{a}` comes before `{a,b}`, but `{a,z}` after `{a,b,z}`. So such a set
//! waits until those that go on have passed ([`Order::Added`]). When series have labels of their own that are taken off or
//! overridden, all series that agree in the labels before the first of these must be sorted anew ([`Order::Replaced`]).
//! When nothing is added, a set that was told apart by what was taken off may belong before anything that has passed, and
//! the whole answer is held ([`Order::Anything`]). What waits is charged to a budget.

use crate::ChunkSeries;
use farview_model::{Budget, BudgetExceeded, Labels, Reservation};
use std::sync::Arc;

/// How far the order of the series is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Not at all.
    Kept,
    /// Labels are added that no series has.
    Added,
    /// Series may have labels that are overridden or taken off.
    Replaced,
    /// Labels are taken off and none is added.
    Anything,
}

/// Gives series their external labels and restores their order.
#[derive(Debug)]
pub struct Relabel {
    /// All external labels. Prometheus adds them itself in remote read, without sorting again: they tell nothing of a
    /// series' own labels.
    merged: Labels,
    /// Those that the answer has.
    external: Labels,
    /// Labels of a series that do not survive: replica labels, and those that the external labels override.
    dropped: Vec<String>,
    order: Order,
    /// Names below this one are compared to tell which series may still be overtaken.
    bound: String,
    /// Series that wait, in runs of equal leading labels; each run's leading labels go on from those of the run below it.
    stack: Vec<Run>,
    held: Reservation,
    /// Whether Prometheus has added the external labels already, as it does in remote read.
    is_merged: bool,
    /// Names of external labels that series have of their own.
    own: Vec<String>,
}

#[derive(Debug)]
struct Run {
    leading: Labels,
    series: Vec<ChunkSeries>,
}

/// A series has a label that it was taken not to have: the order of what was sent before is not known to be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelabelError {
    /// More had to wait than the budget allows.
    #[error("restoring the order of the series: {0}")]
    Budget(#[from] BudgetExceeded),
    /// Prometheus added other external labels than those that are known.
    #[error(
        "Prometheus has other external labels than {0}, or its series have got one of these names as a label: ask again"
    )]
    Changed(Labels),
    /// A label appeared in Prometheus between the look at its labels and the answer.
    #[error("Prometheus has the new label {0:?}, which the external or replica labels name: ask again")]
    NewLabel(String),
}

impl Relabel {
    /// Makes a relabelling: `external` without the labels `without` is added to every series, whose own labels of these
    /// names do not survive. `has_label` tells whether any series has a label of that name.
    pub fn new(
        external: &Labels,
        without: &[String],
        has_label: impl Fn(&str) -> bool,
        budget: &Arc<Budget>,
    ) -> Result<Self, BudgetExceeded> {
        let added = external.without(|name| without.iter().any(|label| label == name));
        let mut dropped: Vec<String> = external.iter().map(|(name, _)| name.to_owned()).collect();
        dropped.extend(without.iter().cloned());
        dropped.sort_unstable();
        dropped.dedup();
        let replaced = dropped.iter().any(|name| has_label(name));
        let order = match (replaced, added.is_empty()) {
            (false, true) => Order::Kept,
            (false, false) => Order::Added,
            (true, false) => Order::Replaced,
            (true, true) => Order::Anything,
        };
        let bound = match order {
            Order::Added => added.iter().map(|(name, _)| name).last(),
            Order::Replaced => dropped.first().map(String::as_str),
            Order::Kept | Order::Anything => None,
        };
        let bound = bound.unwrap_or_default().to_owned();
        Ok(Self {
            merged: external.clone(),
            external: added,
            dropped,
            order,
            bound,
            stack: Vec::new(),
            held: budget.reserve(0)?,
            is_merged: false,
            own: external.iter().map(|(name, _)| name).filter(|name| has_label(name)).map(str::to_owned).collect(),
        })
    }

    /// Insists on every series having the external labels already: with them Prometheus itself says, series by series,
    /// under which labels it stores, and no sample goes by an old name after they have changed.
    pub fn expect_merged(mut self) -> Self {
        self.is_merged = true;
        self
    }

    fn check_merged(&self, labels: &Labels) -> Result<(), RelabelError> {
        let fits = |(name, value): (&str, &str)| match labels.get(name) {
            Some(own) => own == value || self.own.iter().any(|label| label == name),
            None => false,
        };
        if self.merged.iter().all(fits) { Ok(()) } else { Err(RelabelError::Changed(self.merged.clone())) }
    }

    /// Takes a series as Prometheus sent it and appends to `out` those that are certain to come next.
    pub fn push(&mut self, series: ChunkSeries, out: &mut Vec<ChunkSeries>) -> Result<(), RelabelError> {
        if self.is_merged {
            self.check_merged(&series.labels)?;
        }
        let drops = |name: &str| self.dropped.iter().any(|label| label == name);
        let labels = without_pairs(&series.labels, &self.merged);
        let series = ChunkSeries { labels, chunks: series.chunks };
        if matches!(self.order, Order::Kept | Order::Added)
            && let Some((name, _)) = series.labels.iter().find(|(name, _)| drops(name))
        {
            return Err(RelabelError::NewLabel(name.to_owned()));
        }
        if self.order == Order::Kept {
            out.push(series);
            return Ok(());
        }
        let own = series.labels.without(drops);
        let leading =
            if self.order == Order::Anything { Labels::empty() } else { own.only(|name| *name < *self.bound) };
        while self.stack.last().is_some_and(|run| !goes_on(&run.leading, &leading)) {
            self.flush_top(out);
        }
        // Nothing may come between what is added in order: only a set that others can still overtake has to wait.
        let relabelled = ChunkSeries { labels: join(&own, &self.external), chunks: series.chunks };
        if self.order == Order::Added
            && leading.len() < own.len()
            && self.stack.last().is_none_or(|run| run.leading != leading)
        {
            out.push(relabelled);
            return Ok(());
        }
        self.held.grow(size(&relabelled))?;
        match self.stack.last_mut() {
            Some(run) if run.leading == leading => run.series.push(relabelled),
            _ => self.stack.push(Run { leading, series: vec![relabelled] }),
        }
        Ok(())
    }

    /// Appends what still waits.
    pub fn finish(&mut self, out: &mut Vec<ChunkSeries>) {
        while !self.stack.is_empty() {
            self.flush_top(out);
        }
    }

    fn flush_top(&mut self, out: &mut Vec<ChunkSeries>) {
        let Some(mut run) = self.stack.pop() else { return };
        let bytes: u64 = run.series.iter().map(size).sum();
        // Shrinking a reservation cannot fail.
        let _ = self.held.resize(self.held.bytes().saturating_sub(bytes));
        run.series.sort_by(|a, b| a.labels.cmp(&b.labels));
        for series in run.series {
            match out.last_mut() {
                Some(last) if last.labels == series.labels => {
                    last.chunks.extend(series.chunks);
                    last.chunks.sort_by_key(|chunk| (chunk.mint, chunk.maxt));
                }
                _ => out.push(series),
            }
        }
    }
}

fn size(series: &ChunkSeries) -> u64 {
    use crate::ChunkData;
    let chunks: usize = series
        .chunks
        .iter()
        .map(|chunk| match &chunk.data {
            ChunkData::Raw(raw) => raw.data.len() + 64,
            ChunkData::Aggregated(_) => 512,
        })
        .sum();
    (series.labels.size_bytes() + chunks + 48) as u64
}

/// Tells whether `longer` begins with all of `leading`.
fn goes_on(leading: &Labels, longer: &Labels) -> bool {
    longer.as_bytes().starts_with(leading.as_bytes())
}

/// Takes off the labels that are in `pairs` with the same value.
fn without_pairs(labels: &Labels, pairs: &Labels) -> Labels {
    labels.without(|name| pairs.get(name).is_some_and(|value| labels.get(name) == Some(value)))
}

/// Merges two sets that share no name.
fn join(own: &Labels, external: &Labels) -> Labels {
    let (mut own, mut external) = (own.iter().peekable(), external.iter().peekable());
    let merged = std::iter::from_fn(|| match (own.peek(), external.peek()) {
        (Some(a), Some(b)) if a.0 > b.0 => external.next(),
        (None, Some(_)) => external.next(),
        _ => own.next(),
    });
    Labels::from_sorted(merged).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(labels: &Labels, n: i64) -> ChunkSeries {
        use crate::{AggrChunk, ChunkData};
        use farview_tsdb::{Chunk, Encoding};
        let data = ChunkData::Raw(Chunk { encoding: Encoding::Xor, data: vec![n as u8].into() });
        ChunkSeries { labels: labels.clone(), chunks: vec![AggrChunk { mint: n, maxt: n, data }] }
    }

    fn run(sets: &[Labels], external: &Labels, without: &[String]) -> (Vec<ChunkSeries>, u64) {
        let budget = Budget::root("test", 0);
        let has = |name: &str| sets.iter().any(|set| set.get(name).is_some());
        let mut relabel = Relabel::new(external, without, has, &budget).unwrap();
        let mut out = Vec::new();
        for (n, set) in sets.iter().enumerate() {
            relabel.push(series(set, n as i64), &mut out).unwrap();
        }
        relabel.finish(&mut out);
        drop(relabel);
        assert_eq!(budget.used(), 0);
        (out, budget.peak())
    }

    fn arb_sets() -> impl Strategy<Value = Vec<Labels>> {
        let set = proptest::collection::btree_map("[a-f]", "[xyz]", 1..5).prop_map(Labels::from_pairs);
        proptest::collection::btree_set(set, 0..60).prop_map(|sets| sets.into_iter().collect())
    }

    fn arb_labels(names: &'static str) -> impl Strategy<Value = Labels> {
        proptest::collection::btree_map(names, "[xyz]", 0..3).prop_map(Labels::from_pairs)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_sorting_everything(sets in arb_sets(), external in arb_labels("[a-h]"), without in proptest::collection::vec("[a-h]", 0..3)) {
            let (out, _) = run(&sets, &external, &without);
            let mut expected: std::collections::BTreeMap<Labels, usize> = Default::default();
            for set in &sets {
                let mut builder = farview_model::LabelsBuilder::new(set);
                external.iter().for_each(|(name, value)| { builder.set(name, value); });
                without.iter().for_each(|name| { builder.delete(name); });
                *expected.entry(builder.build()).or_default() += 1;
            }
            let got: Vec<(Labels, usize)> = out.into_iter().map(|s| (s.labels, s.chunks.len())).collect();
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn external_labels_that_prometheus_has_merged_change_nothing(sets in arb_sets(), external in arb_labels("[g-k]"), without in proptest::collection::vec("[g-k]", 0..3)) {
            let (expected, _) = run(&sets, &external, &without);
            let budget = Budget::root("test", 0);
            let mut relabel = Relabel::new(&external, &without, |_| false, &budget).unwrap();
            let mut out = Vec::new();
            for (n, set) in sets.iter().enumerate() {
                relabel.push(series(&join(set, &external), n as i64), &mut out).unwrap();
            }
            relabel.finish(&mut out);
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn what_only_adds_labels_holds_next_to_nothing(sets in arb_sets(), external in arb_labels("[g-k]")) {
            let (_, peak) = run(&sets, &external, &[]);
            prop_assert!(peak < 2_500, "{peak} bytes held for {} series", sets.len());
        }
    }

    #[test]
    fn other_external_labels_than_the_known_ones_are_an_error() {
        let known = Labels::from_pairs([("cluster", "a"), ("replica", "0")]);
        let push = |merged: &Labels, has: &[&str]| {
            let relabel =
                Relabel::new(&known, &["replica".to_owned()], |name| has.contains(&name), &Budget::root("test", 0));
            relabel.unwrap().expect_merged().push(series(merged, 0), &mut Vec::new())
        };
        push(&Labels::from_pairs([("cluster", "a"), ("replica", "0"), ("x", "1")]), &[]).unwrap();
        push(&Labels::from_pairs([("cluster", "own"), ("replica", "0")]), &["cluster"]).unwrap();
        for changed in [
            Labels::from_pairs([("cluster", "b"), ("replica", "0")]),
            Labels::from_pairs([("cluster", "a"), ("replica", "1")]),
            Labels::from_pairs([("cluster", "a")]),
        ] {
            assert!(matches!(push(&changed, &[]), Err(RelabelError::Changed(_))), "{changed}");
        }
    }

    #[test]
    fn a_label_that_was_not_there_is_an_error_and_not_disorder() {
        let external = Labels::from_pairs([("cluster", "a")]);
        let mut relabel = Relabel::new(&external, &[], |_| false, &Budget::root("test", 0)).unwrap();
        let set = Labels::from_pairs([("a", "b"), ("cluster", "own")]);
        let error = relabel.push(series(&set, 0), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, RelabelError::NewLabel(name) if name == "cluster"));
    }
}
