//! Arithmetic and comparisons between two vectors.
//!
//! The "one" side is held, the "many" side streams past it (of one-to-one the right side is held). Who matches whom is
//! decided once per pair of series, by their signatures; whether there is a duplicate is decided per step, from the sets of
//! steps at which the series have samples. A result whose labels arise from several pairs leaves in as many parts.

use super::point::{self, Operand, Side};
use super::{add_steps, keeps_name, signature};
use crate::ast::*;
use crate::engine::{Error, Hold, Run};
use crate::exec::{Bits, Collected, Column, Op, Operator, collect, same_labels, without_name};
use farview_model::{Labels, LabelsBuilder};
use hashbrown::HashMap;

pub(super) fn build<'a>(
    run: &Run<'_>,
    binary: &'a Binary,
    matching: &'a Matching,
    lhs: Op<'a>,
    rhs: Op<'a>,
    count: usize,
    span: Span,
) -> Op<'a> {
    // With group_right the right side is many.
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let (fill_many, fill_one) = match swapped {
        true => (matching.fill_right, matching.fill_left),
        false => (matching.fill_left, matching.fill_right),
    };
    let keeps_name = keeps_name(binary);
    let later = run.options().delayed_name_removal;
    Box::new(Join {
        binary,
        matching,
        many,
        one: Some(one),
        swapped,
        fill_many,
        fill_one,
        count,
        span,
        keeps_name,
        later,
        held: None,
    })
}

struct Join<'a> {
    binary: &'a Binary,
    matching: &'a Matching,
    many: Op<'a>,
    one: Option<Op<'a>>,
    swapped: bool,
    /// Value of a partner that the many side lacks.
    fill_many: Option<f64>,
    fill_one: Option<f64>,
    count: usize,
    span: Span,
    keeps_name: bool,
    /// Names go at the end of the query.
    later: bool,
    held: Option<Held>,
}

/// The one side.
struct Held {
    columns: Vec<Column>,
    hold: Hold,
    groups: HashMap<Labels, Group>,
    /// Pairs of series of one signature, and the steps at which both have a sample.
    duplicates: Vec<(usize, usize, Bits)>,
    /// Results of `group_x`, by labels.
    taken: HashMap<Labels, Vec<(Labels, Bits)>>,
}

/// The series of one signature.
#[derive(Default)]
struct Group {
    /// On the one side.
    members: Vec<usize>,
    /// Steps at which the many side had a sample.
    many: Option<Bits>,
    /// Steps at which a pair was matched, whether or not a filter kept it.
    matched: Option<Bits>,
}

impl Operator for Join<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        if let Some(mut one) = self.one.take() {
            self.held = Some(self.hold(run, &mut one)?);
        }
        let Some(mut held) = self.held.take() else { return Ok(None) };
        let Some(batch) = self.many.next(run)? else {
            let rest = self.fill_rest(run, &mut held)?;
            return Ok((!rest.is_empty()).then_some(rest));
        };
        let mut out = Vec::with_capacity(batch.len());
        for column in batch {
            self.match_one(run, &mut held, column, &mut out)?;
        }
        self.held = Some(held);
        Ok(Some(out))
    }
}

