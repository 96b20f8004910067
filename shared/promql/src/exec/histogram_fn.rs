//! Functions of histograms: native ones, and classic ones whose buckets are series with an upper bound `le`.

use super::labels::barrier;
use super::scalar::Params;
use super::scan::Names;
use super::{Bits, Column, Grid, Op, Operator, build as build_vector, join_equal, labels};
use crate::annotations::{Detail, Note};
use crate::ast::*;
use crate::engine::{Error, Run};
use crate::plan::Above;
use farview_model::classic::{ClassicBucket, bucket_fraction, bucket_quantile};
use farview_model::histogram::NanObservations;
use farview_model::{FloatHistogram, Labels, LabelsBuilder, METRIC_NAME, number};
use hashbrown::HashMap;
use std::sync::Arc;

/// Tells whether this module evaluates the function.
pub(super) fn is_one(name: &str) -> bool {
    statistic(name).is_some() || matches!(name, "histogram_quantile" | "histogram_quantiles" | "histogram_fraction")
}

type Statistic = fn(&FloatHistogram) -> f64;

fn statistic(name: &str) -> Option<Statistic> {
    Some(match name {
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_avg" => FloatHistogram::average,
        "histogram_stddev" => FloatHistogram::standard_deviation,
        "histogram_stdvar" => FloatHistogram::variance,
        _ => return None,
    })
}

/// Builds the call of a function of histograms.
pub(super) fn build<'a>(run: &Run<'_>, call: &'a Call, grid: Grid) -> Result<Op<'a>, Error> {
    let name = call.func.name;
    let vector_at = call.args.iter().position(|arg| arg.value_type() == ValueType::Vector).unwrap_or(0);
    let op = build_vector(run, &call.args[vector_at], grid, &Above::named(name))?;
    if let Some(statistic) = statistic(name) {
        let later = run.options().delayed_name_removal;
        return Ok(Box::new(labels::Unique::new(Box::new(Statistics { op, statistic, later }))));
    }
    let scalars = call.args.iter().filter(|arg| arg.value_type() == ValueType::Scalar);
    let spans: Vec<Span> = scalars.clone().map(|arg| arg.unwrapped().span).collect();
    let mut params = Params::build(run, scalars, grid)?;
    let span = call.args[vector_at].unwrapped().span;
    let label = match name {
        "histogram_quantiles" => match &call.args[1].unwrapped().node {
            Node::String(text) => Some(String::from_utf8_lossy(&text.value).into_owned()),
            _ => return Err(Error::Invalid("histogram_quantiles wants the name of a label".to_owned())),
        },
        _ => None,
    };
    Ok(barrier(op, move |run, columns| {
        let params = params.values(run)?.to_vec();
        let groups = Groups::new(run, &columns, span);
        if name == "histogram_fraction" {
            return groups.fractions(run, &params[0], &params[1], span, grid);
        }
        for (q, span) in params.iter().zip(&spans) {
            q.iter().filter(|q| !(0.0..=1.0).contains(*q)).for_each(|q| run.note(*span, Note::QuantileOutOfRange(*q)));
        }
        groups.quantiles(run, &params, label.as_deref(), span, grid)
    }))
}

/// Functions of single native histograms. Floats are left out.
struct Statistics<'a> {
    op: Op<'a>,
    statistic: Statistic,
    later: bool,
}

impl Operator for Statistics<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let columns = batch.into_iter().filter_map(|mut column| {
            let histograms = column.histograms.take()?;
            column.present = Bits::none(column.len());
            for (k, histogram) in histograms.iter().enumerate() {
                if let Some(histogram) = histogram {
                    column.set(k, (self.statistic)(histogram));
                }
            }
            if self.later {
                column.drop_name = true;
            } else {
                // Unlike all other functions these keep the metadata labels.
                column.labels = column.labels.without(|name| name == METRIC_NAME);
            }
            (!column.present.is_empty()).then_some(column)
        });
        Ok(Some(columns.collect()))
    }
}

/// The histograms of an input, classic and native, by their labels without `le`.
struct Groups<'c> {
    groups: Vec<Group<'c>>,
    names: Names,
}

struct Group<'c> {
    /// The labels, the name included.
    labels: Labels,
    /// Buckets of classic histograms with their bounds.
    buckets: Vec<(f64, &'c Column)>,
    /// Series with native histograms.
    native: Option<&'c Column>,
}

