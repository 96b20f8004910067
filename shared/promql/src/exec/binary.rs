//! Binary operators between vectors and scalars, and between two vectors.
//!
//! Who matches whom is decided once per pair of series, by their signatures; whether there is a duplicate is decided per
//! step, from the sets of steps at which the series have samples.

use super::scalar::{self, arithmetic, compares};
use super::{
    Above, Bits, Column, Grid, Op, Operator, Ready, build as build_vector, collect, labels, same_labels, without_name,
};
use crate::ast::*;
use crate::engine::{Error, Run};
use farview_model::{Labels, LabelsBuilder, METRIC_NAME};
use hashbrown::HashMap;

/// Builds a binary expression.
pub(super) fn build<'a>(run: &Run<'_>, span: Span, binary: &'a Binary, grid: Grid) -> Result<Op<'a>, Error> {
    let above = Above::default();
    let is_scalar = |expr: &Expr| expr.value_type() == ValueType::Scalar;
    if is_scalar(&binary.lhs) || is_scalar(&binary.rhs) {
        let scalar_left = is_scalar(&binary.lhs);
        let (number, vector) = if scalar_left { (&binary.lhs, &binary.rhs) } else { (&binary.rhs, &binary.lhs) };
        let op = build_vector(run, vector, grid, &above)?;
        let numbers = scalar::build(run, number, grid)?.eval(run)?;
        let inner = WithNumber { op, numbers, scalar_left, operator: binary.op, return_bool: binary.return_bool, span };
        let keeps_name = binary.op.is_comparison() && !binary.return_bool;
        return Ok(if keeps_name { Box::new(inner) } else { Box::new(labels::Unique::new(Box::new(inner))) });
    }
    let Some(matching) = &binary.matching else {
        return Err(Error::Invalid("a binary expression of two vectors has a matching".to_owned()));
    };
    let lhs = build_vector(run, &binary.lhs, grid, &above)?;
    let rhs = build_vector(run, &binary.rhs, grid, &above)?;
    Ok(Box::new(Join { sides: Some((lhs, rhs)), binary, matching, grid, span }))
}

// === a vector and a number ===

struct WithNumber<'a> {
    op: Op<'a>,
    numbers: Vec<f64>,
    scalar_left: bool,
    operator: BinaryOp,
    return_bool: bool,
    span: Span,
}

impl Operator for WithNumber<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let filters = self.operator.is_comparison() && !self.return_bool;
        let later = run.engine.options.delayed_name_removal;
        let columns = batch.into_iter().filter_map(|mut column| {
            if let Some(histograms) = column.histograms.take() {
                let with = histograms.iter().enumerate().filter(|(_, h)| h.is_some());
                with.for_each(|(k, _)| column.present.clear(k));
                let operator = crate::quote::quote(self.operator.text());
                let (left, right) = if self.scalar_left { ("float", "histogram") } else { ("histogram", "float") };
                let text = format!(
                    "incompatible sample types encountered for binary operator {operator}: {left} {} {right}",
                    self.operator.text()
                );
                run.info(self.span, text);
            }
            self.apply(&mut column, filters);
            if !filters {
                if later {
                    column.drop_name = true;
                } else {
                    column.labels = without_name(&column.labels);
                }
            }
            (!column.present.is_empty()).then_some(column)
        });
        Ok(Some(columns.collect()))
    }
}

impl WithNumber<'_> {
    fn apply(&self, column: &mut Column, filters: bool) {
        let numbers = &self.numbers;
        if filters {
            for k in 0..column.len() {
                if column.present.get(k) {
                    let (x, y) = self.order(column.values[k], numbers[k]);
                    if !compares(self.operator, x, y) {
                        column.present.clear(k);
                    }
                }
            }
            return;
        }
        for (value, number) in column.values.iter_mut().zip(numbers) {
            let (x, y) = if self.scalar_left { (*number, *value) } else { (*value, *number) };
            *value = arithmetic(self.operator, x, y);
        }
    }

    fn order(&self, vector: f64, number: f64) -> (f64, f64) {
        if self.scalar_left { (number, vector) } else { (vector, number) }
    }
}

// === two vectors ===

struct Join<'a> {
    sides: Option<(Op<'a>, Op<'a>)>,
    binary: &'a Binary,
    matching: &'a Matching,
    grid: Grid,
    span: Span,
}

