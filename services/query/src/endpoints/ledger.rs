//! The coverage ledger: what was announced lately, by whom, and whether anybody announces it now.
//!
//! This is what keeps an answer from losing a whole cluster without a word: an endpoint that dies, leaves DNS, or announces
//! less than before stays expected for a while. It stops being missed as soon as another endpoint announces the same labels.

use super::Wanted;
use farview_model::{Labels, TimeRange};
use farview_storeapi::EndpointInfo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What one endpoint announced for one label set.
#[derive(Debug, Clone)]
struct Entry {
    component: String,
    range: TimeRange,
    last_seen: SystemTime,
    apis: EndpointInfo,
}

/// Everything announced lately.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: BTreeMap<(String, Labels), Entry>,
    expect_for: Duration,
}

/// Something that an answer lacks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Missing {
    /// Who held it.
    pub(crate) address: String,
    /// What that was: `sidecar`, `store`, …
    pub(crate) component: String,
    /// Its external labels.
    pub(crate) labels: Labels,
    /// Since when it is missing.
    pub(crate) since: SystemTime,
    /// Why, as far as is known.
    pub(crate) problem: String,
    /// A replica, equal but for its replica labels, is there: only gaps of that one may show.
    pub(crate) replica_answers: bool,
    /// It has never said what it holds.
    pub(crate) unknown: bool,
}

impl Missing {
    /// Says in a line what is missing.
    pub(crate) fn text(&self, now: SystemTime) -> String {
        let ago = now.duration_since(self.since).unwrap_or_default().as_secs();
        let who = if self.component.is_empty() { "endpoint" } else { &self.component };
        let address = &self.address;
        let problem = &self.problem;
        if self.unknown {
            return format!("{who} {address} has not answered yet, so what it holds may be missing: {problem}");
        }
        let labels = &self.labels;
        if self.replica_answers {
            return format!(
                "{who} {address} with {labels} is missing for {ago}s, its replica answers for it: {problem}"
            );
        }
        format!("{who} {address} with {labels} is missing for {ago}s, its data are not in this answer: {problem}")
    }
}

impl Ledger {
    /// Makes a ledger that expects what was announced for `expect_for` after it was last seen; zero to expect nothing.
    pub(crate) fn new(expect_for: Duration) -> Self {
        Self { entries: BTreeMap::new(), expect_for }
    }

    /// Notes what an endpoint announces at `now`.
    pub(crate) fn seen(&mut self, address: &str, info: &EndpointInfo, now: SystemTime) {
        let range = info.store.as_ref().map_or(TimeRange::ALL, |store| store.range);
        let empty = [Labels::empty()];
        let sets = if info.label_sets.is_empty() { &empty[..] } else { &info.label_sets };
        for labels in sets {
            let of_set = info.store.iter().flat_map(|store| &store.tsdbs).find(|tsdb| tsdb.labels == *labels);
            let entry = Entry {
                component: info.component.clone(),
                range: of_set.map_or(range, |tsdb| tsdb.range),
                last_seen: now,
                apis: EndpointInfo { label_sets: Vec::new(), ..info.clone() },
            };
            self.entries.insert((address.to_owned(), labels.clone()), entry);
        }
        let expect_for = self.expect_for;
        self.entries.retain(|_, entry| now.duration_since(entry.last_seen).unwrap_or_default() <= expect_for);
    }

    /// Returns what a query should have been able to ask and nobody announces now.
    pub(crate) fn missing(
        &self,
        live: &[(String, Arc<EndpointInfo>)],
        wanted: &Wanted<'_>,
        now: SystemTime,
    ) -> Vec<Missing> {
        let announced = |labels: &Labels, address: &str| {
            live.iter().any(|(at, info)| {
                wanted.api.offered_by(info)
                    && (info.label_sets.contains(labels)
                        || (labels.is_empty() && info.label_sets.is_empty() && at == address))
            })
        };
        let without_replica =
            |labels: &Labels| labels.without(|name| wanted.replica_labels.iter().any(|label| label == name));
        let mut missing: Vec<Missing> = Vec::new();
        for ((address, labels), entry) in &self.entries {
            let expected = now.duration_since(entry.last_seen).unwrap_or_default() <= self.expect_for;
            if !expected
                || !wanted.api.offered_by(&entry.apis)
                || !entry.range.overlaps(wanted.range)
                || !wanted.allows_address(address)
                || !wanted.may_match(labels)
                || announced(labels, address)
                || missing.iter().any(|other| other.labels == *labels && !labels.is_empty())
            {
                continue;
            }
            let common = without_replica(labels);
            let replica_answers = common.len() < labels.len()
                && live.iter().any(|(_, info)| {
                    wanted.api.offered_by(info) && info.label_sets.iter().any(|other| without_replica(other) == common)
                });
            missing.push(Missing {
                address: address.clone(),
                component: entry.component.clone(),
                labels: labels.clone(),
                since: entry.last_seen,
                problem: "it is gone".to_owned(),
                replica_answers,
                unknown: false,
            });
        }
        missing
    }

