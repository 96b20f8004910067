//! K-way merge of sorted streams of series.
//!
//! The merge is a structure that is fed and drained, not a stream: whoever drives it fetches a batch for every input that
//! [`Merge::needs`] one and then pops series until one is needed again. So it is the same code over gRPC streams, block
//! readers and test data, and it holds no more than one batch per input.

use crate::{AggrChunk, ChunkSeries};
use farview_model::{ErrorKind, Labels};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An input broke the order that its series must have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("series are not sorted: {after} comes after {before}")]
pub struct OrderError {
    /// Number of the input.
    pub input: usize,
    /// The greater label set, which came first.
    pub before: Labels,
    /// The lesser label set, which came second.
    pub after: Labels,
}

impl OrderError {
    /// Returns what the caller can do: the source's data cannot be trusted.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

#[derive(Debug, Default)]
struct Input {
    batch: std::vec::IntoIter<ChunkSeries>,
    last: Option<Labels>,
    finished: bool,
}

/// Merges the series of several inputs. Series with equal labels are joined, also when one input sends them in pieces;
/// chunks that several inputs hold are kept once.
#[derive(Debug)]
pub struct Merge {
    inputs: Vec<Input>,
    /// Heads of the inputs that have one, least labels first, then lowest input.
    heads: BinaryHeap<Reverse<Head>>,
    /// Inputs that must be fed, or finished, before the next series is known.
    hungry: Vec<usize>,
    /// The series that is being joined; pieces of it may still come.
    current: Option<ChunkSeries>,
}

#[derive(Debug)]
struct Head {
    input: usize,
    series: ChunkSeries,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.series.labels.cmp(&other.series.labels).then(self.input.cmp(&other.input))
    }
}

impl Merge {
    /// Makes a merge of `inputs` inputs, each of which must be fed first.
    pub fn new(inputs: usize) -> Self {
        Self {
            inputs: (0..inputs).map(|_| Input::default()).collect(),
            heads: BinaryHeap::with_capacity(inputs),
            hungry: (0..inputs).collect(),
            current: None,
        }
    }

    /// Returns the inputs that must be fed or finished before the merge can go on.
    pub fn needs(&self) -> &[usize] {
        &self.hungry
    }

    /// Gives an input its next batch, whose series must be sorted by labels and go on from the batch before. The last label
    /// set of a batch may go on in the next. An empty batch changes nothing.
    ///
    /// # Errors
    /// [`OrderError`] if labels fall. The input must be finished then: what it sent before stands.
    pub fn feed(&mut self, input: usize, batch: Vec<ChunkSeries>) -> Result<(), OrderError> {
        let state = &mut self.inputs[input];
        for series in &batch {
            if let Some(last) = &state.last
                && *last > series.labels
            {
                return Err(OrderError { input, before: last.clone(), after: series.labels.clone() });
            }
            state.last = Some(series.labels.clone());
        }
        debug_assert!(state.batch.as_slice().is_empty(), "an input is fed when it is needed");
        state.batch = batch.into_iter();
        self.advance(input);
        Ok(())
    }

    /// Says that an input has no more series.
    pub fn finish(&mut self, input: usize) {
        self.inputs[input].finished = true;
        self.hungry.retain(|hungry| *hungry != input);
    }

    /// Takes the next series of `input` to the heads, or notes that it must be fed.
    fn advance(&mut self, input: usize) {
        let state = &mut self.inputs[input];
        match state.batch.next() {
            Some(series) => {
                self.heads.push(Reverse(Head { input, series }));
                self.hungry.retain(|hungry| *hungry != input);
            }
            None if !state.finished && !self.hungry.contains(&input) => self.hungry.push(input),
            None => {}
        }
    }

    /// Returns the next series, or `None` if an input must be fed first ([`Merge::needs`]) or all are at their end.
    pub fn pop(&mut self) -> Option<ChunkSeries> {
        while self.hungry.is_empty() {
            let Some(Reverse(least)) = self.heads.peek() else { return self.current.take() };
            match &mut self.current {
                Some(current) if current.labels != least.series.labels => return self.current.take(),
                current => {
                    let Reverse(head) = self.heads.pop().expect("a head was seen");
                    match current {
                        Some(current) => join_chunks(&mut current.chunks, head.series.chunks),
                        None => *current = Some(head.series),
                    }
                    self.advance(head.input);
                }
            }
        }
        None
    }

    /// Tells whether every input is at its end and every series has been popped.
    pub fn is_done(&self) -> bool {
        self.hungry.is_empty() && self.heads.is_empty() && self.current.is_none()
    }
}

/// Joins two lists of chunks, each sorted by mint; chunks of equal range and bytes are kept once.
fn join_chunks(into: &mut Vec<AggrChunk>, more: Vec<AggrChunk>) {
    let in_order = match (into.last(), more.first()) {
        (Some(last), Some(first)) => (last.mint, last.maxt) < (first.mint, first.maxt),
        _ => true,
    };
    into.extend(more);
    if !in_order {
        into.sort_by_key(|chunk| (chunk.mint, chunk.maxt));
        drop_equal_chunks(into);
    }
}

/// Drops chunks that are there already; equal ones lie within a run of equal ranges.
fn drop_equal_chunks(chunks: &mut Vec<AggrChunk>) {
    let mut kept: Vec<AggrChunk> = Vec::with_capacity(chunks.len());
    for chunk in chunks.drain(..) {
        let same_range = kept.iter().rev().take_while(|k| (k.mint, k.maxt) == (chunk.mint, chunk.maxt));
        if !same_range.into_iter().any(|k| *k == chunk) {
            kept.push(chunk);
        }
    }
    *chunks = kept;
}

/// Drops `labels` from every series, sorts what is left and joins series that have become equal. For stores that do not
/// understand `without_replica_labels`: their whole answer must be in memory.
pub fn without_labels(series: Vec<ChunkSeries>, labels: &[String]) -> Vec<ChunkSeries> {
    let mut stripped: Vec<ChunkSeries> = series
        .into_iter()
        .map(|series| ChunkSeries {
            labels: series.labels.without(|name| labels.iter().any(|label| label == name)),
            chunks: series.chunks,
        })
        .collect();
    stripped.sort_by(|a, b| a.labels.cmp(&b.labels));
    let mut joined: Vec<ChunkSeries> = Vec::with_capacity(stripped.len());
    for series in stripped {
        match joined.last_mut() {
            Some(last) if last.labels == series.labels => join_chunks(&mut last.chunks, series.chunks),
            _ => joined.push(series),
        }
    }
    joined
}
