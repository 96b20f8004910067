//! Expressions with one number per step.

use super::{Above, Column, Grid, Op, Operator, Ready};
use crate::ast::*;
use crate::engine::{Error, Run};
use farview_model::Labels;

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
            let instant = outer.count == 1 && outer.step == 1;
            match call.func.name {
                "time" => Ok(Scalar::Values((0..grid.count).map(|k| grid.at(k) as f64 / 1_000.0).collect())),
                "pi" => constant(std::f64::consts::PI),
                "start" => constant(outer.start as f64 / 1_000.0),
                "end" => constant(outer.end() as f64 / 1_000.0),
                "step" => constant(if instant { 0.0 } else { outer.step as f64 / 1_000.0 }),
                "range" => constant((outer.end() - outer.start) as f64 / 1_000.0),
                "scalar" => {
                    let above = Above { func: "scalar".to_owned(), ..Above::default() };
                    Ok(Scalar::OfVector(super::build(run, &call.args[0], grid, &above)?, grid.count))
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

/// Go's `math.Min`: NaN if either is.
pub(crate) fn go_min(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_negative() { x } else { y }
    } else {
        x.min(y)
    }
}

/// Go's `math.Max`: NaN if either is.
pub(crate) fn go_max(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 && y == 0.0 {
        if x.is_sign_positive() { x } else { y }
    } else {
        x.max(y)
    }
}

/// `vector(scalar)`
pub(super) fn vector<'a>(run: &Run<'_>, expr: &'a Expr, grid: Grid) -> Result<Op<'a>, Error> {
    let values = build(run, expr, grid)?.eval(run)?;
    Ok(Box::new(Ready(Some(vec![Column::full(Labels::empty(), values)]))))
}

/// An operator with a scalar beside it that is evaluated before the first batch.
pub(crate) struct WithScalars<'a, F> {
    pub(crate) op: Op<'a>,
    pub(crate) params: Vec<Vec<f64>>,
    pub(crate) each: F,
}

impl<F: FnMut(Column, &[Vec<f64>]) -> Column> Operator for WithScalars<'_, F> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        Ok(Some(batch.into_iter().map(|column| (self.each)(column, &self.params)).collect()))
    }
}
