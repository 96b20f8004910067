//! Sums that do not lose the low digits: Kahan's algorithm with Neumaier's improvement, exactly as Prometheus does it.

/// A sum and the low digits it has lost so far.
///
/// Plain additions in a fixed order: the compiler neither reorders nor fuses them, so that the result has the same bits as
/// Prometheus' on the platforms without fused multiply-add.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sum {
    /// What was added up.
    pub sum: f64,
    /// What the additions lost.
    pub compensation: f64,
}

impl Sum {
    /// Starts at `value`.
    pub const fn new(value: f64) -> Self {
        Self { sum: value, compensation: 0.0 }
    }

    /// Adds `value`.
    #[inline]
    pub fn add(&mut self, value: f64) {
        (self.sum, self.compensation) = kahan_add(value, self.sum, self.compensation);
    }

    /// Returns the sum with what was lost.
    #[inline]
    pub fn value(self) -> f64 {
        self.sum + self.compensation
    }
}

/// Adds `value` to `sum`, with the `compensation` for the digits lost so far; returns both anew. A sum that has become
/// infinite has lost nothing.
#[inline]
pub fn kahan_add(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let total = sum + value;
    let lost = if total.is_infinite() {
        return (total, 0.0);
    } else if sum.abs() >= value.abs() {
        (sum - total) + value
    } else {
        (value - total) + sum
    };
    (total, compensation + lost)
}

/// A mean that is a compensated sum divided at the end, until the sum overflows; from there on it is incremental.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    count: f64,
    /// The sum, or the mean once `incremental`.
    value: f64,
    compensation: f64,
    incremental: bool,
}

impl Mean {
    /// Starts with the first value.
    pub const fn new(first: f64) -> Self {
        Self { count: 1.0, value: first, compensation: 0.0, incremental: false }
    }

    /// Adds `value`.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let (sum, compensation) = kahan_add(value, self.value, self.compensation);
            if !sum.is_infinite() {
                (self.value, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.value /= self.count - 1.0;
            self.compensation /= self.count - 1.0;
        }
        let q = (self.count - 1.0) / self.count;
        (self.value, self.compensation) = kahan_add(value / self.count, q * self.value, q * self.compensation);
    }

    /// Returns the mean.
    pub fn value(self) -> f64 {
        if self.incremental {
            self.value + self.compensation
        } else {
            self.value / self.count + self.compensation / self.count
        }
    }
}

/// The least float with all its digits.
const MIN_NORMAL: f64 = f64::MIN_POSITIVE;

/// Tells whether two values differ by less than `epsilon`, relative to the sum of their magnitudes; near zero the smallest
/// normal float takes the place of that sum. NaN equals NaN, but the stale marker equals only itself.
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    let (a_stale, b_stale) = (crate::is_stale_nan(a), crate::is_stale_nan(b));
    if a_stale || b_stale {
        return a_stale && b_stale;
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let magnitude = a.abs() + b.abs();
    let difference = (a - b).abs();
    if a == 0.0 || b == 0.0 || magnitude < MIN_NORMAL {
        return difference < epsilon * MIN_NORMAL;
    }
    difference / magnitude.min(f64::MAX) < epsilon
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_lost_on_the_way_come_back() {
        let mut sum = Sum::default();
        for value in [1.0, 1e100, 1.0, -1e100] {
            sum.add(value);
        }
        assert_eq!(sum.value(), 2.0);
    }

    #[test]
    fn an_infinite_sum_stays_infinite() {
        let mut sum = Sum::new(f64::MAX);
        sum.add(f64::MAX);
        sum.add(1.0);
        assert_eq!(sum.value(), f64::INFINITY);
        sum.add(f64::NEG_INFINITY);
        assert!(sum.value().is_nan());
    }

    #[test]
    fn nearly_equal_is_relative() {
        assert!(almost_equal(1e300, 1e300 * (1.0 + 1e-13), 1e-12));
        assert!(!almost_equal(1.0, 1.0 + 1e-11, 1e-12));
        assert!(!almost_equal(0.0, 1e-300, 1e-12));
        assert!(almost_equal(f64::NAN, -f64::NAN, 1e-12));
        assert!(!almost_equal(f64::NAN, f64::from_bits(crate::STALE_NAN_BITS), 1e-12));
        assert!(!almost_equal(f64::INFINITY, f64::NEG_INFINITY, 1e-12));
        assert!(!almost_equal(f64::INFINITY, 1.0, 1e-12));
    }

    proptest! {
        #[test]
        fn a_sum_of_integers_in_any_scale_is_exact(values in prop::collection::vec(-1_000_000i64..1_000_000, 0..200)) {
            let mut sum = Sum::default();
            values.iter().for_each(|value| sum.add(*value as f64 * 2f64.powi(-20)));
            sum.add(1e16);
            sum.add(-1e16);
            prop_assert_eq!(sum.value(), values.iter().sum::<i64>() as f64 * 2f64.powi(-20));
        }
    }
}
