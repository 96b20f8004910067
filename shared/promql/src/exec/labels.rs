//! Operators that look at labels, or only at whether there are samples.

use super::scan::Names;
use super::{Bits, Collected, Column, Grid, Op, Operator, Point, build, collect, join_equal, same_labels};
use crate::ast::*;
use crate::engine::{Error, Hold, Run};
use crate::plan::Above;
use farview_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp};
use hashbrown::HashMap;
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};

/// Passes series through and refuses a label set that comes twice: with samples at one step, or after functions over ranges
/// at all.
pub(crate) struct Unique<'a> {
    op: Op<'a>,
    seen: HashMap<Labels, Bits>,
    hold: Option<Hold>,
    /// Twice is too often even if no step is shared.
    at_all: bool,
    /// All series have had one name: they still differ without it, unless this is set because some lost metadata labels
    /// too. Those come first: `__type__` stands before nearly all label names.
    one_name: Option<Arc<AtomicBool>>,
}

impl<'a> Unique<'a> {
    pub(crate) fn new(op: Op<'a>) -> Self {
        Self { op, seen: HashMap::new(), hold: None, at_all: false, one_name: None }
    }

    /// After functions over ranges. `one_name` is given if all series have had one name, and is set once one of them loses
    /// metadata labels.
    pub(crate) fn of_ranges(op: Op<'a>, one_name: Option<Arc<AtomicBool>>) -> Self {
        Self { at_all: true, one_name, ..Self::new(op) }
    }
}

impl Operator for Unique<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        if run.options().delayed_name_removal
            || self.one_name.as_ref().is_some_and(|lost| !lost.load(AtomicOrdering::Relaxed))
        {
            return Ok(Some(batch));
        }
        let bytes = batch.iter().map(|column| (column.labels.size_bytes() + column.len() / 8 + 64) as u64).sum();
        match &mut self.hold {
            Some(hold) => hold.grow(run, bytes, 0)?,
            none => *none = Some(run.hold(bytes, 0)?),
        }
        for column in &batch {
            match self.seen.get_mut(&column.labels) {
                None => {
                    self.seen.insert(column.labels.clone(), column.present.clone());
                }
                Some(present) if self.at_all || present.overlaps(&column.present) => return Err(same_labels()),
                Some(present) => present.add(&column.present),
            }
        }
        Ok(Some(batch))
    }
}

/// Collects its input before it gives it away changed.
struct Barrier<'a, F> {
    op: Option<Op<'a>>,
    finish: F,
}

impl<F: FnMut(&Run<'_>, Vec<Column>) -> Result<Vec<Column>, Error>> Operator for Barrier<'_, F> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut op) = self.op.take() else { return Ok(None) };
        let Collected { columns, hold: _hold } = collect(&mut op, run)?;
        (self.finish)(run, columns).map(Some)
    }
}

pub(crate) fn barrier<'a>(
    op: Op<'a>,
    finish: impl FnMut(&Run<'_>, Vec<Column>) -> Result<Vec<Column>, Error> + 'a,
) -> Op<'a> {
    Box::new(Barrier { op: Some(op), finish })
}

/// Joins series of equal labels.
pub(super) fn joined(op: Op<'_>) -> Op<'_> {
    barrier(op, |_, columns| join_equal(columns))
}

/// `-expr`: series that become equal without their names are joined; `nameless` ones cannot.
pub(super) fn negate(op: Op<'_>, nameless: bool) -> Op<'_> {
    let negated = Box::new(Negate { op });
    if nameless { negated } else { joined(negated) }
}

struct Negate<'a> {
    op: Op<'a>,
}

impl Operator for Negate<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut batch) = self.op.next(run)? else { return Ok(None) };
        let names = Names::of(run, false);
        for column in &mut batch {
            column.values.iter_mut().for_each(|value| *value = -*value);
            for histogram in column.histograms.iter_mut().flatten().flatten() {
                Arc::make_mut(histogram).multiply_by(-1.0);
            }
            names.apply(column);
        }
        Ok(Some(batch))
    }
}

/// `absent` and `absent_over_time`: 1 at steps where no series has a sample, with the labels that the selector fixes.
pub(super) fn absent<'a>(op: Op<'a>, selector: &'a Expr, grid: Grid) -> Op<'a> {
    let matchers = match &selector.node {
        Node::Vector(vector) => Some(&vector.matchers),
        Node::Matrix(matrix) => Some(&matrix.selector.matchers),
        _ => None,
    };
    let mut labels = LabelsBuilder::default();
    let mut fixed: Vec<&str> = Vec::new();
    for matcher in matchers.into_iter().flat_map(|matchers| matchers.iter()).filter(|m| m.name() != METRIC_NAME) {
        // The first equality sets a label, anything else on it takes it away again.
        if matcher.op() == MatchOp::Equal && !fixed.contains(&matcher.name()) {
            fixed.push(matcher.name());
            labels.set(matcher.name(), matcher.value());
        } else {
            labels.delete(matcher.name());
        }
    }
    let labels = labels.build();
    Box::new(Absent { op: Some(op), labels, count: grid.count })
}

struct Absent<'a> {
    op: Option<Op<'a>>,
    labels: Labels,
    count: usize,
}

impl Operator for Absent<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut op) = self.op.take() else { return Ok(None) };
        let mut present = Bits::none(self.count);
        while let Some(batch) = op.next(run)? {
            batch.iter().for_each(|column| present.add(&column.present));
        }
        let mut column = Column::new(self.labels.clone(), self.count);
        (0..self.count).filter(|k| !present.get(*k)).for_each(|k| column.set(k, 1.0));
        Ok(Some(vec![column]))
    }
}

