use super::*;
use proptest::prelude::*;

fn spans(pairs: &[(i32, u32)]) -> Vec<Span> {
    pairs.iter().map(|&(offset, length)| Span { offset, length }).collect()
}

/// A histogram of positive buckets from `offset` on whose count is right.
fn positive(schema: i32, offset: i32, buckets: &[f64]) -> FloatHistogram {
    FloatHistogram {
        schema,
        count: buckets.iter().sum(),
        sum: 1.0,
        positive_spans: spans(&[(offset, buckets.len() as u32)]),
        positive_buckets: buckets.to_vec(),
        ..FloatHistogram::default()
    }
}

fn custom(bounds: &[f64], buckets: &[f64]) -> FloatHistogram {
    FloatHistogram { custom_values: Some(bounds.into()), ..positive(CUSTOM_BUCKETS_SCHEMA, 0, buckets) }
}

fn hinted(hint: CounterResetHint) -> FloatHistogram {
    FloatHistogram { counter_reset_hint: hint, ..positive(0, 0, &[1.0]) }
}

#[test]
fn sums_bring_schemas_to_the_coarser_one() {
    let fine = positive(1, 1, &[1.0, 2.0, 4.0, 8.0]);
    let coarse = positive(0, 1, &[10.0, 20.0]);
    let expected = FloatHistogram { sum: 2.0, count: 45.0, ..positive(0, 1, &[13.0, 32.0]) };
    assert_eq!(fine.plus(&coarse).unwrap().histogram, expected);
    assert_eq!(coarse.plus(&fine).unwrap().histogram, expected);
}

#[test]
fn spans_are_joined_where_buckets_meet() {
    let sum = positive(0, 0, &[1.0, 2.0]).plus(&positive(0, 3, &[5.0])).unwrap().histogram;
    assert_eq!(sum.positive_spans, spans(&[(0, 2), (1, 1)]));
    let sum = sum.plus(&positive(0, 2, &[7.0])).unwrap().histogram;
    assert_eq!((sum.positive_spans, sum.positive_buckets), (spans(&[(0, 4)]), vec![1.0, 2.0, 7.0, 5.0]));
}

#[test]
fn the_wider_zero_bucket_takes_what_lies_within_it() {
    let narrow = FloatHistogram { zero_threshold: 0.25, zero_count: 1.0, ..positive(0, -1, &[2.0, 3.0, 4.0]) };
    let wide = FloatHistogram { zero_threshold: 1.0, zero_count: 10.0, ..positive(0, 1, &[5.0]) };
    for sum in [narrow.plus(&wide), wide.plus(&narrow)] {
        let sum = sum.unwrap().histogram;
        assert_eq!((sum.zero_threshold, sum.zero_count), (1.0, 16.0));
        assert_eq!((sum.positive_spans, sum.positive_buckets), (spans(&[(1, 1)]), vec![9.0]));
    }
}

#[test]
fn a_threshold_within_a_populated_bucket_grows_to_its_end() {
    let narrow = FloatHistogram { zero_threshold: 0.25, zero_count: 1.0, ..positive(0, -1, &[2.0, 3.0]) };
    let wide = FloatHistogram { zero_threshold: 0.75, zero_count: 10.0, ..positive(0, 1, &[5.0]) };
    for sum in [narrow.plus(&wide), wide.plus(&narrow)] {
        let sum = sum.unwrap().histogram;
        assert_eq!((sum.zero_threshold, sum.zero_count), (1.0, 16.0));
        assert_eq!(sum.positive_buckets, [5.0]);
    }
}

