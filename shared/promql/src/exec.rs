//! Execution: an expression becomes a tree of operators, which are pulled for batches of whole series.
//!
//! Building the tree opens the stream of every selector, so that all of them are being fetched before the first is read;
//! nothing is read before the first pull, not even the parameters of functions. Operators that need only one series at a
//! time pass batches on ([`scan`], [`subquery`], [`instant_fn`], vectors with scalars in [`binary`]); those that need several
//! series of a step hold what they must (joins, [`histogram_fn`], part of [`aggregate`]). Each series is decoded once, on a
//! worker, and evaluated over the whole grid; what is folded is folded in the order of the series, so that an answer does not
//! depend on the number of workers.

use crate::annotations::Note;
use crate::ast::*;
use crate::engine::{Error, Hold, Run, Series, Value};
use crate::plan::{self, Above};
pub(crate) use column::{Bits, Column, Grid, Point};
use farview_model::{Labels, METRIC_NAME, Samples};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use range_fn::{RangeFn, Task};
use scan::{Instant, Names, RangeWork};

mod aggregate;
mod binary;
mod column;
mod histogram_fn;
mod info;
mod instant_fn;
mod labels;
mod profile;
mod range_fn;
mod scalar;
mod scan;
mod subquery;

pub use profile::OperatorNode;
pub(crate) use profile::Profile;

/// An operator: a pull stream of batches of series.
pub(crate) trait Operator {
    /// Returns the next batch, which may be empty; `None` at the end.
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error>;
}

pub(crate) type Op<'a> = Box<dyn Operator + 'a>;

/// All columns of an operator, and the memory they take.
pub(crate) struct Collected {
    pub(crate) columns: Vec<Column>,
    pub(crate) hold: Hold,
}

/// Pulls an operator to its end.
pub(crate) fn collect(op: &mut Op<'_>, run: &Run<'_>) -> Result<Collected, Error> {
    let mut columns = Vec::new();
    let mut hold = run.hold(0, 0)?;
    while let Some(batch) = op.next(run)? {
        run.check()?;
        let size = |(bytes, samples), column: &Column| (bytes + column.size_bytes(), samples + column.sample_count());
        let (bytes, samples) = batch.iter().fold((0, 0), size);
        hold.grow(run, bytes, samples)?;
        columns.extend(batch);
    }
    Ok(Collected { columns, hold })
}

/// Columns that are there already.
pub(crate) struct Ready(pub(crate) Option<Vec<Column>>);

impl Operator for Ready {
    fn next(&mut self, _: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        Ok(self.0.take())
    }
}

/// Evaluates an expression over a grid.
pub(crate) fn evaluate(run: &Run<'_>, expr: &Expr, grid: Grid) -> Result<Value, Error> {
    match expr.value_type() {
        ValueType::String => {
            let Node::String(text) = &expr.unwrapped().node else {
                return Err(Error::Invalid("a string expression is a string literal".to_owned()));
            };
            Ok(Value::String(grid.start, text.value.clone()))
        }
        ValueType::Scalar => {
            let values = scalar::build(run, expr, grid)?.eval(run)?;
            if run.instant {
                return Ok(Value::Scalar(grid.start, values[0]));
            }
            let timestamps = (0..grid.count).map(|k| grid.at(k)).collect();
            Ok(Value::Matrix(vec![Series { timestamps, values, ..Series::default() }]))
        }
        ValueType::Matrix => raw(run, expr, grid),
        ValueType::Vector | ValueType::None => {
            let mut op = build(run, expr, grid, &Above::default())?;
            let Collected { mut columns, hold: _hold } = collect(&mut op, run)?;
            columns.retain(|column| !column.present.is_empty());
            let columns = finish_names(columns)?;
            let mut series: Vec<Series> = columns.into_iter().map(|column| to_series(column, grid)).collect();
            if run.instant {
                return Ok(Value::Vector(series));
            }
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Value::Matrix(series))
        }
    }
}

/// Builds the operators of an expression and drops them again.
pub(crate) fn build_only(run: &Run<'_>, expr: &Expr, grid: Grid) -> Result<(), Error> {
    match (expr.value_type(), &expr.unwrapped().node) {
        (ValueType::Scalar, _) => {
            let entered = run.profile.enter(|| profile::name(expr));
            scalar::build(run, expr, grid)?;
            run.profile.leave(entered, Box::new(Ready(None)));
        }
        (ValueType::Matrix, Node::Subquery(subquery)) => {
            let entered = run.profile.enter(|| profile::name(expr));
            let (_, inner) = plan::subquery_grid(run, subquery, grid)?;
            build(run, &subquery.expr, inner, &Above::default())?;
            run.profile.leave(entered, Box::new(Ready(None)));
        }
        (ValueType::Vector, _) => {
            build(run, expr, grid, &Above::default())?;
        }
        _ => {
            let entered = run.profile.enter(|| profile::name(expr));
            run.profile.leave(entered, Box::new(Ready(None)));
        }
    }
    Ok(())
}