impl Operator for Join<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some((mut lhs, mut rhs)) = self.sides.take() else { return Ok(None) };
        let (left, right) = (collect(&mut lhs, run)?, collect(&mut rhs, run)?);
        let joined = match self.binary.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => self.set(left, right),
            _ => self.arithmetic(run, left, right)?,
        };
        Ready(Some(joined)).next(run)
    }
}

/// Returns the labels by which series of the two sides find each other.
fn signature(matching: &Matching, labels: &Labels) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|label| label == name);
    if matching.on { labels.only(listed) } else { labels.without(|name| name == METRIC_NAME || listed(name)) }
}

/// Series of one side with one signature.
#[derive(Default)]
struct Bucket {
    members: Vec<usize>,
}

fn by_signature(columns: &[Column], matching: &Matching) -> HashMap<Labels, Bucket> {
    let mut buckets: HashMap<Labels, Bucket> = HashMap::with_capacity(columns.len());
    for (i, column) in columns.iter().enumerate() {
        buckets.entry(signature(matching, &column.labels)).or_default().members.push(i);
    }
    buckets
}

fn presence(columns: &[Column], members: impl Iterator<Item = usize>, count: usize) -> Bits {
    let mut bits = Bits::none(count);
    members.for_each(|i| bits.add(&columns[i].present));
    bits
}

