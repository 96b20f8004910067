//! Aggregations that choose series and leave them as they are: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use super::Groups;
use crate::annotations::Note;
use crate::ast::Span;
use crate::engine::{Error, Run};
use crate::exec::labels::copy;
use crate::exec::scalar::Params;
use crate::exec::{Column, Op, Operator};
use farview_model::{Labels, number};
use std::cmp::Ordering;
use std::sync::Arc;

/// The parameters of `topk` and `limitk` as counts: cut off towards zero, errors for what is no number of series.
fn counts(params: &mut Params<'_>, run: &Run<'_>) -> Result<Vec<usize>, Error> {
    let count = |k: &f64| {
        let error = |text: String| Err(Error::Execution(text));
        if k.is_nan() {
            return error("Parameter value is NaN".to_owned());
        }
        if *k >= i64::MAX as f64 {
            return error(format!("Scalar value {} overflows int64", number::format_g(*k)));
        }
        if *k <= i64::MIN as f64 {
            return error(format!("Scalar value {} underflows int64", number::format_g(*k)));
        }
        Ok(if *k < 1.0 { 0 } else { *k as usize })
    };
    params.values(run)?.first().map_or(Ok(Vec::new()), |k| k.iter().map(count).collect())
}

pub(super) fn top<'a>(
    input: Op<'a>,
    params: Params<'a>,
    groups: Groups,
    greatest: bool,
    steps: usize,
    span: Span,
) -> Op<'a> {
    Box::new(Top { input: Some(input), params, groups, greatest, steps, span })
}

/// The k best of each group and step. Only the candidates are kept: a group holds at most k of them for each step.
struct Top<'a> {
    input: Option<Op<'a>>,
    params: Params<'a>,
    groups: Groups,
    greatest: bool,
    steps: usize,
    span: Span,
}

/// A value and the number of its series. The worst of a heap is on top: the one that the next better value replaces.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    value: f64,
    series: u32,
}

impl Top<'_> {
    /// Tells whether `a` is worse than `b`, or as bad: NaN is worse than anything.
    fn is_worse(&self, a: &Candidate, b: &Candidate) -> bool {
        a.value.is_nan() || if self.greatest { a.value < b.value } else { a.value > b.value }
    }

    /// The order of an instant answer: the best first, of equals the earlier series.
    fn order(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let by_value = a.value.partial_cmp(&b.value).map_or_else(
            || b.value.is_nan().cmp(&a.value.is_nan()),
            |order| if self.greatest { order } else { order.reverse() },
        );
        by_value.then(b.series.cmp(&a.series))
    }

    /// Which of equal values leaves a full heap follows from where it is in the heap. These are the moves of Go's `container/heap`, so
    /// that the same series stay as in Prometheus.
    fn offer(&self, heap: &mut Vec<Candidate>, candidate: Candidate, k: usize) {
        if heap.len() < k {
            heap.push(candidate);
            let mut at = heap.len() - 1;
            while at > 0 && self.is_worse(&heap[at], &heap[(at - 1) / 2]) {
                heap.swap(at, (at - 1) / 2);
                at = (at - 1) / 2;
            }
        } else if !candidate.value.is_nan() && self.is_worse(&heap[0], &candidate) {
            heap[0] = candidate;
            let mut at = 0;
            loop {
                let left = 2 * at + 1;
                if left >= heap.len() {
                    return;
                }
                let right = left + 1;
                let worst = if right < heap.len() && self.is_worse(&heap[right], &heap[left]) { right } else { left };
                if !self.is_worse(&heap[worst], &heap[at]) {
                    return;
                }
                heap.swap(at, worst);
                at = worst;
            }
        }
    }
}