#[test]
fn custom_bounds_are_reduced_to_the_shared_ones() {
    let sum =
        custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]).plus(&custom(&[2.0, 3.0, 5.0], &[10.0, 20.0, 30.0, 40.0]));
    let sum = sum.unwrap();
    assert!(sum.bounds_reconciled);
    assert_eq!(sum.histogram.custom_bounds(), [2.0, 5.0]);
    assert_eq!(sum.histogram.positive_buckets, [13.0, 53.0, 44.0]);
    let nothing_shared = custom(&[1.0], &[1.0, 2.0]).plus(&custom(&[2.0], &[3.0, 4.0])).unwrap().histogram;
    assert!(nothing_shared.custom_bounds().is_empty());
    assert_eq!(nothing_shared.positive_buckets, [10.0]);
}

#[test]
fn exponential_and_custom_buckets_do_not_mix() {
    let (exponential, custom) = (positive(0, 0, &[1.0]), custom(&[1.0], &[1.0]));
    assert_eq!(exponential.plus(&custom).unwrap_err(), HistogramError::MixedSchemas);
    assert_eq!(custom.minus(&exponential).unwrap_err(), HistogramError::MixedSchemas);
}

#[test]
fn hints_go_together_as_far_as_they_agree() {
    use CounterResetHint::{Gauge, NotReset, Reset, Unknown};
    for (a, b, hint, conflict) in [
        (Unknown, Unknown, Unknown, false),
        (Reset, Reset, Reset, false),
        (Gauge, Reset, Gauge, false),
        (NotReset, Unknown, Unknown, false),
        (Reset, NotReset, Unknown, true),
    ] {
        for (a, b) in [(a, b), (b, a)] {
            let sum = hinted(a).plus(&hinted(b)).unwrap();
            assert_eq!((sum.histogram.counter_reset_hint, sum.conflicting_resets), (hint, conflict), "{a:?} {b:?}");
        }
    }
    assert_eq!(hinted(Unknown).minus(&hinted(Unknown)).unwrap().histogram.counter_reset_hint, Gauge);
    let mut negated = hinted(Unknown);
    negated.multiply_by(-1.0);
    assert_eq!(negated.counter_reset_hint, Gauge);
}

#[test]
fn a_conflict_is_seen_across_what_lies_between() {
    let mut sum = HistogramSum::new(&hinted(CounterResetHint::Reset));
    sum.add(&hinted(CounterResetHint::Unknown)).unwrap();
    sum.add(&hinted(CounterResetHint::NotReset)).unwrap();
    assert!(sum.conflicting_resets());
}

#[test]
fn compensated_sums_get_small_counts_back() {
    let mut sum = HistogramSum::new(&positive(0, 0, &[1.0, 1.0]));
    for part in [[1e100, 1e100], [1.0, 1.0], [-1e100, -1e100]] {
        sum.add(&positive(0, 0, &part)).unwrap();
    }
    assert_eq!(sum.histogram().positive_buckets, [2.0, 2.0]);
}

#[test]
fn a_mean_survives_the_overflow_of_its_sum() {
    let mut mean = HistogramMean::new(&positive(0, 0, &[f64::MAX]));
    mean.add(&positive(0, 0, &[f64::MAX])).unwrap();
    mean.add(&positive(0, 0, &[f64::MAX])).unwrap();
    let mean = mean.histogram();
    assert!((mean.positive_buckets[0] / f64::MAX - 1.0).abs() < 1e-12);
    assert_eq!(mean.sum, 1.0);
}

#[test]
fn a_division_by_zero_leaves_no_buckets() {
    let mut divided = positive(0, 0, &[1.0, 2.0]);
    divided.divide_by(0.0);
    assert_eq!((divided.count, divided.sum), (f64::INFINITY, f64::INFINITY));
    assert!(divided.positive_buckets.is_empty() && divided.positive_spans.is_empty());
    assert!(divided.zero_count.is_nan());
}