impl Join<'_> {
    fn hold(&self, run: &Run<'_>, one: &mut Op<'_>) -> Result<Held, Error> {
        let Collected { columns, hold } = collect(one, run)?;
        let mut groups: HashMap<Labels, Group> = HashMap::with_capacity(columns.len());
        let mut duplicates = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            let group = groups.entry(signature(self.matching, &column.labels)).or_default();
            for j in &group.members {
                let other: &Column = &columns[*j];
                if other.present.overlaps(&column.present) {
                    let mut both = column.present.clone();
                    both.keep(&other.present);
                    duplicates.push((*j, i, both));
                    break;
                }
            }
            group.members.push(i);
        }
        let held = Held { columns, hold, groups, duplicates, taken: HashMap::new() };
        if self.fill_many.is_some() || self.fill_one.is_some() {
            // With a value for what is missing every step counts, also those where the many side is empty.
            let mut all = Bits::none(self.count);
            add_steps(&mut all, &held.columns);
            self.check_one_side(&held, &all)?;
        }
        Ok(held)
    }

    /// Two series of one signature on the one side are an error at the steps at which the many side has any sample, even
    /// one that matches neither.
    fn check_one_side(&self, held: &Held, steps: &Bits) -> Result<(), Error> {
        let common = held.duplicates.iter().filter_map(|(i, j, both)| Some((both.first_common(steps)?, *i, *j)));
        let Some((_, i, j)) = common.min() else { return Ok(()) };
        let key = signature(self.matching, &held.columns[i].labels);
        let mut names = [held.columns[i].labels.to_string(), held.columns[j].labels.to_string()];
        names.sort();
        let [a, b] = names;
        let side = if self.swapped { "left" } else { "right" };
        Err(Error::Execution(format!(
            "found duplicate series for the match group {key} on the {side} hand-side of the operation: [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
        )))
    }

    fn match_one(&self, run: &Run<'_>, held: &mut Held, column: Column, out: &mut Vec<Column>) -> Result<(), Error> {
        if !held.duplicates.is_empty() {
            self.check_one_side(held, &column.present)?;
        }
        let key = signature(self.matching, &column.labels);
        let Held { columns, hold, groups, taken, .. } = held;
        let mut rest = column.present.clone();
        let mut here = Group::default();
        let group = match groups.get_mut(&key) {
            Some(group) => group,
            None if self.fill_one.is_none() => return Ok(()),
            None => &mut here,
        };
        if self.fill_many.is_some() {
            group.many.get_or_insert_with(|| Bits::none(self.count)).add(&column.present);
        }
        let mut column = Some(column);
        for (n, i) in group.members.iter().enumerate() {
            let partner = &columns[*i];
            let mut steps = rest.clone();
            steps.keep(&partner.present);
            if steps.is_empty() {
                continue;
            }
            rest.subtract(&steps);
            let last = n + 1 == group.members.len() && self.fill_one.is_none();
            // The last partner gets the column itself.
            let Some(many) = (if last { column.take() } else { column.clone() }) else { break };
            let labels = self.result_labels(&many.labels, &partner.labels);
            let drop_name = many.drop_name;
            let (matched, result) = self.combine(run, many, Partner::Column(partner), steps);
            self.check_matched(run, hold, taken, &mut group.matched, &key, &labels, matched)?;
            self.emit(result, labels, drop_name, out);
        }
        if let Some(fill) = self.fill_one
            && !rest.is_empty()
            && let Some(many) = column
        {
            let labels = self.result_labels(&many.labels, &key);
            let drop_name = many.drop_name;
            let (matched, result) = self.combine(run, many, Partner::Number(fill), rest);
            self.check_matched(run, hold, taken, &mut group.matched, &key, &labels, matched)?;
            self.emit(result, labels, drop_name, out);
        }
        Ok(())
    }

    /// What the one side has and the many side lacks, with the value that stands for it.
    fn fill_rest(&self, run: &Run<'_>, held: &mut Held) -> Result<Vec<Column>, Error> {
        let Some(fill) = self.fill_many else { return Ok(Vec::new()) };
        let Held { columns, hold, groups, taken, .. } = held;
        let mut rest: Vec<(usize, Labels, Bits)> = Vec::new();
        for (key, group) in groups.iter() {
            for i in &group.members {
                let mut steps = columns[*i].present.clone();
                if let Some(many) = &group.many {
                    steps.subtract(many);
                }
                if !steps.is_empty() {
                    rest.push((*i, key.clone(), steps));
                }
            }
        }
        rest.sort_by_key(|(i, ..)| *i);
        let mut out = Vec::with_capacity(rest.len());
        for (i, key, steps) in rest {
            let many = Column::full(key.clone(), vec![fill; self.count]);
            let labels = self.result_labels(&key, &columns[i].labels);
            let drop_name = columns[i].drop_name;
            let (matched, result) = self.combine(run, many, Partner::Column(&columns[i]), steps);
            self.check_matched(run, hold, taken, &mut None, &key, &labels, matched)?;
            self.emit(result, labels, drop_name, &mut out);
        }
        Ok(out)
    }

    /// Refuses a second match at one step: of a signature if it is one-to-one, else of a result.
    fn check_matched(
        &self,
        run: &Run<'_>,
        hold: &mut Hold,
        taken: &mut HashMap<Labels, Vec<(Labels, Bits)>>,
        matched_before: &mut Option<Bits>,
        key: &Labels,
        labels: &Labels,
        matched: Bits,
    ) -> Result<(), Error> {
        let execution = |text: &str| Err(Error::Execution(text.to_owned()));
        if self.matching.cardinality == Cardinality::OneToOne {
            let before = matched_before.get_or_insert_with(|| Bits::none(self.count));
            if before.overlaps(&matched) {
                return execution(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                );
            }
            before.add(&matched);
            return Ok(());
        }
        let bytes = (labels.size_bytes() + key.size_bytes() + self.count / 8 + 96) as u64;
        let parts = match taken.get_mut(labels) {
            Some(parts) => parts,
            None => {
                hold.grow(run, bytes, 0)?;
                taken.entry(labels.clone()).or_default()
            }
        };
        for (other, steps) in parts.iter() {
            if !steps.overlaps(&matched) {
                continue;
            }
            if other == key {
                return execution("multiple matches for labels: grouping labels must ensure unique matches");
            }
            return Err(same_labels());
        }
        parts.push((key.clone(), matched));
        Ok(())
    }

    fn emit(&self, mut result: Column, labels: Labels, drop_name: bool, out: &mut Vec<Column>) {
        if !result.present.is_empty() {
            result.labels = labels;
            result.drop_name = drop_name || (self.later && !self.keeps_name);
            out.push(result);
        }
    }

    /// Returns the labels of a result from those of the many and of the one side.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let listed = |name: &str| self.matching.labels.iter().any(|label| label == name);
        let labels = match self.matching.cardinality {
            Cardinality::OneToOne if self.matching.on => many.only(listed),
            Cardinality::OneToOne => many.without(listed),
            _ if self.matching.include.is_empty() => many.clone(),
            _ => {
                let mut builder = LabelsBuilder::new(many);
                for include in &self.matching.include {
                    builder.set(include, one.get(include).unwrap_or(""));
                }
                builder.build()
            }
        };
        if self.keeps_name || self.later { labels } else { without_name(&labels) }
    }

    /// Applies the operator at `steps`. Returns the steps at which the samples went together, and the result.
    fn combine(&self, run: &Run<'_>, mut many: Column, partner: Partner<'_>, steps: Bits) -> (Bits, Column) {
        let op = self.binary.op;
        let filters = op.is_comparison() && !self.binary.return_bool;
        let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
        if many.histograms.is_some() || partner.has_histograms() || trims {
            return self.combine_points(run, &many, partner, &steps);
        }
        let other = |k: usize| partner.value(k);
        if filters {
            let mut kept = steps.clone();
            if self.swapped {
                // The left side is the one side: its value is what a filter lets through.
                let left: Vec<f64> = (0..self.count).map(other).collect();
                point::filter(op, &left, |k| many.values[k], &mut kept);
                many.values = left;
            } else {
                point::filter(op, &many.values, other, &mut kept);
            }
            many.present = kept;
        } else {
            let side = if self.swapped { Side::Right } else { Side::Left };
            point::floats(op, &mut many.values, other, side);
            many.present = steps.clone();
        }
        (steps, many)
    }

    fn combine_points(&self, run: &Run<'_>, many: &Column, partner: Partner<'_>, steps: &Bits) -> (Bits, Column) {
        let mut out = Column::new(Labels::empty(), self.count);
        let mut matched = Bits::none(self.count);
        for k in steps.iter() {
            let (a, b) = (Operand::at(many, k), partner.operand(k));
            let (x, y) = if self.swapped { (b, a) } else { (a, b) };
            let Some((point, keep)) = point::apply(self.binary.op, x, y, &mut |note| run.note(self.span, note)) else {
                continue;
            };
            matched.set(k);
            if self.binary.return_bool {
                out.set(k, f64::from(u8::from(keep)));
            } else if keep {
                out.put(k, point);
            }
        }
        (matched, out)
    }
}

/// The one side of a pair.
#[derive(Clone, Copy)]
enum Partner<'a> {
    Column(&'a Column),
    /// The value that stands for a missing one.
    Number(f64),
}

impl<'a> Partner<'a> {
    fn has_histograms(self) -> bool {
        matches!(self, Self::Column(column) if column.histograms.is_some())
    }

    #[inline(always)]
    fn value(self, k: usize) -> f64 {
        match self {
            Self::Column(column) => column.values[k],
            Self::Number(value) => value,
        }
    }

    fn operand(self, k: usize) -> Operand<'a> {
        match self {
            Self::Column(column) => Operand::at(column, k),
            Self::Number(value) => Operand::Float(value),
        }
    }
}
