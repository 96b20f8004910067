//! Histogram chunks that a real Prometheus wrote, beside what its query API says is in them.
//!
//! `data/native_histograms.json` was recorded from Prometheus 3.5.3 scraping itself: native histograms (integer counts),
//! their rates by a recording rule (float counts, gauges) and classic histograms turned into custom buckets.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_model::{Samples, TimeRange};
use farview_tsdb::{Chunk, Encoding};
use serde_json::Value;

fn recorded() -> Vec<(String, Chunk, Value)> {
    let file: Vec<Value> = serde_json::from_str(include_str!("data/native_histograms.json")).unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    };
    file.into_iter()
        .map(|entry| {
            let encoding = Encoding::from_byte(entry["encoding"].as_u64().unwrap() as u8).unwrap();
            let data = bytes(entry["data"].as_str().unwrap()).into();
            (entry["series"].as_str().unwrap().to_owned(), Chunk { encoding, data }, entry["samples"].clone())
        })
        .collect()
}

fn decode(chunk: &Chunk) -> Samples {
    let mut out = Samples::default();
    chunk.decode(TimeRange::ALL, &mut out).unwrap();
    out
}

/// Numbers are written as texts, because the parser of JSON does not round them to the nearest float.
fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn chunks_hold_what_prometheus_says_they_hold() {
    let mut encodings = [0; 7];
    for (series, chunk, expected) in recorded() {
        encodings[chunk.encoding as usize] += 1;
        let samples = decode(&chunk);
        let expected = expected.as_array().unwrap();
        assert_eq!(samples.histograms.len(), expected.len(), "{series}");
        for ((t, h), expected) in samples.histogram_timestamps.iter().zip(&samples.histograms).zip(expected) {
            assert_eq!(Some(*t), expected[0].as_i64(), "{series}");
            assert_eq!(h.count, number(&expected[1]), "{series} at {t}");
            assert_eq!(h.sum, number(&expected[2]), "{series} at {t}");
            // The API lists filled buckets from the lowest on; none here is negative.
            let filled: Vec<f64> =
                [h.zero_count].iter().chain(&h.positive_buckets).copied().filter(|count| *count != 0.0).collect();
            let listed: Vec<f64> = expected[3].as_array().unwrap().iter().map(number).collect();
            assert_eq!(filled, listed, "{series} at {t}");
        }
    }
    assert!(encodings[Encoding::Histogram as usize] > 1 && encodings[Encoding::FloatHistogram as usize] > 1);
}

#[test]
fn what_is_read_is_written_bit_for_bit_as_prometheus_wrote_it() {
    for (series, chunk, _) in recorded() {
        let samples = decode(&chunk);
        let encode = match chunk.encoding {
            Encoding::Histogram => Chunk::encode_histograms,
            _ => Chunk::encode_float_histograms,
        };
        let chunks = encode(&samples.histogram_timestamps, &samples.histograms).unwrap();
        assert_eq!(chunks.len(), 1, "{series}");
        // What Prometheus knew of a reset before the chunk is not told to who reads it.
        let body = |chunk: &Chunk| [&chunk.data[..2], &chunk.data[3..]].concat();
        assert_eq!(body(&chunks[0]), body(&chunk), "{series}");
    }
}
