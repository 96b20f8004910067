//! Expressions with one number per step.

use super::{Column, Grid, Op, Operator};
use crate::ast::*;
use crate::engine::{Error, Run};
use crate::plan::Above;
use farview_model::Labels;
use std::sync::Arc;

/// A scalar expression whose selectors are open.
pub(crate) enum Scalar<'a> {
    /// Known already.
    Values(Vec<f64>),
    /// `scalar(vector)`: the value of the only series, else NaN.
    OfVector(Op<'a>, usize),
    Unary(Box<Scalar<'a>>),
    Binary(BinaryOp, Box<Scalar<'a>>, Box<Scalar<'a>>),
    MinOf(Box<Scalar<'a>>, Box<Scalar<'a>>),
    MaxOf(Box<Scalar<'a>>, Box<Scalar<'a>>),
}

/// Builds a scalar expression.
pub(crate) fn build<'a>(run: &Run<'_>, expr: &'a Expr, grid: Grid) -> Result<Scalar<'a>, Error> {
    let constant = |value| Ok(Scalar::Values(vec![value; grid.count]));
    match &expr.node {
        Node::Number(number) => constant(number.value),
        Node::Paren(inner) => build(run, inner, grid),
        Node::Unary(unary) => {
            let inner = build(run, &unary.expr, grid)?;
            Ok(if unary.op == UnaryOp::Minus { Scalar::Unary(Box::new(inner)) } else { inner })
        }
        Node::Binary(binary) => {
            let lhs = Box::new(build(run, &binary.lhs, grid)?);
            let rhs = Box::new(build(run, &binary.rhs, grid)?);
            Ok(Scalar::Binary(binary.op, lhs, rhs))
        }
        Node::Call(call) => {
            let outer = run.outer;
            let (step, range) = run.step_and_range();
            match call.func.name {
                "time" => Ok(Scalar::Values((0..grid.count).map(|k| grid.at(k) as f64 / 1_000.0).collect())),
                "pi" => constant(std::f64::consts::PI),
                "start" => constant(outer.start as f64 / 1_000.0),
                "end" => constant(outer.end() as f64 / 1_000.0),
                "step" => constant(step as f64 / 1_000.0),
                "range" => constant(range as f64 / 1_000.0),
                "scalar" => {
                    Ok(Scalar::OfVector(super::build(run, &call.args[0], grid, &Above::named("scalar"))?, grid.count))
                }
                name @ ("min_of" | "max_of") => {
                    let a = Box::new(build(run, &call.args[0], grid)?);
                    let b = Box::new(build(run, &call.args[1], grid)?);
                    Ok(if name == "min_of" { Scalar::MinOf(a, b) } else { Scalar::MaxOf(a, b) })
                }
                name => Err(Error::Invalid(format!("function {name} does not evaluate to a scalar"))),
            }
        }
        _ => Err(Error::Invalid(format!("expected a scalar, got a {}", expr.value_type().text()))),
    }
}

impl Scalar<'_> {
    /// Returns the number at each step.
    pub(crate) fn eval(self, run: &Run<'_>) -> Result<Vec<f64>, Error> {
        let both = |a: Box<Self>, b: Box<Self>, f: &dyn Fn(f64, f64) -> f64| {
            let (a, b) = (a.eval(run)?, b.eval(run)?);
            Ok(a.into_iter().zip(b).map(|(x, y)| f(x, y)).collect())
        };
        match self {
            Self::Values(values) => Ok(values),
            Self::Unary(inner) => Ok(inner.eval(run)?.into_iter().map(|value| -value).collect()),
            Self::Binary(op, a, b) => both(a, b, &|x, y| arithmetic(op, x, y)),
            Self::MinOf(a, b) => both(a, b, &go_min),
            Self::MaxOf(a, b) => both(a, b, &go_max),
            Self::OfVector(mut op, count) => {
                let mut values = vec![f64::NAN; count];
                let mut floats = vec![0u32; count];
                while let Some(batch) = op.next(run)? {
                    for column in batch {
                        for k in column.present.iter() {
                            if let Some(value) = column.float(k) {
                                floats[k] += 1;
                                values[k] = if floats[k] == 1 { value } else { f64::NAN };
                            }
                        }
                    }
                }
                Ok(values)
            }
        }
    }
}

