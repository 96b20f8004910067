//! `histogram_quantile` over classic histograms: cumulative buckets, a series for each upper bound `le`.

use super::labels::barrier;
use super::{Column, Grid, Op, build as build_vector, named, scalar, without_name};
use crate::ast::*;
use crate::engine::{Error, Run};
use farview_model::{Labels, METRIC_NAME, number};
use hashbrown::HashMap;

/// Builds `histogram_quantile(q, v)`.
pub(super) fn build<'a>(run: &Run<'_>, _: &'a Expr, call: &'a Call, grid: Grid) -> Result<Op<'a>, Error> {
    let q = scalar::build(run, &call.args[0], grid)?.eval(run)?;
    for bad in q.iter().filter(|q| q.is_nan() || **q < 0.0 || **q > 1.0) {
        let text = format!("quantile value should be between 0 and 1, got {}", number::format_g(*bad));
        run.warn(call.args[0].span, text);
    }
    let op = build_vector(run, &call.args[1], grid, &named("histogram_quantile"))?;
    let span = call.args[1].span;
    Ok(barrier(op, move |run, columns| Ok(quantiles(run, span, &columns, &q))))
}

/// A bucket at one step.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

fn quantiles(run: &Run<'_>, span: Span, columns: &[Column], q: &[f64]) -> Vec<Column> {
    let later = run.engine.options.delayed_name_removal;
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<(Labels, Vec<(f64, &Column)>)> = Vec::new();
    for column in columns {
        let bound = match column.labels.get("le").map(|le| (le, number::parse_go(le))) {
            Some((_, Some(bound))) => bound,
            other => {
                let le = other.map_or("", |(le, _)| le);
                let mut text =
                    format!("bucket label \"le\" is missing or has a malformed value of {}", crate::quote::quote(le));
                if later {
                    let name = crate::quote::quote(column.labels.get(METRIC_NAME).unwrap_or(""));
                    text.push_str(&format!(" for metric name {name}"));
                }
                run.warn(span, text);
                continue;
            }
        };
        let labels = column.labels.without(|name| name == "le");
        let labels = if later { labels } else { without_name(&labels) };
        let at = *index.entry(labels).or_insert_with_key(|labels| {
            groups.push((labels.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[at].1.push((bound, column));
    }
    let mut out = Vec::with_capacity(groups.len());
    let mut buckets = Vec::new();
    for (labels, mut members) in groups {
        members.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut column = Column { drop_name: later, ..Column::new(labels, q.len()) };
        for (k, q) in q.iter().enumerate() {
            buckets.clear();
            for (bound, member) in &members {
                if let Some(count) = member.float(k) {
                    buckets.push(Bucket { bound: *bound, count });
                }
            }
            if !buckets.is_empty() {
                column.set(k, quantile(*q, &mut buckets));
            }
        }
        if !column.present.is_empty() {
            out.push(column);
        }
    }
    out
}

/// The quantile of cumulative buckets, which are sorted by bound.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    join_equal_bounds(buckets);
    repair(buckets);
    if buckets.len() < 2 {
        return f64::NAN;
    }
    let observations = buckets[buckets.len() - 1].count;
    if observations == 0.0 {
        return f64::NAN;
    }
    let rank = q * observations;
    let last = buckets.len() - 1;
    let b = buckets[..last].iter().position(|bucket| bucket.count >= rank).unwrap_or(last);
    if b == last {
        return buckets[last - 1].bound;
    }
    if b == 0 && buckets[0].bound <= 0.0 {
        return buckets[0].bound;
    }
    let (mut start, end, mut count, mut rank) = (0.0, buckets[b].bound, buckets[b].count, rank);
    if b > 0 {
        start = buckets[b - 1].bound;
        count -= buckets[b - 1].count;
        rank -= buckets[b - 1].count;
    }
    start + (end - start) * (rank / count)
}

fn join_equal_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let equal = next.bound == kept.bound;
        if equal {
            kept.count += next.count;
        }
        equal
    });
}

/// Buckets must not fall. What is within rounding of the one before is set to it; what falls by more too.
fn repair(buckets: &mut [Bucket]) {
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count < before || almost_equal(bucket.count, before) {
            bucket.count = before;
        }
        before = bucket.count;
    }
}

fn almost_equal(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() / (a.abs() + b.abs()).min(f64::MAX) < 1e-12
}
