//! `info(v, {matchers})`: adds the labels of info metrics, such as `target_info`, to series of the same `instance` and `job`.

use super::scan::{Instant, newest};
use super::{Column, Grid, Op, Operator, build as build_vector};
use crate::ast::*;
use crate::engine::{Error, Hold, Run};
use crate::plan::{self, Above, Windows};
use crate::source::SeriesStream;
use farview_model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Samples, TimeRange};
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// The labels by which info series are found. Prometheus has them built in too.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Builds `info(v, {matchers})`.
pub(super) fn build<'a>(run: &Run<'_>, call: &'a Call, grid: Grid) -> Result<Op<'a>, Error> {
    let base = build_vector(run, &call.args[0], grid, &Above::named("info"))?;
    let given = match call.args.get(1).map(|arg| &arg.unwrapped().node) {
        Some(Node::Vector(selector)) => &selector.matchers[..],
        _ => &[],
    };
    let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
        given.iter().cloned().partition(|matcher| matcher.name() == METRIC_NAME);
    if names.is_empty() {
        names.push(Matcher::equal(METRIC_NAME, "target_info"));
    } else if names.iter().all(|matcher| matches!(matcher.op(), MatchOp::NotEqual | MatchOp::NotRegex)) {
        let all = Matcher::new(MatchOp::Regex, METRIC_NAME, ".+_info");
        names.push(all.map_err(|error| Error::Execution(error.to_string()))?);
    }
    // The info series are read when the series that they are added to are.
    let first = first_selector(&call.args[0]);
    let (at, offset) = first.map_or((None, None), |selector| (selector.at, selector.offset.as_ref()));
    let offset = plan::offset(run, offset)?;
    let windows = Windows { grid, at: plan::fixed_time(run, at), offset, range: run.lookback };
    let range = windows.bounds();
    let matchers: Vec<Matcher> = names.iter().chain(&data).cloned().collect();
    let stream = run.source.select(&plan::select(&matchers, range, 0, grid, &Above::named("info")))?;
    Ok(Box::new(Info { base, stream: Some(stream), range, windows, names, data, held: None }))
}

fn first_selector(expr: &Expr) -> Option<&VectorSelector> {
    match &expr.node {
        Node::Vector(selector) => Some(selector),
        Node::Matrix(matrix) => Some(&matrix.selector),
        Node::Number(_) | Node::String(_) => None,
        Node::Subquery(subquery) => first_selector(&subquery.expr),
        Node::Unary(unary) => first_selector(&unary.expr),
        Node::Paren(inner) => first_selector(inner),
        Node::Aggregate(aggregate) => first_selector(&aggregate.expr),
        Node::Binary(binary) => first_selector(&binary.lhs).or_else(|| first_selector(&binary.rhs)),
        Node::Call(call) => call.args.iter().find_map(first_selector),
    }
}

struct Info<'a> {
    base: Op<'a>,
    stream: Option<Box<dyn SeriesStream>>,
    range: TimeRange,
    windows: Windows,
    names: Vec<Matcher>,
    data: Vec<Matcher>,
    held: Option<Held>,
}

/// The info series.
struct Held {
    /// With the times of their samples as values, in seconds.
    columns: Vec<Column>,
    /// By identifying labels, and in these by name.
    index: HashMap<Labels, BTreeMap<String, Vec<usize>>>,
    #[expect(dead_code, reason = "gives the memory back when it is dropped")]
    hold: Hold,
}

fn identity(labels: &Labels) -> Labels {
    labels.only(|name| IDENTIFYING.contains(&name))
}

impl Operator for Info<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        if let Some(stream) = self.stream.take() {
            self.held = Some(self.hold(run, stream)?);
        }
        let Some(batch) = self.base.next(run)? else { return Ok(None) };
        let Some(held) = &self.held else { return Ok(Some(batch)) };
        let mut out = Vec::with_capacity(batch.len());
        for column in batch {
            // Info metrics themselves are left as they are.
            if self.names.iter().all(|matcher| matcher.matches(column.labels.metric_name())) {
                out.push(column);
            } else {
                self.enrich(held, column, &mut out)?;
            }
        }
        Ok(Some(out))
    }
}

