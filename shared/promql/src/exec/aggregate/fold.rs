//! Aggregations that need no more of a series than one look: `sum`, `avg`, `min`, `max`, `count`, `group`, `stddev`, `stdvar`.

use super::Groups;
use crate::annotations::{Note, Operation};
use crate::ast::{AggregateOp, Span};
use crate::engine::{Error, Hold, Run};
use crate::exec::{Bits, Column, Op, Operator};
use farview_model::histogram::{HistogramMean, HistogramSum};
use farview_model::sum::{Mean, kahan_add};
use farview_model::{FloatHistogram, HistogramError, Labels};
use std::sync::Arc;

pub(super) fn build<'a>(input: Op<'a>, function: AggregateOp, groups: Groups, count: usize, span: Span) -> Op<'a> {
    Box::new(Fold { input: Some(input), function, groups, count, span })
}

struct Fold<'a> {
    input: Option<Op<'a>>,
    function: AggregateOp,
    groups: Groups,
    count: usize,
    /// The aggregated expression.
    span: Span,
}

impl Operator for Fold<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let mut hold = run.hold(0, 0)?;
        let mut groups: Vec<Group> = Vec::new();
        while let Some(batch) = input.next(run)? {
            run.check()?;
            for column in &batch {
                let (at, new) = self.groups.of(column);
                if let Some(labels) = new {
                    hold.grow(run, Group::bytes_for(self.function, self.count), self.count as u64)?;
                    groups.push(Group::new(labels, self.function, self.count));
                }
                let group = &mut groups[at];
                group.drop_name |= column.drop_name;
                group.add(self.function, column);
                if column.has_histograms() {
                    group.add_histograms(run, self, column, &mut hold)?;
                }
            }
        }
        let columns = groups.into_iter().map(|group| group.finish(run, self.function, self.span));
        Ok(Some(columns.filter(|column| !column.present.is_empty()).collect()))
    }
}

/// What a group knows of its series so far. Only the columns that the function needs have a length.
struct Group {
    labels: Labels,
    drop_name: bool,
    /// Steps at which there was a float.
    present: Bits,
    values: Vec<f64>,
    /// Compensation of sums, or the running mean of variances.
    extra: Vec<f64>,
    counts: Vec<f64>,
    means: Vec<Mean>,
    histograms: Option<Box<Histograms>>,
}

/// The histograms of a group at each step.
struct Histograms {
    at: Vec<Option<Accumulated>>,
    /// Exponential and custom buckets met here: there is no result.
    incompatible: Bits,
}

enum Accumulated {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl Accumulated {
    fn new(function: AggregateOp, first: &FloatHistogram) -> Self {
        match function {
            AggregateOp::Avg => Self::Mean(HistogramMean::new(first)),
            _ => Self::Sum(HistogramSum::new(first)),
        }
    }

    fn add(&mut self, next: &FloatHistogram) -> Result<(), HistogramError> {
        match self {
            Self::Sum(sum) => sum.add(next),
            Self::Mean(mean) => mean.add(next),
        }
    }

    /// The result, whether hints contradicted each other, whether bounds were reconciled.
    fn finish(&self) -> (FloatHistogram, bool, bool) {
        match self {
            Self::Sum(sum) => (sum.histogram(), sum.conflicting_resets(), sum.bounds_reconciled()),
            Self::Mean(mean) => (mean.histogram(), mean.conflicting_resets(), mean.bounds_reconciled()),
        }
    }
}

impl Group {
    fn bytes_for(function: AggregateOp, count: usize) -> u64 {
        use AggregateOp::{Avg, Stddev, Stdvar, Sum};
        let columns = match function {
            Sum => 2,
            Stddev | Stdvar => 3,
            Avg => 1 + size_of::<Mean>() / 8,
            _ => 1,
        };
        (count * 8 * columns + count / 8 + 300) as u64
    }

    fn new(labels: Labels, function: AggregateOp, count: usize) -> Self {
        use AggregateOp::{Avg, Stddev, Stdvar, Sum};
        let sized = |needed: bool| if needed { vec![0.0; count] } else { Vec::new() };
        Self {
            labels,
            drop_name: false,
            present: Bits::none(count),
            values: vec![0.0; count],
            extra: sized(matches!(function, Sum | Stddev | Stdvar)),
            counts: sized(matches!(function, Stddev | Stdvar)),
            means: if function == Avg { vec![Mean::new(0.0); count] } else { Vec::new() },
            histograms: None,
        }
    }