/// Applies an operator to two numbers; comparisons give 0 and 1.
pub(crate) fn arithmetic(op: BinaryOp, x: f64, y: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Mod => x % y,
        BinaryOp::Pow => x.powf(y),
        BinaryOp::Atan2 => x.atan2(y),
        _ => truth(compares(op, x, y)),
    }
}

/// Tells whether a comparison holds.
pub(crate) fn compares(op: BinaryOp, x: f64, y: f64) -> bool {
    match op {
        BinaryOp::Eq => x == y,
        BinaryOp::Ne => x != y,
        BinaryOp::Gt => x > y,
        BinaryOp::Lt => x < y,
        BinaryOp::Ge => x >= y,
        BinaryOp::Le => x <= y,
        _ => false,
    }
}

/// Go's `math.Min`: -Inf if either is, else NaN if either is.
pub(crate) fn go_min(x: f64, y: f64) -> f64 {
    if x == f64::NEG_INFINITY || y == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_negative() { x } else { y }
    } else {
        x.min(y)
    }
}

/// Go's `math.Max`: +Inf if either is, else NaN if either is.
pub(crate) fn go_max(x: f64, y: f64) -> f64 {
    if x == f64::INFINITY || y == f64::INFINITY {
        f64::INFINITY
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_positive() { x } else { y }
    } else {
        x.max(y)
    }
}

/// `vector(scalar)`
pub(super) fn vector<'a>(run: &Run<'_>, expr: &'a Expr, grid: Grid) -> Result<Op<'a>, Error> {
    Ok(Box::new(OfScalar(Some(build(run, expr, grid)?))))
}

/// A vector of one series without labels.
struct OfScalar<'a>(Option<Scalar<'a>>);

impl Operator for OfScalar<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(scalar) = self.0.take() else { return Ok(None) };
        Ok(Some(vec![Column::full(Labels::empty(), scalar.eval(run)?)]))
    }
}

/// The scalar parameters of an operator: built with it, so that their selectors are open, and evaluated before its first
/// batch.
pub(crate) enum Params<'a> {
    Open(Vec<Scalar<'a>>),
    Known(Vec<Arc<[f64]>>),
}

impl<'a> Params<'a> {
    pub(crate) fn none() -> Self {
        Self::Known(Vec::new())
    }

    pub(crate) fn build(run: &Run<'_>, exprs: impl Iterator<Item = &'a Expr>, grid: Grid) -> Result<Self, Error> {
        Ok(Self::Open(exprs.map(|expr| build(run, expr, grid)).collect::<Result<_, _>>()?))
    }

    /// Evaluates the parameters and returns them at the first call, and nothing at later ones.
    pub(crate) fn take(&mut self, run: &Run<'_>) -> Result<Option<Vec<Arc<[f64]>>>, Error> {
        match std::mem::replace(self, Self::Known(Vec::new())) {
            Self::Known(known) => {
                *self = Self::Known(known);
                Ok(None)
            }
            Self::Open(scalars) => {
                let known: Vec<Arc<[f64]>> =
                    scalars.into_iter().map(|scalar| scalar.eval(run).map(Arc::from)).collect::<Result<_, _>>()?;
                *self = Self::Known(known.clone());
                Ok(Some(known))
            }
        }
    }

    /// Returns the values of each parameter at each step.
    pub(crate) fn values(&mut self, run: &Run<'_>) -> Result<&[Arc<[f64]>], Error> {
        self.take(run)?;
        match self {
            Self::Known(known) => Ok(known),
            Self::Open(_) => Ok(&[]),
        }
    }
}

/// An operator with scalars beside it.
pub(crate) struct WithScalars<'a, F> {
    pub(crate) op: Op<'a>,
    pub(crate) params: Params<'a>,
    pub(crate) each: F,
}

impl<F: FnMut(Column, &[Arc<[f64]>]) -> Column> Operator for WithScalars<'_, F> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let params = self.params.values(run)?;
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let columns = batch.into_iter().map(|column| (self.each)(column, params));
        Ok(Some(columns.filter(|column| !column.present.is_empty()).collect()))
    }
}
