//! Histograms as scripts write them, and the little arithmetic that descriptions need.

use super::series::Cursor;
use farview_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use farview_model::{CounterResetHint, FloatHistogram, Span};
use std::collections::BTreeMap;

impl Cursor<'_> {
    /// Reads a histogram after its `{{`; tells whether the hint was written.
    pub(super) fn histogram(&mut self) -> Result<(FloatHistogram, bool), String> {
        let mut out = FloatHistogram::default();
        let (mut offset, mut negative_offset, mut hint_given) = (0, 0, false);
        loop {
            self.spaces();
            if self.take("}}") {
                break;
            }
            let key = self.word();
            if !self.take(":") {
                return self.error("a key and a colon are wanted");
            }
            match key {
                "schema" => out.schema = self.integer()?,
                "offset" => offset = self.integer()?,
                "n_offset" => negative_offset = self.integer()?,
                "sum" => out.sum = self.number()?,
                "count" => out.count = self.number()?,
                "z_bucket" => out.zero_count = self.number()?,
                "z_bucket_w" => out.zero_threshold = self.number()?,
                "buckets" => out.positive_buckets = self.numbers()?,
                "n_buckets" => out.negative_buckets = self.numbers()?,
                "custom_values" => out.custom_values = Some(self.numbers()?.into()),
                "counter_reset_hint" => {
                    hint_given = true;
                    out.counter_reset_hint = match self.word() {
                        "unknown" => CounterResetHint::Unknown,
                        "reset" => CounterResetHint::Reset,
                        "not_reset" => CounterResetHint::NotReset,
                        "gauge" => CounterResetHint::Gauge,
                        _ => return self.error("a counter reset hint is wanted"),
                    };
                }
                _ => return self.error("no key of a histogram"),
            }
        }
        let spans = |offset: i32, buckets: &[f64]| match buckets.len() {
            0 => Vec::new(),
            len => vec![Span { offset, length: len as u32 }],
        };
        out.positive_spans = spans(offset, &out.positive_buckets);
        out.negative_spans = spans(negative_offset, &out.negative_buckets);
        Ok((out, hint_given))
    }

    fn integer(&mut self) -> Result<i32, String> {
        let value = self.number()?;
        if value.fract() == 0.0 && value.abs() < f64::from(i32::MAX) {
            Ok(value as i32)
        } else {
            self.error("an integer is wanted")
        }
    }

    fn numbers(&mut self) -> Result<Vec<f64>, String> {
        if !self.take("[") {
            return self.error("a list of numbers is wanted");
        }
        let mut out = Vec::new();
        loop {
            self.spaces();
            if self.take("]") {
                return Ok(out);
            }
            out.push(self.number()?);
        }
    }
}

/// Returns the populated buckets by index.
pub(super) fn buckets(spans: &[Span], counts: &[f64]) -> BTreeMap<i64, f64> {
    let mut out = BTreeMap::new();
    let (mut index, mut counts) = (0_i64, counts.iter());
    for span in spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            if *count != 0.0 {
                out.insert(index, *count);
            }
            index += 1;
        }
    }
    out
}

/// Returns spans and counts of buckets given by index, none of them empty.
pub(super) fn spans(buckets: &BTreeMap<i64, f64>) -> (Vec<Span>, Vec<f64>) {
    let (mut spans, mut counts) = (Vec::<Span>::new(), Vec::new());
    let mut next = 0_i64;
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if *index == next => span.length += 1,
            _ => spans.push(Span { offset: (index - next) as i32, length: 1 }),
        }
        counts.push(*count);
        next = index + 1;
    }
    (spans, counts)
}

/// Returns `a + sign * b`; the schema of `a` is at most that of `b`, and custom bounds are equal.
pub(super) fn add(a: &FloatHistogram, b: &FloatHistogram, sign: f64) -> FloatHistogram {
    let shift = if a.schema == CUSTOM_BUCKETS_SCHEMA { 0 } else { (b.schema - a.schema).clamp(0, 12) };
    let joined = |a_spans: &[Span], a_counts: &[f64], b_spans: &[Span], b_counts: &[f64]| {
        let mut out = buckets(a_spans, a_counts);
        for (index, count) in buckets(b_spans, b_counts) {
            *out.entry(((index - 1) >> shift) + 1).or_default() += sign * count;
        }
        out.retain(|_, count| *count != 0.0);
        spans(&out)
    };
    let mut out = a.clone();
    out.count += sign * b.count;
    out.sum += sign * b.sum;
    out.zero_count += sign * b.zero_count;
    (out.positive_spans, out.positive_buckets) =
        joined(&a.positive_spans, &a.positive_buckets, &b.positive_spans, &b.positive_buckets);
    (out.negative_spans, out.negative_buckets) =
        joined(&a.negative_spans, &a.negative_buckets, &b.negative_spans, &b.negative_buckets);
    out.counter_reset_hint = match (a.counter_reset_hint, b.counter_reset_hint) {
        _ if sign < 0.0 => CounterResetHint::Gauge,
        (a, b) if a == b => a,
        (CounterResetHint::Gauge, _) | (_, CounterResetHint::Gauge) => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    };
    out
}
