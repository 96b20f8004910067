//! Walking over buckets: with their bounds, from below, from above, of one sign or all.

use super::bounds::upper_bound;
use super::{FloatHistogram, Span};
use std::iter::FusedIterator;

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Index in its schema; 0 for the zero bucket.
    pub index: i32,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether an observation at the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether an observation at the upper bound belongs to the bucket.
    pub upper_inclusive: bool,
    /// Observations in the bucket.
    pub count: f64,
}

/// Index and count of each bucket of one sign, by rising index; also backwards. Buckets that the spans promise and the list
/// of counts lacks are not there.
#[derive(Debug, Clone)]
pub struct Indexed<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    /// Index of the next bucket from the front, and how many of the first span's buckets were taken.
    front: i32,
    front_taken: u32,
    /// Index after the next bucket from the back, and how many of the last span's buckets were taken.
    back: i32,
    back_taken: u32,
}

impl<'a> Indexed<'a> {
    pub(super) fn new(spans: &'a [Span], counts: &'a [f64]) -> Self {
        let end = |spans: &[Span]| {
            spans.iter().fold(0i32, |end, span| end.wrapping_add(span.offset).wrapping_add_unsigned(span.length))
        };
        let back = end(spans);
        let front = spans.first().map_or(0, |span| span.offset);
        let promised = spans.iter().map(|span| u64::from(span.length)).sum::<u64>();
        let counts = &counts[..counts.len().min(usize::try_from(promised).unwrap_or(usize::MAX))];
        let mut out = Self { spans, counts, front, front_taken: 0, back, back_taken: 0 };
        out.drop_back(promised - counts.len() as u64);
        out
    }

    /// Takes `missing` buckets, of a whole span at once, off the end of the spans.
    fn drop_back(&mut self, mut missing: u64) {
        while let Some((last, rest)) = self.spans.split_last().filter(|_| missing > 0) {
            let gone = u32::try_from(missing).unwrap_or(u32::MAX).min(last.length);
            missing -= u64::from(gone);
            self.back = self.back.wrapping_sub_unsigned(gone);
            if gone < last.length {
                self.back_taken = gone;
                return;
            }
            self.back = self.back.wrapping_sub(last.offset);
            self.spans = rest;
        }
    }

    /// Takes one bucket off the end of the spans.
    fn step_back(&mut self) -> Option<i32> {
        loop {
            let (last, rest) = self.spans.split_last()?;
            let taken_in_front = if rest.is_empty() { self.front_taken } else { 0 };
            if self.back_taken + taken_in_front < last.length {
                self.back_taken += 1;
                self.back = self.back.wrapping_sub(1);
                return Some(self.back);
            }
            self.back = self.back.wrapping_sub(last.offset).wrapping_sub_unsigned(last.length - self.back_taken);
            self.back_taken = 0;
            self.spans = rest;
        }
    }
}

impl Iterator for Indexed<'_> {
    type Item = (i32, f64);

    fn next(&mut self) -> Option<Self::Item> {
        let (&count, rest) = self.counts.split_first()?;
        loop {
            let (first, later) = self.spans.split_first()?;
            let taken_in_back = if later.is_empty() { self.back_taken } else { 0 };
            if self.front_taken + taken_in_back < first.length {
                self.counts = rest;
                self.front_taken += 1;
                let index = self.front;
                self.front = self.front.wrapping_add(1);
                return Some((index, count));
            }
            self.spans = later;
            self.front_taken = 0;
            self.front = self.front.wrapping_add(later.first().map_or(0, |span| span.offset));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.counts.len()))
    }
}

impl DoubleEndedIterator for Indexed<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (&count, rest) = self.counts.split_last()?;
        let index = self.step_back()?;
        self.counts = rest;
        Some((index, count))
    }
}

impl FusedIterator for Indexed<'_> {}

