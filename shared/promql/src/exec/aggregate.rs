//! Aggregations. What can be folded is folded series by series, in their order, without keeping the input; `topk` and its
//! kin keep theirs.

use super::labels::{barrier, copy};
use super::{Above, Bits, Column, Grid, Op, Operator, build as build_vector, scalar};
use crate::ast::*;
use crate::engine::{Error, Run};
use farview_model::sum::{self, Mean};
use farview_model::{Labels, LabelsBuilder, METRIC_NAME, number};
use hashbrown::HashMap;

/// Which labels make the group of a series.
#[derive(Debug, Clone)]
pub(super) struct Grouping {
    labels: Vec<String>,
    without: bool,
}

impl Grouping {
    pub(super) fn key(&self, labels: &Labels) -> Labels {
        let listed = |name: &str| self.labels.iter().any(|label| label == name);
        if self.without {
            labels.without(|name| name == METRIC_NAME || listed(name))
        } else if self.labels.is_empty() {
            Labels::empty()
        } else {
            labels.only(listed)
        }
    }
}

/// Builds an aggregation.
pub(super) fn build<'a>(run: &Run<'_>, expr: &'a Expr, aggregate: &'a Aggregate, grid: Grid) -> Result<Op<'a>, Error> {
    let op = aggregate.op;
    let grouping = Grouping { labels: aggregate.grouping.clone(), without: aggregate.without };
    let above = Above { func: op.text().to_owned(), grouping: aggregate.grouping.clone(), by: !aggregate.without };
    let param = aggregate.param.as_deref();
    let number = |param: Option<&'a Expr>| match param {
        Some(param) if param.value_type() == ValueType::Scalar => scalar::build(run, param, grid)?.eval(run),
        _ => Ok(Vec::new()),
    };
    match op {
        AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK => {
            let k = counts(&number(param)?)?;
            let input = build_vector(run, &aggregate.expr, grid, &above)?;
            if k.iter().all(|k| *k < 1) {
                return Ok(Box::new(super::Ready(None)));
            }
            let span = expr.span;
            Ok(barrier(input, move |run, columns| {
                let groups = members(&columns, &grouping);
                Ok(if op == AggregateOp::LimitK {
                    limitk(&columns, &groups, &k)
                } else {
                    topk(run, span, op, columns, &groups, &k)
                })
            }))
        }
        AggregateOp::LimitRatio => {
            let ratios = number(param)?;
            if ratios.iter().any(|ratio| ratio.is_nan()) {
                return Err(Error::Execution("Ratio value is NaN".to_owned()));
            }
            for ratio in ratios.iter().filter(|ratio| ratio.abs() > 1.0) {
                let (got, capped) = (number::format_g(*ratio), number::format_g(ratio.clamp(-1.0, 1.0)));
                let span = param.map_or(expr.span, |param| param.span);
                run.warn(span, format!("ratio value should be between -1 and 1, got {got}, capping to {capped}"));
            }
            let input = build_vector(run, &aggregate.expr, grid, &above)?;
            Ok(Box::new(LimitRatio { op: input, ratios }))
        }
        AggregateOp::Quantile => {
            let q = number(param)?;
            let span = param.map_or(expr.span, |param| param.span);
            for q in q.iter().filter(|q| q.is_nan() || **q < 0.0 || **q > 1.0) {
                run.warn(span, format!("quantile value should be between 0 and 1, got {}", number::format_g(*q)));
            }
            let input = build_vector(run, &aggregate.expr, grid, &above)?;
            let span = aggregate.expr.span;
            Ok(barrier(input, move |run, columns| Ok(quantiles(run, span, &columns, &grouping, &q))))
        }
        AggregateOp::CountValues => {
            let Some(Node::String(label)) = param.map(|param| &param.unwrapped().node) else {
                return Err(Error::Invalid("count_values wants the name of a label".to_owned()));
            };
            let label = String::from_utf8_lossy(&label.value).into_owned();
            if label.is_empty() {
                return Err(Error::Execution(format!("invalid label name {}", crate::quote::quote(&label))));
            }
            let input = build_vector(run, &aggregate.expr, grid, &above)?;
            Ok(barrier(input, move |_, columns| Ok(count_values(&columns, &grouping, &label))))
        }
        _ => {
            let input = build_vector(run, &aggregate.expr, grid, &above)?;
            let fold = Fold { op: Some(input), function: op, grouping, count: grid.count, span: aggregate.expr.span };
            Ok(Box::new(fold))
        }
    }
}