#[test]
fn resets_are_seen_in_every_part() {
    let base = FloatHistogram { zero_threshold: 0.25, zero_count: 2.0, ..positive(1, 1, &[1.0, 2.0, 3.0]) };
    let base = FloatHistogram { count: 8.0, ..base };
    assert!(!base.detect_reset(&base));
    let changed = |change: &dyn Fn(&mut FloatHistogram)| {
        let mut next = base.clone();
        next.count = 100.0;
        change(&mut next);
        next.detect_reset(&base)
    };
    assert!(!changed(&|next| next.positive_buckets[1] = 50.0));
    assert!(!changed(&|next| next.positive_spans.push(Span { offset: 3, length: 0 })));
    assert!(!changed(&|next| *next = FloatHistogram { count: 100.0, ..next.reduced_to(0) }), "coarser");
    assert!(changed(&|next| next.count = 7.0), "count");
    assert!(changed(&|next| next.zero_count = 1.0), "zero count");
    assert!(changed(&|next| next.positive_buckets[2] = 2.0), "bucket");
    assert!(changed(&|next| next.positive_spans[0].offset = 0), "shifted buckets");
    assert!(changed(&|next| next.schema = 2), "finer schema");
    assert!(changed(&|next| next.zero_threshold = 0.125), "narrower zero bucket");
    assert!(changed(&|next| next.zero_threshold = 1.1), "zero bucket ends within a populated one");
    assert!(changed(&|next| next.counter_reset_hint = CounterResetHint::Reset), "hint");
    assert!(changed(&|next| *next = custom(&[1.0], &[100.0])), "custom");
    let mut unlike = custom(&[1.0], &[0.0]);
    unlike.counter_reset_hint = CounterResetHint::NotReset;
    assert!(!unlike.detect_reset(&base));
}

#[test]
fn custom_resets_are_compared_on_shared_bounds() {
    let before = custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 0.0]);
    assert!(!custom(&[2.0, 5.0], &[3.0, 3.0, 1.0]).detect_reset(&before));
    assert!(custom(&[2.0, 5.0], &[2.0, 9.0, 1.0]).detect_reset(&before));
}

#[test]
fn a_vanished_populated_bucket_is_a_reset_but_an_empty_one_is_not() {
    let next = positive(0, 0, &[10.0]);
    assert!(!next.detect_reset(&positive(0, 0, &[1.0, 0.0, 0.0])));
    assert!(next.detect_reset(&positive(0, 0, &[1.0, 0.0, 1.0])));
}

#[test]
fn equality_is_of_bits_and_not_of_spans() {
    let one = positive(0, 0, &[1.0, f64::NAN, 3.0]);
    let mut other = one.clone();
    other.positive_spans = spans(&[(0, 1), (0, 0), (0, 2), (4, 0)]);
    other.counter_reset_hint = CounterResetHint::Gauge;
    assert_eq!(one, other);
    other.positive_buckets[1] = -f64::NAN;
    assert_ne!(one, other);
}

