//! Replica deduplication on samples: which replica's sample stands at which time.
//!
//! `penalty` is Thanos' rule (`pkg/dedup/iter.go`), sample by sample: stay on the replica in use; the other one may take
//! over only after a gap of twice the last interval. `chain` takes the union of all samples and at equal times the first.

use farview_model::{FloatHistogram, Samples};
use std::sync::Arc;

/// How replicas of one series become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DedupFunc {
    /// Stay on one replica and bridge its gaps with another.
    #[default]
    Penalty,
    /// Take every sample of every replica; for replicas that are equal one to one.
    Chain,
}

/// Penalty of the replica that was not chosen first, ms: no interval is known yet, and scrapes are seconds apart.
const INITIAL_PENALTY: i64 = 5_000;

#[derive(Debug, Clone, Copy)]
enum Sample<'a> {
    Float(f64),
    Histogram(&'a Arc<FloatHistogram>),
}

/// The samples of a replica in order of time, or those of two replicas already made one.
#[derive(Debug)]
enum Cursor<'a> {
    Leaf(Leaf<'a>),
    Pair(Box<Pair<'a>>),
}

#[derive(Debug)]
struct Leaf<'a> {
    samples: &'a Samples,
    float: usize,
    histogram: usize,
    /// Whether the values are a counter's, so that a switch must not look like a reset.
    counter: bool,
    offset: f64,
}

#[derive(Debug)]
struct Pair<'a> {
    a: Cursor<'a>,
    b: Cursor<'a>,
    /// Time of the sample chosen last; none before the first.
    last_t: Option<i64>,
    penalty_a: i64,
    penalty_b: i64,
    use_a: bool,
    exhausted: bool,
}

impl<'a> Leaf<'a> {
    /// Returns time and value of the current sample; `None` at the end.
    #[inline]
    fn at(&self) -> Option<(i64, Sample<'a>)> {
        let float = self.samples.timestamps.get(self.float);
        let histogram = self.samples.histogram_timestamps.get(self.histogram);
        match (float, histogram) {
            (Some(t), None) => Some((*t, Sample::Float(self.samples.values[self.float] + self.offset))),
            (Some(t), Some(h)) if t <= h => Some((*t, Sample::Float(self.samples.values[self.float] + self.offset))),
            (_, Some(t)) => Some((*t, Sample::Histogram(&self.samples.histograms[self.histogram]))),
            (None, None) => None,
        }
    }

    #[inline]
    fn seek(&mut self, t: i64) {
        while self.samples.timestamps.get(self.float).is_some_and(|at| *at < t) {
            self.float += 1;
        }
        while self.samples.histogram_timestamps.get(self.histogram).is_some_and(|at| *at < t) {
            self.histogram += 1;
        }
    }
}

impl<'a> Cursor<'a> {
    fn at(&self) -> Option<(i64, Sample<'a>)> {
        match self {
            Self::Leaf(leaf) => leaf.at(),
            Self::Pair(pair) => pair.at(),
        }
    }

    fn seek(&mut self, t: i64) {
        match self {
            Self::Leaf(leaf) => leaf.seek(t),
            // Every sample is walked over: a gap of one replica is seen only so.
            Self::Pair(pair) => {
                while pair.last_t.is_none_or(|last| last < t) && !pair.exhausted {
                    pair.next();
                }
            }
        }
    }

    /// Lifts the values that follow so that the current one is no lower than `value`.
    fn adjust(&mut self, value: f64) {
        match self {
            Self::Leaf(leaf) => {
                if leaf.counter
                    && let Some((_, Sample::Float(at))) = leaf.at()
                    && value > at
                {
                    leaf.offset += value - at;
                }
            }
            Self::Pair(pair) => {
                pair.a.adjust(value);
                pair.b.adjust(value);
            }
        }
    }
}

impl<'a> Pair<'a> {
    fn new(a: Cursor<'a>, b: Cursor<'a>) -> Self {
        let (mut a, mut b) = (a, b);
        // A pair within a pair has no sample before it is moved once.
        a.seek(i64::MIN);
        b.seek(i64::MIN);
        Self { a, b, last_t: None, penalty_a: 0, penalty_b: 0, use_a: true, exhausted: false }
    }

    fn at(&self) -> Option<(i64, Sample<'a>)> {
        if self.exhausted {
            return None;
        }
        self.last_t?;
        if self.use_a { self.a.at() } else { self.b.at() }
    }

    fn chosen_float(&self) -> Option<f64> {
        let side = if self.use_a { self.a.at() } else { self.b.at() };
        match side {
            Some((_, Sample::Float(value))) => Some(value),
            _ => None,
        }
    }

