//! Sums and means of histograms.
//!
//! An [`Accumulator`] holds its buckets as two sorted columns and takes histograms one after the other: schemas, zero buckets
//! and custom bounds are brought together as they come. With [`Sum`] as its count it carries, bucket by bucket, what the
//! additions have lost.

use super::bounds::upper_bound;
use super::custom;
use super::error::HistogramError;
use super::sparse::{Count, Sparse};
use super::{CounterResetHint, FloatHistogram};
use crate::sum::Sum;
use std::sync::Arc;

/// A histogram that others are added to.
#[derive(Debug, Clone)]
pub struct Accumulator<C> {
    hint: CounterResetHint,
    schema: i32,
    zero_threshold: f64,
    zero: C,
    count: C,
    sum: C,
    positive: Sparse<C>,
    negative: Sparse<C>,
    custom_values: Option<Arc<[f64]>>,
    seen: Seen,
}

/// What was met on the way.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    reset: bool,
    not_reset: bool,
    bounds_reconciled: bool,
}

/// A sum without compensation: what binary operators and rates do.
pub type PlainSum = Accumulator<f64>;

/// A sum with compensation: what aggregations do.
pub type HistogramSum = Accumulator<Sum>;

/// The outcome of adding two histograms, or taking one from the other.
#[derive(Debug, Clone)]
pub struct Combined {
    /// The result, compacted.
    pub histogram: FloatHistogram,
    /// One side said that there was a counter reset, the other that there was none.
    pub conflicting_resets: bool,
    /// The custom bounds differed; the result has only those that both have.
    pub bounds_reconciled: bool,
}

/// How many buckets of two indices are one in the coarser schema: the index there.
fn coarser(index: i32, steps: i32) -> i32 {
    (index.wrapping_sub(1) >> steps.clamp(0, 31)).wrapping_add(1)
}

impl<C: Count> Accumulator<C> {
    /// Starts with `first`.
    pub fn new(first: &FloatHistogram) -> Self {
        let mut seen = Seen::default();
        seen.note(first.counter_reset_hint);
        Self {
            hint: first.counter_reset_hint,
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            zero: C::of(first.zero_count),
            count: C::of(first.count),
            sum: C::of(first.sum),
            positive: Sparse::collect(first.positive_indexed()),
            negative: Sparse::collect(first.negative_indexed()),
            custom_values: first.custom_values.clone(),
            seen,
        }
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// [`HistogramError::MixedSchemas`] if only one of the two has custom buckets; nothing is added then.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<(), HistogramError> {
        self.combine(other, false)
    }

