//! Binary operators: a vector with a number here, two vectors in [`join`] and [`set`], one sample with another in [`point`].

use super::scalar::Params;
use super::scan::Names;
use super::{Bits, Column, Grid, Op, Operator, Point, build as build_vector, labels};
use crate::ast::*;
use crate::engine::{Error, Run};
use crate::plan::{self, Above};
use farview_model::{Labels, METRIC_NAME};
use point::Operand;

mod join;
mod point;
mod set;

/// Builds a binary expression.
pub(super) fn build<'a>(run: &Run<'_>, span: Span, binary: &'a Binary, grid: Grid) -> Result<Op<'a>, Error> {
    let above = Above::default();
    let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
    if is_scalar(&binary.lhs) || is_scalar(&binary.rhs) {
        let scalar_left = is_scalar(&binary.lhs);
        let (number, vector) = if scalar_left { (&binary.lhs, &binary.rhs) } else { (&binary.rhs, &binary.lhs) };
        let op = build_vector(run, vector, grid, &above)?;
        let numbers = Params::build(run, std::iter::once(number), grid)?;
        let names = Names::of(run, keeps_name(binary));
        let inner = WithNumber { op, numbers, scalar_left, binary, span, names };
        return Ok(match names {
            _ if plan::is_nameless(vector) => Box::new(inner),
            Names::Keep => Box::new(inner),
            _ => Box::new(labels::Unique::new(Box::new(inner))),
        });
    }
    let Some(matching) = &binary.matching else {
        return Err(Error::Invalid("a binary expression of two vectors has a matching".to_owned()));
    };
    let lhs = build_vector(run, &binary.lhs, grid, &above)?;
    let rhs = build_vector(run, &binary.rhs, grid, &above)?;
    Ok(match binary.op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => set::build(binary.op, matching, lhs, rhs, grid.count),
        _ => join::build(run, binary, matching, lhs, rhs, grid.count, span),
    })
}

/// Tells whether the result keeps the metric name: filters do, what computes does not.
fn keeps_name(binary: &Binary) -> bool {
    let trims = matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
    trims || (binary.op.is_comparison() && !binary.return_bool)
}

/// Returns the labels by which series of the two sides find each other.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on { labels.only(listed) } else { labels.without(|name| name == METRIC_NAME || listed(name)) }
}

/// A vector and a number.
struct WithNumber<'a> {
    op: Op<'a>,
    numbers: Params<'a>,
    scalar_left: bool,
    binary: &'a Binary,
    span: Span,
    names: Names,
}

impl Operator for WithNumber<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let numbers = match self.numbers.values(run)?.first() {
            Some(numbers) => std::sync::Arc::clone(numbers),
            None => return Ok(None),
        };
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let columns = batch.into_iter().map(|mut column| {
            if column.histograms.is_some() || matches!(self.binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper) {
                self.apply_points(run, &mut column, &numbers);
            } else {
                self.apply_floats(&mut column, &numbers);
            }
            self.names.apply(&mut column);
            column
        });
        Ok(Some(columns.filter(|column| !column.present.is_empty()).collect()))
    }
}

impl WithNumber<'_> {
    fn apply_floats(&self, column: &mut Column, numbers: &[f64]) {
        let (op, left) = (self.binary.op, self.scalar_left);
        if op.is_comparison() && !self.binary.return_bool {
            for (k, number) in numbers.iter().enumerate() {
                let value = column.values[k];
                let (x, y) = if left { (*number, value) } else { (value, *number) };
                if !super::scalar::compares(op, x, y) {
                    column.present.clear(k);
                }
            }
        } else if left {
            point::floats(op, &mut column.values, |k| numbers[k], point::Side::Right);
        } else {
            point::floats(op, &mut column.values, |k| numbers[k], point::Side::Left);
        }
    }

    fn apply_points(&self, run: &Run<'_>, column: &mut Column, numbers: &[f64]) {
        let op = self.binary.op;
        let steps: Vec<usize> = column.present.iter().collect();
        for k in steps {
            let Some(sample) = column.point(k) else { continue };
            let (vector, number) = (Operand::of(&sample), Operand::Float(numbers[k]));
            let (x, y) = if self.scalar_left { (number, vector) } else { (vector, number) };
            let mut note = |note: crate::annotations::Note<'_>| {
                // Prometheus swallows warnings here, and tells infos.
                if !matches!(note, crate::annotations::Note::IncompatibleBuckets(_)) {
                    run.note(self.span, note);
                }
            };
            let result = point::apply(op, x, y, &mut note);
            column.remove(k);
            match result {
                None => {}
                Some((_, keep)) if self.binary.return_bool => column.set(k, f64::from(u8::from(keep))),
                Some((_, false)) => {}
                // Whichever side it stands on, what a filter lets through is the vector's sample.
                Some(_) if op.is_comparison() => column.put(k, sample),
                Some((point, true)) => column.put(k, point),
            }
        }
    }
}

/// Union of the steps of some columns.
fn add_steps<'c>(bits: &mut Bits, columns: impl IntoIterator<Item = &'c Column>) {
    columns.into_iter().for_each(|column| bits.add(&column.present));
}
