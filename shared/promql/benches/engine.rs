//! What queries cost over series in memory, compressed as they come from a store.
//!
//! `calibration` is a loop that depends on nothing here: figures of different machines and hours are compared by their ratio
//! to it. Samples lie 15 s apart, over two hours and a half; ranges are asked with 120 steps of 60 s.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use farview_model::{Labels, Samples, TimeRange};
use farview_promql::engine::{Engine, EngineOptions, QueryContext};
use farview_promql::{Queryable, SampleSource, Select, SeriesStream, SourceError, SourceSeries};
use farview_tsdb::Chunk;
use std::hint::black_box;
use std::sync::Arc;

const SCRAPE: i64 = 15_000;
const SAMPLES: i64 = 600;
const STEP: i64 = 60_000;

/// Series with their chunks, in label order.
struct Store(Vec<(Labels, Arc<Vec<Chunk>>)>);

impl Store {
    /// Half a thousand pods a thousand series: counters, and histograms of ten buckets.
    fn new(series: usize) -> Self {
        let mut all = Vec::with_capacity(series + series / 10);
        for i in 0..series {
            let pod = format!("pod-{i:05}");
            let (job, le) = (format!("job-{}", i % 10), format!("{}", 1 << (i % 10)));
            let counter = [("__name__", "requests_total"), ("job", &job), ("pod", &pod)];
            all.push((Labels::from_pairs(counter), i));
            let host = format!("pod-{:05}", i / 10);
            let bucket = [("__name__", "duration_bucket"), ("job", &job), ("le", &le), ("pod", &host)];
            all.push((Labels::from_pairs(bucket), i % 10));
            if i % 10 == 0 {
                let info = [("__name__", "pod_info"), ("node", &format!("node-{}", i % 7)), ("pod", &pod)];
                all.push((Labels::from_pairs(info), 0));
            }
        }
        all.sort();
        Self(all.into_iter().map(|(labels, seed)| (labels, Arc::new(chunks(seed as u64)))).collect())
    }
}

fn chunks(seed: u64) -> Vec<Chunk> {
    let (mut random, mut total) = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, 0.0);
    let mut times = Vec::new();
    let mut values = Vec::new();
    for i in 0..SAMPLES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        total += (random % 20 + seed % 10) as f64;
        times.push(i * SCRAPE + if random.is_multiple_of(20) { 3 } else { 0 });
        values.push(total);
    }
    times.chunks(120).zip(values.chunks(120)).map(|(times, values)| Chunk::encode_xor(times, values)).collect()
}

impl Queryable for Store {
    fn select(&self, select: &Select) -> Result<Box<dyn SeriesStream>, SourceError> {
        let matches = |labels: &Labels| {
            select.matchers.iter().all(|matcher| matcher.matches(labels.get(matcher.name()).unwrap_or("")))
        };
        let found: Vec<_> = self.0.iter().filter(|(labels, _)| matches(labels)).cloned().collect();
        Ok(Box::new(Stream(found.into_iter())))
    }
}

struct Stream(std::vec::IntoIter<(Labels, Arc<Vec<Chunk>>)>);

impl SeriesStream for Stream {
    fn next(&mut self) -> Result<Option<Vec<SourceSeries>>, SourceError> {
        let series = |(labels, chunks)| SourceSeries { labels, samples: Box::new(Held(chunks)) };
        let batch: Vec<SourceSeries> = self.0.by_ref().take(128).map(series).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

struct Held(Arc<Vec<Chunk>>);

impl SampleSource for Held {
    fn read(&self, range: TimeRange, out: &mut Samples) -> Result<(), SourceError> {
        for chunk in self.0.iter() {
            chunk.decode(range, out).map_err(|error| SourceError { kind: error.kind(), message: error.to_string() })?;
        }
        Ok(())
    }

    fn size_bytes(&self) -> usize {
        self.0.iter().map(|chunk| chunk.data.len()).sum()
    }
}

const QUERIES: [(&str, &str); 9] = [
    ("selector", "requests_total"),
    ("rate", "rate(requests_total[5m])"),
    ("sum_by_rate", "sum by (job) (rate(requests_total[5m]))"),
    ("histogram_quantile", "histogram_quantile(0.9, sum by (job, le) (rate(duration_bucket[5m])))"),
    ("topk", "topk(5, rate(requests_total[5m]))"),
    ("join", "rate(requests_total[5m]) * on (pod) group_left (node) pod_info"),
    ("ratio", "sum by (job) (rate(requests_total[5m])) / sum by (job) (rate(duration_bucket[5m]))"),
    ("quantile_over_time", "quantile_over_time(0.9, requests_total[10m])"),
    ("subquery", "max_over_time(rate(requests_total[5m])[30m:1m])"),
];

fn bench(criterion: &mut Criterion) {
    criterion.bench_function("calibration", |bencher| {
        bencher.iter(|| (0..100_000u64).fold(1u64, |a, i| black_box(a ^ i).rotate_left(7).wrapping_mul(0x9E37_79B9)));
    });
    let workers = std::env::var("BENCH_WORKERS").ok().and_then(|workers| workers.parse().ok()).unwrap_or(1);
    let engine = Engine::new(EngineOptions { workers, ..EngineOptions::default() }).expect("threads can be started");
    let cx = QueryContext::default();
    let end = SAMPLES * SCRAPE;
    for count in [1_000, 10_000] {
        let store = Store::new(count);
        for (name, query) in QUERIES {
            let mut group = criterion.benchmark_group(name);
            group.sample_size(10);
            group.bench_function(BenchmarkId::new("instant", count), |bencher| {
                bencher.iter(|| engine.instant(&cx, &store, query, end).expect("the query is valid"));
            });
            group.bench_function(BenchmarkId::new("range", count), |bencher| {
                let start = end - 119 * STEP;
                bencher.iter(|| engine.range(&cx, &store, query, start, end, STEP).expect("the query is valid"));
            });
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