    /// Takes `other` away. What is left is a gauge.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<(), HistogramError> {
        self.combine(other, true)?;
        self.hint = CounterResetHint::Gauge;
        Ok(())
    }

    /// Tells whether the histograms contradicted each other: some said that there was a counter reset, some that there was
    /// none.
    pub fn conflicting_resets(&self) -> bool {
        self.seen.reset && self.seen.not_reset
    }

    /// Tells whether custom bounds differed, so that only those that all have are left.
    pub fn bounds_reconciled(&self) -> bool {
        self.seen.bounds_reconciled
    }

    /// Returns the result, compacted.
    pub fn histogram(&self) -> FloatHistogram {
        let (positive_spans, positive_buckets) = self.positive.to_spans();
        let (negative_spans, negative_buckets) = self.negative.to_spans();
        FloatHistogram {
            counter_reset_hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero.value(),
            count: self.count.value(),
            sum: self.sum.value(),
            positive_spans,
            negative_spans,
            positive_buckets,
            negative_buckets,
            custom_values: self.custom_values.clone(),
        }
    }

    /// Returns the bytes held, for the memory account.
    pub fn size_bytes(&self) -> usize {
        let bucket = size_of::<i32>() + size_of::<C>();
        size_of::<Self>() + bucket * (self.positive.index.capacity() + self.negative.index.capacity())
    }

    fn combine(&mut self, other: &FloatHistogram, negate: bool) -> Result<(), HistogramError> {
        let own_custom = self.schema == super::CUSTOM_BUCKETS_SCHEMA;
        if own_custom != other.uses_custom_buckets() {
            return Err(HistogramError::MixedSchemas);
        }
        self.hint = merge_hints(self.hint, other.counter_reset_hint);
        self.seen.note(other.counter_reset_hint);
        let signed = move |count: f64| if negate { -count } else { count };
        self.count.add(signed(other.count));
        self.sum.add(signed(other.sum));
        if own_custom {
            self.combine_custom(other, signed);
        } else {
            self.combine_exponential(other, signed);
        }
        Ok(())
    }

    fn combine_exponential(&mut self, other: &FloatHistogram, signed: impl Fn(f64) -> f64 + Copy) {
        let other_zero = self.reconcile_zero_buckets(other);
        self.zero.add(signed(other_zero));
        self.reduce_to(other.schema);
        let (threshold, schema, steps) = (self.zero_threshold, other.schema, other.schema.saturating_sub(self.schema));
        // What lies within the zero bucket is in its count already.
        let in_zero = move |bucket: &(i32, f64)| upper_bound(bucket.0, schema, &[]) <= threshold;
        let place = move |(index, count)| (coarser(index, steps), signed(count));
        self.positive.add(other.positive_indexed().skip_while(in_zero).map(place));
        self.negative.add(other.negative_indexed().skip_while(in_zero).map(place));
    }

    fn combine_custom(&mut self, other: &FloatHistogram, signed: impl Fn(f64) -> f64 + Copy) {
        let own = self.custom_values.clone().unwrap_or_default();
        if custom::same_bounds(&own, other.custom_bounds()) {
            return self.positive.add(other.positive_indexed().map(|(index, count)| (index, signed(count))));
        }
        self.seen.bounds_reconciled = true;
        let shared = custom::shared_bounds(&own, other.custom_bounds());
        self.positive.remap(|index| custom::index_in(&shared, index, &own));
        self.positive.add(
            other
                .positive_indexed()
                .map(|(index, count)| (custom::index_in(&shared, index, other.custom_bounds()), signed(count))),
        );
        self.custom_values = Some(shared);
    }

    /// Brings the buckets to `schema` if it is coarser.
    pub(super) fn reduce_to(&mut self, schema: i32) {
        if schema < self.schema {
            let steps = self.schema.saturating_sub(schema);
            self.positive.remap(|index| coarser(index, steps));
            self.negative.remap(|index| coarser(index, steps));
            self.schema = schema;
        }
    }

    /// Makes the own zero bucket as wide as both need; returns what `other` has within it.
    fn reconcile_zero_buckets(&mut self, other: &FloatHistogram) -> f64 {
        let (mut other_zero, mut other_threshold) = (other.zero_count, other.zero_threshold);
        loop {
            if self.zero_threshold > other_threshold {
                (other_zero, other_threshold) = other.zero_count_within(self.zero_threshold);
            } else if other_threshold > self.zero_threshold {
                self.widen_zero_bucket(other_threshold);
            } else {
                return other_zero;
            }
        }
    }

    fn widen_zero_bucket(&mut self, threshold: f64) {
        let (positive, negative) = (self.positive.iter(), self.negative.iter());
        (self.zero, self.zero_threshold) = count_within(self.schema, self.zero, positive, negative, threshold);
        // The threshold is the end of a populated bucket, or cuts an empty one.
        self.drop_within(self.zero_threshold);
    }

    /// Takes away the buckets that reach no further from zero than `threshold`.
    pub(super) fn drop_within(&mut self, threshold: f64) {
        let schema = self.schema;
        for side in [&mut self.positive, &mut self.negative] {
            let outside = side.index.iter().find(|index| upper_bound(**index, schema, &[]) > threshold);
            side.drop_below(outside.copied().unwrap_or(i32::MAX));
        }
    }

    pub(super) fn positive(&self) -> impl Iterator<Item = (i32, C)> + '_ {
        self.positive.iter()
    }

    pub(super) fn negative(&self) -> impl Iterator<Item = (i32, C)> + '_ {
        self.negative.iter()
    }

    fn linear(&mut self, operation: impl Fn(f64) -> f64 + Copy) {
        self.zero = self.zero.linear(operation);
        self.count = self.count.linear(operation);
        self.sum = self.sum.linear(operation);
        self.positive.linear(operation);
        self.negative.linear(operation);
    }

    fn has_overflow(&self) -> bool {
        let infinite = |count: &C| count.value().is_infinite();
        [&self.zero, &self.count, &self.sum].into_iter().any(infinite)
            || self.positive.count.iter().any(infinite)
            || self.negative.count.iter().any(infinite)
    }
}

