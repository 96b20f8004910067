//! Buckets as two columns, index and count: what arithmetic works on. Spans are a form for storage: adding to them in place
//! means to split and join runs; here it is a merge of two sorted lists.

use super::Span;
use crate::sum::Sum;

/// A count of observations: plain, or with the digits that additions have lost. For `f64` and [`Sum`] only.
pub trait Count: Copy + Default + std::fmt::Debug {
    /// Takes a plain count.
    fn of(value: f64) -> Self;
    /// Adds a plain count.
    fn add(&mut self, value: f64);
    /// Adds a count of the same kind.
    fn absorb(&mut self, other: Self);
    /// Returns the plain count.
    fn value(self) -> f64;
    /// Applies a linear operation (a multiplication or division).
    fn linear(self, operation: impl Fn(f64) -> f64) -> Self;
    /// Tells whether nothing was counted.
    fn is_zero(self) -> bool {
        self.value() == 0.0
    }
}

impl Count for f64 {
    fn of(value: f64) -> Self {
        value
    }

    fn add(&mut self, value: f64) {
        *self += value;
    }

    fn absorb(&mut self, other: Self) {
        *self += other;
    }

    fn value(self) -> f64 {
        self
    }

    fn linear(self, operation: impl Fn(f64) -> f64) -> Self {
        operation(self)
    }
}

impl Count for Sum {
    fn of(value: f64) -> Self {
        Self::new(value)
    }

    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }

    fn absorb(&mut self, other: Self) {
        self.compensation += other.compensation;
        Self::add(self, other.sum);
    }

    fn value(self) -> f64 {
        Self::value(self)
    }

    fn linear(self, operation: impl Fn(f64) -> f64) -> Self {
        Self { sum: operation(self.sum), compensation: operation(self.compensation) }
    }
}

/// Buckets of one sign by rising index, each index once.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparse<C> {
    pub(super) index: Vec<i32>,
    pub(super) count: Vec<C>,
}

impl<C: Count> Sparse<C> {
    /// Collects buckets whose index does not fall; those of one index are added.
    pub(super) fn collect(buckets: impl Iterator<Item = (i32, f64)>) -> Self {
        let mut out = Self::default();
        for (index, count) in buckets {
            out.push(index, C::of(count));
        }
        out
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, C)> + Clone + '_ {
        self.index.iter().copied().zip(self.count.iter().copied())
    }

    /// Appends a bucket whose index is at least the last one.
    fn push(&mut self, index: i32, count: C) {
        if self.index.last() == Some(&index) {
            if let Some(last) = self.count.last_mut() {
                last.absorb(count);
            }
        } else {
            self.index.push(index);
            self.count.push(count);
        }
    }

    /// Gives each bucket a new index; `map` must not fall where its argument rises.
    pub(super) fn remap(&mut self, map: impl Fn(i32) -> i32) {
        let old = std::mem::take(self);
        for (index, count) in old.iter() {
            self.push(map(index), count);
        }
    }

    /// Takes away the buckets with an index below `first`.
    pub(super) fn drop_below(&mut self, first: i32) {
        let gone = self.index.partition_point(|index| *index < first);
        self.index.drain(..gone);
        self.count.drain(..gone);
    }

    /// Adds buckets whose index does not fall. Histograms of one metric mostly have the same buckets: then nothing moves.
    pub(super) fn add(&mut self, other: impl Iterator<Item = (i32, f64)> + Clone) {
        let mut at = 0;
        let mut rest = other;
        loop {
            let before = rest.clone();
            let Some((index, count)) = rest.next() else { return };
            while self.index.get(at).is_some_and(|have| *have < index) {
                at += 1;
            }
            if self.index.get(at) != Some(&index) {
                return self.merge(at, before);
            }
            self.count[at].add(count);
        }
    }

    /// Adds buckets of which the first comes before the own bucket at `at`.
    fn merge(&mut self, at: usize, other: impl Iterator<Item = (i32, f64)>) {
        let tail = Self { index: self.index.split_off(at), count: self.count.split_off(at) };
        let mut own = tail.iter().peekable();
        for (index, count) in other {
            while let Some((have, have_count)) = own.next_if(|(have, _)| *have <= index) {
                self.push(have, have_count);
            }
            if self.index.last() == Some(&index) {
                if let Some(last) = self.count.last_mut() {
                    last.add(count);
                }
            } else {
                self.push(index, C::of(count));
            }
        }
        own.for_each(|(index, count)| self.push(index, count));
    }

    /// Applies a linear operation to each count.
    pub(super) fn linear(&mut self, operation: impl Fn(f64) -> f64 + Copy) {
        self.count.iter_mut().for_each(|count| *count = count.linear(operation));
    }

    /// Writes the buckets as spans and counts, empty ones left out.
    pub(super) fn to_spans(&self) -> (Vec<Span>, Vec<f64>) {
        to_spans(self.iter().map(|(index, count)| (index, count.value())).filter(|(_, count)| *count != 0.0))
    }
}

/// Writes buckets of rising index as spans and counts.
pub(super) fn to_spans(buckets: impl Iterator<Item = (i32, f64)>) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts) = (Vec::<Span>::new(), Vec::with_capacity(buckets.size_hint().1.unwrap_or(0)));
    let mut end = 0i32;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if end == index => span.length += 1,
            _ => spans.push(Span { offset: index.wrapping_sub(end), length: 1 }),
        }
        end = index.wrapping_add(1);
        counts.push(count);
    }
    (spans, counts)
}