impl<'c> Groups<'c> {
    fn new(run: &Run<'_>, columns: &'c [Column], span: Span) -> Self {
        let names = Names::of(run, false);
        let mut index: HashMap<Labels, usize> = HashMap::new();
        let mut groups: Vec<Group<'c>> = Vec::new();
        let mut slot = |labels: Labels, groups: &mut Vec<Group<'c>>| {
            *index.entry(labels).or_insert_with_key(|labels| {
                groups.push(Group { labels: labels.clone(), buckets: Vec::new(), native: None });
                groups.len() - 1
            })
        };
        for column in columns {
            if column.histograms.is_some() {
                let at = slot(column.labels.clone(), &mut groups);
                groups[at].native = Some(column);
            }
            if (0..column.len()).all(|k| column.float(k).is_none()) {
                continue;
            }
            let le = column.labels.get("le").unwrap_or("");
            match number::parse_float(le) {
                Some(bound) => {
                    let at = slot(column.labels.without(|name| name == "le"), &mut groups);
                    groups[at].buckets.push((bound, column));
                }
                None => {
                    let name = if names == Names::DropLater { column.labels.metric_name() } else { "" };
                    run.note(span, Note::BadBucketLabel { le, name });
                }
            }
        }
        Self { groups, names }
    }

    /// The name that annotations tell: without delayed removal it is gone before.
    fn told_name<'g>(&self, group: &'g Group<'_>) -> &'g str {
        if self.names == Names::DropLater { group.labels.metric_name() } else { "" }
    }

    fn column(&self, group: &Group<'_>, len: usize) -> Column {
        let mut column = Column::new(group.labels.clone(), len);
        self.names.apply(&mut column);
        column
    }

    fn fractions(
        &self,
        run: &Run<'_>,
        lower: &[f64],
        upper: &[f64],
        span: Span,
        grid: Grid,
    ) -> Result<Vec<Column>, Error> {
        let mut out = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            run.check()?;
            let name = self.told_name(group);
            let mut column = self.column(group, grid.count);
            self.each_step(run, group, span, grid.count, |k, histogram| match histogram {
                Histogram::Native(histogram) => {
                    let (value, nan) = histogram.fraction(lower[k], upper[k]);
                    tell_nan(run, span, name, nan);
                    column.set(k, value);
                }
                Histogram::Classic(buckets) => column.set(k, bucket_fraction(lower[k], upper[k], buckets)),
            });
            out.push(column);
        }
        self.finish(out)
    }

    fn quantiles(
        &self,
        run: &Run<'_>,
        params: &[Arc<[f64]>],
        label: Option<&str>,
        span: Span,
        grid: Grid,
    ) -> Result<Vec<Column>, Error> {
        let mut out = Vec::with_capacity(self.groups.len() * params.len());
        for group in &self.groups {
            run.check()?;
            if let Some(label) = label
                && group.labels.get(label).is_some()
            {
                let label = crate::quote::quote(label);
                return Err(Error::Execution(format!("label {label} of histogram_quantiles is a label of the series")));
            }
            let mut columns: Vec<Quantiles<'_>> =
                params.iter().map(|q| Quantiles { q, label, columns: Vec::new() }).collect();
            let name = self.told_name(group);
            let base = self.column(group, grid.count);
            let mut copy = Vec::new();
            self.each_step(run, group, span, grid.count, |k, histogram| match histogram {
                Histogram::Native(histogram) => {
                    for quantiles in &mut columns {
                        let (value, nan) = histogram.quantile(quantiles.q[k]);
                        tell_nan(run, span, name, nan);
                        quantiles.at(k, &base).set(k, value);
                    }
                }
                Histogram::Classic(buckets) => {
                    for quantiles in &mut columns {
                        copy.clear();
                        copy.extend_from_slice(buckets);
                        let found = bucket_quantile(quantiles.q[k], &mut copy);
                        if let Some(repair) = found.repair {
                            let t = grid.at(k);
                            let detail = Detail::Raised {
                                min_bucket: repair.min_bucket,
                                max_bucket: repair.max_bucket,
                                max_diff: repair.max_diff,
                                samples: 1,
                                mint: t,
                                maxt: t,
                            };
                            run.note(span, Note::Raised { name, detail });
                        }
                        quantiles.at(k, &base).set(k, found.value);
                    }
                }
            });
            out.extend(columns.into_iter().flat_map(|quantiles| quantiles.columns).map(|(_, column)| column));
        }
        self.finish(out)
    }

    fn finish(&self, mut columns: Vec<Column>) -> Result<Vec<Column>, Error> {
        columns.retain(|column| !column.present.is_empty());
        if self.names == Names::DropLater { Ok(columns) } else { join_equal(columns) }
    }

    /// Calls `each` with the histogram of a group at every step that has one; not where it has two.
    fn each_step(
        &self,
        run: &Run<'_>,
        group: &Group<'_>,
        span: Span,
        steps: usize,
        mut each: impl FnMut(usize, Histogram<'_>),
    ) {
        let mut buckets = Vec::with_capacity(group.buckets.len());
        for k in 0..steps {
            buckets.clear();
            for (upper, column) in &group.buckets {
                buckets.extend(column.float(k).map(|count| ClassicBucket { upper: *upper, count }));
            }
            match (group.native.and_then(|column| column.histogram(k)), buckets.is_empty()) {
                (None, true) => {}
                (Some(_), false) => run.note(span, Note::MixedClassicAndNative(self.told_name(group))),
                (Some(histogram), true) => each(k, Histogram::Native(histogram)),
                (None, false) => each(k, Histogram::Classic(&mut buckets)),
            }
        }
    }
}

enum Histogram<'h> {
    Native(&'h FloatHistogram),
    Classic(&'h mut Vec<ClassicBucket>),
}

fn tell_nan(run: &Run<'_>, span: Span, name: &str, nan: NanObservations) {
    match nan {
        NanObservations::None => {}
        NanObservations::ResultIsNan => run.note(span, Note::QuantileIsNan(name)),
        NanObservations::SkewsHigher => run.note(span, Note::QuantileSkewed(name)),
        NanObservations::Excluded => run.note(span, Note::FractionExcludesNan(name)),
    }
}

/// The columns of one quantile parameter: one, or if it becomes a label one for each of its values.
struct Quantiles<'p> {
    q: &'p [f64],
    label: Option<&'p str>,
    columns: Vec<(u64, Column)>,
}

impl Quantiles<'_> {
    fn at(&mut self, k: usize, base: &Column) -> &mut Column {
        let key = if self.label.is_some() { self.q[k].to_bits() } else { 0 };
        let at = match self.columns.iter().position(|(q, _)| *q == key) {
            Some(at) => at,
            None => {
                let mut column = base.clone();
                if let Some(label) = self.label {
                    let mut text = String::new();
                    number::push_openmetrics(&mut text, self.q[k]);
                    column.labels = LabelsBuilder::new(&column.labels).set(label, &text).build();
                }
                self.columns.push((key, column));
                self.columns.len() - 1
            }
        };
        &mut self.columns[at].1
    }
}