impl FloatHistogram {
    /// Walks over index and count of the positive buckets, by rising index.
    pub fn positive_indexed(&self) -> Indexed<'_> {
        Indexed::new(&self.positive_spans, &self.positive_buckets)
    }

    /// Walks over index and count of the negative buckets, by rising index: away from zero.
    pub fn negative_indexed(&self) -> Indexed<'_> {
        Indexed::new(&self.negative_spans, &self.negative_buckets)
    }

    /// Walks over the positive buckets from below; all buckets of a histogram with custom bounds.
    pub fn positive(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
        self.positive_indexed().map(|(index, count)| self.positive_bucket(index, count))
    }

    /// Walks over the negative buckets away from zero.
    pub fn negative(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
        self.negative_indexed().map(|(index, count)| self.negative_bucket(index, count))
    }

    /// Returns the zero bucket, whether or not something is in it.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            index: 0,
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// Walks over all buckets from below; backwards with `rev()`. The zero bucket is there if its count is positive; buckets
    /// that reach into it are cut at its threshold.
    pub fn buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + Clone + '_ {
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        let cut = |bucket| self.cut_at_threshold(bucket);
        self.negative().rev().map(cut).chain(zero).chain(self.positive().map(cut))
    }

    fn cut_at_threshold(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }

    fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let bound = |index| upper_bound(index, self.schema, self.custom_bounds());
        let (lower, upper) = (bound(index.saturating_sub(1)), bound(index));
        let lower_inclusive = if self.uses_custom_buckets() { index == 0 } else { lower < 0.0 };
        let upper_inclusive = self.uses_custom_buckets() || upper > 0.0;
        Bucket { index, lower, upper, lower_inclusive, upper_inclusive, count }
    }

    fn negative_bucket(&self, index: i32, count: f64) -> Bucket {
        let mirrored = self.positive_bucket(index, count);
        Bucket {
            lower: -mirrored.upper,
            upper: -mirrored.lower,
            lower_inclusive: mirrored.upper_inclusive,
            upper_inclusive: mirrored.lower_inclusive,
            ..mirrored
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..FloatHistogram::default()
        }
    }

    #[test]
    fn all_buckets_come_from_below() {
        let mut histogram = histogram(0, &[1.0, 2.0]);
        histogram.negative_spans = vec![Span { offset: 0, length: 2 }];
        histogram.negative_buckets = vec![3.0, 4.0];
        histogram.zero_threshold = 0.75;
        histogram.zero_count = 5.0;
        let seen: Vec<_> = histogram.buckets().map(|b| (b.lower, b.upper, b.count)).collect();
        let expected = [(-2.0, -1.0, 4.0), (-1.0, -0.75, 3.0), (-0.75, 0.75, 5.0), (0.75, 1.0, 1.0), (1.0, 2.0, 2.0)];
        assert_eq!(seen, expected);
        let mut backwards: Vec<_> = histogram.buckets().rev().map(|b| (b.lower, b.upper, b.count)).collect();
        backwards.reverse();
        assert_eq!(backwards, expected);
    }

    #[test]
    fn bounds_belong_to_the_side_away_from_zero() {
        let mut histogram = histogram(1, &[1.0]);
        histogram.negative_spans = vec![Span { offset: 1, length: 1 }];
        histogram.negative_buckets = vec![1.0];
        let flags: Vec<_> = histogram.buckets().map(|b| (b.lower_inclusive, b.upper_inclusive)).collect();
        assert_eq!(flags, [(true, false), (false, true)]);
    }

    #[test]
    fn counts_that_the_spans_do_not_have_are_left_out() {
        let mut short = histogram(5, &[1.0, 2.0]);
        short.positive_spans[0].length = 1;
        assert_eq!(short.positive_indexed().collect::<Vec<_>>(), [(5, 1.0)]);
        short.positive_spans[0].length = 9;
        assert_eq!(short.positive_indexed().collect::<Vec<_>>(), [(5, 1.0), (6, 2.0)]);
        assert_eq!(short.positive_indexed().rev().collect::<Vec<_>>(), [(6, 2.0), (5, 1.0)]);
        short.positive_spans.push(Span { offset: 3, length: u32::MAX });
        assert_eq!(short.positive_indexed().rev().collect::<Vec<_>>(), [(6, 2.0), (5, 1.0)]);
        short.positive_spans = vec![Span { offset: 5, length: 1 }];
        assert_eq!(short.positive_indexed().rev().collect::<Vec<_>>(), [(5, 1.0)]);
    }

    proptest! {
        #[test]
        fn both_directions_see_the_same_buckets(
            spans in prop::collection::vec((-5i32..5, 0u32..4), 0..8),
            takes in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let spans: Vec<Span> = spans
                .into_iter()
                .enumerate()
                .map(|(i, (offset, length))| Span { offset: if i == 0 { offset } else { offset.abs() }, length })
                .collect();
            let total: u32 = spans.iter().map(|span| span.length).sum();
            let counts: Vec<f64> = (0..total).map(f64::from).collect();
            let mut expected = Vec::new();
            let mut at = 0;
            for span in &spans {
                at += span.offset;
                for _ in 0..span.length {
                    expected.push((at, expected.len() as f64));
                    at += 1;
                }
            }
            prop_assert_eq!(&Indexed::new(&spans, &counts).collect::<Vec<_>>(), &expected);
            let mut both = Indexed::new(&spans, &counts);
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for from_front in takes.into_iter().chain(std::iter::repeat(true)) {
                let next = if from_front { both.next() } else { both.next_back() };
                match next {
                    Some(bucket) if from_front => front.push(bucket),
                    Some(bucket) => back.push(bucket),
                    None => break,
                }
            }
            front.extend(back.into_iter().rev());
            prop_assert_eq!(front, expected);
        }
    }
}
