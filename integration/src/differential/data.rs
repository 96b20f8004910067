//! A block with what makes engines differ: resets, gaps, stale markers, NaN and infinities, ties, classic and native histograms.

use crate::blocks;
use farview_block::BlockId;
use farview_model::{CounterResetHint, FloatHistogram, Labels, STALE_NAN_BITS, Span, TimeRange};
use farview_series::{AggrChunk, ChunkData};
use farview_tsdb::Chunk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The first sample, ms: the begin of two hours, as blocks have it.
pub(super) const START: i64 = 1_699_999_200_000;
/// Times of the block, ms.
pub(super) const LENGTH: i64 = 2 * 3_600_000;
/// Between two samples of most series, ms.
const STEP: i64 = 15_000;
/// Samples in a chunk, about.
const CHUNK: usize = 120;
/// Upper bounds of the classic histograms.
const BOUNDS: [&str; 5] = ["0.1", "0.5", "1", "5", "+Inf"];

enum Samples {
    Floats(Vec<(i64, f64)>),
    Histograms(Vec<(i64, Arc<FloatHistogram>)>),
    /// First floats, then histograms.
    Both(Vec<(i64, f64)>, Vec<(i64, Arc<FloatHistogram>)>),
}

/// Writes the block of a seed.
pub(super) fn write(folder: &Path, id: BlockId, seed: u64) -> anyhow::Result<()> {
    let mut all: BTreeMap<Labels, Samples> = BTreeMap::new();
    let mut rng = StdRng::seed_from_u64(seed);
    for job in ["api", "db"] {
        for instance in ["a", "b", "c"] {
            let labels = |name: &str, more: &[(&str, &str)]| {
                let own = [("__name__", name), ("job", job), ("instance", instance)];
                Labels::from_pairs(own.iter().chain(more).copied())
            };
            for code in ["200", "404", "500"] {
                if rng.random_bool(0.9) {
                    all.insert(labels("requests_total", &[("code", code)]), counter(&mut rng));
                }
            }
            all.insert(labels("temperature", &[]), gauge(&mut rng));
            all.insert(labels("level", &[]), steps(&mut rng));
            if rng.random_bool(0.7) {
                all.insert(labels("gappy", &[]), gappy(&mut rng));
            }
            all.insert(labels("target_info", &[("version", ["1", "2"][rng.random_range(0..2)])]), constant(1.0));
            if instance != "c" {
                for (bound, samples) in BOUNDS.iter().zip(classic(&mut rng)) {
                    all.insert(labels("latency_bucket", &[("le", bound)]), samples);
                }
                all.insert(labels("native", &[]), native(&mut rng, false));
                all.insert(labels("native_gauge", &[]), native(&mut rng, true));
                all.insert(labels("custom", &[]), custom(&mut rng));
            }
            if instance == "a" {
                let (Samples::Floats(floats), Samples::Histograms(mut histograms)) =
                    (gauge(&mut rng), native(&mut rng, true))
                else {
                    anyhow::bail!("a gauge has floats and a native histogram has histograms")
                };
                let half = START + LENGTH / 2;
                histograms.retain(|(t, _)| *t >= half);
                let floats = floats.into_iter().filter(|(t, _)| *t < half).collect();
                all.insert(labels("mixed", &[]), Samples::Both(floats, histograms));
            }
        }
    }
    let mut symbols = BTreeSet::new();
    for labels in all.keys() {
        symbols.extend(labels.iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]));
    }
    let series: Vec<_> =
        all.into_iter().map(|(labels, samples)| Ok((labels, chunks(samples)?))).collect::<anyhow::Result<_>>()?;
    let range = TimeRange::new(START, START + LENGTH - 1);
    blocks::write(folder, id, &[], range, symbols, series)?;
    Ok(())
}

fn times(rng: &mut StdRng) -> Vec<i64> {
    let offset = rng.random_range(0..STEP);
    (0..LENGTH / STEP)
        .map(|n| START + offset + n * STEP + rng.random_range(0..3))
        .filter(|t| *t < START + LENGTH)
        .collect()
}

fn counter(rng: &mut StdRng) -> Samples {
    let (mut value, mut floats) = (f64::from(rng.random_range(0..100)), Vec::new());
    let whole = rng.random_bool(0.7);
    for t in times(rng) {
        if rng.random_bool(0.01) {
            value = 0.0;
        }
        value += if whole { f64::from(rng.random_range(0..20)) } else { rng.random_range(0.0..3.0) };
        if !rng.random_bool(0.02) {
            floats.push((t, value));
        }
    }
    Samples::Floats(floats)
}

fn gauge(rng: &mut StdRng) -> Samples {
    let wild = rng.random_bool(0.3);
    let sample = |(t, rng): (i64, &mut StdRng)| match rng.random_range(0..400) {
        0 if wild => (t, f64::NAN),
        1 if wild => (t, f64::INFINITY),
        2 if wild => (t, f64::NEG_INFINITY),
        3 => (t, 0.0),
        _ => (t, (rng.random_range(-30.0..40.0_f64) * 100.0).round() / 100.0),
    };
    let mut floats = Vec::new();
    for t in times(rng) {
        floats.push(sample((t, rng)));
    }
    Samples::Floats(floats)
}

