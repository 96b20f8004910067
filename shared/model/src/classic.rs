//! Classic histograms: series whose `le` label is an upper bound and whose value counts all observations up to it.

use crate::sum::almost_equal;

/// One bucket of a classic histogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicBucket {
    /// Upper bound, the parsed `le`.
    pub upper: f64,
    /// Observations up to the bound, those of lower buckets included.
    pub count: f64,
}

/// Counts that fell from one bucket to the next, where they can only rise: scrapes caught the buckets at different moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repair {
    /// Bound of the first bucket that was raised.
    pub min_bucket: f64,
    /// Bound of the last one.
    pub max_bucket: f64,
    /// The greatest step up.
    pub max_diff: f64,
}

/// A quantile, and what had to be done to the buckets for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassicQuantile {
    /// The quantile.
    pub value: f64,
    /// Set if counts fell by more than rounding explains.
    pub repair: Option<Repair>,
}

/// Differences between counts below this, relative, are rounding: corrected without a word.
const ROUNDING: f64 = 1e-12;

/// Returns the q-quantile, interpolated linearly within its bucket: -Inf for q below 0, +Inf above 1; NaN for NaN, without a
/// bucket up to +Inf, with fewer than two buckets or no observation. Sorts and repairs `buckets` in place.
pub fn bucket_quantile(q: f64, buckets: &mut Vec<ClassicBucket>) -> ClassicQuantile {
    let mut out = ClassicQuantile { value: f64::NAN, repair: None };
    if !(0.0..=1.0).contains(&q) {
        out.value = if q < 0.0 { f64::NEG_INFINITY } else { q * f64::INFINITY };
        return out;
    }
    if !sort_and_join(buckets) {
        return out;
    }
    let repair = make_monotonic(buckets);
    let (Some(last), true) = (buckets.last(), buckets.len() >= 2) else { return out };
    if last.count == 0.0 {
        return out;
    }
    out.repair = repair;
    out.value = interpolate(q * last.count, buckets);
    out
}

/// The value at `rank` of at least two sorted buckets.
fn interpolate(mut rank: f64, buckets: &[ClassicBucket]) -> f64 {
    let last = buckets.len() - 1;
    // Not `count < rank`: with counts of NaN no bucket is found, and the last one stands.
    let at = buckets[..last]
        .partition_point(|bucket| !matches!(bucket.count.partial_cmp(&rank), Some(order) if order.is_ge()));
    if at == last {
        return buckets[last - 1].upper;
    }
    let ClassicBucket { upper, mut count } = buckets[at];
    let mut lower = 0.0;
    if at == 0 {
        if upper <= 0.0 {
            return upper;
        }
    } else {
        lower = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    lower + (upper - lower) * (rank / count)
}

/// Returns the fraction of observations between `lower` and `upper`, interpolated linearly: 0 if that is no range; NaN for
/// NaN, without a bucket up to +Inf or without an observation. Sorts `buckets` in place.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<ClassicBucket>) -> f64 {
    if !sort_and_join(buckets) {
        return f64::NAN;
    }
    let Some(total) = buckets.last().map(|bucket| bucket.count) else { return f64::NAN };
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, total) - rank_of(lower, buckets, total)) / total
}

/// How many observations lie below `value`.
fn rank_of(value: f64, buckets: &[ClassicBucket], total: f64) -> f64 {
    let mut rank = 0.0;
    for (i, bucket) in buckets.iter().enumerate() {
        let from = match i.checked_sub(1) {
            Some(before) => buckets[before].upper,
            None if bucket.upper > 0.0 => 0.0,
            None => f64::NEG_INFINITY,
        };
        if from >= value {
            break;
        }
        if bucket.upper > value {
            if from == f64::NEG_INFINITY {
                // There is no interpolating from minus infinity: all of the bucket counts as below.
                rank = bucket.count;
            } else {
                rank += (bucket.count - rank) * (value - from) / (bucket.upper - from);
            }
            break;
        }
        rank = bucket.count;
    }
    if rank > total { total } else { rank }
}

/// Sorts by bound and adds up buckets of one bound. False if there is no bucket up to +Inf.
fn sort_and_join(buckets: &mut Vec<ClassicBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|next, kept| {
        let same = next.upper == kept.upper;
        if same {
            kept.count += next.count;
        }
        same
    });
    buckets.last().is_some_and(|last| last.upper == f64::INFINITY)
}

fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<Repair> {
    let (first, rest) = buckets.split_first_mut()?;
    let mut before = first.count;
    let mut repair: Option<Repair> = None;
    for bucket in rest {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count, ROUNDING) {
            bucket.count = before;
        } else if bucket.count < before {
            let diff = before - bucket.count;
            let repair =
                repair.get_or_insert(Repair { min_bucket: bucket.upper, max_bucket: bucket.upper, max_diff: diff });
            repair.max_bucket = bucket.upper;
            repair.max_diff = if diff > repair.max_diff { diff } else { repair.max_diff };
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    repair
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<ClassicBucket> {
        pairs.iter().map(|&(upper, count)| ClassicBucket { upper, count }).collect()
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn quantiles_are_interpolated_within_their_bucket() {
        let all = [(0.5, 10.0), (INF, 40.0), (1.0, 30.0)];
        for (q, value) in [(0.0, 0.0), (0.125, 0.25), (0.5, 0.75), (0.75, 1.0), (0.9, 1.0), (-1.0, -INF), (2.0, INF)] {
            assert_eq!(bucket_quantile(q, &mut buckets(&all)).value, value, "{q}");
        }
    }

    #[test]
    fn a_first_bucket_below_zero_is_not_interpolated() {
        assert_eq!(bucket_quantile(0.1, &mut buckets(&[(-2.0, 10.0), (INF, 10.0)])).value, -2.0);
    }

    #[test]
    fn without_enough_buckets_there_is_no_quantile() {
        let lacking: [&[(f64, f64)]; 4] = [&[], &[(INF, 5.0)], &[(1.0, 2.0), (2.0, 3.0)], &[(1.0, 0.0), (INF, 0.0)]];
        for pairs in lacking {
            assert!(bucket_quantile(0.5, &mut buckets(pairs)).value.is_nan(), "{pairs:?}");
        }
        assert!(bucket_quantile(f64::NAN, &mut buckets(&[(1.0, 1.0), (INF, 2.0)])).value.is_nan());
    }

    #[test]
    fn falling_counts_are_raised_and_told_but_rounding_is_not_told() {
        let fell = bucket_quantile(0.5, &mut buckets(&[(1.0, 10.0), (2.0, 7.0), (3.0, 9.0), (INF, 20.0)]));
        assert_eq!(fell.repair, Some(Repair { min_bucket: 2.0, max_bucket: 3.0, max_diff: 3.0 }));
        let rounding = bucket_quantile(0.5, &mut buckets(&[(1.0, 10.0), (2.0, 10.0 - 1e-13), (INF, 20.0)]));
        assert_eq!(rounding.repair, None);
    }

    #[test]
    fn equal_bounds_are_added_up() {
        let joined = bucket_quantile(1.0, &mut buckets(&[(1.0, 1.0), (1.0, 1.0), (INF, 2.0)]));
        assert_eq!(joined.value, 1.0);
    }

    #[test]
    fn fractions_lie_between_their_ranks() {
        let all = [(1.0, 10.0), (3.0, 30.0), (INF, 40.0)];
        for (lower, upper, fraction) in
            [(0.0, 1.0, 0.25), (1.0, 2.0, 0.25), (-INF, INF, 1.0), (3.0, INF, 0.25), (2.0, 1.0, 0.0), (-5.0, 0.0, 0.0)]
        {
            assert_eq!(bucket_fraction(lower, upper, &mut buckets(&all)), fraction, "{lower}..{upper}");
        }
    }

    proptest! {
        #[test]
        fn a_quantile_lies_in_its_bucket_whatever_the_counts(
            q in 0.0f64..=1.0,
            counts in prop::collection::vec(prop_oneof![0.0f64..100.0, Just(f64::NAN)], 2..8),
        ) {
            let last = counts.len() - 1;
            let mut all: Vec<ClassicBucket> = counts
                .iter()
                .enumerate()
                .map(|(i, count)| ClassicBucket { upper: if i == last { INF } else { i as f64 }, count: *count })
                .collect();
            let value = bucket_quantile(q, &mut all).value;
            prop_assert!(value.is_nan() || (0.0..last as f64).contains(&value));
        }
    }
}
