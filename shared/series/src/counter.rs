//! Totals of counters out of downsampled data (Thanos `pkg/compact/downsample`, `ApplyCounterResetsSeriesIterator`).

use farview_model::{Samples, TimeRange};

/// Carries the total of a counter from chunk to chunk, resets folded in, so that what comes out never falls.
///
/// A counter chunk ends with a sample at the time of the one before: the last raw value, by which a reset between chunks is
/// seen. NaN, and with it the stale marker, is left out.
#[derive(Debug, Default)]
pub struct CounterTotal {
    total: f64,
    last: Option<(i64, f64)>,
}

impl CounterTotal {
    /// Adds the samples of the next chunk; those in `range` go to `out`. Histograms pass unchanged.
    pub fn add_chunk(&mut self, samples: Samples, range: TimeRange, out: &mut Samples) {
        for (t, value) in samples.timestamps.into_iter().zip(samples.values) {
            if value.is_nan() {
                continue;
            }
            match self.last {
                None => self.total = value,
                Some((last_t, last)) if t > last_t => {
                    self.total += if value >= last { value - last } else { value };
                }
                Some((last_t, _)) if t == last_t => {
                    self.last = Some((t, value));
                    continue;
                }
                Some(_) => continue,
            }
            self.last = Some((t, value));
            if range.contains(t) {
                out.push(t, self.total);
            }
        }
        for (t, histogram) in samples.histogram_timestamps.into_iter().zip(samples.histograms) {
            if range.contains(t) {
                out.push_histogram(t, histogram);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_between_chunks_is_seen_by_the_repeated_last_value() {
        let chunk = |pairs: &[(i64, f64)]| {
            let (timestamps, values) = pairs.iter().copied().unzip();
            Samples { timestamps, values, ..Samples::default() }
        };
        let (mut total, mut out) = (CounterTotal::default(), Samples::default());
        // The chunk's own total is 20, its last raw value 5: there was a reset within.
        total.add_chunk(chunk(&[(10, 15.0), (20, 20.0), (20, 5.0)]), TimeRange::ALL, &mut out);
        total.add_chunk(chunk(&[(30, 8.0), (40, f64::NAN), (50, 2.0)]), TimeRange::ALL, &mut out);
        assert_eq!(out.timestamps, [10, 20, 30, 50]);
        assert_eq!(out.values, [15.0, 20.0, 23.0, 25.0]);
    }
}