    /// Returns what is expected, whether it can be asked now or not: label sets and their times.
    pub(crate) fn expected(&self) -> Vec<(Labels, TimeRange)> {
        let stores = self.entries.iter().filter(|(_, entry)| entry.apis.store.is_some());
        stores.map(|((_, labels), entry)| (labels.clone(), entry.range)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Api;
    use super::*;
    use farview_model::Matcher;
    use farview_storeapi::StoreInfo;

    fn info(sets: &[&[(&str, &str)]]) -> EndpointInfo {
        EndpointInfo {
            label_sets: sets.iter().map(|set| Labels::from_pairs(set.iter().copied())).collect(),
            component: "sidecar".to_owned(),
            store: Some(StoreInfo {
                range: TimeRange::new(1_000, i64::MAX),
                supports_sharding: true,
                supports_without_replica_labels: true,
                tsdbs: Vec::new(),
            }),
            ..EndpointInfo::default()
        }
    }

    fn wanted<'a>(matchers: &'a [Matcher], replica_labels: &'a [String]) -> Wanted<'a> {
        Wanted { range: TimeRange::new(5_000, 6_000), matchers, store_matchers: &[], replica_labels, api: Api::Store }
    }

    const T0: SystemTime = SystemTime::UNIX_EPOCH;
    const WEST: &[(&str, &str)] = &[("cluster", "west")];
    const EAST_A: &[(&str, &str)] = &[("cluster", "east"), ("replica", "a")];
    const EAST_B: &[(&str, &str)] = &[("cluster", "east"), ("replica", "b")];

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("w:1", &info(&[WEST]), T0);
        ledger.seen("a:1", &info(&[EAST_A]), T0);
        ledger.seen("b:1", &info(&[EAST_B]), T0);
        ledger
    }

    type Sets<'a> = &'a [&'a [(&'a str, &'a str)]];

    fn live(all: &[(&str, Sets<'_>)]) -> Vec<(String, Arc<EndpointInfo>)> {
        all.iter().map(|(address, sets)| ((*address).to_owned(), Arc::new(info(sets)))).collect()
    }

    fn addresses(missing: &[Missing]) -> Vec<&str> {
        missing.iter().map(|missing| missing.address.as_str()).collect()
    }

    #[test]
    fn what_nobody_announces_any_more_is_missing_for_as_long_as_it_is_expected() {
        let (ledger, live) = (ledger(), live(&[("a:1", &[EAST_A]), ("b:1", &[EAST_B])]));
        let at = |seconds| T0 + Duration::from_secs(seconds);
        let missing = ledger.missing(&live, &wanted(&[], &[]), at(899));
        assert_eq!(addresses(&missing), ["w:1"]);
        assert!(missing[0].text(at(899)).contains("sidecar w:1 with {cluster=\"west\"} is missing for 899s"));
        assert!(ledger.missing(&live, &wanted(&[], &[]), at(901)).is_empty());
    }

    #[test]
    fn another_endpoint_with_the_same_labels_takes_its_place() {
        let live = live(&[("a:1", &[EAST_A]), ("b:1", &[EAST_B]), ("w:2", &[WEST])]);
        assert!(ledger().missing(&live, &wanted(&[], &[]), T0).is_empty());
    }

    #[test]
    fn a_live_endpoint_that_announces_less_is_missing_the_rest() {
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("q:1", &info(&[WEST, EAST_A]), T0);
        let missing = ledger.missing(&live(&[("q:1", &[EAST_A])]), &wanted(&[], &[]), T0);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].labels, Labels::from_pairs(WEST.iter().copied()));
    }

    #[test]
    fn what_the_query_does_not_want_is_not_missed() {
        let matchers = [Matcher::equal("cluster", "east")];
        let live = live(&[("a:1", &[EAST_A]), ("b:1", &[EAST_B])]);
        assert!(ledger().missing(&live, &wanted(&matchers, &[]), T0).is_empty());
        let early = Wanted { range: TimeRange::new(0, 999), ..wanted(&[], &[]) };
        assert!(ledger().missing(&live, &early, T0).is_empty());
    }

    #[test]
    fn one_of_a_pair_is_told_from_a_sole_holder() {
        let replica = ["replica".to_owned()];
        let missing = ledger().missing(&live(&[("w:1", &[WEST]), ("b:1", &[EAST_B])]), &wanted(&[], &replica), T0);
        assert_eq!(addresses(&missing), ["a:1"]);
        assert!(missing[0].replica_answers);
        let missing = ledger().missing(&live(&[("w:1", &[WEST]), ("b:1", &[EAST_B])]), &wanted(&[], &[]), T0);
        assert!(!missing[0].replica_answers, "without deduplication each replica is data of its own");
    }
}
