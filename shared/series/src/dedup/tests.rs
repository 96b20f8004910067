use super::*;
use proptest::prelude::*;

fn samples(pairs: &[(i64, f64)]) -> Samples {
    let (timestamps, values) = pairs.iter().copied().unzip();
    Samples { timestamps, values, ..Samples::default() }
}

fn deduped(replicas: &[Samples], counter: bool) -> Vec<(i64, f64)> {
    let mut out = Samples::default();
    dedup(replicas, DedupFunc::Penalty, counter, &mut out);
    out.timestamps.into_iter().zip(out.values).collect()
}

#[test]
fn a_gap_is_bridged_after_two_intervals_and_the_bridge_is_kept() {
    let a: Vec<_> = [0, 10, 20, 80, 90].map(|s| (s * 1_000, 1.0)).into();
    let b: Vec<_> = [5, 15, 25, 35, 45, 55, 65, 75, 85, 95].map(|s| (s * 1_000, 2.0)).into();
    let got: Vec<i64> = deduped(&[samples(&a), samples(&b)], false).iter().map(|(t, _)| t / 1_000).collect();
    // At 20 the penalty on b is 20 s: b may come at 41 or later.
    assert_eq!(got, [0, 10, 20, 45, 55, 65, 75, 85, 95]);
}

#[test]
fn a_switch_does_not_make_a_counter_fall() {
    let a: Vec<_> = (0..5).map(|i| (i * 10_000, 100.0 + i as f64)).collect();
    let b: Vec<_> = (0..12).map(|i| (i * 10_000 + 5_000, i as f64)).collect();
    let got = deduped(&[samples(&a), samples(&b)], true);
    assert!(got.is_sorted_by(|x, y| x.1 <= y.1), "{got:?}");
    assert!(got.last().unwrap().0 > 100_000);
}

#[test]
fn a_second_replica_that_begins_earlier_leaves_the_counter_as_it_is() {
    let a: Vec<_> = (1..6).map(|i| (i * 10_000, 100.0 + i as f64)).collect();
    let b: Vec<_> = (0..6).map(|i| (i * 10_000 + 5_000, 90.0 + i as f64)).collect();
    assert_eq!(deduped(&[samples(&a), samples(&b)], true), b);
}

#[test]
fn one_replica_and_none_pass() {
    let a = [(1, 1.0), (2, 2.0)];
    assert_eq!(deduped(&[samples(&a)], true), a);
    assert_eq!(deduped(&[], true), []);
}

#[test]
fn chain_is_the_sorted_union() {
    let mut out = Samples::default();
    let replicas = [samples(&[(1, 1.0), (3, 1.0)]), samples(&[(1, 2.0), (2, 2.0), (4, 2.0)])];
    dedup(&replicas, DedupFunc::Chain, false, &mut out);
    assert_eq!(out.timestamps, [1, 2, 3, 4]);
    assert_eq!(out.values, [1.0, 2.0, 1.0, 2.0]);
}

fn arb_replica() -> impl Strategy<Value = Samples> {
    let step = prop_oneof![8 => 14_900i64..15_100, 1 => 15_000i64..300_000, 1 => 1i64..8_000];
    (0i64..20_000, proptest::collection::vec((step, 0i64..5), 0..60)).prop_map(|(start, steps)| {
        let (mut t, mut value) = (start, 0.0);
        let mut out = Samples::default();
        for (step, increment) in steps {
            t += step;
            value = if increment == 0 { 0.0 } else { value + increment as f64 };
            out.push(t, value);
        }
        out
    })
}

proptest! {
    #[test]
    fn the_array_rule_is_the_rule_of_the_pair(a in arb_replica(), b in arb_replica(), counter in any::<bool>()) {
        let leaf = |samples| Cursor::Leaf(Leaf { samples, float: 0, histogram: 0, counter, offset: 0.0 });
        let mut pair = Pair::new(leaf(&a), leaf(&b));
        let mut expected = Vec::new();
        loop {
            pair.next();
            let Some((t, Sample::Float(value))) = pair.at() else { break };
            expected.push((t, value));
        }
        prop_assert_eq!(deduped(&[a, b], counter), expected);
    }

    #[test]
    fn nothing_is_invented_and_time_rises(replicas in proptest::collection::vec(arb_replica(), 0..5)) {
        let got = deduped(&replicas, false);
        prop_assert!(got.is_sorted_by(|x, y| x.0 < y.0));
        for (t, value) in got {
            let known = replicas.iter().any(|r| r.timestamps.iter().zip(&r.values).any(|(rt, rv)| (*rt, *rv) == (t, value)));
            prop_assert!(known, "a sample at {t} that no replica has");
        }
    }

    #[test]
    fn counters_of_any_number_of_replicas_do_not_fall_at_a_switch(offset in 0i64..15_000, gap in 0usize..40, len in 0usize..30) {
        let make = |phase: i64, skip: std::ops::Range<usize>| {
            let mut out = Samples::default();
            (0..60).filter(|i| !skip.contains(i)).for_each(|i| {
                let t = i as i64 * 15_000 + phase;
                out.push(t, t as f64 / 15_000.0);
            });
            out
        };
        let replicas = [make(0, gap..gap + len), make(offset, 0..0), make(offset / 2, gap + 5..gap + len)];
        let got = deduped(&replicas, true);
        prop_assert!(got.is_sorted_by(|x, y| x.1 <= y.1));
    }
}
