//! The operators `</` and `>/`: what remains of a histogram on one side of a value.

use super::sparse::to_spans;
use super::{Bucket, FloatHistogram};

/// Which side is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// `</`: what lies at or below the value.
    Below,
    /// `>/`: what lies at or above it.
    Above,
}

/// What remains of one bucket: how many observations, and where they stand for the sum.
struct Rest {
    count: f64,
    middle: f64,
}

impl FloatHistogram {
    /// Keeps what lies on one side of `value`. A bucket that is cut is interpolated as for quantiles. Count and sum are worked
    /// out anew from the buckets' middles if something was cut off, else they stay as they are.
    #[must_use]
    pub fn trimmed(&self, value: f64, keep: Keep) -> Self {
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut take = |bucket: Bucket, rest: Rest| {
            count += rest.count;
            sum += rest.middle * rest.count;
            changed |= rest.count != bucket.count;
            (bucket.index, rest.count)
        };
        let populated = |bucket: &Bucket| bucket.count != 0.0;
        let positive: Vec<_> =
            self.positive().filter(populated).map(|bucket| take(bucket, self.rest(&bucket, value, keep))).collect();
        let negative: Vec<_> =
            self.negative().filter(populated).map(|bucket| take(bucket, self.rest(&bucket, value, keep))).collect();
        let mut zero_count = self.zero_count;
        if zero_count > 0.0 {
            let zero = self.zero_bucket();
            (_, zero_count) = take(zero, rest_of_zero(zero, value, keep, !negative.is_empty(), !positive.is_empty()));
        }
        if !changed {
            return self.clone();
        }
        let compacted = |buckets: Vec<(i32, f64)>| to_spans(buckets.into_iter().filter(|(_, count)| *count != 0.0));
        let (positive_spans, positive_buckets) = compacted(positive);
        let (negative_spans, negative_buckets) = compacted(negative);
        Self {
            zero_count,
            count,
            sum,
            positive_spans,
            positive_buckets,
            negative_spans,
            negative_buckets,
            custom_values: self.custom_values.clone(),
            ..*self
        }
    }

    fn rest(&self, bucket: &Bucket, value: f64, keep: Keep) -> Rest {
        let (inside, outside) = match keep {
            Keep::Below => (bucket.upper <= value, bucket.lower >= value),
            Keep::Above => (bucket.lower >= value, bucket.upper <= value),
        };
        if inside {
            return Rest { count: bucket.count, middle: self.middle(bucket.lower, bucket.upper) };
        }
        if outside || value.is_nan() {
            return Rest { count: 0.0, middle: 0.0 };
        }
        if bucket.lower.is_infinite() || bucket.upper.is_infinite() {
            return rest_of_infinite(bucket, value, keep);
        }
        let below = bucket.count * self.share_below(bucket, value);
        match keep {
            Keep::Below => Rest { count: below, middle: self.middle(bucket.lower, value) },
            Keep::Above => Rest { count: bucket.count - below, middle: self.middle(value, bucket.upper) },
        }
    }

    /// Where the observations between two bounds stand on average: as the variance has it.
    fn middle(&self, lower: f64, upper: f64) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.uses_custom_buckets() => f64::midpoint(lower, upper),
            (false, false) => (lower * upper).abs().sqrt().copysign(if lower < 0.0 { -1.0 } else { 1.0 }),
        }
    }
}

/// The zero bucket ends at 0 if there is nothing on one side of it.
fn rest_of_zero(zero: Bucket, value: f64, keep: Keep, has_negative: bool, has_positive: bool) -> Rest {
    let lower = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let upper = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let (from, to) = match keep {
        Keep::Below => (lower, if value < upper { value } else { upper }),
        Keep::Above => (if value > lower { value } else { lower }, upper),
    };
    if to <= from && !(lower == upper && from == to) {
        return Rest { count: 0.0, middle: 0.0 };
    }
    let share = if (from, to) == (lower, upper) { 1.0 } else { (to - from) / (upper - lower) };
    Rest { count: zero.count * share, middle: f64::midpoint(from, to) }
}

/// A bucket that reaches to infinity and is cut. The first custom bucket is taken to begin at 0 if it ends above that; of any
/// other it is not known where its observations lie, so that it is kept whole or not at all.
fn rest_of_infinite(bucket: &Bucket, value: f64, keep: Keep) -> Rest {
    let all = |middle| Rest { count: bucket.count, middle };
    let none = Rest { count: 0.0, middle: 0.0 };
    if bucket.lower == f64::NEG_INFINITY {
        let from_zero = bucket.upper > 0.0 && bucket.upper.is_finite();
        return match keep {
            Keep::Below if from_zero && value > 0.0 => {
                Rest { count: bucket.count * value / bucket.upper, middle: value / 2.0 }
            }
            Keep::Below if bucket.upper <= 0.0 => all(value),
            Keep::Below => none,
            Keep::Above if from_zero && value >= 0.0 => {
                Rest { count: bucket.count * (1.0 - value / bucket.upper), middle: f64::midpoint(value, bucket.upper) }
            }
            Keep::Above => none,
        };
    }
    match keep {
        Keep::Above if value >= bucket.lower => all(value),
        _ => none,
    }
}