/// The parameters of topk and limitk as counts: cut off towards zero, errors for what is no number of series.
fn counts(param: &[f64]) -> Result<Vec<i64>, Error> {
    let count = |k: &f64| {
        let error = |text: String| Err(Error::Execution(text));
        if k.is_nan() {
            return error("Parameter value is NaN".to_owned());
        }
        if *k >= i64::MAX as f64 {
            return error(format!("Scalar value {} overflows int64", number::format_g(*k)));
        }
        if *k <= i64::MIN as f64 {
            return error(format!("Scalar value {} underflows int64", number::format_g(*k)));
        }
        Ok(*k as i64)
    };
    param.iter().map(count).collect()
}

/// The group of each column, numbered by first appearance, and their labels.
struct Groups {
    of: Vec<usize>,
    labels: Vec<Labels>,
}

fn members(columns: &[Column], grouping: &Grouping) -> Groups {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut labels = Vec::new();
    let of = columns.iter().map(|column| {
        let key = grouping.key(&column.labels);
        *index.entry(key).or_insert_with_key(|key| {
            labels.push(key.clone());
            labels.len() - 1
        })
    });
    let of = of.collect();
    Groups { of, labels }
}

// === folding ===

/// Aggregations that need no more of a series than one look.
struct Fold<'a> {
    op: Option<Op<'a>>,
    function: AggregateOp,
    grouping: Grouping,
    count: usize,
    span: Span,
}

/// What a group knows of its series so far.
struct Group {
    labels: Labels,
    drop_name: bool,
    present: Bits,
    values: Vec<f64>,
    /// Compensation of sums, or the running mean of variances.
    extra: Vec<f64>,
    counts: Vec<f64>,
    means: Vec<Option<Mean>>,
    /// Histograms of the group; kept aside until the function is known to need them.
    mixed: Option<Bits>,
}

impl Group {
    fn new(labels: Labels, function: AggregateOp, count: usize) -> Self {
        use AggregateOp::*;
        let sized = |needed: bool| if needed { vec![0.0; count] } else { Vec::new() };
        Self {
            labels,
            drop_name: false,
            present: Bits::none(count),
            values: vec![0.0; count],
            extra: sized(matches!(function, Sum | Stddev | Stdvar)),
            counts: sized(matches!(function, Stddev | Stdvar)),
            means: if function == Avg { vec![None; count] } else { Vec::new() },
            mixed: None,
        }
    }

    fn add(&mut self, function: AggregateOp, column: &Column) {
        self.drop_name |= column.drop_name;
        match function {
            AggregateOp::Sum => self.each(column, |group, k, value, _| {
                let (sum, c) = sum::kahan_add(value, group.values[k], group.extra[k]);
                (group.values[k], group.extra[k]) = (sum, c);
            }),
            AggregateOp::Avg => self.each(column, |group, k, value, _| match &mut group.means[k] {
                Some(mean) => mean.add(value),
                none => *none = Some(Mean::new(value)),
            }),
            AggregateOp::Min => self.each(column, |group, k, value, first| {
                let least = group.values[k];
                if first || value < least || least.is_nan() {
                    group.values[k] = value;
                }
            }),
            AggregateOp::Max => self.each(column, |group, k, value, first| {
                let most = group.values[k];
                if first || value > most || most.is_nan() {
                    group.values[k] = value;
                }
            }),
            AggregateOp::Count => {
                for k in column.present.iter() {
                    self.values[k] += 1.0;
                }
                self.present.add(&column.present);
            }
            AggregateOp::Group => {
                for k in column.present.iter() {
                    self.values[k] = 1.0;
                }
                self.present.add(&column.present);
            }
            _ => self.each(column, |group, k, value, first| {
                group.counts[k] += 1.0;
                if first {
                    group.extra[k] = value;
                    group.values[k] = if value.is_finite() { 0.0 } else { f64::NAN };
                    return;
                }
                let delta = value - group.extra[k];
                group.extra[k] += delta / group.counts[k];
                group.values[k] += delta * (value - group.extra[k]);
            }),
        }
    }

