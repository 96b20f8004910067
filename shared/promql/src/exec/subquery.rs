//! Subqueries: the columns of an inner expression, evaluated on a grid of its own, become series.

use super::range_fn;
use super::scalar::Params;
use super::scan::{Names, RangeWork, Scratch};
use super::{Column, Grid, Op, Operator, labels};
use crate::engine::{Error, Hold, Run};
use farview_model::{CounterResetHint, FloatHistogram, Samples};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Builds a function over the windows of a subquery, whose inner expression `op` evaluates on the grid `inner`.
pub(super) fn range<'a>(op: Op<'a>, inner: Grid, work: RangeWork, params: Params<'a>, names: Names) -> Op<'a> {
    let scan = Subquery { op, params, leaf: Leaf { inner, work, names }, hold: None };
    if names == Names::Keep { Box::new(scan) } else { Box::new(labels::Unique::of_ranges(Box::new(scan), None)) }
}

struct Subquery<'a> {
    op: Op<'a>,
    params: Params<'a>,
    leaf: Leaf,
    hold: Option<Hold>,
}

/// What is done with each column. Shared by the workers.
struct Leaf {
    inner: Grid,
    work: RangeWork,
    names: Names,
}

impl Operator for Subquery<'_> {
    fn next(&mut self, run: &Run<'_>) -> Result<Option<Vec<Column>>, Error> {
        run.check()?;
        self.hold = None;
        self.leaf.work.ready(run, &mut self.params)?;
        let Some(batch) = self.op.next(run)? else { return Ok(None) };
        let leaf = &self.leaf;
        let steps = leaf.work.task.windows.grid.count;
        let columns = batch.len() as u64 * Column::bytes_for(steps);
        let samples = 16 * leaf.inner.count as u64 * run.options().workers as u64;
        self.hold = Some(run.hold(columns + samples, 0)?);
        let one = |scratch: &mut Scratch, column: Column| leaf.one(run, scratch, &column);
        let work = batch.len() * (leaf.inner.count + steps);
        let columns: Vec<Column> = if work < SMALL_WORK || run.options().workers < 2 {
            let mut scratch = Scratch::default();
            batch.into_iter().map(|column| one(&mut scratch, column)).collect()
        } else {
            run.engine.pool.install(|| batch.into_par_iter().map_init(Scratch::default, one).collect())
        };
        Ok(Some(columns.into_iter().filter(|column| !column.present.is_empty()).collect()))
    }
}

/// Points in and out below which a batch is evaluated on the calling thread.
const SMALL_WORK: usize = 10_000;

impl Leaf {
    fn one(&self, run: &Run<'_>, scratch: &mut Scratch, inner: &Column) -> Column {
        let Scratch { samples, values } = scratch;
        to_samples(inner, self.inner, samples);
        let mut column = Column::new(inner.labels.clone(), self.work.task.windows.grid.count);
        column.drop_name = inner.drop_name;
        let seen = self.work.evaluate(run, &inner.labels, samples, values, &mut column);
        run.counters.total_samples.fetch_add(seen, Ordering::Relaxed);
        self.names.apply(&mut column);
        column
    }
}

/// Makes samples of a column. What its histograms knew of resets held between neighbours in the source, not between the
/// steps: it is forgotten.
fn to_samples(column: &Column, grid: Grid, samples: &mut Samples) {
    samples.clear();
    for k in column.present.iter() {
        match column.histogram(k) {
            Some(histogram) => samples.push_histogram(grid.at(k), without_hint(histogram)),
            None => samples.push(grid.at(k), column.values[k]),
        }
    }
    range_fn::drop_stale(samples);
}

fn without_hint(histogram: &Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match histogram.counter_reset_hint {
        CounterResetHint::Unknown | CounterResetHint::Gauge => Arc::clone(histogram),
        CounterResetHint::Reset | CounterResetHint::NotReset => {
            let mut histogram = FloatHistogram::clone(histogram);
            histogram.counter_reset_hint = CounterResetHint::Unknown;
            Arc::new(histogram)
        }
    }
}
