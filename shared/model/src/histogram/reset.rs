//! Whether a counter was reset between two histograms.

use super::accumulate::PlainSum;
use super::bounds::upper_bound;
use super::custom;
use super::sparse::Sparse;
use super::{CounterResetHint, FloatHistogram};

impl FloatHistogram {
    /// Tells whether the histogram shows that its counters were reset after `previous`: its hint says so, or something
    /// that can only grow became less. A change that cannot be compared counts as a reset.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::Reset => return true,
            CounterResetHint::NotReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count || self.uses_custom_buckets() != previous.uses_custom_buckets() {
            return true;
        }
        if self.uses_custom_buckets() { self.custom_reset(previous) } else { self.exponential_reset(previous) }
    }

    fn exponential_reset(&self, previous: &Self) -> bool {
        // Neither of these ever happens without a restart: resolution only falls, the zero bucket only grows.
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (previous_zero, threshold) = previous.zero_count_within(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < previous_zero {
            return true;
        }
        let mut before = PlainSum::new(previous);
        before.drop_within(threshold);
        before.reduce_to(self.schema);
        let outside = |bucket: &(i32, f64)| upper_bound(bucket.0, self.schema, &[]) > threshold;
        fell(self.positive_indexed().filter(outside), before.positive())
            || fell(self.negative_indexed().filter(outside), before.negative())
    }

    fn custom_reset(&self, previous: &Self) -> bool {
        let (own, other) = (self.custom_bounds(), previous.custom_bounds());
        if custom::same_bounds(own, other) {
            return fell(self.positive_indexed(), previous.positive_indexed());
        }
        let shared = custom::shared_bounds(own, other);
        let on_shared = |histogram: &Self, bounds: &[f64]| {
            Sparse::<f64>::collect(
                histogram.positive_indexed().map(|(index, count)| (custom::index_in(&shared, index, bounds), count)),
            )
        };
        let (now, before) = (on_shared(self, own), on_shared(previous, other));
        fell(now.iter(), before.iter())
    }
}

/// Tells whether a bucket of `before` has less in `now`; what `now` lacks must have been empty.
fn fell(now: impl Iterator<Item = (i32, f64)>, before: impl Iterator<Item = (i32, f64)>) -> bool {
    let mut now = now.peekable();
    for (index, count) in before {
        while now.next_if(|(have, _)| *have < index).is_some() {}
        let less = match now.peek() {
            Some((have, now_count)) if *have == index => *now_count < count,
            _ => count != 0.0,
        };
        if less {
            return true;
        }
    }
    false
}
