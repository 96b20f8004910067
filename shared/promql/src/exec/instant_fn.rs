//! Functions of each sample alone.

use super::scalar::{Params, WithScalars, go_max, go_min};
use super::scan::Names;
use super::{Column, Grid, Op, Ready, build as build_vector, labels};
use crate::ast::*;
use crate::engine::{Error, Run};
use crate::plan::{self, Above};
use farview_model::Labels;
use std::sync::Arc;

/// Builds the call of a function that needs one sample at a time. Names go away.
pub(super) fn build<'a>(run: &Run<'_>, call: &'a Call, grid: Grid) -> Result<Op<'a>, Error> {
    let name = call.func.name;
    if let Some(part) = calendar(name) {
        return build_calendar(run, call, grid, part);
    }
    let op = build_vector(run, &call.args[0], grid, &Above::named(name))?;
    let params = Params::build(run, call.args[1..].iter(), grid)?;
    let nameless = plan::is_nameless(&call.args[0]);
    if name == "timestamp" {
        return Ok(mapped(run, op, params, nameless, move |column, _| {
            for k in 0..column.len() {
                column.values[k] = grid.at(k) as f64 / 1_000.0;
            }
            column.histograms = None;
        }));
    }
    if let Some(function) = unary(name) {
        return Ok(mapped(run, op, params, nameless, move |column, _| {
            column.drop_histograms();
            column.values.iter_mut().for_each(|value| *value = function(*value));
        }));
    }
    Ok(match name {
        "round" => mapped(run, op, params, nameless, |column, params| {
            each_float(column, |k, value| {
                // The inverse is taken first, as Prometheus does: it rounds differently.
                let inverse = 1.0 / params.first().map_or(1.0, |to| to[k]);
                (value * inverse + 0.5).floor() / inverse
            });
        }),
        "clamp" => mapped(run, op, params, nameless, |column, params| {
            each_float(column, |k, value| go_max(params[0][k], go_min(params[1][k], value)));
            (0..column.len()).filter(|k| params[1][*k] < params[0][*k]).for_each(|k| column.remove(k));
        }),
        "clamp_min" | "clamp_max" => {
            let clamp = if name == "clamp_min" { go_max } else { go_min };
            mapped(run, op, params, nameless, move |column, params| {
                each_float(column, |k, value| clamp(params[0][k], value))
            })
        }
        _ => return Err(Error::Execution(format!("function {name} is not implemented"))),
    })
}

/// Applies `each` to every column, then takes the name away; from `nameless` series nothing is taken.
fn mapped<'a>(
    run: &Run<'_>,
    op: Op<'a>,
    params: Params<'a>,
    nameless: bool,
    mut each: impl FnMut(&mut Column, &[Arc<[f64]>]) + 'a,
) -> Op<'a> {
    let names = Names::of(run, false);
    let each = move |mut column: Column, params: &[Arc<[f64]>]| {
        each(&mut column, params);
        names.apply(&mut column);
        column
    };
    let op = Box::new(WithScalars { op, params, each });
    if nameless { op } else { Box::new(labels::Unique::new(op)) }
}

fn each_float(column: &mut Column, function: impl Fn(usize, f64) -> f64) {
    column.drop_histograms();
    for k in 0..column.len() {
        if column.present.get(k) {
            column.values[k] = function(k, column.values[k]);
        }
    }
}

fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sgn" => |value| {
            if value < 0.0 {
                -1.0
            } else if value > 0.0 {
                1.0
            } else {
                value
            }
        },
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        _ => return None,
    })
}

type Part = fn(&jiff::civil::DateTime) -> f64;

/// The functions of the calendar, in UTC.
fn calendar(name: &str) -> Option<Part> {
    Some(match name {
        "minute" => |t| f64::from(t.minute()),
        "hour" => |t| f64::from(t.hour()),
        "day_of_week" => |t| f64::from(t.weekday().to_sunday_zero_offset()),
        "day_of_month" => |t| f64::from(t.day()),
        "day_of_year" => |t| f64::from(t.day_of_year()),
        "days_in_month" => |t| f64::from(t.days_in_month()),
        "month" => |t| f64::from(t.month()),
        "year" => |t| f64::from(t.year()),
        _ => return None,
    })
}

fn build_calendar<'a>(run: &Run<'_>, call: &'a Call, grid: Grid, part: Part) -> Result<Op<'a>, Error> {
    let of = move |seconds: f64| {
        // Fractions are cut off toward zero. What lies beyond the calendar has no date.
        let seconds = seconds.trunc();
        if !(-377_705_023_201.0..=253_402_207_200.0).contains(&seconds) {
            return f64::NAN;
        }
        jiff::Timestamp::from_second(seconds as i64)
            .map_or(f64::NAN, |t| part(&t.to_zoned(jiff::tz::TimeZone::UTC).datetime()))
    };
    if call.args.is_empty() {
        let values = (0..grid.count).map(|k| of(grid.at(k) as f64 / 1_000.0)).collect();
        return Ok(Box::new(Ready(Some(vec![Column::full(Labels::empty(), values)]))));
    }
    let op = build_vector(run, &call.args[0], grid, &Above::named(call.func.name))?;
    Ok(mapped(run, op, Params::none(), plan::is_nameless(&call.args[0]), move |column, _| {
        each_float(column, |_, value| of(value))
    }))
}
