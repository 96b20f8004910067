//! What is known of a query before a sample is read: durations in milliseconds, `@` as a time, which parts have the same
//! value at every step, which windows and inner grids there are, and what each selector asks the source for.

use crate::ast::*;
use crate::engine::{Error, Run, too_many_samples};
use crate::exec::Grid;
use crate::parse::durations;
use crate::source::Select;
use farview_model::{Matcher, TimeRange};

/// What the nearest operators above a selector do with it; none across a binary operator.
#[derive(Debug, Clone, Default)]
pub(crate) struct Above {
    pub(crate) func: String,
    pub(crate) grouping: Vec<String>,
    pub(crate) by: bool,
}

impl Above {
    /// The function `name` is above.
    pub(crate) fn named(name: &str) -> Self {
        Self { func: name.to_owned(), ..Self::default() }
    }
}

/// Where the window of each step lies: `(end - range, end]`, with `end` the step's time or a fixed one, less the offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) grid: Grid,
    pub(crate) at: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) range: i64,
}

impl Windows {
    /// The last millisecond of the window of step `k`.
    #[inline(always)]
    pub(crate) fn end(self, k: usize) -> i64 {
        self.at.unwrap_or_else(|| self.grid.at(k)).saturating_sub(self.offset)
    }

    /// All of time that the windows cover.
    pub(crate) fn bounds(self) -> TimeRange {
        let last = self.grid.count.saturating_sub(1);
        TimeRange::new(self.end(0).saturating_sub(self.range).saturating_add(1), self.end(last))
    }
}

/// Returns the milliseconds of a duration that may be an expression; `positive` if it must be above 0.
pub(crate) fn millis(run: &Run<'_>, duration: &Duration, positive: bool) -> Result<i64, Error> {
    let expr = match duration {
        Duration::Millis(millis) => return Ok(*millis),
        Duration::Expr(expr) => expr,
    };
    let (step, range) = run.step_and_range();
    let at = |message: &str| Error::Invalid(format!("{}:{}: {message}", expr.span.start, expr.span.end));
    let millis = durations::fold(expr, step, range).map_err(|error| at(&error.message))?;
    if positive && millis <= 0 {
        return Err(at("duration must be greater than 0"));
    }
    Ok(millis)
}

/// Returns the milliseconds of an `offset`, 0 if there is none.
pub(crate) fn offset(run: &Run<'_>, offset: Option<&Duration>) -> Result<i64, Error> {
    offset.map_or(Ok(0), |offset| millis(run, offset, false))
}

/// Returns the fixed time of `@`, if there is one.
pub(crate) fn fixed_time(run: &Run<'_>, at: Option<At>) -> Option<i64> {
    at.map(|at| match at {
        At::Timestamp(t) => t,
        At::Start => run.outer.start,
        At::End => run.outer.end(),
    })
}

/// Returns the windows of an instant selector: each as long as the lookback.
pub(crate) fn lookback_windows(run: &Run<'_>, selector: &VectorSelector, grid: Grid) -> Result<Windows, Error> {
    let offset = offset(run, selector.offset.as_ref())?;
    Ok(Windows { grid, at: fixed_time(run, selector.at), offset, range: run.lookback })
}

/// Returns the windows of a range selector.
pub(crate) fn matrix_windows(run: &Run<'_>, matrix: &MatrixSelector, grid: Grid) -> Result<Windows, Error> {
    let offset = offset(run, matrix.selector.offset.as_ref())?;
    let range = millis(run, &matrix.range, true)?;
    Ok(Windows { grid, at: fixed_time(run, matrix.selector.at), offset, range })
}