impl Join<'_> {
    fn set(&self, left: Vec<Column>, right: Vec<Column>) -> Vec<Column> {
        let count = self.grid.count;
        let other = match self.binary.op {
            BinaryOp::Or => by_signature(&left, self.matching),
            _ => by_signature(&right, self.matching),
        };
        let others = if self.binary.op == BinaryOp::Or { &left } else { &right };
        let present: HashMap<Labels, Bits> =
            other.iter().map(|(key, b)| (key.clone(), presence(others, b.members.iter().copied(), count))).collect();
        let keep = |mut column: Column, wanted: bool| {
            let steps = present.get(&signature(self.matching, &column.labels));
            for k in 0..column.len() {
                if column.present.get(k) && steps.is_some_and(|steps| steps.get(k)) != wanted {
                    column.remove(k);
                }
            }
            column
        };
        let mut out: Vec<Column> = match self.binary.op {
            BinaryOp::And => left.into_iter().map(|column| keep(column, true)).collect(),
            BinaryOp::Unless => left.into_iter().map(|column| keep(column, false)).collect(),
            _ => {
                let right: Vec<Column> = right.into_iter().map(|column| keep(column, false)).collect();
                return union(left, right);
            }
        };
        out.retain(|column| !column.present.is_empty());
        out
    }

    fn arithmetic(&self, run: &Run<'_>, left: Vec<Column>, right: Vec<Column>) -> Result<Vec<Column>, Error> {
        let count = self.grid.count;
        let matching = self.matching;
        // "many" and "one": with group_right the right side is many.
        let swapped = matching.cardinality == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (fill_many, fill_one) =
            if swapped { (matching.fill_right, matching.fill_left) } else { (matching.fill_left, matching.fill_right) };
        let many_present = presence(&many, 0..many.len(), count);
        let one_present = presence(&one, 0..one.len(), count);
        // Where a side has nothing at all, nothing is matched and nothing is checked, unless it is filled.
        let mut active = Bits::none(count);
        for k in 0..count {
            let filled = fill_many.is_some() || fill_one.is_some();
            if (many_present.get(k) && one_present.get(k)) || (filled && (many_present.get(k) || one_present.get(k))) {
                active.set(k);
            }
        }
        let ones = by_signature(&one, matching);
        self.check_one_side(&one, &ones, &active, swapped)?;
        let manys = by_signature(&many, matching);
        let mut out = Output::default();
        for column in &many {
            let key = signature(matching, &column.labels);
            let partners = ones.get(&key).map_or(&[][..], |bucket| &bucket.members);
            self.match_one(
                run,
                column,
                &key,
                partners.iter().map(|i| &one[*i]).collect(),
                fill_one,
                swapped,
                &active,
                &mut out,
            )?;
        }
        if let Some(fill) = fill_many {
            for (key, bucket) in &ones {
                let taken = manys.get(key).map(|bucket| presence(&many, bucket.members.iter().copied(), count));
                for i in &bucket.members {
                    self.fill_missing(run, &one[*i], key, taken.as_ref(), fill, swapped, &mut out)?;
                }
            }
        }
        out.columns.retain(|column| !column.present.is_empty());
        Ok(out.columns)
    }

    /// Two series of one signature on the "one" side are an error at a step, even if nothing matches them there.
    fn check_one_side(
        &self,
        one: &[Column],
        ones: &HashMap<Labels, Bucket>,
        active: &Bits,
        swapped: bool,
    ) -> Result<(), Error> {
        let mut worst: Option<(usize, Labels, String, String)> = None;
        for (key, bucket) in ones.iter().filter(|(_, bucket)| bucket.members.len() > 1) {
            let mut seen = Bits::none(self.grid.count);
            for (n, i) in bucket.members.iter().enumerate() {
                let mut here = one[*i].present.clone();
                for k in 0..self.grid.count {
                    if !active.get(k) {
                        here.clear(k);
                    }
                }
                if let Some(step) = seen.first_common(&here)
                    && worst.as_ref().is_none_or(|(earliest, ..)| step < *earliest)
                {
                    let other = bucket.members[..n].iter().find(|j| one[**j].present.get(step)).unwrap_or(i);
                    let mut names = [one[*i].labels.to_string(), one[*other].labels.to_string()];
                    names.sort();
                    let [a, b] = names;
                    worst = Some((step, key.clone(), a, b));
                }
                seen.add(&here);
            }
        }
        let Some((_, key, a, b)) = worst else { return Ok(()) };
        let side = if swapped { "left" } else { "right" };
        Err(Error::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the operation: [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
        )))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one row of the join's table: both sides, how they match, where it goes"
    )]
    fn match_one(
        &self,
        run: &Run<'_>,
        column: &Column,
        key: &Labels,
        partners: Vec<&Column>,
        fill: Option<f64>,
        swapped: bool,
        active: &Bits,
        out: &mut Output,
    ) -> Result<(), Error> {
        let mut groups: Vec<(Option<&Column>, Bits)> = Vec::new();
        let mut rest = column.present.clone();
        for k in 0..self.grid.count {
            if !active.get(k) {
                rest.clear(k);
            }
        }
        for partner in partners {
            let mut steps = rest.clone();
            (0..self.grid.count).filter(|k| !partner.present.get(*k)).for_each(|k| steps.clear(k));
            steps.iter().for_each(|k| rest.clear(k));
            if !steps.is_empty() {
                groups.push((Some(partner), steps));
            }
        }
        if fill.is_some() && !rest.is_empty() {
            groups.push((None, rest));
        }
        for (partner, steps) in groups {
            let labels = self.result_labels(&column.labels, partner.map_or(key, |partner| &partner.labels));
            let drop_name = column.drop_name || self.drops_name_later(run);
            self.emit(run, out, labels, drop_name, key, &steps, swapped, |k| {
                (
                    column.point_ref(k),
                    partner.map_or(Some(Value::Float(fill.unwrap_or(0.0))), |partner| partner.point_ref(k)),
                )
            })?;
        }
        Ok(())
    }

    fn fill_missing(
        &self,
        run: &Run<'_>,
        one: &Column,
        key: &Labels,
        taken: Option<&Bits>,
        fill: f64,
        swapped: bool,
        out: &mut Output,
    ) -> Result<(), Error> {
        let mut steps = one.present.clone();
        if let Some(taken) = taken {
            taken.iter().for_each(|k| steps.clear(k));
        }
        if steps.is_empty() {
            return Ok(());
        }
        let labels = self.result_labels(key, &one.labels);
        self.emit(run, out, labels, one.drop_name, key, &steps, swapped, |k| {
            (Some(Value::Float(fill)), one.point_ref(k))
        })
    }

    fn drops_name_later(&self, run: &Run<'_>) -> bool {
        run.engine.options.delayed_name_removal && self.drops_name()
    }

    fn drops_name(&self) -> bool {
        !self.binary.op.is_comparison() || self.binary.return_bool
    }

    /// Returns the labels of a result from those of the many and of the one side.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.matching;
        let many = if self.drops_name() { without_name(many) } else { many.clone() };
        match matching.cardinality {
            Cardinality::OneToOne if matching.on => many.only(|name| matching.labels.iter().any(|label| label == name)),
            Cardinality::OneToOne => many.without(|name| matching.labels.iter().any(|label| label == name)),
            _ => {
                let mut builder = LabelsBuilder::new(&many);
                for include in &matching.include {
                    builder.set(include, one.get(include).unwrap_or(""));
                }
                builder.build()
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "as match_one")]
    fn emit<'p>(
        &self,
        run: &Run<'_>,
        out: &mut Output,
        labels: Labels,
        drop_name: bool,
        key: &Labels,
        steps: &Bits,
        swapped: bool,
        at: impl Fn(usize) -> (Option<Value<'p>>, Option<Value<'p>>),
    ) -> Result<(), Error> {
        let many_to_one = self.matching.cardinality != Cardinality::OneToOne;
        let slot = out.slot(labels, drop_name, self.grid.count);
        for k in steps.iter() {
            let (Some(many), Some(one)) = at(k) else { continue };
            let (x, y) = if swapped { (one, many) } else { (many, one) };
            let (Value::Float(x), Value::Float(y)) = (x, y) else {
                let kind = |value: Value<'_>| if matches!(value, Value::Float(_)) { "float" } else { "histogram" };
                let operator = self.binary.op.text();
                let quoted = crate::quote::quote(operator);
                let text = format!(
                    "incompatible sample types encountered for binary operator {quoted}: {} {operator} {}",
                    kind(x),
                    kind(y)
                );
                run.info(self.span, text);
                continue;
            };
            // Several samples of the many side that fall on one result: who else was there decides the text.
            if out.matched[slot].1.get(k) {
                return Err(self.duplicate(out, slot, key, many_to_one));
            }
            out.matched[slot].1.set(k);
            out.matched[slot].0 = key.clone();
            let column = &mut out.columns[slot];
            if self.binary.op.is_comparison() && !self.binary.return_bool {
                if compares(self.binary.op, x, y) {
                    column.set(k, x);
                }
            } else {
                column.set(k, arithmetic(self.binary.op, x, y));
            }
        }
        Ok(())
    }

    fn duplicate(&self, out: &Output, slot: usize, key: &Labels, many_to_one: bool) -> Error {
        if out.matched[slot].0 != *key {
            return same_labels();
        }
        let text = if many_to_one {
            "multiple matches for labels: grouping labels must ensure unique matches"
        } else {
            "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
        };
        Error::Execution(text.to_owned())
    }
}

