//! Blocks between ours and real Prometheus servers: theirs are read, deletions included, and ours are served.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use farview_localblock::{BlockSummary, LocalBlock, LocalBlockWriter};
use farview_model::{CounterResetHint, FloatHistogram, Labels, Matcher, Samples, Span, TimeRange};
use farview_series::{AggrChunk, ChunkData, DedupFunc, SeriesReader};
use farview_testkit::prometheus::{Prometheus, Version};
use farview_tsdb::{Chunk, MAX_SAMPLES};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// 2026-01-01, at the beginning of a range of two hours.
const START: i64 = 1_767_225_600_000;
const STEP: i64 = 15_000;
const SAMPLES: i64 = 480;
const ULID: &str = "01KDVPAWR0000000000000000A";

fn times() -> Vec<i64> {
    (0..SAMPLES).map(|i| START + i * STEP).collect()
}

fn chunk(times: &[i64], chunk: Chunk) -> AggrChunk {
    AggrChunk { mint: times[0], maxt: times[times.len() - 1], data: ChunkData::Raw(chunk) }
}

/// Series `up` of 300 pods: sample i of pod p is i times p. Then native histograms.
fn series() -> Vec<(Labels, Vec<AggrChunk>)> {
    let times = times();
    let mut out = vec![];
    let histogram = |i: usize| FloatHistogram {
        counter_reset_hint: CounterResetHint::Unknown,
        schema: 2,
        count: (3 * i) as f64,
        sum: i as f64 * 0.5,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_buckets: vec![i as f64, 2.0 * i as f64],
        ..FloatHistogram::default()
    };
    let histograms: Vec<_> = (0..times.len()).map(|i| Arc::new(histogram(i))).collect();
    let mut at = 0;
    let encoded = Chunk::encode_histograms(&times, &histograms).unwrap().into_iter().map(|encoded| {
        let from = at;
        at += encoded.num_samples().unwrap();
        chunk(&times[from..at], encoded)
    });
    out.push((Labels::from_pairs([("__name__", "latency"), ("pod", "p")]), encoded.collect()));
    for pod in 0..300 {
        let labels = Labels::from_pairs([("__name__", "up".to_owned()), ("pod", format!("pod-{pod:03}"))]);
        let chunks = times.chunks(MAX_SAMPLES).map(|times| {
            let values: Vec<f64> = times.iter().map(|t| ((t - START) / STEP * pod) as f64).collect();
            chunk(times, Chunk::encode_xor(times, &values))
        });
        out.push((labels, chunks.collect()));
    }
    out
}

fn write(data: &Path) -> (PathBuf, BlockSummary) {
    let folder = data.join(ULID);
    let series = series();
    let symbols: BTreeSet<&str> =
        series.iter().flat_map(|(labels, _)| labels.iter()).flat_map(|(n, v)| [n, v]).collect();
    let mut writer = LocalBlockWriter::create(&folder, symbols).unwrap();
    for (labels, chunks) in &series {
        writer.add_series(labels, chunks).unwrap();
    }
    let summary = writer.finish().unwrap();
    let meta = serde_json::json!({
        "ulid": ULID, "minTime": summary.range.mint, "maxTime": summary.range.maxt + 1, "version": 1,
        "stats": {"numSamples": summary.samples, "numSeries": summary.series, "numChunks": summary.chunks},
        "compaction": {"level": 1, "sources": [ULID]},
    });
    std::fs::write(folder.join("meta.json"), meta.to_string()).unwrap();
    (folder, summary)
}

fn read(block: &LocalBlock, matchers: &[Matcher]) -> Vec<(Labels, Samples)> {
    let reader = SeriesReader::new("", DedupFunc::Chain);
    let series = block.series(matchers, TimeRange::ALL, 10_000).unwrap().into_iter().map(|series| {
        let mut samples = Samples::default();
        reader.read(&block.chunks(&series).unwrap(), TimeRange::ALL, &mut samples).unwrap();
        (series.labels, samples)
    });
    series.collect()
}

#[test]
fn what_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, summary) = write(dir.path());
    assert_eq!((summary.series, summary.samples), (301, 301 * SAMPLES as u64));
    assert_eq!(summary.range, TimeRange::new(START, START + (SAMPLES - 1) * STEP));
    let block = LocalBlock::open(&folder).unwrap();
    let found = read(&block, &[]);
    assert!(found.iter().map(|(labels, _)| labels).eq(series().iter().map(|(labels, _)| labels)));
    for (pod, (_, samples)) in found[1..].iter().enumerate() {
        assert_eq!(samples.timestamps, times());
        assert!(samples.values.iter().enumerate().all(|(i, value)| *value == (i * pod) as f64));
    }
    assert_eq!(found[0].1.histogram_timestamps, times());
}

/// Reads all that can be read of a block.
fn try_read(folder: &Path) -> Result<usize, String> {
    let block = LocalBlock::open(folder).map_err(|error| error.to_string())?;
    let all = block.series(&[], TimeRange::ALL, 10_000).map_err(|error| error.to_string())?;
    let mut out = Samples::default();
    for series in all.iter().step_by(7) {
        let chunks = block.chunks(series).map_err(|error| error.to_string())?;
        let reader = SeriesReader::new("", DedupFunc::Chain);
        reader.read(&chunks, TimeRange::ALL, &mut out).map_err(|error| error.to_string())?;
    }
    Ok(out.len())
}

