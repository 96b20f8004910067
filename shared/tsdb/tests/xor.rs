//! XOR chunks: what is written is read again, and whatever bytes come are read or refused.

use farview_model::{Samples, TimeRange};
use farview_tsdb::{Chunk, Encoding};
use proptest::prelude::*;

fn arb_samples() -> impl Strategy<Value = (Vec<i64>, Vec<f64>)> {
    let step = prop_oneof![Just(15_000i64), 14_990i64..15_010, 1i64..9_000, 1i64..2_000_000_000_000];
    let value = prop_oneof![
        (0i64..1_000_000).prop_map(|n| n as f64),
        any::<u64>().prop_map(f64::from_bits),
        Just(f64::from_bits(farview_model::STALE_NAN_BITS)),
        Just(0.1),
    ];
    (-1_000_000_000_000i64..2_000_000_000_000, proptest::collection::vec((step, value), 0..130)).prop_map(
        |(start, steps)| {
            let mut t = start;
            steps
                .into_iter()
                .map(|(step, value)| {
                    t += step;
                    (t, value)
                })
                .unzip()
        },
    )
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again((timestamps, values) in arb_samples()) {
        let chunk = Chunk::encode_xor(&timestamps, &values);
        let mut out = Samples::default();
        chunk.decode(TimeRange::ALL, &mut out).unwrap();
        prop_assert_eq!(&out.timestamps, &timestamps);
        prop_assert_eq!(bits(&out.values), bits(&values));
        if timestamps.len() > 3 {
            let range = TimeRange::new(timestamps[1], timestamps[timestamps.len() - 2]);
            let mut part = Samples::default();
            chunk.decode(range, &mut part).unwrap();
            prop_assert_eq!(&part.timestamps[..], &timestamps[1..timestamps.len() - 1]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Chunk { encoding: Encoding::Xor, data: data.into() }.decode(TimeRange::ALL, &mut Samples::default());
    }

    #[test]
    fn a_truncated_chunk_is_refused((timestamps, values) in arb_samples(), cut in 1usize..40) {
        let whole = Chunk::encode_xor(&timestamps, &values).data;
        // The last byte may hold nothing but padding; two bytes hold at least one bit of a sample.
        if timestamps.len() > 1 && whole.len() > cut + 2 {
            let chunk = Chunk { encoding: Encoding::Xor, data: whole.slice(..whole.len() - cut) };
            prop_assert!(chunk.decode(TimeRange::ALL, &mut Samples::default()).is_err());
        }
    }
}

/// A time that comes again, and one that falls; only the counter of downsampled data may have the first.
#[test]
fn times_that_do_not_rise_are_refused() {
    let histogram = std::sync::Arc::new(farview_model::FloatHistogram::default());
    let histograms =
        |times: &[i64]| Chunk::encode_float_histograms(times, &vec![histogram.clone(); times.len()]).unwrap();
    for (times, rise, do_not_fall) in [
        (&[1i64, 2, 3, 9][..], true, true),
        (&[1, 2, 2], false, true),
        (&[2, 2, 3], false, true),
        (&[3, 2, 4], false, false),
        (&[1, 5, 4], false, false),
        (&[1, i64::MAX, i64::MIN], false, false),
    ] {
        let mut chunks = vec![Chunk::encode_xor(times, &vec![1.0; times.len()])];
        // Whether the encoder of histograms cuts here is its own matter.
        chunks.extend(histograms(times).into_iter().filter(|chunk| chunk.num_samples() == Ok(times.len())));
        for chunk in chunks {
            let (mut out, mut counter) = (Samples::default(), Samples::default());
            assert_eq!(chunk.decode(TimeRange::ALL, &mut out).is_ok(), rise, "{times:?}");
            assert_eq!(chunk.decode_counter(TimeRange::ALL, &mut counter).is_ok(), do_not_fall, "{times:?}");
            assert!(out.timestamps.is_sorted_by(|a, b| a < b) && out.histogram_timestamps.is_sorted_by(|a, b| a < b));
        }
    }
}