impl Operator for Top<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let k = counts(&mut self.params, run)?;
        let mut series: Vec<(Labels, bool)> = Vec::new();
        let mut heaps: Vec<Vec<Vec<Candidate>>> = Vec::new();
        let mut hold = run.hold(0, 0)?;
        while let Some(batch) = input.next(run)? {
            run.check()?;
            let mut added = 0;
            for column in &batch {
                let (group, new) = self.groups.of(column);
                if new.is_some() {
                    heaps.push(vec![Vec::new(); self.steps]);
                    hold.grow(run, (self.steps * size_of::<Vec<Candidate>>()) as u64, 0)?;
                }
                if column.present.iter().any(|step| k[step] > 0 && column.histogram(step).is_some()) {
                    let operator = if self.greatest { "topk" } else { "bottomk" };
                    run.note(self.span, Note::IgnoredInAggregation(operator));
                }
                let number = series.len() as u32;
                for step in column.present.iter().filter(|step| k[*step] > 0) {
                    let Some(value) = column.float(step) else { continue };
                    let heap = &mut heaps[group][step];
                    added += u64::from(heap.len() < k[step]);
                    self.offer(heap, Candidate { value, series: number }, k[step]);
                }
                series.push((column.labels.clone(), column.drop_name));
            }
            let labels: u64 = batch.iter().map(|column| column.labels.size_bytes() as u64 + 24).sum();
            hold.grow(run, added * size_of::<Candidate>() as u64 + labels, added)?;
        }
        if self.steps == 1 && run.instant {
            // An instant answer is ordered by value within its group.
            let best = heaps.into_iter().flatten().flat_map(|mut heap| {
                heap.sort_by(|a, b| self.order(b, a));
                heap
            });
            let column = |candidate: Candidate| {
                let (labels, drop_name) = series[candidate.series as usize].clone();
                Column { drop_name, ..Column::full(labels, vec![candidate.value]) }
            };
            return Ok(Some(best.map(column).collect()));
        }
        let mut chosen: Vec<Option<Column>> = (0..series.len()).map(|_| None).collect();
        for (step, heap) in heaps.iter().flat_map(|steps| steps.iter().enumerate()) {
            for candidate in heap {
                let at = candidate.series as usize;
                if chosen[at].is_none() {
                    hold.grow(run, Column::bytes_for(self.steps), 0)?;
                }
                let column = chosen[at].get_or_insert_with(|| {
                    let (labels, drop_name) = series[at].clone();
                    Column { drop_name, ..Column::new(labels, self.steps) }
                });
                column.set(step, candidate.value);
            }
        }
        Ok(Some(chosen.into_iter().flatten().collect()))
    }
}

pub(super) fn limit<'a>(input: Op<'a>, params: Params<'a>, groups: Groups, steps: usize) -> Op<'a> {
    Box::new(Limit { input, params, groups, steps, k: None, taken: Vec::new() })
}

/// The first k of each group and step, in the order of the series.
struct Limit<'a> {
    input: Op<'a>,
    params: Params<'a>,
    groups: Groups,
    steps: usize,
    k: Option<Vec<usize>>,
    taken: Vec<Vec<usize>>,
}

impl Operator for Limit<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        if self.k.is_none() {
            self.k = Some(counts(&mut self.params, run)?);
        }
        let (Some(k), Some(batch)) = (&self.k, self.input.next(run)?) else { return Ok(None) };
        let mut kept = Vec::new();
        for column in &batch {
            let (group, new) = self.groups.of(column);
            if new.is_some() {
                self.taken.push(vec![0; self.steps]);
            }
            let mut out = Column { drop_name: column.drop_name, ..Column::new(column.labels.clone(), column.len()) };
            for step in column.present.iter() {
                let taken = &mut self.taken[group][step];
                if *taken < k[step] {
                    *taken += 1;
                    copy(column, step, &mut out);
                }
            }
            if !out.present.is_empty() {
                kept.push(out);
            }
        }
        Ok(Some(kept))
    }
}

pub(super) fn ratio<'a>(input: Op<'a>, params: Params<'a>, span: Span) -> Op<'a> {
    Box::new(Ratio { input, params, span })
}

/// A share of the series, chosen by the hashes of their labels.
struct Ratio<'a> {
    input: Op<'a>,
    params: Params<'a>,
    span: Span,
}

impl Operator for Ratio<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        if let Some(params) = self.params.take(run)? {
            let ratios = params.iter().flat_map(|ratios: &Arc<[f64]>| ratios.iter());
            for ratio in ratios {
                if ratio.is_nan() {
                    return Err(Error::Execution("Ratio value is NaN".to_owned()));
                }
                if ratio.abs() > 1.0 {
                    run.note(self.span, Note::RatioCapped { got: *ratio, capped: ratio.clamp(-1.0, 1.0) });
                }
            }
        }
        let Some(batch) = self.input.next(run)? else { return Ok(None) };
        let Some(ratios) = self.params.values(run)?.first() else { return Ok(Some(batch)) };
        let kept = batch.into_iter().map(|mut column| {
            let hash = hash(&column.labels);
            for (k, ratio) in ratios.iter().enumerate() {
                let ratio = ratio.clamp(-1.0, 1.0);
                let keep = if ratio >= 0.0 { hash < ratio } else { hash >= 1.0 + ratio };
                if !keep {
                    column.remove(k);
                }
            }
            column
        });
        Ok(Some(kept.filter(|column| !column.present.is_empty()).collect()))
    }
}

/// xxHash64 over name and value of each label, each behind its length: one byte below 255, else 255 and three bytes. As a
/// share of all hashes.
fn hash(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(128);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < 255 => bytes.push(len),
            _ => {
                bytes.push(255);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}
