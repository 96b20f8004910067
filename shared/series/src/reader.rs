//! From the chunks of a series to its samples: which aggregate, which replica, which time.

use crate::counter::CounterTotal;
use crate::dedup::{DedupFunc, dedup};
use crate::{AggrChunk, ChunkData};
use farview_model::{FloatHistogram, Samples, TimeRange};
use farview_tsdb::{Chunk, ChunkError};
use std::sync::Arc;

/// What stands for a window of downsampled data, by the function that will read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The least value.
    Min,
    /// The greatest.
    Max,
    /// The number of samples.
    Count,
    /// Their sum.
    Sum,
    /// The counter, with resets folded in.
    Counter,
    /// Sum divided by count.
    Average,
}

impl Reading {
    /// Returns the reading for the nearest function above a selector, as Thanos chooses (`pkg/query/querier.go`). Plain `sum`
    /// takes the average on purpose: it adds series, not samples.
    pub fn of(func: &str) -> Self {
        match func {
            "min" => Self::Min,
            "max" => Self::Max,
            "count" => Self::Count,
            "increase" | "rate" | "irate" | "resets" | "xincrease" | "xrate" => Self::Counter,
            _ if func.starts_with("min_") => Self::Min,
            _ if func.starts_with("max_") => Self::Max,
            _ if func.starts_with("count_") => Self::Count,
            _ if func.starts_with("sum_") => Self::Sum,
            _ => Self::Average,
        }
    }

    /// Returns the aggregates that a store must send.
    pub fn aggregates(self) -> &'static [farview_model::Aggregate] {
        use farview_model::Aggregate as A;
        match self {
            Self::Min => &[A::Min],
            Self::Max => &[A::Max],
            Self::Count => &[A::Count],
            Self::Sum => &[A::Sum],
            Self::Counter => &[A::Counter],
            Self::Average => &[A::Count, A::Sum],
        }
    }
}

/// Tells whether deduplication for `func` must keep a counter from falling where it switches replicas.
pub fn is_counter_func(func: &str) -> bool {
    matches!(func, "increase" | "rate" | "irate" | "resets")
}

/// Reads the samples of one series out of its chunks.
#[derive(Debug, Clone, Copy)]
pub struct SeriesReader {
    /// Which aggregate.
    pub reading: Reading,
    /// Whether the consumer counts ([`is_counter_func`]).
    pub counter: bool,
    /// How overlapping chunks become one series. Which replica a chunk came from is not known any more: chunks that overlap
    /// are of different ones.
    pub dedup: DedupFunc,
}

impl SeriesReader {
    /// Makes the reader for the nearest function above a selector; empty if there is none.
    pub fn new(func: &str, dedup: DedupFunc) -> Self {
        Self { reading: Reading::of(func), counter: is_counter_func(func), dedup }
    }

    /// Appends the samples in `range` to `out`. `chunks` are sorted by mint.
    ///
    /// # Errors
    /// [`ChunkError`] if a chunk cannot be decoded.
    pub fn read(&self, chunks: &[AggrChunk], range: TimeRange, out: &mut Samples) -> Result<(), ChunkError> {
        let wanted = chunks.iter().filter(|chunk| chunk.range().overlaps(range));
        if is_disjoint(wanted.clone()) {
            return self.read_one(wanted, range, out);
        }
        let mut replicas = Vec::new();
        for list in pseudo_replicas(wanted) {
            let mut samples = Samples::default();
            self.read_one(list.into_iter(), range, &mut samples)?;
            replicas.push(samples);
        }
        dedup(&replicas, self.dedup, self.counter, out);
        Ok(())
    }

    /// Reads chunks that do not overlap.
    fn read_one<'a>(
        &self,
        chunks: impl Iterator<Item = &'a AggrChunk> + Clone,
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<(), ChunkError> {
        // Resets of raw data are left to the engine, which knows them exactly; only counter chunks of downsampled data hold
        // totals that must be carried on over chunks, and over the raw ones beside them.
        let totals = self.reading == Reading::Counter
            && chunks.clone().any(|chunk| matches!(&chunk.data, ChunkData::Aggregated(a) if a.counter.is_some()));
        if totals {
            let mut total = CounterTotal::default();
            for chunk in chunks {
                let mut samples = Samples::default();
                self.read_chunk(chunk, TimeRange::ALL, &mut samples)?;
                total.add_chunk(samples, range, out);
            }
            return Ok(());
        }
        for chunk in chunks {
            self.read_chunk(chunk, range, out)?;
        }
        Ok(())
    }