impl Info<'_> {
    fn hold(&self, run: &Run<'_>, mut stream: Box<dyn SeriesStream>) -> Result<Held, Error> {
        let mut hold = run.hold(0, 0)?;
        let mut columns = Vec::new();
        let mut index: HashMap<Labels, BTreeMap<String, Vec<usize>>> = HashMap::new();
        let mut samples = Samples::default();
        while let Some(batch) = stream.next()? {
            run.check()?;
            for series in batch {
                samples.clear();
                series.samples.read(self.range, &mut samples)?;
                if !samples.histograms.is_empty() {
                    let text = format!("info metric {} has histograms, which have no labels to add", series.labels);
                    return Err(Error::Execution(text));
                }
                let mut column = Column::new(series.labels, self.windows.grid.count);
                newest(&samples, self.windows, Instant::Timestamp, &mut column);
                if column.present.is_empty() {
                    continue;
                }
                hold.grow(run, column.size_bytes(), column.sample_count())?;
                let names = index.entry(identity(&column.labels)).or_default();
                names.entry(column.labels.metric_name().to_owned()).or_default().push(columns.len());
                columns.push(column);
            }
        }
        Ok(Held { columns, index, hold })
    }

    fn enrich(&self, held: &Held, column: Column, out: &mut Vec<Column>) -> Result<(), Error> {
        let needed = self.data.iter().any(|matcher| !matcher.matches_empty());
        let Some(names) = held.index.get(&identity(&column.labels)) else {
            if !needed {
                out.push(column);
            }
            return Ok(());
        };
        // Which info series a step has decides its labels; mostly all steps have the same.
        let mut parts: HashMap<Vec<usize>, Column> = HashMap::new();
        let mut order: Vec<Vec<usize>> = Vec::new();
        for k in column.present.iter() {
            let mut chosen = Vec::with_capacity(names.len());
            for candidates in names.values() {
                chosen.extend(self.newest_of(held, candidates, k)?);
            }
            if chosen.is_empty() && needed {
                continue;
            }
            let part = match parts.get_mut(&chosen) {
                Some(part) => part,
                None => {
                    let labels = self.labels(held, &column.labels, &chosen)?;
                    let part = Column { drop_name: column.drop_name, ..Column::new(labels, column.len()) };
                    order.push(chosen.clone());
                    parts.entry(chosen).or_insert(part)
                }
            };
            super::labels::copy(&column, k, part);
        }
        out.extend(order.iter().filter_map(|chosen| parts.remove(chosen)));
        Ok(())
    }

    /// Of several info series of one name and identity the one with the newest sample.
    fn newest_of(&self, held: &Held, candidates: &[usize], k: usize) -> Result<Option<usize>, Error> {
        let mut best: Option<(usize, f64)> = None;
        for i in candidates {
            let Some(t) = held.columns[*i].float(k) else { continue };
            match best {
                Some((_, newest)) if t < newest => {}
                Some((other, newest)) if t == newest => {
                    let millis = (t * 1_000.0).round() as i64;
                    return Err(Error::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {millis}, new {} @ {millis}",
                        held.columns[other].labels, held.columns[*i].labels
                    )));
                }
                _ => best = Some((*i, t)),
            }
        }
        Ok(best.map(|(i, _)| i))
    }

    fn labels(&self, held: &Held, base: &Labels, chosen: &[usize]) -> Result<Labels, Error> {
        let mut builder = LabelsBuilder::new(base);
        let mut added: BTreeMap<&str, &str> = BTreeMap::new();
        for i in chosen {
            for (name, value) in held.columns[*i].labels.iter() {
                let wanted = self.data.is_empty() || self.data.iter().any(|matcher| matcher.name() == name);
                if name == METRIC_NAME || !wanted || base.get(name).is_some() {
                    continue;
                }
                if added.insert(name, value).is_some_and(|other| other != value) {
                    return Err(Error::Execution(format!("conflicting label: {name}")));
                }
                builder.set(name, value);
            }
        }
        Ok(builder.build())
    }
}
