//! Aggregations that need every value of a group: `quantile`, `count_values`.

use super::{Grouping, Groups, check_quantiles};
use crate::annotations::Note;
use crate::ast::Span;
use crate::engine::{Error, Run};
use crate::exec::range_fn;
use crate::exec::scalar::Params;
use crate::exec::{Column, Op, Operator};
use farview_model::{Labels, LabelsBuilder, number};
use hashbrown::HashMap;

pub(super) fn quantile<'a>(
    input: Op<'a>,
    params: Params<'a>,
    groups: Groups,
    steps: usize,
    param: Span,
    argument: Span,
) -> Op<'a> {
    Box::new(Quantile { input: Some(input), params, groups, steps, param, argument })
}

struct Quantile<'a> {
    input: Option<Op<'a>>,
    params: Params<'a>,
    groups: Groups,
    steps: usize,
    param: Span,
    argument: Span,
}

impl Operator for Quantile<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let q = self.params.values(run)?.first().cloned().unwrap_or_default();
        check_quantiles(run, &q, self.param);
        let mut hold = run.hold(0, 0)?;
        let mut columns: Vec<Column> = Vec::new();
        let mut values: Vec<Vec<Vec<f64>>> = Vec::new();
        while let Some(batch) = input.next(run)? {
            run.check()?;
            let samples: u64 = batch.iter().map(|column| column.present.count() as u64).sum();
            hold.grow(run, samples * 8, samples)?;
            for column in &batch {
                let (at, new) = self.groups.of(column);
                if let Some(labels) = new {
                    hold.grow(run, self.steps as u64 * 24 + Column::bytes_for(self.steps), 0)?;
                    columns.push(Column::new(labels, self.steps));
                    values.push(vec![Vec::new(); self.steps]);
                }
                columns[at].drop_name |= column.drop_name;
                if column.has_histograms() {
                    run.note(self.argument, Note::IgnoredInAggregation("quantile"));
                }
                for step in column.present.iter() {
                    values[at][step].extend(column.float(step));
                }
            }
        }
        for (column, steps) in columns.iter_mut().zip(&mut values) {
            run.check()?;
            for (step, values) in steps.iter_mut().enumerate().filter(|(_, values)| !values.is_empty()) {
                column.set(step, range_fn::quantile(q[step], values));
            }
        }
        columns.retain(|column| !column.present.is_empty());
        Ok(Some(columns))
    }
}

pub(super) fn count<'a>(input: Op<'a>, grouping: Grouping, label: String, steps: usize) -> Op<'a> {
    Box::new(CountValues { input: Some(input), grouping, label, steps })
}

/// How many series have each value, which becomes a label.
struct CountValues<'a> {
    input: Option<Op<'a>>,
    grouping: Grouping,
    label: String,
    steps: usize,
}

impl CountValues<'_> {
    /// The group of a series with its value as a label: the label is set first, and belongs to `by` but not to `without`.
    fn key(&self, labels: &Labels, value: &str) -> Labels {
        let labelled = LabelsBuilder::new(labels).set(&self.label, value).build();
        if self.grouping.without {
            return self.grouping.key(&labelled);
        }
        LabelsBuilder::new(&self.grouping.key(&labelled)).set(&self.label, value).build()
    }
}

impl Operator for CountValues<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let mut hold = run.hold(0, 0)?;
        let mut index: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Column> = Vec::new();
        while let Some(batch) = input.next(run)? {
            run.check()?;
            for column in &batch {
                let mut last: Option<(String, usize)> = None;
                for step in column.present.iter() {
                    let mut text = String::new();
                    match column.histogram(step) {
                        Some(histogram) => text = histogram.to_string(),
                        None => number::push_plain(&mut text, column.values[step]),
                    }
                    // Neighbours are often equal: their key is not computed again.
                    let at = match &last {
                        Some((value, at)) if *value == text => *at,
                        _ => {
                            let labels = self.key(&column.labels, &text);
                            match index.get(&labels) {
                                Some(at) => *at,
                                None => {
                                    let bytes = Column::bytes_for(self.steps) + labels.size_bytes() as u64;
                                    hold.grow(run, bytes, self.steps as u64)?;
                                    out.push(Column::new(labels.clone(), self.steps));
                                    index.insert(labels, out.len() - 1);
                                    out.len() - 1
                                }
                            }
                        }
                    };
                    out[at].drop_name |= column.drop_name;
                    let count = out[at].float(step).unwrap_or(0.0);
                    out[at].set(step, count + 1.0);
                    last = Some((text, at));
                }
            }
        }
        Ok(Some(out))
    }
}