    /// Adds the floats of a series.
    fn add(&mut self, function: AggregateOp, column: &Column) {
        match function {
            AggregateOp::Sum => {
                // Zero takes every first value as it is, but for the sign of a zero: a sum that begins with -0 stays there.
                if column.histograms.is_none() && column.present.is_full(column.len()) && self.is_begun() {
                    for ((sum, c), value) in self.values.iter_mut().zip(&mut self.extra).zip(&column.values) {
                        (*sum, *c) = kahan_add(*value, *sum, *c);
                    }
                    return;
                }
                self.each(column, |group, k, value, first| {
                    if first {
                        group.values[k] = value;
                    } else {
                        (group.values[k], group.extra[k]) = kahan_add(value, group.values[k], group.extra[k]);
                    }
                });
            }
            AggregateOp::Avg => {
                self.each(
                    column,
                    |group, k, value, first| {
                        if first { group.means[k] = Mean::new(value) } else { group.means[k].add(value) }
                    },
                )
            }
            AggregateOp::Min => self.each(column, |group, k, value, first| {
                let least = group.values[k];
                if first || value < least || least.is_nan() {
                    group.values[k] = value;
                }
            }),
            AggregateOp::Max => self.each(column, |group, k, value, first| {
                let most = group.values[k];
                if first || value > most || most.is_nan() {
                    group.values[k] = value;
                }
            }),
            AggregateOp::Count => {
                column.present.iter().for_each(|k| self.values[k] += 1.0);
                self.present.add(&column.present);
            }
            AggregateOp::Group => {
                column.present.iter().for_each(|k| self.values[k] = 1.0);
                self.present.add(&column.present);
            }
            _ => self.each(column, |group, k, value, first| {
                group.counts[k] += 1.0;
                if first {
                    group.extra[k] = value;
                    group.values[k] = if value.is_finite() { 0.0 } else { f64::NAN };
                    return;
                }
                let delta = value - group.extra[k];
                group.extra[k] += delta / group.counts[k];
                group.values[k] += delta * (value - group.extra[k]);
            }),
        }
    }

    /// Tells whether every step has had a float.
    fn is_begun(&self) -> bool {
        self.present.is_full(self.values.len())
    }

    /// Calls `fold` for every float of the column; it is told whether it is the group's first at that step.
    #[inline(always)]
    fn each(&mut self, column: &Column, fold: impl Fn(&mut Self, usize, f64, bool)) {
        for k in column.present.iter() {
            if column.histogram(k).is_some() {
                continue;
            }
            let first = !self.present.get(k);
            self.present.set(k);
            fold(self, k, column.values[k], first);
        }
    }

    /// Adds the histograms of a series, or says that the function ignores them.
    fn add_histograms(
        &mut self,
        run: &Run<'_>,
        fold: &Fold<'_>,
        column: &Column,
        hold: &mut Hold,
    ) -> Result<(), Error> {
        match fold.function {
            AggregateOp::Sum | AggregateOp::Avg => {}
            AggregateOp::Count | AggregateOp::Group => return Ok(()),
            function => {
                run.note(fold.span, Note::IgnoredInAggregation(function.text()));
                return Ok(());
            }
        }
        let count = column.len();
        let slots = self.histograms.get_or_insert_with(|| {
            Box::new(Histograms { at: (0..count).map(|_| None).collect(), incompatible: Bits::none(count) })
        });
        for k in column.present.iter() {
            let Some(histogram) = column.histogram(k) else { continue };
            match &mut slots.at[k] {
                Some(accumulated) => {
                    if !slots.incompatible.get(k) && accumulated.add(histogram).is_err() {
                        slots.incompatible.set(k);
                        run.note(fold.span, Note::MixedSchemas(column.labels.metric_name()));
                    }
                }
                none => {
                    hold.grow(run, 2 * histogram.size_bytes() as u64, 0)?;
                    *none = Some(Accumulated::new(fold.function, histogram));
                }
            }
        }
        Ok(())
    }

    fn finish(mut self, run: &Run<'_>, function: AggregateOp, span: Span) -> Column {
        match function {
            AggregateOp::Sum => self.values.iter_mut().zip(&self.extra).for_each(|(sum, c)| *sum += c),
            AggregateOp::Avg => {
                self.values.iter_mut().zip(&self.means).for_each(|(value, mean)| *value = mean.value());
            }
            AggregateOp::Stdvar | AggregateOp::Stddev => {
                for (value, count) in self.values.iter_mut().zip(&self.counts) {
                    *value /= count;
                    if function == AggregateOp::Stddev {
                        *value = value.sqrt();
                    }
                }
            }
            _ => {}
        }
        let mut column = Column {
            labels: self.labels,
            drop_name: self.drop_name,
            values: self.values,
            present: self.present,
            histograms: None,
        };
        for (k, accumulated) in self.histograms.into_iter().flat_map(|slots| slots.finish()) {
            if column.present.get(k) {
                run.note(span, Note::MixedTypesInAggregation);
                column.remove(k);
                continue;
            }
            let Some(accumulated) = accumulated else { continue };
            let (histogram, conflicting, reconciled) = accumulated.finish();
            if conflicting {
                run.note(span, Note::ConflictingResets(Operation::Aggregation));
            }
            if reconciled {
                run.note(span, Note::Reconciled(Operation::Aggregation));
            }
            column.set_histogram(k, Arc::new(histogram));
        }
        column
    }
}

impl Histograms {
    /// Goes over the steps with histograms; without one where they do not go together.
    fn finish(self) -> impl Iterator<Item = (usize, Option<Accumulated>)> {
        let Self { at, incompatible } = self;
        let steps = at.into_iter().enumerate().filter(|(_, slot)| slot.is_some());
        steps.map(move |(k, slot)| (k, slot.filter(|_| !incompatible.get(k))))
    }
}