/// Evaluates a range vector itself: the samples of its one window.
fn raw(run: &Run<'_>, expr: &Expr, grid: Grid) -> Result<Value, Error> {
    let mut series = Vec::new();
    let mut hold = run.hold(0, 0)?;
    match &expr.unwrapped().node {
        Node::Matrix(matrix) => {
            let windows = plan::matrix_windows(run, matrix, grid)?;
            let extension = matrix.selector.extension;
            let range = scan::extended_bounds(run, extension, windows);
            let select = plan::select(&matrix.selector.matchers, range, windows.range, grid, &Above::default());
            let mut stream = run.source.select(&select)?;
            while let Some(batch) = stream.next()? {
                run.check()?;
                for source in batch {
                    let mut samples = Samples::default();
                    source.samples.read(range, &mut samples)?;
                    range_fn::drop_stale(&mut samples);
                    if extension != Extension::None {
                        if !samples.histograms.is_empty() {
                            let text = "anchored and smoothed range vectors cannot be shown with histograms";
                            return Err(Error::Execution(text.to_owned()));
                        }
                        let lookback = run.lookback;
                        let (times, values) = range_fn::extended_points(windows, extension, lookback, &samples);
                        samples = Samples { timestamps: times, values, ..Samples::default() };
                    }
                    hold.grow(run, (samples.len() * 16) as u64, samples.len() as u64)?;
                    series.push(Series {
                        labels: source.labels,
                        timestamps: samples.timestamps,
                        values: samples.values,
                        histograms: samples.histogram_timestamps.into_iter().zip(samples.histograms).collect(),
                    });
                }
            }
        }
        Node::Subquery(subquery) => {
            let (_, inner) = plan::subquery_grid(run, subquery, grid)?;
            let mut op = build(run, &subquery.expr, inner, &Above::default())?;
            let Collected { columns, hold: _hold } = collect(&mut op, run)?;
            series.extend(finish_names(columns)?.into_iter().map(|column| to_series(column, inner)));
        }
        _ => return Err(Error::Invalid("expected a range vector".to_owned())),
    }
    series.retain(|series| !series.timestamps.is_empty() || !series.histograms.is_empty());
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Value::Matrix(series))
}

fn to_series(column: Column, grid: Grid) -> Series {
    let mut series = Series { labels: column.labels.clone(), ..Series::default() };
    if column.histograms.is_none() && column.present.is_full(column.len()) {
        series.timestamps = (0..grid.count).map(|k| grid.at(k)).collect();
        series.values = column.values;
        return series;
    }
    let samples = column.present.count();
    series.timestamps.reserve(samples);
    series.values.reserve(samples);
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
    let columns = columns.into_iter().map(|mut column| {
        if column.drop_name {
            column.labels = without_name(&column.labels);
            column.drop_name = false;
        }
        column
    });
    join_equal(columns.collect())
}

