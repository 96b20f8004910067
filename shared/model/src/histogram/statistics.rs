//! What a native histogram tells about its observations: quantiles, fractions, mean, variance.

use super::{Bucket, FloatHistogram};
use crate::sum::Sum;

/// What a result has to say about observations of NaN, which are counted but lie in no bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NanObservations {
    /// There are none.
    None,
    /// The quantile lies above all buckets: the result is NaN.
    ResultIsNan,
    /// The quantile is skewed upwards.
    SkewsHigher,
    /// They are part of no fraction.
    Excluded,
}

impl FloatHistogram {
    /// Returns the q-quantile: -Inf below 0, +Inf above 1, NaN for NaN or if nothing was observed. Within a bucket it is
    /// interpolated: geometrically in exponential buckets, linearly in custom ones and in the zero bucket.
    pub fn quantile(&self, q: f64) -> (f64, NanObservations) {
        if q < 0.0 {
            return (f64::NEG_INFINITY, NanObservations::None);
        }
        if q > 1.0 {
            return (f64::INFINITY, NanObservations::None);
        }
        if self.count == 0.0 || q.is_nan() {
            return (f64::NAN, NanObservations::None);
        }
        let has_nan = self.sum.is_nan();
        // From above it is exact near the top; but observations of NaN are missing in the buckets, so their number is
        // known only from below.
        let from_below = has_nan || q < 0.5;
        let rank = if from_below { q * self.count } else { (1.0 - q) * self.count };
        let found = if from_below { reach(self.buckets(), rank) } else { reach(self.buckets().rev(), rank) };
        let Some((bucket, reached)) = found else { return (f64::NAN, self.nan_note(NanObservations::ResultIsNan)) };
        let note = self.nan_note(NanObservations::SkewsHigher);
        let (lower, upper) = match self.finite_bounds(&bucket) {
            Ok(bounds) => bounds,
            Err(bound) => return (bound, note),
        };
        let reached = if reached > self.count { self.count } else { reached };
        if reached < rank {
            return match has_nan {
                true => (f64::NAN, NanObservations::ResultIsNan),
                false if from_below => (upper, note),
                false => (lower, note),
            };
        }
        let within = if from_below { rank - (reached - bucket.count) } else { reached - rank };
        let bucket = Bucket { lower, upper, ..bucket };
        (self.value_at(&bucket, within / bucket.count), note)
    }

    /// Returns the fraction of observations between `lower` and `upper`: 0 if that is no range, NaN for NaN or if nothing was
    /// observed. Interpolates as [`FloatHistogram::quantile`] does.
    pub fn fraction(&self, lower: f64, upper: f64) -> (f64, NanObservations) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, NanObservations::None);
        }
        if lower >= upper {
            return (0.0, NanObservations::None);
        }
        let note = self.nan_note(NanObservations::Excluded);
        (((self.rank_of(upper)) - self.rank_of(lower)) / self.count, note)
    }

    /// Returns how many observations lie below `value`.
    fn rank_of(&self, value: f64) -> f64 {
        let mut rank = 0.0;
        let mut below = None;
        for bucket in self.buckets() {
            let (lower, upper) = self.sided_bounds(&bucket);
            if lower >= value {
                below = Some(rank);
                break;
            }
            if upper > value {
                below = Some(if lower == f64::NEG_INFINITY {
                    // There is no interpolating from minus infinity: all of the bucket counts as below.
                    rank + bucket.count
                } else {
                    rank + bucket.count * self.share_below(&Bucket { lower, upper, ..bucket }, value)
                });
                break;
            }
            rank += bucket.count;
        }
        let all = if self.sum.is_nan() { rank } else { self.count };
        below.filter(|below| below.partial_cmp(&self.count).is_some_and(|order| order.is_le())).unwrap_or(all)
    }

    /// Returns the mean of the observations.
    pub fn average(&self) -> f64 {
        self.sum / self.count
    }

    /// Returns the estimated variance: each bucket's observations stand at its geometric mean, at its middle if it is a custom
    /// one, at 0 if it is the zero bucket.
    pub fn variance(&self) -> f64 {
        let mean = self.average();
        let mut variance = Sum::default();
        for bucket in self.buckets().filter(|bucket| bucket.count != 0.0) {
            let value = if self.uses_custom_buckets() {
                f64::midpoint(bucket.upper, bucket.lower)
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = value - mean;
            variance.add(bucket.count * delta * delta);
        }
        variance.value() / self.count
    }

    /// Returns the estimated standard deviation.
    pub fn standard_deviation(&self) -> f64 {
        self.variance().sqrt()
    }

    fn nan_note(&self, note: NanObservations) -> NanObservations {
        if self.sum.is_nan() { note } else { NanObservations::None }
    }

    /// The bounds between which to interpolate: the zero bucket ends at 0 if nothing lies on one side, the first custom bucket
    /// begins there.
    fn sided_bounds(&self, bucket: &Bucket) -> (f64, f64) {
        let (mut lower, mut upper) = (bucket.lower, bucket.upper);
        if self.uses_custom_buckets() {
            if lower == f64::NEG_INFINITY && upper > 0.0 {
                lower = 0.0;
            }
        } else if lower < 0.0 && upper > 0.0 {
            if self.negative_buckets.is_empty() && !self.positive_buckets.is_empty() {
                lower = 0.0;
            } else if self.positive_buckets.is_empty() && !self.negative_buckets.is_empty() {
                upper = 0.0;
            }
        }
        (lower, upper)
    }

    /// As [`FloatHistogram::sided_bounds`]; if one is infinite, the other stands for the whole custom bucket.
    fn finite_bounds(&self, bucket: &Bucket) -> Result<(f64, f64), f64> {
        let (lower, upper) = self.sided_bounds(bucket);
        if self.uses_custom_buckets() {
            if lower == f64::NEG_INFINITY {
                return Err(upper);
            }
            if upper == f64::INFINITY {
                return Err(lower);
            }
        }
        Ok((lower, upper))
    }

    fn interpolates_linearly(&self, bucket: &Bucket) -> bool {
        self.uses_custom_buckets() || bucket.lower <= 0.0 && bucket.upper >= 0.0
    }

    /// The value below which `share` of a bucket's observations lie.
    fn value_at(&self, bucket: &Bucket, share: f64) -> f64 {
        if self.interpolates_linearly(bucket) {
            return bucket.lower + (bucket.upper - bucket.lower) * share;
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * share).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - share)).exp2()
        }
    }

    /// The share of a bucket's observations that lie below `value`: the inverse of [`FloatHistogram::value_at`].
    pub(super) fn share_below(&self, bucket: &Bucket, value: f64) -> f64 {
        if self.interpolates_linearly(bucket) {
            return (value - bucket.lower) / (bucket.upper - bucket.lower);
        }
        let (lower, upper, value_log) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), value.abs().log2());
        if value > 0.0 { (value_log - lower) / (upper - lower) } else { 1.0 - (value_log - upper) / (lower - upper) }
    }
}

/// Walks until `rank` observations are passed; returns the bucket where that is, and the number passed with it. If they
/// never are, the last bucket that was seen; `None` if there is no bucket.
fn reach(buckets: impl Iterator<Item = Bucket>, rank: f64) -> Option<(Bucket, f64)> {
    let (mut last, mut passed) = (None, 0.0);
    for bucket in buckets.filter(|bucket| bucket.count != 0.0) {
        passed += bucket.count;
        last = Some(bucket);
        if passed >= rank {
            break;
        }
    }
    last.map(|bucket| (bucket, passed))
}