fn string(call: &Call, i: usize) -> Result<&str, Error> {
    match call.args.get(i).map(|arg| &arg.unwrapped().node) {
        Some(Node::String(text)) => std::str::from_utf8(&text.value)
            .map_err(|_| Error::Execution(format!("argument {} of {} is not UTF-8", i + 1, call.func.name))),
        _ => Err(Error::Invalid(format!("argument {} of {} is no string", i + 1, call.func.name))),
    }
}

/// Applies `relabel` to the labels of every series; series that become equal are joined.
fn relabelled<'a>(op: Op<'a>, to_name: bool, relabel: impl Fn(&Labels) -> Option<Labels> + 'a) -> Op<'a> {
    barrier(op, move |_, mut columns| {
        for column in &mut columns {
            if let Some(labels) = relabel(&column.labels) {
                column.labels = labels;
                if to_name {
                    column.drop_name = false;
                }
            }
        }
        join_equal(columns)
    })
}

/// `label_replace(v, dst, replacement, src, regex)`
pub(super) fn replace<'a>(run: &Run<'_>, call: &'a Call, grid: Grid, above: &Above) -> Result<Op<'a>, Error> {
    let (dst, replacement, src, pattern) = (string(call, 1)?, string(call, 2)?, string(call, 3)?, string(call, 4)?);
    let regex = farview_model::pattern::compile(pattern)
        .map_err(|_| Error::Execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
    if dst.is_empty() {
        return Err(Error::Execution(format!("invalid destination label name in label_replace(): {dst}")));
    }
    let template = farview_model::pattern::Template::parse(replacement, &regex);
    let op = build(run, &call.args[0], grid, above)?;
    Ok(relabelled(op, dst == METRIC_NAME, move |labels| {
        let value = labels.get(src).unwrap_or("");
        let found = regex.captures(value)?;
        let replaced = template.expand(&found);
        Some(LabelsBuilder::new(labels).set(dst, &replaced).build())
    }))
}

/// `label_join(v, dst, separator, src…)`
pub(super) fn join<'a>(run: &Run<'_>, call: &'a Call, grid: Grid, above: &Above) -> Result<Op<'a>, Error> {
    let (dst, separator) = (string(call, 1)?, string(call, 2)?);
    if dst.is_empty() {
        return Err(Error::Execution(format!("invalid destination label name in label_join(): {dst}")));
    }
    let sources: Vec<&str> = (3..call.args.len()).map(|i| string(call, i)).collect::<Result<_, _>>()?;
    if sources.iter().any(|source| source.is_empty()) {
        return Err(Error::Execution("invalid source label name in label_join(): ".to_owned()));
    }
    let op = build(run, &call.args[0], grid, above)?;
    Ok(relabelled(op, dst == METRIC_NAME, move |labels| {
        let values: Vec<&str> = sources.iter().map(|source| labels.get(source).unwrap_or("")).collect();
        Some(LabelsBuilder::new(labels).set(dst, &values.join(separator)).build())
    }))
}

/// `sort` and `sort_desc`: by value, NaN last, histograms left out. Meaningful for instant queries only.
pub(super) fn sort(op: Op<'_>, descending: bool) -> Op<'_> {
    barrier(op, move |run, mut columns| {
        if !run.instant {
            return Ok(columns);
        }
        columns.retain(|column| column.float(0).is_some());
        columns.sort_by(|a, b| {
            let (x, y) = (a.values[0], b.values[0]);
            let by_value = x.partial_cmp(&y).map_or(Ordering::Equal, |o| if descending { o.reverse() } else { o });
            x.is_nan().cmp(&y.is_nan()).then(by_value)
        });
        Ok(columns)
    })
}

/// `sort_by_label(v, label…)`: natural order of the labels' values, then of the whole set.
pub(super) fn sort_by_label<'a>(run: &Run<'_>, call: &'a Call, grid: Grid) -> Result<Op<'a>, Error> {
    let descending = call.func.name == "sort_by_label_desc";
    let labels: Vec<&str> = (1..call.args.len()).map(|i| string(call, i)).collect::<Result<_, _>>()?;
    let op = build(run, &call.args[0], grid, &Above::named(call.func.name))?;
    Ok(barrier(op, move |_, mut columns| {
        columns.sort_by(|a, b| {
            let by_label = labels
                .iter()
                .map(|label| natural(a.labels.get(label).unwrap_or(""), b.labels.get(label).unwrap_or("")));
            let order = by_label.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        Ok(columns)
    }))
}

/// Compares texts with the numbers in them by value.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (x, y) = (chunk(&mut a), chunk(&mut b));
        if x.is_empty() || y.is_empty() {
            return x.len().cmp(&y.len());
        }
        let numbers = x.as_bytes()[0].is_ascii_digit() && y.as_bytes()[0].is_ascii_digit();
        let order = if numbers {
            let (p, q) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            p.len().cmp(&q.len()).then_with(|| p.cmp(q)).then_with(|| x.len().cmp(&y.len()))
        } else {
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the longest run of digits, or of anything else, off the front.
fn chunk<'a>(text: &mut &'a str) -> &'a str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (head, tail) = text.split_at(end);
    *text = tail;
    head
}

/// Keeps a sample as it is; used where a point is copied from column to column.
pub(crate) fn copy(from: &Column, k: usize, to: &mut Column) {
    if let Some(point) = from.point(k) {
        match point {
            Point::Float(value) => to.set(k, value),
            Point::Histogram(histogram) => to.set_histogram(k, histogram),
        }
    }
}
