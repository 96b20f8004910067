//! The coverage ledger: what was announced lately, by whom, and whether anybody announces it now.
//!
//! This is what keeps an answer from losing a whole cluster without a word: an endpoint that dies, leaves DNS, or announces
//! less than before stays expected for a while. It stops being missed as soon as others announce the same labels for all of the
//! time that the query is about: a sidecar does not stand in for the store that holds its older blocks. Of two stores that name
//! their data ([`EndpointInfo::data_identity`]), one stands in for the other only if both had the same blocks lately: stores that
//! share the work may announce the same labels and times and hold different blocks.

use super::Wanted;
use farview_model::{Labels, Slots, TimeRange};
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
    /// Data that addresses named last, and when.
    identities: BTreeMap<String, (String, SystemTime)>,
    /// When two addresses, in order, last had the same data.
    replicas: BTreeMap<(String, String), SystemTime>,
    expect_for: Duration,
}

/// Stores that share a bucket learn of a new block one after the other: they are replicas if they had the same blocks so long ago.
const REPLICAS_FOR: Duration = Duration::from_secs(15 * 60);
/// Times that slide with the clock have moved on so much more than the clock since they were announced, at most, ms.
const SLIDE: i64 = 60_000;

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
        Self { entries: BTreeMap::new(), identities: BTreeMap::new(), replicas: BTreeMap::new(), expect_for }
    }

    /// Notes what an endpoint announces at `now`.
    pub(crate) fn seen(&mut self, address: &str, info: &EndpointInfo, now: SystemTime) {
        let empty = [Labels::empty()];
        let sets = if info.label_sets.is_empty() { &empty[..] } else { &info.label_sets };
        // What it names stands for all that it did not know before, here and wherever it goes.
        if !sets.contains(&empty[0]) {
            self.entries.remove(&(address.to_owned(), Labels::empty()));
        }
        for labels in sets {
            let entry = Entry {
                component: info.component.clone(),
                range: range_of(info, labels),
                last_seen: now,
                apis: EndpointInfo { label_sets: Vec::new(), ..info.clone() },
            };
            self.entries.insert((address.to_owned(), labels.clone()), entry);
        }
        self.note_identity(address, &info.data_identity, now);
        let expect_for = self.expect_for;
        let young = |time: SystemTime| now.duration_since(time).unwrap_or_default() <= expect_for + REPLICAS_FOR;
        self.entries.retain(|_, entry| now.duration_since(entry.last_seen).unwrap_or_default() <= expect_for);
        self.identities.retain(|_, (_, seen)| young(*seen));
        self.replicas.retain(|_, seen| young(*seen));
    }

    /// Notes what data an address names, and who else names the same.
    fn note_identity(&mut self, address: &str, identity: &str, now: SystemTime) {
        if identity.is_empty() {
            self.identities.remove(address);
            return;
        }
        self.identities.insert(address.to_owned(), (identity.to_owned(), now));
        let same = self.identities.iter().filter(|(other, (its, _))| *other != address && its == identity);
        self.replicas.extend(same.map(|(other, _)| (pair(address, other), now)));
    }

    /// Tells whether `info` at address `at` may hold what `entry` at `address` held.
    fn stands_in(&self, at: &str, info: &EndpointInfo, address: &str, entry: &Entry) -> bool {
        let (its, wanted) = (&info.data_identity, &entry.apis.data_identity);
        let lately = |seen: &SystemTime| entry.last_seen.duration_since(*seen).unwrap_or_default() <= REPLICAS_FOR;
        at == address
            || its.is_empty()
            || wanted.is_empty()
            || its == wanted
            || self.replicas.get(&pair(at, address)).is_some_and(lately)
    }

    /// Returns what a query should have been able to ask and nobody announces now.
    pub(crate) fn missing(
        &self,
        live: &[(String, Arc<EndpointInfo>)],
        wanted: &Wanted<'_>,
        now: SystemTime,
    ) -> Vec<Missing> {
        let without_replica =
            |labels: &Labels| labels.without(|name| wanted.replica_labels.iter().any(|label| label == name));
        // Tells whether those who announce labels that will do, and may hold the same, cover all of the time that counts.
        let covered = |address: &str, labels: &Labels, entry: &Entry, will_do: &dyn Fn(&Labels) -> bool| {
            if slots_are_served(live, &entry.apis) {
                return true;
            }
            let elapsed = now.duration_since(entry.last_seen).unwrap_or_default().as_millis() as i64;
            let start = entry.range.mint.saturating_add(elapsed + SLIDE).min(entry.range.maxt);
            // What the query wants may have slid out altogether: then who has what is left will do, and nobody who has only other times.
            let needed = Some(TimeRange::new(start, entry.range.maxt).intersect(wanted.range))
                .filter(|needed| !needed.is_empty())
                .unwrap_or(TimeRange::new(start, start));
            let mut ranges = Vec::new();
            for (at, info) in live {
                let divide = entry.apis.shards.is_some() && info.shards.is_some();
                if !wanted.api.offered_by(info) || divide || !self.stands_in(at, info, address, entry) {
                    continue;
                }
                // Who names no labels may hold anything; whatever it names now stands for that.
                if labels.is_empty() && at == address {
                    ranges.push(TimeRange::ALL);
                }
                let sets = info.label_sets.iter().filter(|set| will_do(set));
                ranges.extend(sets.map(|set| range_of(info, set)));
            }
            if wanted.api == super::Api::Store { covers(needed, ranges) } else { !ranges.is_empty() }
        };
        let mut missing: Vec<Missing> = Vec::new();
        for ((address, labels), entry) in &self.entries {
            let expected = now.duration_since(entry.last_seen).unwrap_or_default() <= self.expect_for;
            if !expected
                || !wanted.api.offered_by(&entry.apis)
                || !entry.range.overlaps(wanted.range)
                || !wanted.allows_address(address)
                || !wanted.may_match(labels)
                || covered(address, labels, entry, &|other| other == labels)
                || missing
                    .iter()
                    .any(|other| other.labels == *labels && other.component == entry.component && !labels.is_empty())
            {
                continue;
            }
            let common = without_replica(labels);
            let replica_answers = common.len() < labels.len()
                && covered(address, labels, entry, &|other| without_replica(other) == common);
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

/// Tells whether all slots that a store announced are announced, by whomever: stores that divide blocks hand them on.
fn slots_are_served(live: &[(String, Arc<EndpointInfo>)], gone: &EndpointInfo) -> bool {
    let Some(gone) = &gone.shards else { return false };
    let others = live.iter().filter_map(|(_, info)| info.shards.as_ref()).filter(|shards| shards.group == gone.group);
    others.fold(Slots::NONE, |all, shards| all.union(shards.slots)).contains_all(gone.slots)
}

/// Returns two addresses in order.
fn pair(a: &str, b: &str) -> (String, String) {
    (a.min(b).to_owned(), a.max(b).to_owned())
}

/// Returns the time for which an endpoint announces a label set.
fn range_of(info: &EndpointInfo, labels: &Labels) -> TimeRange {
    let Some(store) = &info.store else { return TimeRange::ALL };
    let of_set = store.tsdbs.iter().filter(|tsdb| tsdb.labels == *labels).map(|tsdb| tsdb.range);
    of_set.reduce(|a, b| TimeRange::new(a.mint.min(b.mint), a.maxt.max(b.maxt))).unwrap_or(store.range)
}

/// Tells whether ranges together cover all of another.
fn covers(needed: TimeRange, mut ranges: Vec<TimeRange>) -> bool {
    ranges.sort_unstable_by_key(|range| range.mint);
    let mut next = needed.mint;
    for range in ranges {
        if range.mint > next {
            return false;
        }
        if range.maxt >= needed.maxt {
            return true;
        }
        next = next.max(range.maxt.saturating_add(1));
    }
    false
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

    const HOUR: i64 = 3_600_000;

    fn holding(labels: &[(&str, &str)], range: TimeRange, identity: &str) -> Arc<EndpointInfo> {
        let mut info = info(&[labels]);
        info.data_identity = identity.to_owned();
        if let Some(store) = &mut info.store {
            store.range = range;
        }
        Arc::new(info)
    }

    fn over(range: TimeRange) -> Wanted<'static> {
        Wanted { range, matchers: &[], store_matchers: &[], replica_labels: &[], api: Api::Store }
    }

    #[test]
    fn a_sidecar_does_not_stand_in_for_the_store_with_its_older_blocks() {
        let sidecar = holding(WEST, TimeRange::new(90 * HOUR, i64::MAX), "");
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("s:1", &sidecar, T0);
        ledger.seen("store:1", &holding(WEST, TimeRange::new(0, 98 * HOUR), "x"), T0);
        let live = [("s:1".to_owned(), sidecar)];
        assert!(ledger.missing(&live, &over(TimeRange::new(95 * HOUR, 100 * HOUR)), T0).is_empty());
        let missing = ledger.missing(&live, &over(TimeRange::new(50 * HOUR, 100 * HOUR)), T0);
        assert_eq!(addresses(&missing), ["store:1"]);
        // Nor does the sidecar of a replica.
        let replica = ["replica".to_owned()];
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("store:1", &holding(EAST_A, TimeRange::new(0, 98 * HOUR), "x"), T0);
        let live = [("b:1".to_owned(), holding(EAST_B, TimeRange::new(90 * HOUR, i64::MAX), ""))];
        let wanted = Wanted { replica_labels: &replica, ..over(TimeRange::new(50 * HOUR, 100 * HOUR)) };
        assert!(!ledger.missing(&live, &wanted, T0)[0].replica_answers);
    }

    #[test]
    fn a_store_of_last_month_does_not_stand_in_for_a_sidecar_that_has_just_begun() {
        let labels: &[(&str, &str)] = &[("cluster", "east"), ("replica", "0")];
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("sidecar:1", &holding(labels, TimeRange::new(700 * HOUR, i64::MAX), ""), T0);
        let live = [("store:1".to_owned(), holding(labels, TimeRange::new(0, 24 * HOUR), "bucket"))];
        let minutes = over(TimeRange::new(700 * HOUR - 300_000, 700 * HOUR + 30_000));
        assert_eq!(addresses(&ledger.missing(&live, &minutes, T0)), ["sidecar:1"]);
    }

    #[test]
    fn a_store_stands_in_for_another_that_had_the_same_blocks_lately() {
        let range = TimeRange::new(0, 98 * HOUR);
        let at = |seconds| T0 + Duration::from_secs(seconds);
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("store:1", &holding(WEST, range, "x"), at(0));
        ledger.seen("store:2", &holding(WEST, range, "x"), at(0));
        ledger.seen("other:1", &holding(WEST, range, "z"), at(0));
        // The second has taken up a block since.
        let second = holding(WEST, range, "y");
        ledger.seen("store:2", &second, at(60));
        let live = [("store:2".to_owned(), second), ("other:1".to_owned(), holding(WEST, range, "z"))];
        assert!(ledger.missing(&live, &over(range), at(60)).is_empty());
        // A store that has taken up a block stands in for itself.
        let grown = [("store:1".to_owned(), holding(WEST, range, "y")), live[1].clone()];
        assert!(ledger.missing(&grown, &over(range), at(60)).is_empty());
        // One that shares the work holds other blocks.
        let missing = ledger.missing(&live[1..], &over(range), at(60));
        assert_eq!(addresses(&missing), ["store:1"]);
        let missing = ledger.missing(&live[..1], &over(range), at(60));
        assert_eq!(addresses(&missing), ["other:1"]);
    }

    #[test]
    fn stores_of_parts_of_the_time_cover_it_together() {
        let range = |from, to| TimeRange::new(from * HOUR, to * HOUR - 1);
        assert!(covers(range(0, 10), vec![range(5, 10), range(0, 5)]));
        assert!(!covers(range(0, 10), vec![range(6, 10), range(0, 5)]));
        assert!(!covers(range(0, 10), vec![]));
    }

    #[test]
    fn who_did_not_know_what_it_holds_stands_for_that_once_it_knows() {
        let mut ledger = Ledger::new(Duration::from_secs(900));
        ledger.seen("q:1", &info(&[&[]]), T0);
        assert!(ledger.missing(&live(&[("q:1", &[WEST])]), &wanted(&[], &[]), T0).is_empty());
        let elsewhere = live(&[("q:2", &[WEST])]);
        assert_eq!(addresses(&ledger.missing(&elsewhere, &wanted(&[], &[]), T0)), ["q:1"]);
        ledger.seen("q:1", &info(&[WEST]), T0);
        assert!(ledger.missing(&elsewhere, &wanted(&[], &[]), T0).is_empty());
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
