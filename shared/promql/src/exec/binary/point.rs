//! One sample with another: floats and histograms.

use super::{Bits, Column, Point};
use crate::annotations::{Note, Operation};
use crate::ast::BinaryOp;
use crate::exec::scalar::{arithmetic, compares};
use farview_model::FloatHistogram;
use farview_model::histogram::Keep;
use std::sync::Arc;

/// A sample of either side.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

impl<'a> Operand<'a> {
    pub(super) fn of(point: &'a Point) -> Self {
        match point {
            Point::Float(value) => Self::Float(*value),
            Point::Histogram(histogram) => Self::Histogram(histogram),
        }
    }

    /// The sample of a column, which has one at that step.
    pub(super) fn at(column: &'a Column, k: usize) -> Self {
        column.histogram(k).map_or(Self::Float(column.values[k]), Self::Histogram)
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Applies an operator to two samples: the result and whether a filter keeps it, or nothing if the operator is not made for
/// such samples.
pub(super) fn apply(
    op: BinaryOp,
    x: Operand<'_>,
    y: Operand<'_>,
    note: &mut dyn FnMut(Note<'_>),
) -> Option<(Point, bool)> {
    use BinaryOp::{Add, Div, Eq, Mul, Ne, Sub, TrimLower, TrimUpper};
    let made = |histogram: FloatHistogram| Some((Point::Histogram(Arc::new(histogram)), true));
    match (x, op, y) {
        (Operand::Float(a), op, Operand::Float(b)) if !matches!(op, TrimLower | TrimUpper) => {
            if op.is_comparison() {
                return Some((Point::Float(a), compares(op, a, b)));
            }
            Some((Point::Float(arithmetic(op, a, b)), true))
        }
        (Operand::Histogram(h), Mul, Operand::Float(f)) | (Operand::Float(f), Mul, Operand::Histogram(h)) => {
            let mut product = FloatHistogram::clone(h);
            product.multiply_by(f);
            made(product.compacted())
        }
        (Operand::Histogram(h), Div, Operand::Float(f)) => {
            let mut quotient = FloatHistogram::clone(h);
            quotient.divide_by(f);
            made(quotient.compacted())
        }
        (Operand::Histogram(h), TrimUpper, Operand::Float(f)) => made(h.trimmed(f, Keep::Below)),
        (Operand::Histogram(h), TrimLower, Operand::Float(f)) => made(h.trimmed(f, Keep::Above)),
        (Operand::Histogram(a), Add | Sub, Operand::Histogram(b)) => {
            let (combined, operation) = match op {
                Add => (a.plus(b), Operation::Addition),
                _ => (a.minus(b), Operation::Subtraction),
            };
            let Ok(combined) = combined else {
                note(Note::IncompatibleBuckets(op.text()));
                return None;
            };
            if combined.conflicting_resets {
                note(Note::ConflictingResets(operation));
            }
            if combined.bounds_reconciled {
                note(Note::Reconciled(operation));
            }
            made(combined.histogram)
        }
        (Operand::Histogram(a), Eq | Ne, Operand::Histogram(b)) => {
            Some((Point::Histogram(Arc::clone(a)), (a == b) == (op == Eq)))
        }
        _ => {
            note(Note::IncompatibleTypes { left: x.kind(), operator: op.text(), right: y.kind() });
            None
        }
    }
}

/// On which side of the operator the values that are changed in place stand.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Applies an operator to all values of a column at once; comparisons give 0 and 1. The loop knows its operator.
pub(super) fn floats(op: BinaryOp, values: &mut [f64], other: impl Fn(usize) -> f64, side: Side) {
    fn run(values: &mut [f64], other: impl Fn(usize) -> f64, side: Side, f: impl Fn(f64, f64) -> f64) {
        if side == Side::Left {
            values.iter_mut().enumerate().for_each(|(k, value)| *value = f(*value, other(k)));
        } else {
            values.iter_mut().enumerate().for_each(|(k, value)| *value = f(other(k), *value));
        }
    }
    match op {
        BinaryOp::Add => run(values, other, side, |x, y| x + y),
        BinaryOp::Sub => run(values, other, side, |x, y| x - y),
        BinaryOp::Mul => run(values, other, side, |x, y| x * y),
        BinaryOp::Div => run(values, other, side, |x, y| x / y),
        _ => run(values, other, side, |x, y| arithmetic(op, x, y)),
    }
}

/// Keeps of `steps` those at which a comparison of floats holds.
pub(super) fn filter(op: BinaryOp, x: &[f64], y: impl Fn(usize) -> f64, steps: &mut Bits) {
    let dropped: Vec<usize> = steps.iter().filter(|k| !compares(op, x[*k], y(*k))).collect();
    dropped.into_iter().for_each(|k| steps.clear(k));
}