#[test]
fn a_damaged_block_is_refused_by_name_or_read_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, _) = write(dir.path());
    let whole = try_read(&folder).unwrap();
    assert_eq!(whole, 43 * SAMPLES as usize);
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut refused = 0;
    for name in ["index", "chunks/000001", "tombstones"] {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).unwrap();
        for round in 0..150 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = (random >> 8) as usize % bytes.len();
            let mut damaged = bytes.clone();
            match round % 5 {
                0 => damaged.truncate(at),
                _ => damaged[at] ^= 1 << (random % 8),
            }
            std::fs::write(&path, &damaged).unwrap();
            match try_read(&folder) {
                // What was damaged was not read: padding, or a series that was left out.
                Ok(samples) => assert_eq!(samples, whole, "{name}: byte {at}, round {round}"),
                Err(error) => {
                    assert!(error.contains(folder.to_str().unwrap()), "{error}");
                    refused += 1;
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(refused > 200, "{refused}");
}

#[tokio::test]
async fn promtool_and_prometheus_read_what_is_written() -> anyhow::Result<()> {
    for version in Version::available() {
        let mut args = Prometheus::builder().version(version);
        if version == Version::Two {
            args = args.arg("--enable-feature=native-histograms");
        }
        let mut prometheus = args.start().await?;
        prometheus.kill().await?;
        let data = prometheus.dir().join("data");
        write(&data);
        for args in [vec!["tsdb", "list"], vec!["tsdb", "analyze", "--extended"], vec!["tsdb", "dump"]] {
            let mut command = tokio::process::Command::new(version.promtool()?);
            command.args(&args).arg(&data);
            if args[1] == "analyze" {
                command.arg(ULID);
            }
            let output = command.output().await?;
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{version:?} {args:?}: {out}{err}");
            match args[1] {
                // The older one does not print histograms.
                "dump" => assert!(out.lines().count() >= 300 * SAMPLES as usize, "{}", out.lines().count()),
                "list" => assert!(out.contains(ULID), "{out}"),
                _ => assert!(out.contains("Series: 301") && out.contains("301 pod"), "{out}"),
            }
        }
        prometheus.restart().await?;
        let at = Some(((START + (SAMPLES - 1) * STEP) / 1000) as f64);
        for (query, value) in [
            ("count(up)", "300"),
            // Samples 0 to 479 of pods 0 to 299, each i times p.
            ("sum(sum_over_time(up[3h]))", "5155956000"),
            (r#"up{pod=~"pod-.99",pod!="pod-099"} > 110000"#, "143221"),
            ("sum(count_over_time({__name__=~\".+\"}[3h]))", "144480"),
            ("histogram_count(latency)", "1437"),
            ("histogram_sum(latency)", "239.5"),
        ] {
            let result = prometheus.query(query, at).await?;
            assert_eq!(result[0]["value"][1], value, "{version:?}: {query}: {result}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_prometheus_has_deleted_is_not_read() -> anyhow::Result<()> {
    for version in Version::available() {
        let lines = (0..200)
            .flat_map(|i| ["a", "b", "c"].map(|pod| format!("up{{pod=\"{pod}\"}} {i} {}\n", START / 1000 + 15 * i)));
        let text = format!("# TYPE up gauge\n{}", lines.collect::<String>());
        let builder = Prometheus::builder().version(version).openmetrics(&text).arg("--web.enable-admin-api");
        let mut prometheus = builder.start().await?;
        let delete = |query: &str| format!("{}/api/v1/admin/tsdb/delete_series?{query}", prometheus.url());
        let seconds = |i: i64| START / 1000 + 15 * i;
        let part = format!("match[]=up{{pod=\"a\"}}&start={}&end={}", seconds(50), seconds(139));
        for query in [part.as_str(), "match[]=up{pod=\"b\"}"] {
            let status = reqwest::Client::new().post(delete(query)).send().await?.status();
            assert!(status.is_success(), "{version:?}: {query}: {status}");
        }
        prometheus.kill().await?;
        let folders = std::fs::read_dir(prometheus.dir().join("data"))?.map(|entry| entry.unwrap().path());
        let blocks: Vec<PathBuf> = folders.filter(|folder| folder.join("meta.json").exists()).collect();
        assert_eq!(blocks.len(), 1);
        let block = LocalBlock::open(&blocks[0])?;
        let found: Vec<Vec<f64>> =
            read(&block, &[Matcher::equal("__name__", "up")]).into_iter().map(|(_, s)| s.values).collect();
        let kept = |numbers: &mut dyn Iterator<Item = i32>| -> Vec<f64> { numbers.map(f64::from).collect() };
        let wanted = [kept(&mut (0..50).chain(140..200)), vec![], kept(&mut (0..200))];
        assert_eq!(found, wanted, "{version:?}");
    }
    Ok(())
}