    fn next(&mut self) {
        // Before the first sample there is none that the next must not fall below. Thanos takes the first of `a` for it, and rates of
        // a pair whose second replica begins earlier come out too low.
        let before = self.last_t.and_then(|_| self.chosen_float());
        let used_a = self.use_a;
        let after = self.last_t.map_or(i64::MIN, |t| t.saturating_add(1));
        self.a.seek(after.saturating_add(self.penalty_a));
        self.b.seek(after.saturating_add(self.penalty_b));
        let (ta, tb) = (self.a.at().map(|(t, _)| t), self.b.at().map(|(t, _)| t));
        match (ta, tb) {
            (None, None) => {
                self.use_a = false;
                self.exhausted = true;
                return;
            }
            (None, Some(tb)) => {
                self.use_a = false;
                self.last_t = Some(tb);
                self.penalty_b = 0;
            }
            (Some(ta), None) => {
                self.use_a = true;
                self.last_t = Some(ta);
                self.penalty_a = 0;
            }
            (Some(ta), Some(tb)) => {
                self.use_a = ta <= tb;
                let t = ta.min(tb);
                let penalty = self.last_t.map_or(INITIAL_PENALTY, |last| t.saturating_sub(last).saturating_mul(2));
                (self.penalty_a, self.penalty_b) = if self.use_a { (0, penalty) } else { (penalty, 0) };
                self.last_t = Some(t);
            }
        }
        if self.use_a != used_a
            && let Some(value) = before
        {
            self.a.adjust(value);
            self.b.adjust(value);
        }
    }
}

/// Makes one series of the samples of its replicas and appends it to `out`. `counter` says that the values count, so that
/// a switch of replicas must not look like a reset.
pub fn dedup(replicas: &[Samples], func: DedupFunc, counter: bool, out: &mut Samples) {
    match func {
        DedupFunc::Penalty => penalty(replicas, counter, out),
        DedupFunc::Chain => chain(replicas, out),
    }
}

fn push(out: &mut Samples, t: i64, sample: Sample<'_>) {
    match sample {
        Sample::Float(value) => out.push(t, value),
        Sample::Histogram(histogram) => out.push_histogram(t, Arc::clone(histogram)),
    }
}

fn penalty(replicas: &[Samples], counter: bool, out: &mut Samples) {
    if let [a, b] = replicas
        && a.histograms.is_empty()
        && b.histograms.is_empty()
    {
        return penalty_of_two(a, b, counter, out);
    }
    let leaf = |samples| Cursor::Leaf(Leaf { samples, float: 0, histogram: 0, counter, offset: 0.0 });
    let folded = replicas.iter().map(leaf).reduce(|a, b| Cursor::Pair(Box::new(Pair::new(a, b))));
    let Some(mut cursor) = folded else { return };
    let mut t = i64::MIN;
    loop {
        cursor.seek(t);
        let Some((at, sample)) = cursor.at() else { return };
        push(out, at, sample);
        t = at.saturating_add(1);
    }
}

/// The rule of [`Pair`] for the common case of two replicas of floats, on arrays: while one replica has no gap, its samples
/// are copied in a run and the other is not looked at.
fn penalty_of_two(a: &Samples, b: &Samples, counter: bool, out: &mut Samples) {
    let sides = [a, b];
    let mut at = [0usize, 0usize];
    let mut offset = [0.0f64, 0.0f64];
    let mut penalty = [0i64, 0i64];
    let mut last_t: Option<i64> = None;
    let mut used = 0usize;
    let seek = |samples: &Samples, from: usize, t: i64| {
        let rest = &samples.timestamps[from..];
        // Mostly the very next sample is the one.
        match rest.first() {
            Some(first) if *first >= t => from,
            None => from,
            _ => match rest.get(1) {
                Some(second) if *second >= t => from + 1,
                _ => from + rest.partition_point(|at| *at < t),
            },
        }
    };
    loop {
        let before = last_t.and_then(|_| sides[used].values.get(at[used])).map(|value| value + offset[used]);
        let after = last_t.map_or(i64::MIN, |t| t.saturating_add(1));
        for side in [0, 1] {
            at[side] = seek(sides[side], at[side], after.saturating_add(penalty[side]));
        }
        let times = [0, 1].map(|side| sides[side].timestamps.get(at[side]).copied());
        let chosen = match times {
            [None, None] => return,
            [None, Some(_)] => 1,
            [Some(_), None] => 0,
            [Some(ta), Some(tb)] => usize::from(ta > tb),
        };
        let t = times[chosen].expect("the side with a sample was chosen");
        penalty[chosen] = 0;
        if times[1 - chosen].is_some() {
            penalty[1 - chosen] = last_t.map_or(INITIAL_PENALTY, |last| t.saturating_sub(last).saturating_mul(2));
        }
        if chosen != used
            && counter
            && let Some(before) = before
        {
            for side in [0, 1] {
                if let Some(value) = sides[side].values.get(at[side])
                    && before > value + offset[side]
                {
                    offset[side] += before - (value + offset[side]);
                }
            }
        }
        used = chosen;
        last_t = Some(t);
        out.push(t, sides[chosen].values[at[chosen]] + offset[chosen]);
    }
}

/// Merges all samples; at equal times those of the first replica that has one.
fn chain(replicas: &[Samples], out: &mut Samples) {
    let mut leaves: Vec<Leaf<'_>> =
        replicas.iter().map(|samples| Leaf { samples, float: 0, histogram: 0, counter: false, offset: 0.0 }).collect();
    while let Some((t, sample)) = leaves.iter().filter_map(Leaf::at).min_by_key(|(t, _)| *t) {
        push(out, t, sample);
        let after = t.saturating_add(1);
        leaves.iter_mut().for_each(|leaf| leaf.seek(after));
        if t == i64::MAX {
            return;
        }
    }
}

#[cfg(test)]
#[path = "dedup/tests.rs"]
mod tests;