    fn read_chunk(&self, chunk: &AggrChunk, range: TimeRange, out: &mut Samples) -> Result<(), ChunkError> {
        let aggregated = match &chunk.data {
            ChunkData::Raw(raw) => return raw.decode(range, out),
            ChunkData::Aggregated(aggregated) => aggregated,
        };
        let read =
            |chunk: &Option<Chunk>, out: &mut Samples| chunk.as_ref().map_or(Ok(()), |chunk| chunk.decode(range, out));
        match self.reading {
            Reading::Min => read(&aggregated.min, out),
            Reading::Max => read(&aggregated.max, out),
            Reading::Count => read(&aggregated.count, out),
            Reading::Sum => read(&aggregated.sum, out),
            Reading::Counter => aggregated.counter.as_ref().map_or(Ok(()), |chunk| chunk.decode_counter(range, out)),
            Reading::Average => {
                let (mut sums, mut counts) = (Samples::default(), Samples::default());
                read(&aggregated.sum, &mut sums)?;
                read(&aggregated.count, &mut counts)?;
                average(&sums, &counts, out);
                Ok(())
            }
        }
    }
}

/// Divides sums by counts of equal times.
fn average(sums: &Samples, counts: &Samples, out: &mut Samples) {
    let numbers = counts.timestamps.iter().zip(&counts.values);
    let mut counts = numbers.clone().peekable();
    for (t, sum) in sums.timestamps.iter().zip(&sums.values) {
        while counts.next_if(|(at, _)| *at < t).is_some() {}
        if let Some((_, count)) = counts.next_if(|(at, _)| *at == t) {
            out.push(*t, sum / count);
        }
    }
    let mut counts = numbers.clone().peekable();
    for (t, sum) in sums.histogram_timestamps.iter().zip(&sums.histograms) {
        while counts.next_if(|(at, _)| *at < t).is_some() {}
        if let Some((_, count)) = counts.next_if(|(at, _)| *at == t) {
            let mut mean = FloatHistogram::clone(sum);
            mean.divide_by(*count);
            out.push_histogram(*t, Arc::new(mean));
        }
    }
}

fn is_disjoint<'a>(mut chunks: impl Iterator<Item = &'a AggrChunk>) -> bool {
    let Some(first) = chunks.next() else { return true };
    let mut end = first.maxt;
    chunks.all(|chunk| chunk.mint > std::mem::replace(&mut end, chunk.maxt))
}

/// Packs chunks into lists without overlaps: each goes to the first list that ends before it begins.
fn pseudo_replicas<'a>(chunks: impl Iterator<Item = &'a AggrChunk>) -> Vec<Vec<&'a AggrChunk>> {
    let mut lists: Vec<Vec<&AggrChunk>> = Vec::new();
    for chunk in chunks {
        match lists.iter_mut().find(|list| list.last().is_some_and(|last| last.maxt < chunk.mint)) {
            Some(list) => list.push(chunk),
            None => lists.push(vec![chunk]),
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk_series::Aggregated;

    #[test]
    fn the_average_of_downsampled_histograms_is_their_sum_divided_by_how_many_they_were() {
        let sum = FloatHistogram {
            count: 12.0,
            zero_count: 3.0,
            sum: 30.0,
            positive_spans: vec![farview_model::Span { offset: 1, length: 2 }],
            positive_buckets: vec![6.0, 3.0],
            ..FloatHistogram::default()
        };
        let times = [299_999, 599_999];
        let sums = vec![Arc::new(sum.clone()), Arc::new(sum.clone())];
        let sums = Chunk::encode_float_histograms(&times, &sums).unwrap().remove(0);
        // The second window has no count: what is not known is left out.
        let counts = Chunk::encode_xor(&times[..1], &[3.0]);
        let data = ChunkData::Aggregated(Box::new(Aggregated {
            sum: Some(sums),
            count: Some(counts),
            ..Aggregated::default()
        }));
        let chunks = [AggrChunk { mint: times[0], maxt: times[1], data }];
        let read = |func: &str| {
            let mut out = Samples::default();
            SeriesReader::new(func, DedupFunc::Penalty).read(&chunks, TimeRange::ALL, &mut out).unwrap();
            out
        };
        let mean =
            FloatHistogram { count: 4.0, zero_count: 1.0, sum: 10.0, positive_buckets: vec![2.0, 1.0], ..sum.clone() };
        let average = read("");
        assert_eq!((average.histogram_timestamps, average.histograms), (vec![299_999], vec![Arc::new(mean)]));
        assert_eq!(*read("sum_over_time").histograms[0], sum);
    }
}