    /// Calls `fold` for every float of the column; it is told whether it is the group's first at that step.
    fn each(&mut self, column: &Column, fold: impl Fn(&mut Self, usize, f64, bool)) {
        for k in column.present.iter() {
            if column.histogram(k).is_some() {
                continue;
            }
            let first = !self.present.get(k);
            self.present.set(k);
            fold(self, k, column.values[k], first);
        }
    }

    fn finish(mut self, function: AggregateOp) -> Column {
        match function {
            AggregateOp::Sum => self.values.iter_mut().zip(&self.extra).for_each(|(sum, c)| *sum += c),
            AggregateOp::Avg => {
                for (value, mean) in self.values.iter_mut().zip(&self.means) {
                    *value = mean.map_or(0.0, Mean::value);
                }
            }
            AggregateOp::Stdvar | AggregateOp::Stddev => {
                for (value, count) in self.values.iter_mut().zip(&self.counts) {
                    *value /= count;
                    if function == AggregateOp::Stddev {
                        *value = value.sqrt();
                    }
                }
            }
            _ => {}
        }
        if let Some(mixed) = &self.mixed {
            mixed.iter().for_each(|k| self.present.clear(k));
        }
        Column {
            labels: self.labels,
            drop_name: self.drop_name,
            values: self.values,
            present: self.present,
            histograms: None,
        }
    }
}

impl Operator for Fold<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(mut op) = self.op.take() else { return Ok(None) };
        let mut index: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let takes_histograms = matches!(self.function, AggregateOp::Count | AggregateOp::Group);
        while let Some(batch) = op.next(run)? {
            run.check()?;
            for column in &batch {
                let key = self.grouping.key(&column.labels);
                let at = match index.get(&key) {
                    Some(at) => *at,
                    None => {
                        run.hold((self.count * 24 + key.size_bytes() + 200) as u64, self.count)?;
                        groups.push(Group::new(key.clone(), self.function, self.count));
                        index.insert(key, groups.len() - 1);
                        groups.len() - 1
                    }
                };
                if column.histograms.is_some() && !takes_histograms {
                    self.note_histograms(run);
                }
                groups[at].add(self.function, column);
            }
        }
        let function = self.function;
        Ok(Some(groups.into_iter().map(|group| group.finish(function)).filter(|c| !c.present.is_empty()).collect()))
    }
}

impl Fold<'_> {
    fn note_histograms(&self, run: &Run<'_>) {
        if matches!(self.function, AggregateOp::Min | AggregateOp::Max | AggregateOp::Stddev | AggregateOp::Stdvar) {
            run.info(self.span, format!("ignored histogram in {} aggregation", self.function.text()));
        }
    }
}

// === choosing series ===

fn topk(run: &Run<'_>, span: Span, op: AggregateOp, columns: Vec<Column>, groups: &Groups, k: &[i64]) -> Vec<Column> {
    if columns.iter().any(|column| column.histograms.is_some()) {
        run.info(span, format!("ignored histogram in {} aggregation", op.text()));
    }
    let steps = columns.first().map_or(0, Column::len);
    // NaN loses against every number; of equals the first in order stays.
    let better = |x: f64, y: f64| match op {
        AggregateOp::TopK => x > y || (y.is_nan() && !x.is_nan()),
        _ => x < y || (y.is_nan() && !x.is_nan()),
    };
    let mut chosen: Vec<Column> = columns
        .iter()
        .map(|column| Column { drop_name: column.drop_name, ..Column::new(column.labels.clone(), column.len()) })
        .collect();
    let mut order = Vec::new();
    for step in 0..steps {
        let wanted = usize::try_from(k[step]).unwrap_or(0);
        if wanted == 0 {
            continue;
        }
        let mut best: Vec<Vec<usize>> = vec![Vec::new(); groups.labels.len()];
        for (i, column) in columns.iter().enumerate() {
            let Some(value) = column.float(step) else { continue };
            let list = &mut best[groups.of[i]];
            if list.len() == wanted && !list.last().is_some_and(|last| better(value, columns[*last].values[step])) {
                continue;
            }
            let at = list.partition_point(|other| !better(value, columns[*other].values[step]));
            list.insert(at, i);
            list.truncate(wanted);
        }
        for i in best.iter().flatten() {
            chosen[*i].set(step, columns[*i].values[step]);
        }
        if steps == 1 {
            order = best.into_iter().flatten().collect();
        }
    }
    if steps == 1 {
        // An instant answer is ordered by value within its group.
        let mut slots: Vec<Option<Column>> = chosen.into_iter().map(Some).collect();
        return order.into_iter().filter_map(|i| slots[i].take()).collect();
    }
    chosen.retain(|column| !column.present.is_empty());
    chosen
}

