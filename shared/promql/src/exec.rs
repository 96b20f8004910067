//! Execution: an expression becomes a tree of operators, which are pulled for batches of whole series.
//!
//! Building the tree opens the stream of every selector, so that all of them are being fetched before the first is read.
//! Operators that need only one series at a time pass batches on ([`scan`], [`instant_fn`]); those that need several series
//! of a step collect their input ([`binary`], [`quantile`], part of [`aggregate`]). Each series is decoded once, on a worker,
//! and evaluated over the whole grid; what is folded is folded in the order of the series, so that an answer does not depend
//! on the number of workers.

use crate::ast::*;
use crate::engine::{Error, Run, Series, Value};
use crate::parse::durations;
pub(crate) use column::{Bits, Column, Grid, Point};
use farview_model::{Labels, METRIC_NAME};

mod aggregate;
mod binary;
mod column;
mod instant_fn;
mod labels;
mod quantile;
mod range_fn;
mod scalar;
mod scan;

/// An operator: a pull stream of batches of series.
pub(crate) trait Operator {
    /// Returns the next batch, which may be empty; `None` at the end.
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error>;
}

pub(crate) type Op<'a> = Box<dyn Operator + 'a>;

/// What the nearest operators above a selector do with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Above {
    func: String,
    grouping: Vec<String>,
    by: bool,
}

/// Pulls an operator to its end. What it gives stays until the end of the query and is charged.
pub(crate) fn collect(op: &mut Op<'_>, run: &Run<'_>) -> Result<Vec<Column>, Error> {
    let mut all = Vec::new();
    while let Some(batch) = op.next(run)? {
        run.check()?;
        for column in &batch {
            run.hold(column.size_bytes(), column.sample_count())?;
        }
        all.extend(batch);
    }
    Ok(all)
}

/// Columns that are there already.
pub(crate) struct Ready(pub(crate) Option<Vec<Column>>);

impl Operator for Ready {
    fn next(&mut self, _: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        Ok(self.0.take())
    }
}

/// Evaluates an expression over a grid.
pub(crate) fn evaluate(run: &Run<'_>, expr: &Expr, grid: Grid, instant: bool) -> Result<Value, Error> {
    match expr.value_type() {
        ValueType::String => {
            let Node::String(text) = &expr.unwrapped().node else {
                return Err(Error::Invalid("a string expression is a string literal".to_owned()));
            };
            Ok(Value::String(grid.start, text.value.clone()))
        }
        ValueType::Scalar => {
            let values = scalar::build(run, expr, grid)?.eval(run)?;
            if instant {
                return Ok(Value::Scalar(grid.start, values[0]));
            }
            let timestamps = (0..grid.count).map(|k| grid.at(k)).collect();
            Ok(Value::Matrix(vec![Series { timestamps, values, ..Series::default() }]))
        }
        ValueType::Matrix => scan::raw(run, expr, grid),
        ValueType::Vector | ValueType::None => {
            let mut op = build(run, expr, grid, &Above::default())?;
            let mut columns = collect(&mut op, run)?;
            columns.retain(|column| !column.present.is_empty());
            let columns = finish_names(columns)?;
            let mut series: Vec<Series> = columns.into_iter().map(|column| to_series(column, grid)).collect();
            if instant {
                return Ok(Value::Vector(series));
            }
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Value::Matrix(series))
        }
    }
}

fn to_series(column: Column, grid: Grid) -> Series {
    let mut series = Series { labels: column.labels.clone(), ..Series::default() };
    let floats = column.present.count();
    series.timestamps.reserve(floats);
    series.values.reserve(floats);
    for k in column.present.iter() {
        match column.histogram(k) {
            Some(histogram) => series.histograms.push((grid.at(k), histogram.clone())),
            None => {
                series.timestamps.push(grid.at(k));
                series.values.push(column.values[k]);
            }
        }
    }
    series
}

pub(crate) fn same_labels() -> Error {
    Error::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Drops the names that were to go at the end; series that become equal are joined if they share no step.
fn finish_names(columns: Vec<Column>) -> Result<Vec<Column>, Error> {
    if !columns.iter().any(|column| column.drop_name) {
        return Ok(columns);
    }
    let columns = columns.into_iter().map(|mut column| {
        if column.drop_name {
            column.labels = without_name(&column.labels);
        }
        column
    });
    join_equal(columns.collect())
}

/// Joins series of equal labels; two samples at one step are an error.
pub(crate) fn join_equal(columns: Vec<Column>) -> Result<Vec<Column>, Error> {
    let mut index = hashbrown::HashMap::with_capacity(columns.len());
    let mut joined: Vec<Column> = Vec::with_capacity(columns.len());
    for column in columns {
        match index.entry(column.labels.clone()) {
            hashbrown::hash_map::Entry::Vacant(entry) => {
                entry.insert(joined.len());
                joined.push(column);
            }
            hashbrown::hash_map::Entry::Occupied(entry) => {
                let first: &mut Column = &mut joined[*entry.get()];
                if first.present.overlaps(&column.present) {
                    return Err(same_labels());
                }
                first.absorb(&column);
            }
        }
    }
    Ok(joined)
}

/// Labels that say what a metric is and go away with its name.
const METADATA_LABELS: [&str; 2] = ["__type__", "__unit__"];

pub(crate) fn without_name(labels: &Labels) -> Labels {
    labels.without(|name| name == METRIC_NAME || METADATA_LABELS.contains(&name))
}

/// Returns the milliseconds of a duration that may be an expression; `positive` if it must be above 0.
pub(crate) fn millis(run: &Run<'_>, duration: &Duration, positive: bool) -> Result<i64, Error> {
    let expr = match duration {
        Duration::Millis(millis) => return Ok(*millis),
        Duration::Expr(expr) => expr,
    };
    let outer = run.outer;
    let instant = outer.count == 1 && outer.step == 1;
    let (step, range) = if instant { (0, 0) } else { (outer.step, outer.end() - outer.start) };
    let at = |message: &str| Error::Execution(format!("{}:{}: {message}", expr.span.start, expr.span.end));
    let millis = durations::fold(expr, step, range).map_err(|error| at(&error.message))?;
    if positive && millis <= 0 {
        return Err(at("duration must be greater than 0"));
    }
    Ok(millis)
}

/// Returns the fixed time of `@`, if there is one.
pub(crate) fn fixed_time(run: &Run<'_>, at: Option<At>) -> Option<i64> {
    at.map(|at| match at {
        At::Timestamp(t) => t,
        At::Start => run.outer.start,
        At::End => run.outer.end(),
    })
}

/// Tells whether an expression has the same value at every step.
fn is_invariant(expr: &Expr) -> bool {
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
            "days_in_month" | "day_of_month" | "day_of_week" | "day_of_year" | "hour" | "minute" | "month" | "year"
            | "predict_linear" | "time" | "start" | "end" | "step" | "range" => false,
            _ => call.args.iter().all(is_invariant),
        },
    }
}

