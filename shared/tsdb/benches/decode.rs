//! What it costs to read a block: chunks, posting lists, series, the parts of an index that a store keeps.
//!
//! `calibration` is a loop that depends on nothing here: figures of different machines and hours are compared by their ratio
//! to it.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make undocumented functions")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use farview_model::{FloatHistogram, Labels, Samples, Span, TimeRange};
use farview_tsdb::index::{
    ChunkMeta, ChunkRef, IndexVersion, IndexWriter, PostingsOffsets, SeriesEntry, SeriesRef, Symbols, Toc, postings,
    series,
};
use farview_tsdb::{Chunk, MAX_SAMPLES};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;

/// A million dependent multiplications and shifts.
fn calibration(c: &mut Criterion) {
    c.bench_function("calibration", |b| {
        b.iter(|| {
            let mut x = black_box(0x9E37_79B9_7F4A_7C15u64);
            for _ in 0..1_000_000 {
                x = (x ^ x >> 31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            }
            x
        });
    });
}

fn times() -> Vec<i64> {
    // Scrapes are some milliseconds early or late.
    (0..MAX_SAMPLES as i64).map(|i| 1_767_225_600_000 + i * 15_000 + (i * 7919) % 13 - 6).collect()
}

/// Throughput is counted in samples.
fn chunks(c: &mut Criterion) {
    let times = times();
    let on_time: Vec<i64> = (0..MAX_SAMPLES as i64).map(|i| 1_767_225_600_000 + i * 15_000).collect();
    let counter: Vec<f64> = (0..MAX_SAMPLES)
        .scan(1e6, |total, i| {
            Some({
                *total += (i * 31 % 97) as f64;
                *total
            })
        })
        .collect();
    let gauge: Vec<f64> = (0..MAX_SAMPLES).map(|i| (i as f64 / 9.0).sin() * 100.0).collect();
    let buckets = |i: usize| (0..20).map(|bucket| ((i + 1) * (bucket + 3)) as f64).collect::<Vec<f64>>();
    let histogram = |i: usize| FloatHistogram {
        schema: 3,
        count: buckets(i).iter().sum(),
        sum: i as f64 * 1.37,
        positive_spans: vec![Span { offset: -4, length: 12 }, Span { offset: 2, length: 8 }],
        positive_buckets: buckets(i),
        ..FloatHistogram::default()
    };
    let histograms: Vec<_> = (0..MAX_SAMPLES).map(|i| Arc::new(histogram(i))).collect();
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Elements(MAX_SAMPLES as u64));
    for (name, chunk) in [
        ("xor counter on time", Chunk::encode_xor(&on_time, &counter)),
        ("xor constant on time", Chunk::encode_xor(&on_time, &[1.0; MAX_SAMPLES])),
        ("xor counter", Chunk::encode_xor(&times, &counter)),
        ("xor gauge", Chunk::encode_xor(&times, &gauge)),
        ("histogram", Chunk::encode_histograms(&times, &histograms).unwrap().remove(0)),
        ("float histogram", Chunk::encode_float_histograms(&times, &histograms).unwrap().remove(0)),
    ] {
        let mut out = Samples::default();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&chunk).decode(TimeRange::ALL, &mut out).unwrap();
                out.len()
            });
        });
    }
    group.finish();
}

/// 20,000 series of twelve labels with ten chunks each.
fn index() -> (Bytes, Vec<SeriesRef>) {
    let labels = |i: usize| {
        let label = |name: &str, value: String| (name.to_owned(), value);
        let mut pairs =
            vec![label("__name__", format!("metric_{}", i % 50)), label("pod", format!("pod-{:05}", i / 50))];
        pairs.extend((0..10).map(|n| label(&format!("label_{n}"), format!("value_{}", i % (n * n + 2)))));
        Labels::from_pairs(pairs)
    };
    let sets: BTreeSet<Labels> = (0..20_000).map(labels).collect();
    let symbols: BTreeSet<&str> = sets.iter().flat_map(|labels| labels.iter()).flat_map(|(n, v)| [n, v]).collect();
    let mut writer = IndexWriter::new(Vec::new(), symbols).unwrap();
    let mut at = 8;
    let mut refs = vec![];
    for set in &sets {
        let metas: Vec<ChunkMeta> = (0..10)
            .map(|i| {
                at += 180;
                let mint = 1_767_225_600_000 + i * 1_800_000;
                ChunkMeta { mint, maxt: mint + 1_785_000, reference: ChunkRef(at) }
            })
            .collect();
        refs.push(writer.add_series(set, &metas).unwrap());
    }
    (writer.finish().unwrap().0.into(), refs)
}

fn indices(c: &mut Criterion) {
    let (index, refs) = index();
    let toc = Toc::decode(&index).unwrap();
    let part = |range: std::ops::Range<u64>| index.slice(range.start as usize..range.end as usize);
    let (symbols_part, table_part) = (part(toc.symbols_range()), part(toc.postings_table_range(index.len() as u64)));
    let symbols = Symbols::decode(symbols_part.clone(), IndexVersion::V2).unwrap();
    let table = PostingsOffsets::decode(table_part.clone(), toc.postings_end()).unwrap();
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(refs.len() as u64));
    let all = part(table.all().unwrap());
    group.bench_function("postings", |b| b.iter(|| postings::decode(black_box(&all)).unwrap().to_vec()));
    let mut entry = SeriesEntry::default();
    group.bench_function("series", |b| {
        b.iter(|| {
            for reference in &refs {
                let bytes = &index[reference.offset(IndexVersion::V2) as usize..];
                series::decode(bytes, TimeRange::ALL, &mut entry).unwrap();
                black_box(&entry);
            }
        });
    });
    group.bench_function("labels", |b| {
        b.iter(|| {
            for reference in &refs {
                let bytes = &index[reference.offset(IndexVersion::V2) as usize..];
                series::decode(bytes, TimeRange::new(0, 0), &mut entry).unwrap();
                let pairs = entry.labels.iter().map(|(n, v)| (symbols.get(*n).unwrap(), symbols.get(*v).unwrap()));
                black_box(Labels::from_sorted(pairs).unwrap());
            }
        });
    });
    group.throughput(Throughput::Elements(symbols.len() as u64));
    group.bench_function("open symbols", |b| {
        b.iter(|| Symbols::decode(symbols_part.clone(), IndexVersion::V2).unwrap())
    });
    group.throughput(Throughput::Elements(table.len() as u64));
    group.bench_function("open table", |b| {
        b.iter(|| PostingsOffsets::decode(table_part.clone(), toc.postings_end()).unwrap());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("find value", |b| b.iter(|| table.find("pod", black_box("pod-00217")).unwrap()));
    group.finish();
}

criterion_group!(benches, calibration, chunks, indices);
criterion_main!(benches);