/// A sample of either side.
#[derive(Clone, Copy)]
enum Value<'a> {
    Float(f64),
    Histogram(#[expect(dead_code, reason = "operators on histograms take it")] &'a farview_model::FloatHistogram),
}

impl Column {
    fn point_ref(&self, k: usize) -> Option<Value<'_>> {
        if !self.present.get(k) {
            return None;
        }
        Some(self.histogram(k).map_or(Value::Float(self.values[k]), |histogram| Value::Histogram(histogram)))
    }
}

/// Results by labels, in order of their first appearance.
#[derive(Default)]
struct Output {
    index: HashMap<Labels, usize>,
    columns: Vec<Column>,
    /// For each result: the signature that it came from, and the steps that are taken, filtered out or not.
    matched: Vec<(Labels, Bits)>,
}

impl Output {
    fn slot(&mut self, labels: Labels, drop_name: bool, count: usize) -> usize {
        if let Some(slot) = self.index.get(&labels) {
            return *slot;
        }
        self.columns.push(Column { drop_name, ..Column::new(labels.clone(), count) });
        self.matched.push((Labels::empty(), Bits::none(count)));
        self.index.insert(labels, self.columns.len() - 1);
        self.columns.len() - 1
    }
}

/// Joins the two sides of `or`; a series may come partly from either.
fn union(left: Vec<Column>, right: Vec<Column>) -> Vec<Column> {
    let mut index: HashMap<Labels, usize> = HashMap::with_capacity(left.len());
    let mut out: Vec<Column> = Vec::with_capacity(left.len() + right.len());
    for column in left.into_iter().chain(right).filter(|column| !column.present.is_empty()) {
        match index.get(&column.labels) {
            Some(at) => out[*at].absorb(&column),
            None => {
                index.insert(column.labels.clone(), out.len());
                out.push(column);
            }
        }
    }
    out
}