/// Returns the windows of a subquery and the grid on which its inner expression is evaluated: absolute multiples of the
/// inner step, whatever the outer steps are. Grids that no query could hold are refused here, before anything runs.
pub(crate) fn subquery_grid(run: &Run<'_>, subquery: &Subquery, grid: Grid) -> Result<(Windows, Grid), Error> {
    let offset = offset(run, subquery.offset.as_ref())?;
    let range = millis(run, &subquery.range, true)?;
    let default = run.options().default_subquery_step;
    let step = subquery.step.as_ref().map_or(Ok(default), |step| millis(run, step, true))?;
    let windows = Windows { grid, at: fixed_time(run, subquery.at), offset, range };
    let bounds = windows.bounds();
    // The first multiple of the step that lies after the window's open start. Counted in 128 bits: times may lie at the ends
    // of what a time can be.
    let (wide, from, to) = (i128::from(step), i128::from(bounds.mint) - 1, i128::from(bounds.maxt));
    let first = from.div_euclid(wide) * wide + wide;
    let count = if to < first { 0 } else { (to - first) / wide + 1 };
    match (i64::try_from(first), usize::try_from(count)) {
        (Ok(start), Ok(count)) if count <= run.options().max_samples => Ok((windows, Grid { start, step, count })),
        _ => Err(too_many_samples()),
    }
}

/// Makes what a selector asks the source for.
pub(crate) fn select(matchers: &[Matcher], range: TimeRange, window: i64, grid: Grid, above: &Above) -> Select {
    Select {
        matchers: matchers.to_vec(),
        range,
        step: if grid.count > 1 { grid.step } else { 0 },
        window,
        func: above.func.clone(),
        grouping: above.grouping.clone(),
        by: above.by,
        labels_only: false,
        limit: 0,
    }
}

/// Tells whether the series of a vector have neither a name nor metadata labels, whatever the data are: dropping these then
/// changes nothing, and series that differ go on to differ.
pub(crate) fn is_nameless(expr: &Expr) -> bool {
    match &expr.node {
        Node::Paren(inner) => is_nameless(inner),
        Node::Unary(unary) => unary.op == UnaryOp::Minus || is_nameless(&unary.expr),
        Node::Aggregate(aggregate) => {
            let folds = !matches!(
                aggregate.op,
                AggregateOp::TopK
                    | AggregateOp::BottomK
                    | AggregateOp::LimitK
                    | AggregateOp::LimitRatio
                    | AggregateOp::CountValues
            );
            folds && !aggregate.without && !aggregate.grouping.iter().any(|label| crate::exec::is_metadata(label))
        }
        Node::Call(call) => !NAME_KEEPING.contains(&call.func.name) && !call.func.name.starts_with("histogram_"),
        Node::Binary(binary) => {
            !binary.op.is_comparison()
                && !binary.op.is_set()
                && !matches!(binary.op, BinaryOp::TrimLower | BinaryOp::TrimUpper)
        }
        _ => false,
    }
}

/// Functions that keep names, or can make them anew.
const NAME_KEEPING: [&str; 9] = [
    "first_over_time",
    "info",
    "label_join",
    "label_replace",
    "last_over_time",
    "sort",
    "sort_by_label",
    "sort_by_label_desc",
    "sort_desc",
];

/// Functions whose value depends on the step even if their arguments do not.
const STEP_DEPENDENT: [&str; 14] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "year",
];

/// Tells whether an expression has the same value at every step.
pub(crate) fn is_invariant(expr: &Expr) -> bool {
    match &expr.node {
        Node::Number(_) | Node::String(_) => true,
        Node::Vector(selector) => selector.at.is_some(),
        Node::Matrix(matrix) => matrix.selector.at.is_some(),
        Node::Subquery(subquery) => subquery.at.is_some(),
        Node::Paren(inner) => is_invariant(inner),
        Node::Unary(unary) => is_invariant(&unary.expr),
        Node::Binary(binary) => is_invariant(&binary.lhs) && is_invariant(&binary.rhs),
        Node::Aggregate(aggregate) => {
            is_invariant(&aggregate.expr) && aggregate.param.as_ref().is_none_or(|param| is_invariant(param))
        }
        Node::Call(call) => match call.func.name {
            "timestamp" => matches!(&call.args[0].unwrapped().node, Node::Vector(selector) if selector.at.is_some()),
            name => !STEP_DEPENDENT.contains(&name) && call.args.iter().all(is_invariant),
        },
    }
}
