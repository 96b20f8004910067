//! Histogram chunks: what is written is read again, and whatever bytes come are read or refused.

use farview_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use farview_model::{CounterResetHint, FloatHistogram, STALE_NAN_BITS, Samples, Span, TimeRange};
use farview_tsdb::{Chunk, EncodeError, Encoding, MAX_SAMPLES};
use proptest::prelude::*;
use std::sync::Arc;

type Encode = fn(&[i64], &[Arc<FloatHistogram>]) -> Result<Vec<Chunk>, EncodeError>;
const CODINGS: [Encode; 2] = [Chunk::encode_histograms, Chunk::encode_float_histograms];

fn arb_spans() -> impl Strategy<Value = Vec<Span>> {
    proptest::collection::vec((0..20i32, 0..5u32), 0..4)
        .prop_map(|spans| spans.into_iter().map(|(offset, length)| Span { offset, length }).collect())
}

fn arb_layout() -> impl Strategy<Value = FloatHistogram> {
    let threshold = prop_oneof![Just(0.0), Just(2f64.powi(-128)), Just(0.001)];
    (-4..=8i32, threshold, arb_spans(), arb_spans(), any::<bool>()).prop_map(
        |(schema, zero_threshold, positive_spans, negative_spans, custom)| {
            let layout =
                FloatHistogram { schema, zero_threshold, positive_spans, negative_spans, ..Default::default() };
            if !custom {
                return layout;
            }
            let end: i64 = layout.positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
            let bounds: Vec<f64> = (0..end).map(|i| i as f64 * 0.25 + if i % 3 == 0 { 0.0 } else { 0.01234 }).collect();
            FloatHistogram {
                schema: CUSTOM_BUCKETS_SCHEMA,
                negative_spans: vec![],
                custom_values: Some(bounds.into()),
                ..layout
            }
        },
    )
}

/// A run of histograms of one layout, counters that now and then begin again, with stale markers between.
fn arb_run() -> impl Strategy<Value = Vec<(i64, FloatHistogram)>> {
    let step = prop_oneof![Just(15_000i64), 1i64..40_000];
    let grow = prop_oneof![0u64..4, 0u64..200_000, Just(1u64 << 40)];
    let sample = (step, grow, -1e6..1e6f64, 0..40u8);
    (arb_layout(), any::<bool>(), proptest::collection::vec(sample, 1..200)).prop_map(|(layout, gauge, steps)| {
        let buckets = |spans: &[Span]| spans.iter().map(|span| span.length as usize).sum::<usize>();
        let (positive, negative) = (buckets(&layout.positive_spans), buckets(&layout.negative_spans));
        let (mut t, mut total) = (-5_000i64, 0u64);
        let sample = |(step, grow, sum, kind)| {
            t += step;
            if kind == 0 {
                return (t, FloatHistogram { sum: f64::from_bits(STALE_NAN_BITS), ..Default::default() });
            }
            total = if kind == 1 { grow } else { total + grow };
            let bucket = |i: usize| (total / (1 + i as u64 % 7)) as f64;
            let histogram = FloatHistogram {
                counter_reset_hint: if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown },
                count: (total * 3) as f64,
                zero_count: (total / 9) as f64,
                sum,
                positive_buckets: (0..positive).map(bucket).collect(),
                negative_buckets: (3..3 + negative).map(bucket).collect(),
                ..layout.clone()
            };
            (t, histogram)
        };
        steps.into_iter().map(sample).collect()
    })
}