#[test]
fn text_shows_populated_buckets_from_below() {
    let histogram = FloatHistogram {
        count: 9.0,
        sum: 18.4,
        zero_threshold: 0.5,
        zero_count: 2.0,
        negative_spans: spans(&[(1, 2)]),
        negative_buckets: vec![1.0, 2.0],
        ..positive(0, 1, &[0.0, 4.0])
    };
    assert_eq!(histogram.to_string(), "{count:9, sum:18.4, [-4,-2):2, [-2,-1):1, [-0.5,0.5]:2, (2,4]:4}");
    let mut json = Vec::new();
    histogram.append_json(&mut json);
    assert_eq!(
        String::from_utf8(json).unwrap(),
        r#"{"count":"9","sum":"18.4","buckets":[[1,"-4","-2","2"],[1,"-2","-1","1"],[3,"-0.5","0.5","2"],[0,"2","4","4"]]}"#
    );
    let mut json = Vec::new();
    FloatHistogram::default().append_json(&mut json);
    assert_eq!(String::from_utf8(json).unwrap(), r#"{"count":"0","sum":"0"}"#);
}

#[test]
fn stale_markers_are_told_by_their_bits() {
    assert!(FloatHistogram::stale().is_stale());
    assert!(!FloatHistogram { sum: f64::NAN, ..FloatHistogram::default() }.is_stale());
}

#[test]
fn size_is_counted_as_prometheus_does() {
    assert_eq!(FloatHistogram::default().sample_count(), 11);
    assert_eq!(positive(0, 0, &[1.0, 2.0, 3.0]).size_bytes(), 168 + 8 * 4);
}

#[test]
fn invalid_histograms_are_refused_with_what_is_wrong() {
    let refused = |change: &dyn Fn(&mut FloatHistogram)| {
        let mut histogram = positive(0, 0, &[1.0, 2.0]);
        change(&mut histogram);
        histogram.validate().unwrap_err().to_string()
    };
    assert!(refused(&|h| h.schema = 9).contains("got schema 9"));
    assert!(refused(&|h| h.positive_buckets[1] = -1.0).contains("bucket number 2 has observation count of -1"));
    assert!(refused(&|h| h.positive_spans[0].length = 3).contains("spans need 3 buckets, have 2"));
    assert!(refused(&|h| h.positive_spans = spans(&[(0, 1), (-1, 1)])).contains("span number 2 with offset -1"));
    assert!(refused(&|h| h.custom_values = Some([1.0].into())).contains("custom bounds"));
    assert!(refused(&|h| *h = custom(&[2.0, 1.0], &[1.0])).contains("strictly increasing"));
    assert!(refused(&|h| *h = custom(&[f64::INFINITY], &[1.0])).contains("infinite"));
    assert!(refused(&|h| *h = custom(&[1.0], &[1.0, 2.0, 3.0])).contains("only 1 custom bounds"));
    assert!(refused(&|h| *h = FloatHistogram { zero_count: 1.0, ..custom(&[1.0], &[1.0]) }).contains("zero count"));
    assert_eq!(custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]).validate(), Ok(()));
}