/// Joins series of equal labels; two samples at one step are an error. A series whose name is to go is another than one
/// whose name stays.
pub(crate) fn join_equal(columns: Vec<Column>) -> Result<Vec<Column>, Error> {
    if columns.is_sorted_by(|a, b| a.labels < b.labels) {
        return Ok(columns);
    }
    let mut index = HashMap::with_capacity(columns.len());
    let mut joined: Vec<Column> = Vec::with_capacity(columns.len());
    for column in columns {
        match index.entry((column.labels.clone(), column.drop_name)) {
            Entry::Vacant(entry) => {
                entry.insert(joined.len());
                joined.push(column);
            }
            Entry::Occupied(entry) => {
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

/// Tells whether a label says what a metric is and goes away with its name.
pub(crate) fn is_metadata(name: &str) -> bool {
    matches!(name, METRIC_NAME | "__type__" | "__unit__")
}

pub(crate) fn without_name(labels: &Labels) -> Labels {
    labels.without(is_metadata)
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
    if let Node::Paren(inner) = &expr.node {
        return build(run, inner, grid, above);
    }
    if grid.count > 1 && plan::is_invariant(expr) {
        let entered = run.profile.enter(|| "stepInvariant".to_owned());
        let op = build(run, expr, Grid { count: 1, ..grid }, above)?;
        return Ok(run.profile.leave(entered, Box::new(Broadcast { op, count: grid.count })));
    }
    let entered = run.profile.enter(|| profile::name(expr));
    let op = build_node(run, expr, grid, above)?;
    Ok(run.profile.leave(entered, op))
}

fn build_node<'a>(run: &Run<'_>, expr: &'a Expr, grid: Grid, above: &Above) -> Result<Op<'a>, Error> {
    match &expr.node {
        Node::Paren(inner) => build(run, inner, grid, above),
        Node::Vector(selector) => scan::instant(run, selector, expr.span, grid, above, Instant::Newest),
        Node::Unary(unary) => {
            let op = build(run, &unary.expr, grid, above)?;
            Ok(if unary.op == UnaryOp::Plus { op } else { labels::negate(op, plan::is_nameless(&unary.expr)) })
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
    if let Some(function) = RangeFn::find(name) {
        return range_call(run, call, function, grid);
    }
    let argument = |i: usize| build(run, &call.args[i], grid, &Above::named(name));
    match name {
        "vector" => scalar::vector(run, &call.args[0], grid),
        "absent" => Ok(labels::absent(argument(0)?, call.args[0].unwrapped(), grid)),
        "timestamp" => match &call.args[0].unwrapped().node {
            Node::Vector(selector) => {
                scan::instant(run, selector, expr.span, grid, &Above::named(name), Instant::Timestamp)
            }
            _ => instant_fn::build(run, call, grid),
        },
        "start_timestamp" => match &call.args[0].unwrapped().node {
            Node::Vector(selector) if run.options().start_timestamps => {
                scan::instant(run, selector, expr.span, grid, &Above::named(name), Instant::StartTimestamp)
            }
            _ => {
                argument(0)?;
                Ok(Box::new(Ready(None)))
            }
        },
        "label_replace" => labels::replace(run, call, grid, above),
        "label_join" => labels::join(run, call, grid, above),
        "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => {
            if !run.instant {
                run.note(expr.span, Note::SortInRange);
            }
            match name {
                "sort" | "sort_desc" => Ok(labels::sort(argument(0)?, name == "sort_desc")),
                _ => labels::sort_by_label(run, call, grid),
            }
        }
        "info" => info::build(run, call, grid),
        _ if histogram_fn::is_one(name) => histogram_fn::build(run, call, grid),
        _ => instant_fn::build(run, call, grid),
    }
}

/// Builds a function over a range selector or a subquery.
fn range_call<'a>(run: &Run<'_>, call: &'a Call, function: RangeFn, grid: Grid) -> Result<Op<'a>, Error> {
    let name = call.func.name;
    let matrix_at = call.args.iter().position(|arg| arg.value_type() == ValueType::Matrix).unwrap_or(0);
    let params = call.args.iter().enumerate().filter(|(i, _)| *i != matrix_at).map(|(_, arg)| arg);
    let params = scalar::Params::build(run, params, grid)?;
    // `absent_over_time` looks at no labels: series may differ by their names only.
    let names = if name == "absent_over_time" { Names::Keep } else { Names::of(run, function.keeps_name()) };
    let matrix = call.args[matrix_at].unwrapped();
    let task = |windows, extension| Task {
        function,
        windows,
        params: Vec::new(),
        start_timestamps: run.options().start_timestamps,
        extension,
        lookback: run.lookback,
    };
    let work = |task| RangeWork { task, argument: matrix.span, first: call.args[0].unwrapped().span };
    let op = match &matrix.node {
        Node::Matrix(selector) => {
            // Thanos' own functions take the newest sample before the window as its first, as anchored windows do.
            let extended = matches!(name, "xrate" | "xincrease" | "xdelta");
            let extension = if extended { Extension::Anchored } else { selector.selector.extension };
            if let Err(allowed) = function.allows(extension) {
                let modifier = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
                let text = format!("{modifier} modifier can only be used with: {allowed} - not with {name}");
                return Err(Error::Execution(text));
            }
            let windows = plan::matrix_windows(run, selector, grid)?;
            scan::range(run, work(task(windows, extension)), params, selector, &Above::named(name), names)?
        }
        Node::Subquery(inner) => {
            let (windows, inner_grid) = plan::subquery_grid(run, inner, grid)?;
            let mut op = build(run, &inner.expr, inner_grid, &Above::named(name))?;
            if may_come_in_parts(&inner.expr) {
                op = labels::joined(op);
            }
            subquery::range(op, inner_grid, work(task(windows, Extension::None)), params, names)
        }
        _ => return Err(Error::Invalid("expected a range vector".to_owned())),
    };
    Ok(if name == "absent_over_time" { labels::absent(op, matrix, grid) } else { op })
}

/// Tells whether two of an operator's series may have the same labels, with samples at different steps: where names are
/// dropped from series of several names.
fn may_come_in_parts(expr: &Expr) -> bool {
    match &expr.unwrapped().node {
        Node::Call(call) => RangeFn::find(call.func.name).is_none(),
        Node::Binary(_) => true,
        _ => false,
    }
}