fn columns(runs: Vec<Vec<(i64, FloatHistogram)>>) -> (Vec<i64>, Vec<Arc<FloatHistogram>>) {
    let mut end = 0;
    let mut all = Vec::new();
    for run in runs {
        let begin = end;
        for (t, histogram) in run {
            end = begin + t + 5_000;
            all.push((end, Arc::new(histogram)));
        }
    }
    all.into_iter().unzip()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read_again(runs in proptest::collection::vec(arb_run(), 1..4)) {
        let (timestamps, histograms) = columns(runs);
        for encode in CODINGS {
            let mut out = Samples::default();
            for chunk in encode(&timestamps, &histograms).unwrap() {
                prop_assert!(chunk.num_samples().unwrap() <= MAX_SAMPLES);
                let before = out.histograms.len();
                chunk.decode(TimeRange::ALL, &mut out).unwrap();
                prop_assert_eq!(out.histograms.len() - before, chunk.num_samples().unwrap());
            }
            prop_assert_eq!(&out.histogram_timestamps, &timestamps);
            prop_assert_eq!(&out.histograms, &histograms);
        }
    }

    #[test]
    fn no_reset_hides_within_a_chunk(runs in proptest::collection::vec(arb_run(), 1..4)) {
        let (timestamps, histograms) = columns(runs);
        for encode in CODINGS {
            let mut out = Samples::default();
            for chunk in encode(&timestamps, &histograms).unwrap() {
                chunk.decode(TimeRange::ALL, &mut out).unwrap();
            }
            for pair in out.histograms.windows(2).filter(|pair| pair[1].counter_reset_hint == CounterResetHint::NotReset) {
                let counts = |h: &FloatHistogram| [&[h.count, h.zero_count], &h.positive_buckets[..], &h.negative_buckets].concat();
                prop_assert!(counts(&pair[0]).iter().zip(counts(&pair[1])).all(|(before, next)| *before <= next));
            }
        }
    }

    #[test]
    fn only_the_range_is_read(run in arb_run()) {
        let (timestamps, histograms) = columns(vec![run]);
        let range = TimeRange::new(timestamps[timestamps.len() / 3], timestamps[timestamps.len() / 2]);
        for encode in CODINGS {
            let mut out = Samples::default();
            for chunk in encode(&timestamps, &histograms).unwrap() {
                chunk.decode(range, &mut out).unwrap();
            }
            let wanted: Vec<i64> = timestamps.iter().copied().filter(|t| range.contains(*t)).collect();
            prop_assert_eq!(out.histogram_timestamps, wanted);
        }
    }

    #[test]
    fn a_truncated_chunk_is_refused(run in arb_run(), cut in 1usize..60) {
        let (timestamps, histograms) = columns(vec![run]);
        for encode in CODINGS {
            for chunk in encode(&timestamps, &histograms).unwrap() {
                if chunk.data.len() > cut {
                    let part = Chunk { data: chunk.data.slice(..chunk.data.len() - cut), ..chunk };
                    prop_assert!(part.decode(TimeRange::ALL, &mut Samples::default()).is_err());
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        for encoding in (1..=6).filter_map(Encoding::from_byte) {
            let chunk = Chunk { encoding, data: data.clone().into() };
            let _ = chunk.decode(TimeRange::ALL, &mut Samples::default());
        }
    }

    #[test]
    fn a_damaged_chunk_is_read_or_refused(run in arb_run(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (timestamps, histograms) = columns(vec![run]);
        for encode in CODINGS {
            for chunk in encode(&timestamps, &histograms).unwrap() {
                let mut data = chunk.data.to_vec();
                let at = at.index(data.len());
                data[at] ^= 1 << bit;
                let _ = Chunk { data: data.into(), ..chunk }.decode(TimeRange::ALL, &mut Samples::default());
            }
        }
    }
}

#[test]
fn spans_without_buckets_cannot_blow_up_memory() {
    let spans = vec![Span { offset: 0, length: 0 }; 4_000];
    let histogram = Arc::new(FloatHistogram { positive_spans: spans, ..Default::default() });
    let chunks = Chunk::encode_histograms(&[1], &[histogram]).unwrap();
    let mut data = chunks[0].data.to_vec();
    data[..2].copy_from_slice(&4_000u16.to_be_bytes());
    data.extend(vec![0; 4_000]);
    let chunk = Chunk { encoding: Encoding::Histogram, data: data.into() };
    assert!(chunk.decode(TimeRange::ALL, &mut Samples::default()).is_err());
}

#[test]
fn fractions_have_no_integer_form() {
    let histogram = Arc::new(FloatHistogram { count: 1.5, ..Default::default() });
    assert_eq!(Chunk::encode_histograms(&[1], &[histogram]), Err(EncodeError::NotWhole { index: 0 }));
}