#[test]
fn quantiles_interpolate_by_the_kind_of_bucket() {
    let exponential = positive(0, 1, &[10.0]);
    assert!((exponential.quantile(0.5).0 - 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(exponential.quantile(0.0).0, 1.0);
    assert_eq!(exponential.quantile(1.0).0, 2.0);
    let linear = custom(&[10.0, 20.0], &[5.0, 5.0, 10.0]);
    assert_eq!(linear.quantile(0.125).0, 5.0);
    assert_eq!(linear.quantile(0.375).0, 15.0);
    assert_eq!(linear.quantile(0.9).0, 20.0, "the last bucket has no upper bound");
    let zero = FloatHistogram { zero_threshold: 0.5, zero_count: 10.0, count: 20.0, ..positive(0, 1, &[10.0]) };
    assert_eq!(zero.quantile(0.25).0, 0.25, "nothing is negative, so that the zero bucket begins at zero");
    assert_eq!(zero.quantile(-0.5).0, f64::NEG_INFINITY);
    assert_eq!(zero.quantile(1.5).0, f64::INFINITY);
    assert!(FloatHistogram::default().quantile(0.5).0.is_nan());
}

#[test]
fn observations_of_nan_lie_above_all_buckets() {
    let histogram = FloatHistogram { count: 20.0, sum: f64::NAN, ..positive(0, 1, &[10.0]) };
    assert_eq!(histogram.quantile(0.5), (2.0, NanObservations::SkewsHigher));
    let (value, note) = histogram.quantile(0.6);
    assert!(value.is_nan() && note == NanObservations::ResultIsNan);
    assert_eq!(histogram.fraction(f64::NEG_INFINITY, f64::INFINITY), (0.5, NanObservations::Excluded));
}

#[test]
fn variance_uses_the_geometric_mean() {
    let histogram = FloatHistogram { sum: 10.0 * 2f64.sqrt(), ..positive(0, 1, &[10.0]) };
    assert!(histogram.variance().abs() < 1e-12);
    let histogram = FloatHistogram { sum: 20.0, ..custom(&[0.0, 4.0], &[0.0, 10.0]) };
    assert_eq!((histogram.average(), histogram.variance()), (2.0, 0.0));
}

#[test]
fn trimming_cuts_buckets_and_works_out_the_sum_anew() {
    let histogram = positive(0, 1, &[8.0, 8.0]);
    let same = histogram.trimmed(4.0, Keep::Below);
    assert_eq!((same.sum, &same), (1.0, &histogram));
    let below = histogram.trimmed(2.0, Keep::Below);
    assert_eq!((below.count, below.positive_buckets.as_slice()), (8.0, [8.0].as_slice()));
    assert!((below.sum - 8.0 * 2f64.sqrt()).abs() < 1e-12);
    let above = histogram.trimmed(8f64.sqrt(), Keep::Above);
    assert!((above.count - 4.0).abs() < 1e-12);
    assert_eq!(histogram.trimmed(0.0, Keep::Below).count, 0.0);
}

fn histograms() -> impl Strategy<Value = FloatHistogram> {
    let side = || prop::collection::vec((0i32..4, prop::collection::vec(0u32..50, 1..4)), 0..4);
    (-2i32..=3, 0u8..6, 0u32..40, side(), side(), -6i32..3, -6i32..3).prop_map(
        |(schema, threshold, zero, positive, negative, from, negative_from)| {
            let build = |side: Vec<(i32, Vec<u32>)>, from: i32| {
                let spans = side
                    .iter()
                    .enumerate()
                    .map(|(i, (offset, counts))| Span {
                        offset: if i == 0 { from } else { *offset },
                        length: counts.len() as u32,
                    })
                    .collect();
                let counts = side.into_iter().flat_map(|(_, counts)| counts).map(f64::from).collect();
                (spans, counts)
            };
            let (positive_spans, positive_buckets): (Vec<_>, Vec<f64>) = build(positive, from);
            let (negative_spans, negative_buckets): (Vec<_>, Vec<f64>) = build(negative, negative_from);
            let mut histogram = FloatHistogram {
                schema,
                zero_threshold: 2f64.powi(-200 + i32::from(threshold)),
                zero_count: f64::from(zero),
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                ..FloatHistogram::default()
            };
            histogram.count = total(&histogram);
            histogram.sum = histogram.count;
            histogram
        },
    )
}

fn total(histogram: &FloatHistogram) -> f64 {
    histogram.zero_count + histogram.positive_buckets.iter().chain(&histogram.negative_buckets).sum::<f64>()
}

/// Lets the zero bucket reach into the buckets.
fn widened(mut histogram: FloatHistogram, threshold: f64) -> FloatHistogram {
    let (zero, threshold) = histogram.zero_count_within(threshold.max(histogram.zero_threshold));
    let outside = |counts: Vec<Bucket>| {
        counts.into_iter().filter(|bucket| bucket.upper.abs().max(bucket.lower.abs()) > threshold)
    };
    let (positive, negative) = (histogram.positive().collect(), histogram.negative().collect());
    (histogram.positive_spans, histogram.positive_buckets) =
        sparse::to_spans(outside(positive).map(|bucket| (bucket.index, bucket.count)));
    (histogram.negative_spans, histogram.negative_buckets) =
        sparse::to_spans(outside(negative).map(|bucket| (bucket.index, bucket.count)));
    (histogram.zero_count, histogram.zero_threshold) = (zero, threshold);
    histogram
}

fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
    (histograms(), prop::option::of(0.001f64..3.0)).prop_map(|(histogram, threshold)| match threshold {
        Some(threshold) => widened(histogram, threshold),
        None => histogram,
    })
}

proptest! {
    #[test]
    fn no_observation_is_lost_or_doubled_by_a_sum(a in any_histogram(), b in any_histogram()) {
        prop_assert_eq!(total(&a), a.count);
        let sum = a.plus(&b).unwrap().histogram;
        prop_assert_eq!(sum.count, a.count + b.count);
        prop_assert_eq!(total(&sum), sum.count);
        prop_assert_eq!(sum.validate(), Ok(()));
        prop_assert_eq!(&sum.clone().compacted(), &sum);
    }

    #[test]
    fn a_sum_of_two_is_the_same_either_way(a in any_histogram(), b in any_histogram()) {
        prop_assert_eq!(a.plus(&b).unwrap().histogram, b.plus(&a).unwrap().histogram);
    }

    #[test]
    fn what_grew_shows_no_reset_and_taking_it_back_leaves_what_was(a in any_histogram(), b in any_histogram()) {
        let both = a.plus(&b).unwrap().histogram;
        prop_assert!(!both.detect_reset(&a));
        let back = both.minus(&b).unwrap().histogram;
        prop_assert_eq!(back.count, a.count);
        prop_assert_eq!(total(&back), a.count);
    }

    #[test]
    fn a_quantile_is_where_its_fraction_lies_below(a in any_histogram(), q in 0.01f64..0.99) {
        prop_assume!(a.count > 0.0);
        let (value, _) = a.quantile(q);
        let (fraction, _) = a.fraction(f64::NEG_INFINITY, value);
        prop_assert!((fraction - q).abs() < 1e-9, "{q} {value} {fraction}");
    }

    #[test]
    fn both_sides_of_a_trim_are_the_whole(a in any_histogram(), at in -20.0f64..20.0) {
        // An empty bucket tells quantiles that there is something on its side of zero, but not the trim.
        let a = a.compacted();
        let (below, above) = (a.trimmed(at, Keep::Below), a.trimmed(at, Keep::Above));
        prop_assert!((below.count + above.count - a.count).abs() < 1e-9);
        let (fraction, _) = a.fraction(f64::NEG_INFINITY, at);
        prop_assert!(a.count == 0.0 || (below.count / a.count - fraction).abs() < 1e-9);
    }

    #[test]
    fn a_coarser_schema_keeps_counts_and_all_bounds_that_remain(a in histograms(), schema in -4i32..3) {
        let reduced = a.reduced_to(schema);
        prop_assert_eq!(total(&reduced), a.count);
        for bucket in reduced.positive() {
            let (within, _) = a.fraction(bucket.lower, bucket.upper);
            prop_assert!((within * a.count - bucket.count).abs() < 1e-9);
        }
    }

    #[test]
    fn arithmetic_on_hostile_histograms_does_not_panic(
        fields in prop::collection::vec((any::<i32>(), prop::num::f64::ANY, prop::num::f64::ANY), 2),
        side in prop::collection::vec((any::<i32>(), 0u32..5), 0..4),
        counts in prop::collection::vec(prop::num::f64::ANY, 0..8),
        value in prop::num::f64::ANY,
    ) {
        let build = |(schema, threshold, zero): (i32, f64, f64)| FloatHistogram {
            schema: if schema % 2 == 0 { schema } else { schema % 9 },
            zero_threshold: threshold,
            zero_count: zero,
            count: value,
            positive_spans: side.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            positive_buckets: counts.clone(),
            negative_spans: side.iter().rev().map(|&(offset, length)| Span { offset, length }).collect(),
            negative_buckets: counts.clone(),
            custom_values: (schema % 3 == 0).then(|| counts.as_slice().into()),
            ..FloatHistogram::default()
        };
        let (a, b) = (build(fields[0]), build(fields[1]));
        let _ = (a.validate(), a.detect_reset(&b), a.quantile(0.3), a.quantile(0.7), a.fraction(-1.0, value));
        let _ = (a.trimmed(value, Keep::Above), a.variance(), a.to_string(), a == b, a.clone().compacted());
        if let Ok(sum) = a.plus(&b) {
            let _ = sum.histogram.minus(&a).map(|rest| rest.histogram.reduced_to(-4));
        }
    }
}
