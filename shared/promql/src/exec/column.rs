//! Series over a grid of steps, as columns.

use farview_model::{FloatHistogram, Labels};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// The steps of an evaluation: `start + k * step` for `k` below `count`. Times in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) count: usize,
}

impl Grid {
    pub(crate) fn instant(t: i64) -> Self {
        Self { start: t, step: 1, count: 1 }
    }

    pub(crate) fn at(self, k: usize) -> i64 {
        self.start + self.step * k as i64
    }

    pub(crate) fn end(self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }
}

/// A set of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bits(SmallVec<[u64; 2]>);

impl Bits {
    pub(crate) fn none(len: usize) -> Self {
        Self(smallvec![0; len.div_ceil(64)])
    }

    pub(crate) fn all(len: usize) -> Self {
        let mut words: SmallVec<[u64; 2]> = smallvec![u64::MAX; len.div_ceil(64)];
        if !len.is_multiple_of(64)
            && let Some(last) = words.last_mut()
        {
            *last = (1 << (len % 64)) - 1;
        }
        Self(words)
    }

    #[inline(always)]
    pub(crate) fn get(&self, k: usize) -> bool {
        self.0[k / 64] >> (k % 64) & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, k: usize) {
        self.0[k / 64] |= 1 << (k % 64);
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self, k: usize) {
        self.0[k / 64] &= !(1 << (k % 64));
    }

    /// Keeps only what is in `other` too.
    pub(crate) fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    /// Takes out what is in `other`.
    pub(crate) fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
    }

    /// Tells whether all of the first `len` steps are in the set.
    pub(crate) fn is_full(&self, len: usize) -> bool {
        self.count() == len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    pub(crate) fn first_common(&self, other: &Self) -> Option<usize> {
        let mut words = self.0.iter().zip(&other.0).map(|(a, b)| a & b).enumerate();
        words.find(|(_, common)| *common != 0).map(|(i, common)| i * 64 + common.trailing_zeros() as usize)
    }

    /// Goes over the steps in the set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(i, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                if word == 0 {
                    return None;
                }
                let bit = word.trailing_zeros() as usize;
                word &= word - 1;
                Some(i * 64 + bit)
            })
        })
    }
}

/// A sample at one step.
#[derive(Debug, Clone)]
pub(crate) enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// One series over a grid: at each step a float, a histogram or nothing.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) labels: Labels,
    /// The metric name is to go at the end (delayed name removal).
    pub(crate) drop_name: bool,
    pub(crate) values: Vec<f64>,
    /// Steps with a sample of either kind.
    pub(crate) present: Bits,
    /// Histograms, where there are any; as long as `values`.
    pub(crate) histograms: Option<Vec<Option<Arc<FloatHistogram>>>>,
}

impl Column {
    pub(crate) fn new(labels: Labels, len: usize) -> Self {
        Self { labels, drop_name: false, values: vec![0.0; len], present: Bits::none(len), histograms: None }
    }

    /// A column without gaps.
    pub(crate) fn full(labels: Labels, values: Vec<f64>) -> Self {
        let present = Bits::all(values.len());
        Self { labels, drop_name: false, values, present, histograms: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, k: usize, value: f64) {
        self.values[k] = value;
        self.present.set(k);
    }

    pub(crate) fn set_histogram(&mut self, k: usize, histogram: Arc<FloatHistogram>) {
        let len = self.len();
        self.histograms.get_or_insert_with(|| vec![None; len])[k] = Some(histogram);
        self.present.set(k);
    }

    pub(crate) fn put(&mut self, k: usize, point: Point) {
        match point {
            Point::Float(value) => self.set(k, value),
            Point::Histogram(histogram) => self.set_histogram(k, histogram),
        }
    }

    pub(crate) fn remove(&mut self, k: usize) {
        self.present.clear(k);
        if let Some(histograms) = &mut self.histograms {
            histograms[k] = None;
        }
    }

    #[inline(always)]
    pub(crate) fn histogram(&self, k: usize) -> Option<&Arc<FloatHistogram>> {
        self.histograms.as_ref().and_then(|histograms| histograms[k].as_ref())
    }

    /// Tells whether there is a histogram at any step.
    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.is_some() && self.present.iter().any(|k| self.histogram(k).is_some())
    }

    /// Returns the float at a step, if there is one.
    #[inline(always)]
    pub(crate) fn float(&self, k: usize) -> Option<f64> {
        (self.present.get(k) && self.histogram(k).is_none()).then(|| self.values[k])
    }

    pub(crate) fn point(&self, k: usize) -> Option<Point> {
        if !self.present.get(k) {
            return None;
        }
        Some(match self.histogram(k) {
            Some(histogram) => Point::Histogram(Arc::clone(histogram)),
            None => Point::Float(self.values[k]),
        })
    }

    /// Takes over the samples of `other`, which has the same length and none at the same step.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for k in other.present.iter() {
            if let Some(point) = other.point(k) {
                self.put(k, point);
            }
        }
    }

    /// Takes out the samples that are not at `steps`.
    pub(crate) fn keep(&mut self, steps: &Bits) {
        self.present.keep(steps);
        self.forget_absent_histograms();
    }

    /// Takes out the samples at `steps`.
    pub(crate) fn subtract(&mut self, steps: &Bits) {
        self.present.subtract(steps);
        self.forget_absent_histograms();
    }

    fn forget_absent_histograms(&mut self) {
        let present = &self.present;
        if let Some(histograms) = &mut self.histograms {
            histograms.iter_mut().enumerate().filter(|(k, _)| !present.get(*k)).for_each(|(_, h)| *h = None);
        }
    }

    /// Takes the histograms out; tells whether there was one.
    pub(crate) fn drop_histograms(&mut self) -> bool {
        let Some(histograms) = self.histograms.take() else { return false };
        let mut any = false;
        histograms.iter().enumerate().filter(|(_, h)| h.is_some()).for_each(|(k, _)| {
            any = true;
            self.present.clear(k);
        });
        any
    }

    /// Bytes that a column of `len` steps takes without histograms.
    pub(crate) fn bytes_for(len: usize) -> u64 {
        (len * 8 + len / 8 + size_of::<Self>() + 32) as u64
    }

    /// Bytes held, for the memory account.
    pub(crate) fn size_bytes(&self) -> u64 {
        let histograms = self.histograms.as_ref().map_or(0, |histograms| {
            histograms.len() * 8 + histograms.iter().flatten().map(|h| h.size_bytes()).sum::<usize>()
        });
        Self::bytes_for(self.values.len()) + (self.labels.size_bytes() + histograms) as u64
    }

    /// Samples held, by Prometheus' count: a histogram counts for as many as its size.
    pub(crate) fn sample_count(&self) -> u64 {
        let histograms = self
            .histograms
            .as_ref()
            .map_or(0, |histograms| histograms.iter().flatten().map(|h| h.sample_count() as u64 - 1).sum::<u64>());
        self.present.count() as u64 + histograms
    }
}