/// Repeats what was computed for one step at all of them.
struct Broadcast<'a> {
    op: Op<'a>,
    count: usize,
}

impl Operator for Broadcast<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let repeat = |column: Column| {
            let mut wide = Column::new(column.labels.clone(), self.count);
            wide.drop_name = column.drop_name;
            match column.point(0) {
                None => {}
                Some(Point::Float(value)) => {
                    wide.values.fill(value);
                    wide.present = Bits::all(self.count);
                }
                Some(histogram) => (0..self.count).for_each(|k| wide.put(k, histogram.clone())),
            }
            wide
        };
        Ok(Some(batch.into_iter().map(repeat).collect()))
    }
}

/// Builds the operator of an expression that evaluates to an instant vector.
pub(crate) fn build<'a>(run: &Run<'_>, expr: &'a Expr, grid: Grid, above: &Above) -> Result<Op<'a>, Error> {
    if grid.count > 1 && is_invariant(expr) {
        let once = Grid { count: 1, ..grid };
        let op = build(run, expr, once, above)?;
        return Ok(Box::new(Broadcast { op, count: grid.count }));
    }
    match &expr.node {
        Node::Paren(inner) => build(run, inner, grid, above),
        Node::Vector(selector) => scan::instant(run, selector, grid, above, false),
        Node::Unary(unary) => {
            let op = build(run, &unary.expr, grid, above)?;
            Ok(if unary.op == UnaryOp::Plus { op } else { labels::negate(op, unary.expr.as_ref()) })
        }
        Node::Binary(binary) => binary::build(run, expr.span, binary, grid),
        Node::Aggregate(aggregate) => aggregate::build(run, expr, aggregate, grid),
        Node::Call(call) => build_call(run, expr, call, grid, above),
        Node::Number(_) | Node::String(_) | Node::Matrix(_) | Node::Subquery(_) => {
            Err(Error::Invalid(format!("expected an instant vector, got a {}", expr.value_type().text())))
        }
    }
}

fn build_call<'a>(run: &Run<'_>, expr: &'a Expr, call: &'a Call, grid: Grid, above: &Above) -> Result<Op<'a>, Error> {
    let name = call.func.name;
    if let Some(function) = range_fn::RangeFn::find(name) {
        let op = scan::range_call(run, call, function, grid)?;
        return Ok(if name == "absent_over_time" {
            let matrix = call.args[0].unwrapped();
            labels::absent(op, matrix, grid)
        } else {
            op
        });
    }
    match name {
        "vector" => scalar::vector(run, &call.args[0], grid),
        "absent" => {
            let inner = &call.args[0];
            let op = build(run, inner, grid, &named(name))?;
            Ok(labels::absent(op, inner.unwrapped(), grid))
        }
        "timestamp" => {
            if let Node::Vector(selector) = &call.args[0].unwrapped().node {
                return scan::instant(run, selector, grid, &named(name), true);
            }
            instant_fn::build(run, call, grid)
        }
        "label_replace" => labels::replace(run, call, grid, above),
        "label_join" => labels::join(run, call, grid, above),
        "sort" | "sort_desc" => {
            if run.outer.count > 1 {
                let text = "sort is ineffective for range queries since results are always ordered by labels";
                run.warn(expr.span, text);
            }
            let op = build(run, &call.args[0], grid, &named(name))?;
            Ok(labels::sort(op, name == "sort_desc"))
        }
        "sort_by_label" | "sort_by_label_desc" => {
            if run.outer.count > 1 {
                let text = "sort is ineffective for range queries since results are always ordered by labels";
                run.warn(expr.span, text);
            }
            labels::sort_by_label(run, call, grid)
        }
        "histogram_quantile" => quantile::build(run, expr, call, grid),
        _ => instant_fn::build(run, call, grid),
    }
}

/// What a selector below the function `name` is told.
pub(crate) fn named(name: &str) -> Above {
    Above { func: name.to_owned(), ..Above::default() }
}