/// Small whole numbers that stay for a while: many ties.
fn steps(rng: &mut StdRng) -> Samples {
    let (mut value, mut floats) = (0.0, Vec::new());
    for t in times(rng) {
        if rng.random_bool(0.1) {
            value = f64::from(rng.random_range(-2..4));
        }
        floats.push((t, value));
    }
    Samples::Floats(floats)
}

fn constant(value: f64) -> Samples {
    Samples::Floats((0..LENGTH / STEP).map(|n| (START + n * STEP, value)).collect())
}

fn gappy(rng: &mut StdRng) -> Samples {
    let (mut floats, mut there) = (Vec::new(), true);
    for t in times(rng) {
        if rng.random_bool(0.03) {
            if there && rng.random_bool(0.6) {
                floats.push((t, f64::from_bits(STALE_NAN_BITS)));
                there = false;
                continue;
            }
            there = !there;
        }
        if there {
            floats.push((t, rng.random_range(0.0..10.0)));
        }
    }
    Samples::Floats(floats)
}

fn classic(rng: &mut StdRng) -> Vec<Samples> {
    let mut counts = [0.0; BOUNDS.len()];
    let mut all = vec![Vec::new(); BOUNDS.len()];
    for t in times(rng) {
        if rng.random_bool(0.005) {
            counts = [0.0; BOUNDS.len()];
        }
        let mut more = 0.0;
        for (count, floats) in counts.iter_mut().zip(&mut all) {
            more += f64::from(rng.random_range(0..4));
            *count += more;
            floats.push((t, *count));
        }
    }
    all.into_iter().map(Samples::Floats).collect()
}

fn native(rng: &mut StdRng, gauge: bool) -> Samples {
    let mut histograms = Vec::new();
    let schema = rng.random_range(-1..3);
    // Many to begin with: how far rates of native histograms reach back to zero has changed after 3.5.
    let (mut positive, mut negative) = ([200.0_f64; 6], [200.0_f64; 3]);
    let (mut zero, mut sum) = (0.0, 0.0);
    for t in times(rng) {
        if gauge || rng.random_bool(0.01) {
            (positive, negative, zero, sum) = ([200.0; 6], [200.0; 3], 0.0, 0.0);
        }
        positive.iter_mut().chain(&mut negative).for_each(|bucket| *bucket += f64::from(rng.random_range(0..3)));
        zero += f64::from(rng.random_range(0..2));
        sum += rng.random_range(-2.0..8.0);
        let histogram = FloatHistogram {
            counter_reset_hint: if gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown },
            schema,
            zero_threshold: 0.001,
            zero_count: zero,
            count: zero + positive.iter().chain(&negative).sum::<f64>(),
            sum,
            positive_spans: vec![Span { offset: -1, length: 4 }, Span { offset: 2, length: 2 }],
            positive_buckets: positive.to_vec(),
            negative_spans: vec![Span { offset: 0, length: 3 }],
            negative_buckets: negative.to_vec(),
            ..FloatHistogram::default()
        };
        histograms.push((t, Arc::new(histogram)));
    }
    Samples::Histograms(histograms)
}

fn custom(rng: &mut StdRng) -> Samples {
    let (mut histograms, mut buckets, mut sum) = (Vec::new(), [500.0_f64; 4], 0.0);
    // Prometheus reconciles different bounds only from 3.8 on.
    let bounds: Arc<[f64]> = [1.0, 2.0, 5.0].into();
    for t in times(rng) {
        buckets.iter_mut().for_each(|bucket| *bucket += f64::from(rng.random_range(0..3)));
        sum += rng.random_range(0.0..10.0);
        let histogram = FloatHistogram {
            schema: farview_model::histogram::CUSTOM_BUCKETS_SCHEMA,
            count: buckets.iter().sum(),
            sum,
            positive_spans: vec![Span { offset: 0, length: 4 }],
            positive_buckets: buckets.to_vec(),
            custom_values: Some(Arc::clone(&bounds)),
            ..FloatHistogram::default()
        };
        histograms.push((t, Arc::new(histogram)));
    }
    Samples::Histograms(histograms)
}

fn chunks(samples: Samples) -> anyhow::Result<Vec<AggrChunk>> {
    let (floats, histograms) = match samples {
        Samples::Floats(floats) => (floats, Vec::new()),
        Samples::Histograms(histograms) => (Vec::new(), histograms),
        Samples::Both(floats, histograms) => (floats, histograms),
    };
    let mut chunks = Vec::new();
    for part in floats.chunks(CHUNK) {
        let (times, values): (Vec<i64>, Vec<f64>) = part.iter().copied().unzip();
        let data = ChunkData::Raw(Chunk::encode_xor(&times, &values));
        chunks.push(AggrChunk { mint: times[0], maxt: times[times.len() - 1], data });
    }
    for part in histograms.chunks(CHUNK) {
        let (times, values): (Vec<i64>, Vec<Arc<FloatHistogram>>) = part.iter().cloned().unzip();
        let mut from = 0;
        for chunk in Chunk::encode_float_histograms(&times, &values)? {
            let count = chunk.num_samples()?;
            let own = &times[from..from + count];
            chunks.push(AggrChunk { mint: own[0], maxt: own[count - 1], data: ChunkData::Raw(chunk) });
            from += count;
        }
    }
    Ok(chunks)
}
