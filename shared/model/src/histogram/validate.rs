//! Whether a histogram that came from outside can be worked with.

use super::bounds::is_exponential;
use super::error::HistogramError;
use super::{CUSTOM_BUCKETS_SCHEMA, FloatHistogram, Span};

impl FloatHistogram {
    /// Checks schema, spans, counts and bounds, by the rules of Prometheus' `FloatHistogram.Validate`. The total count is not
    /// held against the buckets: floats need not add up exactly.
    ///
    /// # Errors
    /// [`HistogramError`] for the first rule that is broken.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            self.validate_custom()?;
        } else if is_exponential(self.schema) {
            check_spans(&self.positive_spans, self.positive_buckets.len())?;
            check_spans(&self.negative_spans, self.negative_buckets.len())?;
            check_counts(&self.negative_buckets)?;
            if !self.custom_bounds().is_empty() {
                return Err(HistogramError::CustomBoundsOnExponential);
            }
        } else {
            return Err(HistogramError::InvalidSchema(self.schema));
        }
        check_counts(&self.positive_buckets)
    }

    fn validate_custom(&self) -> Result<(), HistogramError> {
        let bounds = self.custom_bounds();
        for pair in bounds.windows(2) {
            if pair[0].is_nan() || pair[1].is_nan() || pair[0] >= pair[1] {
                return Err(HistogramError::BoundsNotRising { previous: pair[0], current: pair[1] });
            }
        }
        if bounds.last().is_some_and(|last| *last == f64::INFINITY || last.is_nan()) {
            return Err(HistogramError::InfiniteBound);
        }
        check_spans(&self.positive_spans, self.positive_buckets.len())?;
        let end: i64 = self.positive_spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        if end > bounds.len() as i64 + 1 {
            return Err(HistogramError::TooFewBounds { bounds: bounds.len(), buckets: end });
        }
        let rules = [
            (self.positive_spans.first().is_some_and(|span| span.offset < 0), "buckets before the first bound"),
            (self.zero_count != 0.0, "zero count"),
            (self.zero_threshold != 0.0, "zero threshold"),
            (!self.negative_spans.is_empty(), "negative spans"),
            (!self.negative_buckets.is_empty(), "negative buckets"),
        ];
        match rules.iter().find(|(broken, _)| *broken) {
            Some((_, what)) => Err(HistogramError::NotWithCustomBuckets(what)),
            None => Ok(()),
        }
    }
}

fn check_spans(spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    for (i, span) in spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(HistogramError::NegativeOffset { span: i + 1, offset: span.offset });
        }
    }
    let promised = spans.iter().map(|span| u64::from(span.length)).sum();
    if promised == buckets as u64 { Ok(()) } else { Err(HistogramError::SpansMismatch { spans: promised, buckets }) }
}

fn check_counts(counts: &[f64]) -> Result<(), HistogramError> {
    match counts.iter().position(|count| *count < 0.0) {
        Some(at) => Err(HistogramError::NegativeCount { bucket: at + 1, count: counts[at] }),
        None => Ok(()),
    }
}
