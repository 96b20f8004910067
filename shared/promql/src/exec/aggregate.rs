//! Aggregations. What can be folded is folded series by series, in their order, without keeping the input ([`fold`]); the
//! aggregations that choose series keep only those that are still in question ([`choose`]); those that need every value of
//! a group keep the values ([`values`]).

use super::scalar::Params;
use super::{Column, Grid, Op, build as build_vector};
use crate::annotations::Note;
use crate::ast::*;
use crate::engine::{Error, Run};
use crate::plan::Above;
use farview_model::{Labels, METRIC_NAME};
use hashbrown::HashMap;

mod choose;
mod fold;
mod values;

/// Which labels make the group of a series.
#[derive(Debug, Clone)]
struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Grouping {
    fn key(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.labels.iter().any(|label| label == name);
        if self.without {
            labels.without(|name| name == METRIC_NAME || listed(name))
        } else if self.labels.is_empty() {
            Labels::empty()
        } else {
            labels.only(listed)
        }
    }
}

/// Groups, numbered by first appearance. A group key is computed for every series: a buffer of the wanted labels is looked
/// up, and only a group that is new gets labels of its own.
#[derive(Debug)]
struct Groups {
    grouping: Grouping,
    index: HashMap<Labels, usize>,
}

impl Groups {
    fn new(grouping: Grouping) -> Self {
        Self { grouping, index: HashMap::new() }
    }

    /// Returns the number of a series' group, and its labels if it is new.
    fn of(&mut self, column: &Column) -> (usize, Option<Labels>) {
        let key = self.grouping.key(&column.labels);
        let next = self.index.len();
        match self.index.entry(key) {
            hashbrown::hash_map::Entry::Occupied(entry) => (*entry.get(), None),
            hashbrown::hash_map::Entry::Vacant(entry) => {
                let labels = entry.key().clone();
                entry.insert(next);
                (next, Some(labels))
            }
        }
    }
}

/// Builds an aggregation.
pub(super) fn build<'a>(run: &Run<'_>, expr: &'a Expr, aggregate: &'a Aggregate, grid: Grid) -> Result<Op<'a>, Error> {
    let op = aggregate.op;
    let grouping = Grouping { labels: aggregate.grouping.clone(), without: aggregate.without };
    let above = Above { func: op.text().to_owned(), grouping: aggregate.grouping.clone(), by: !aggregate.without };
    let input = build_vector(run, &aggregate.expr, grid, &above)?;
    let param = aggregate.param.as_deref();
    let scalar = param.filter(|param| param.value_type() == ValueType::Scalar);
    let params = Params::build(run, scalar.into_iter(), grid)?;
    let param_span = param.map_or(expr.span, |param| param.span);
    let groups = Groups::new(grouping);
    Ok(match op {
        AggregateOp::TopK | AggregateOp::BottomK => {
            choose::top(input, params, groups, op == AggregateOp::TopK, grid.count, expr.span)
        }
        AggregateOp::LimitK => choose::limit(input, params, groups, grid.count),
        AggregateOp::LimitRatio => choose::ratio(input, params, param_span),
        AggregateOp::Quantile => values::quantile(input, params, groups, grid.count, param_span, aggregate.expr.span),
        AggregateOp::CountValues => {
            let Some(Node::String(label)) = param.map(|param| &param.unwrapped().node) else {
                return Err(Error::Invalid("count_values wants the name of a label".to_owned()));
            };
            let label = match std::str::from_utf8(&label.value) {
                Ok(label) if !label.is_empty() => label.to_owned(),
                _ => {
                    let text = String::from_utf8_lossy(&label.value);
                    return Err(Error::Execution(format!("invalid label name {}", crate::quote::quote(&text))));
                }
            };
            values::count(input, groups.grouping, label, grid.count)
        }
        _ => fold::build(input, op, groups, grid.count, aggregate.expr.span),
    })
}

/// Warns of quantiles that are none.
fn check_quantiles(run: &Run<'_>, quantiles: &[f64], span: Span) {
    for q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        run.note(span, Note::QuantileOutOfRange(*q));
    }
}
