//! Series held in memory: what tests and `farview promql test` evaluate against.

use crate::source::{Queryable, SampleSource, Select, SeriesStream, SourceError, SourceSeries};
use farview_model::{FloatHistogram, Labels, Samples, TimeRange};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Series by their labels. Cloning is cheap: series are shared.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    series: BTreeMap<Labels, Arc<Samples>>,
}

impl MemoryStorage {
    /// Drops all series.
    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// Adds samples to a series. Of two samples of a kind at the same time the one added last stays.
    pub fn add(&mut self, labels: Labels, samples: Samples) {
        let slot = self.series.entry(labels).or_default();
        *slot = Arc::new(if slot.is_empty() { samples } else { joined(slot, &samples) });
    }

    /// Returns how many series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Tells whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

/// Samples of both by time, those of `new` in the place of equally old ones.
fn joined(old: &Samples, new: &Samples) -> Samples {
    let mut floats: BTreeMap<i64, (f64, i64)> = BTreeMap::new();
    let mut histograms: BTreeMap<i64, (Arc<FloatHistogram>, i64)> = BTreeMap::new();
    for samples in [old, new] {
        for (i, t) in samples.timestamps.iter().enumerate() {
            let start = samples.start_timestamps.get(i).copied().unwrap_or(0);
            floats.insert(*t, (samples.values[i], start));
        }
        for (i, t) in samples.histogram_timestamps.iter().enumerate() {
            let start = samples.histogram_start_timestamps.get(i).copied().unwrap_or(0);
            histograms.insert(*t, (samples.histograms[i].clone(), start));
        }
    }
    let mut out = Samples::default();
    for (t, (value, start)) in floats {
        out.timestamps.push(t);
        out.values.push(value);
        out.start_timestamps.push(start);
    }
    for (t, (histogram, start)) in histograms {
        out.histogram_timestamps.push(t);
        out.histograms.push(histogram);
        out.histogram_start_timestamps.push(start);
    }
    for starts in [&mut out.start_timestamps, &mut out.histogram_start_timestamps] {
        if starts.iter().all(|start| *start == 0) {
            starts.clear();
        }
    }
    out
}

/// Series in one batch of a stream.
const BATCH: usize = 64;

impl Queryable for MemoryStorage {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        let matches = |labels: &Labels| {
            select.matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")))
        };
        let found = self.series.iter().filter(|(labels, _)| matches(labels));
        let limit = if select.limit == 0 { usize::MAX } else { select.limit };
        // As a real source does, only series with a sample in the range are answered.
        let found = found.filter(|(_, samples)| select.labels_only || samples.overlaps(select.range)).take(limit);
        let series: Vec<(Labels, Arc<Samples>)> =
            found.map(|(labels, samples)| (labels.clone(), samples.clone())).collect();
        Ok(Box::new(Stream(series.into_iter())))
    }
}

trait Overlaps {
    fn overlaps(&self, range: TimeRange) -> bool;
}

impl Overlaps for Samples {
    fn overlaps(&self, range: TimeRange) -> bool {
        [&self.timestamps, &self.histogram_timestamps].into_iter().any(|times| !within(times, range).is_empty())
    }
}

/// Positions of the times that lie in the range; `times` rise.
fn within(times: &[i64], range: TimeRange) -> std::ops::Range<usize> {
    let start = times.partition_point(|t| *t < range.mint);
    let end = times.partition_point(|t| *t <= range.maxt);
    start..end.max(start)
}

struct Stream(std::vec::IntoIter<(Labels, Arc<Samples>)>);

impl SeriesStream for Stream {
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError> {
        let batch: Vec<SourceSeries> = self
            .0
            .by_ref()
            .take(BATCH)
            .map(|(labels, samples)| SourceSeries { labels, samples: Box::new(Held(samples)) })
            .collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

struct Held(Arc<Samples>);

impl SampleSource for Held {
    fn read(&self, range: TimeRange, out: &mut Samples) -> Result<(), SourceError> {
        let from = &*self.0;
        let floats = within(&from.timestamps, range);
        append_starts(&from.start_timestamps, &floats, out.timestamps.len(), &mut out.start_timestamps);
        out.timestamps.extend_from_slice(&from.timestamps[floats.clone()]);
        out.values.extend_from_slice(&from.values[floats]);
        let histograms = within(&from.histogram_timestamps, range);
        let before = out.histogram_timestamps.len();
        append_starts(&from.histogram_start_timestamps, &histograms, before, &mut out.histogram_start_timestamps);
        out.histogram_timestamps.extend_from_slice(&from.histogram_timestamps[histograms.clone()]);
        out.histograms.extend_from_slice(&from.histograms[histograms]);
        Ok(())
    }

    fn size_bytes(&self) -> usize {
        let histogram = size_of::<FloatHistogram>() + 64 * size_of::<f64>();
        self.0.timestamps.len() * 16 + self.0.histograms.len() * histogram
    }
}

/// Appends the start times of some samples to those of `before` others: both sides may have none.
fn append_starts(from: &[i64], picked: &std::ops::Range<usize>, before: usize, out: &mut Vec<i64>) {
    if from.is_empty() && out.is_empty() {
        return;
    }
    out.resize(before, 0);
    match from.get(picked.clone()) {
        Some(starts) if !from.is_empty() => out.extend_from_slice(starts),
        _ => out.resize(before + picked.len(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farview_model::{MatchOp, Matcher};

    fn samples(pairs: &[(i64, f64)]) -> Samples {
        let mut out = Samples::default();
        for (t, value) in pairs {
            out.push(*t, *value);
        }
        out
    }

    fn select(matchers: Vec<Matcher>, range: TimeRange) -> Select {
        Select {
            matchers,
            range,
            step: 0,
            window: 0,
            func: String::new(),
            grouping: Vec::new(),
            by: false,
            labels_only: false,
            limit: 0,
        }
    }

    #[test]
    fn series_come_in_label_order_and_samples_within_the_range() {
        let mut storage = MemoryStorage::default();
        for i in (0..200).rev() {
            storage.add(Labels::from_pairs([("a", format!("{i:03}"))]), samples(&[(1, 1.0), (2, 2.0), (3, 3.0)]));
        }
        storage.add(Labels::from_pairs([("a", "000"), ("b", "x")]), samples(&[(9, 9.0)]));
        let all = Matcher::new(MatchOp::Regex, "a", "0.*").unwrap();
        let mut stream = storage.select(&select(vec![all], TimeRange::new(2, 3))).unwrap();
        let mut labels = Vec::new();
        while let Some(batch) = stream.next().unwrap() {
            for series in batch {
                let mut out = Samples::default();
                series.samples.read(TimeRange::new(2, 2), &mut out).unwrap();
                assert_eq!(out, samples(&[(2, 2.0)]));
                labels.push(series.labels);
            }
        }
        assert_eq!(labels.len(), 100);
        assert!(labels.is_sorted());
    }

    #[test]
    fn later_samples_replace_earlier_ones_and_keep_start_times() {
        let mut storage = MemoryStorage::default();
        storage.add(Labels::empty(), samples(&[(1, 1.0), (3, 3.0)]));
        let mut more = samples(&[(2, 2.0), (3, 4.0)]);
        more.start_timestamps = vec![0, 2];
        storage.add(Labels::empty(), more);
        let held = &storage.series[&Labels::empty()];
        assert_eq!((&held.timestamps[..], &held.values[..]), (&[1, 2, 3][..], &[1.0, 2.0, 4.0][..]));
        assert_eq!(held.start_timestamps, [0, 0, 2]);
    }
}