impl Seen {
    fn note(&mut self, hint: CounterResetHint) {
        self.reset |= hint == CounterResetHint::Reset;
        self.not_reset |= hint == CounterResetHint::NotReset;
    }
}

/// What is known of a reset before the sum of two histograms: a gauge makes all a gauge, a doubt makes all doubtful.
fn merge_hints(a: CounterResetHint, b: CounterResetHint) -> CounterResetHint {
    match (a, b) {
        (a, b) if a == b => a,
        (CounterResetHint::Gauge, _) | (_, CounterResetHint::Gauge) => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

/// Counts what lies within `threshold` of zero. If that cuts a bucket in which something is, the threshold grows to the
/// bucket's far end; returned is the one that holds.
fn count_within<C: Count>(
    schema: i32,
    zero: C,
    positive: impl Iterator<Item = (i32, C)> + Clone,
    negative: impl Iterator<Item = (i32, C)> + Clone,
    mut threshold: f64,
) -> (C, f64) {
    let bound = |index: i32| upper_bound(index, schema, &[]);
    let one_side = |buckets: &mut dyn Iterator<Item = (i32, C)>, total: &mut C, threshold: f64| {
        for (index, count) in buckets {
            if bound(index.saturating_sub(1)) >= threshold {
                break;
            }
            total.absorb(count);
            if bound(index) > threshold {
                return if count.is_zero() { threshold } else { bound(index) };
            }
        }
        threshold
    };
    loop {
        let mut total = zero;
        threshold = one_side(&mut positive.clone(), &mut total, threshold);
        let grown = one_side(&mut negative.clone(), &mut total, threshold);
        // What was counted on the positive side holds only for the threshold it was counted for.
        if grown > threshold {
            threshold = grown;
        } else {
            return (total, threshold);
        }
    }
}

impl FloatHistogram {
    /// Adds two histograms.
    ///
    /// # Errors
    /// [`HistogramError::MixedSchemas`] if only one of the two has custom buckets.
    pub fn plus(&self, other: &Self) -> Result<Combined, HistogramError> {
        self.combined(other, PlainSum::add)
    }

    /// Takes `other` from this histogram; the result is a gauge.
    ///
    /// # Errors
    /// [`HistogramError::MixedSchemas`] if only one of the two has custom buckets.
    pub fn minus(&self, other: &Self) -> Result<Combined, HistogramError> {
        self.combined(other, PlainSum::sub)
    }

    fn combined(
        &self,
        other: &Self,
        operation: impl Fn(&mut PlainSum, &Self) -> Result<(), HistogramError>,
    ) -> Result<Combined, HistogramError> {
        let mut sum = PlainSum::new(self);
        operation(&mut sum, other)?;
        Ok(Combined {
            histogram: sum.histogram(),
            conflicting_resets: sum.conflicting_resets(),
            bounds_reconciled: sum.bounds_reconciled(),
        })
    }

    /// Multiplies all counts and the sum. By a negative factor the histogram becomes a gauge.
    pub fn multiply_by(&mut self, factor: f64) {
        self.linear(|count| count * factor);
        self.gauge_if(factor < 0.0);
    }

    /// Divides all counts and the sum. By a negative divisor the histogram becomes a gauge, by zero it loses its buckets.
    pub fn divide_by(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
        self.linear(|count| count / divisor);
        self.gauge_if(divisor < 0.0);
    }

    fn linear(&mut self, operation: impl Fn(f64) -> f64) {
        let counts = self.positive_buckets.iter_mut().chain(&mut self.negative_buckets);
        for count in counts.chain([&mut self.zero_count, &mut self.count, &mut self.sum]) {
            *count = operation(*count);
        }
    }

    fn gauge_if(&mut self, gauge: bool) {
        if gauge {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
    }

    /// Returns the histogram in a coarser schema, compacted; itself if it is not finer than that, or has custom buckets.
    #[must_use]
    pub fn reduced_to(&self, schema: i32) -> Self {
        if self.uses_custom_buckets() || schema >= self.schema {
            return self.clone();
        }
        let mut reduced = PlainSum::new(self);
        reduced.reduce_to(schema);
        reduced.histogram()
    }

    /// Counts the observations within `threshold` of zero, for a threshold at least as large as the own one; also returns
    /// the threshold that this count holds for: `threshold`, or the far end of the populated bucket it lies in.
    pub(super) fn zero_count_within(&self, threshold: f64) -> (f64, f64) {
        count_within(self.schema, self.zero_count, self.positive_indexed(), self.negative_indexed(), threshold)
    }
}

/// The mean of histograms: the compensated sum by the number; once that would overflow, the mean is carried on step by step.
#[derive(Debug, Clone)]
pub struct HistogramMean {
    /// The sum, or the mean so far.
    state: HistogramSum,
    n: f64,
    stepwise: bool,
    /// No count in the sum is greater than this: while it is far from the greatest float, nothing can overflow.
    ceiling: f64,
}

impl HistogramMean {
    /// Starts with `first`.
    pub fn new(first: &FloatHistogram) -> Self {
        Self { state: HistogramSum::new(first), n: 1.0, stepwise: false, ceiling: largest(first) }
    }

    /// Takes `next` into the mean.
    ///
    /// # Errors
    /// [`HistogramError::MixedSchemas`] if only one of the two has custom buckets.
    pub fn add(&mut self, next: &FloatHistogram) -> Result<(), HistogramError> {
        if !self.stepwise {
            self.ceiling += largest(next);
            if self.ceiling < f64::MAX / 4.0 {
                self.state.add(next)?;
                self.n += 1.0;
                return Ok(());
            }
            let mut tried = self.state.clone();
            tried.add(next)?;
            if !tried.has_overflow() {
                self.state = tried;
                self.n += 1.0;
                return Ok(());
            }
            self.stepwise = true;
            let n = self.n;
            self.state.linear(|count| count / n);
        }
        let mut part = next.clone();
        part.divide_by(self.n + 1.0);
        let weight = self.n / (self.n + 1.0);
        self.state.linear(|count| count * weight);
        self.n += 1.0;
        self.state.add(&part)
    }

    /// As [`Accumulator::conflicting_resets`].
    pub fn conflicting_resets(&self) -> bool {
        self.state.conflicting_resets()
    }

    /// As [`Accumulator::bounds_reconciled`].
    pub fn bounds_reconciled(&self) -> bool {
        self.state.bounds_reconciled()
    }

    /// Returns the bytes held, for the memory account.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() - size_of::<HistogramSum>() + self.state.size_bytes()
    }

    /// Returns the mean, compacted.
    pub fn histogram(&self) -> FloatHistogram {
        if self.stepwise {
            return self.state.histogram();
        }
        let mut mean = self.state.clone();
        mean.linear(|count| count / self.n);
        mean.histogram()
    }
}

/// The greatest magnitude of all counts and the sum; infinite if one is not a number.
fn largest(histogram: &FloatHistogram) -> f64 {
    let counts = histogram.positive_buckets.iter().chain(&histogram.negative_buckets);
    counts.chain([&histogram.zero_count, &histogram.count, &histogram.sum]).fold(0.0, |largest, count| {
        let count = if count.is_nan() { f64::INFINITY } else { count.abs() };
        if count > largest { count } else { largest }
    })
}
