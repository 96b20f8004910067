//! The disguises of an instant query: the same query must answer the same when its time is fixed with `@` and it is evaluated
//! at another one, and in the middle of a range query.

use crate::ast::{At, Expr, Node};
use crate::parse::{Options, parse};

/// Functions whose result depends on the time of evaluation even if their arguments do not.
const UNSAFE: [&str; 15] = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
    "predict_linear",
    "time",
    "timestamp",
    "start",
    "end",
    "range",
    "step",
];

/// Returns the query with `@ t` on every selector that has none, and the times (ms) at which it must answer the same; `None`
/// if it may not.
pub fn fixed(query: &str, t: i64) -> Option<(String, Vec<i64>)> {
    let mut expr = parse(query, &Options::all()).ok()?;
    if !pin(&mut expr, t) {
        return None;
    }
    let times = if t == 0 { vec![-1_000, 0, 1_000] } else { vec![-10 * t, 0, t / 5, t, 10 * t] };
    Some((expr.to_string(), times))
}

/// Tells whether the query may be evaluated as the middle of a range.
pub fn fits_range(query: &str) -> bool {
    !["start()", "end()", "range()", "step()"].iter().any(|call| query.contains(call))
}

/// Fixes the time of the selectors; tells whether the answer then no longer depends on the time of evaluation.
fn pin(expr: &mut Expr, t: i64) -> bool {
    let set = |at: &mut Option<At>| {
        if !matches!(at, Some(At::Timestamp(_))) {
            *at = Some(At::Timestamp(t));
        }
    };
    match &mut expr.node {
        Node::Number(_) | Node::String(_) => true,
        Node::Vector(selector) => {
            set(&mut selector.at);
            true
        }
        Node::Matrix(matrix) => {
            set(&mut matrix.selector.at);
            true
        }
        Node::Subquery(subquery) => {
            // What is inside is governed by the subquery.
            set(&mut subquery.at);
            true
        }
        Node::Unary(unary) => pin(&mut unary.expr, t),
        Node::Paren(inner) => pin(inner, t),
        Node::Binary(binary) => pin(&mut binary.lhs, t) & pin(&mut binary.rhs, t),
        Node::Aggregate(aggregate) => {
            let param = aggregate.param.as_deref_mut().is_none_or(|param| pin(param, t));
            pin(&mut aggregate.expr, t) & param
        }
        Node::Call(call) => {
            let fixed = !UNSAFE.contains(&call.func.name);
            call.args.iter_mut().fold(fixed, |fixed, arg| pin(arg, t) & fixed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_fixed_and_subqueries_as_a_whole() {
        for (query, expected) in [
            ("a + rate(b[5m] @ 1)", "a @ 10.000 + rate(b[5m] @ 1.000)"),
            ("sum_over_time(a[1h:])", "sum_over_time(a[1h:] @ 10.000)"),
            ("a @ start()", "a @ 10.000"),
        ] {
            assert_eq!(fixed(query, 10_000).unwrap().0, expected);
        }
        assert_eq!(fixed("a", 0).unwrap().1, [-1_000, 0, 1_000]);
        assert_eq!(fixed("time() + a", 0), None);
        assert!(!fits_range("a offset step()"));
    }
}