fn limitk(columns: &[Column], groups: &Groups, k: &[i64]) -> Vec<Column> {
    let mut kept = Vec::new();
    let steps = columns.first().map_or(0, Column::len);
    let mut taken = vec![vec![0i64; steps]; groups.labels.len()];
    for (i, column) in columns.iter().enumerate() {
        let mut out = Column { drop_name: column.drop_name, ..Column::new(column.labels.clone(), column.len()) };
        for step in column.present.iter() {
            let taken = &mut taken[groups.of[i]][step];
            if *taken < k[step] {
                *taken += 1;
                copy(column, step, &mut out);
            }
        }
        if !out.present.is_empty() {
            kept.push(out);
        }
    }
    kept
}

struct LimitRatio<'a> {
    op: Op<'a>,
    ratios: Vec<f64>,
}

/// xxHash64 over name and value of each label, each behind its length: one byte below 255, else 255 and three bytes.
fn ratio_hash(labels: &Labels) -> f64 {
    let mut bytes = Vec::with_capacity(128);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        match u8::try_from(text.len()) {
            Ok(len) if len < 255 => bytes.push(len),
            _ => {
                bytes.push(255);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0) as f64 / u64::MAX as f64
}

impl Operator for LimitRatio<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let kept = batch.into_iter().map(|mut column| {
            let hash = ratio_hash(&column.labels);
            for (k, ratio) in self.ratios.iter().enumerate() {
                let ratio = ratio.clamp(-1.0, 1.0);
                let keep = if ratio >= 0.0 { hash < ratio } else { hash >= 1.0 + ratio };
                if !keep {
                    column.remove(k);
                }
            }
            column
        });
        Ok(Some(kept.filter(|column| !column.present.is_empty()).collect()))
    }
}

// === values of a whole group ===

fn quantiles(run: &Run<'_>, span: Span, columns: &[Column], grouping: &Grouping, q: &[f64]) -> Vec<Column> {
    if columns.iter().any(|column| column.histograms.is_some()) {
        run.info(span, "ignored histogram in quantile aggregation");
    }
    let groups = members(columns, grouping);
    let steps = columns.first().map_or(0, Column::len);
    let mut out: Vec<Column> = groups.labels.iter().map(|labels| Column::new(labels.clone(), steps)).collect();
    for (i, column) in columns.iter().enumerate() {
        out[groups.of[i]].drop_name |= column.drop_name;
    }
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); out.len()];
    for step in 0..steps {
        values.iter_mut().for_each(Vec::clear);
        for (i, column) in columns.iter().enumerate() {
            values[groups.of[i]].extend(column.float(step));
        }
        for (column, values) in out.iter_mut().zip(&mut values).filter(|(_, values)| !values.is_empty()) {
            column.set(step, super::range_fn::quantile(q[step], values));
        }
    }
    out.retain(|column| !column.present.is_empty());
    out
}

fn count_values(columns: &[Column], grouping: &Grouping, label: &str) -> Vec<Column> {
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut out: Vec<Column> = Vec::new();
    for column in columns {
        let group = grouping.key(&column.labels);
        for step in column.present.iter() {
            let Some(value) = column.float(step) else { continue };
            let mut text = String::new();
            number::push_plain(&mut text, value);
            let labels = LabelsBuilder::new(&group).set(label, &text).build();
            let at = *index.entry(labels).or_insert_with_key(|labels| {
                out.push(Column::new(labels.clone(), column.len()));
                out.len() - 1
            });
            let count = out[at].float(step).unwrap_or(0.0);
            out[at].set(step, count + 1.0);
        }
    }
    out
}
