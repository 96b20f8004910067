//! What the store costs: a select of a tenth of many series from a folder and from S3, how soon a store is ready over many blocks, queries
//! through it beside a Prometheus that holds the same blocks, and uploads beside a copy. `docs/performance.md` tells how it is run.
#![allow(clippy::print_stdout, reason = "it prints tables")]

use anyhow::Context;
use clap::Parser;
use farview_block::BlockId;
use farview_integration::measure::{cpu, free, median, peak_rss, rss};
use farview_integration::{Farview, blocks};
use farview_model::{Labels, Matcher, TimeRange};
use farview_series::{AggrChunk, ChunkData};
use farview_storeapi::{CallOptions, Frame, SelectRequest, StoreClient};
use farview_testkit::prometheus::Version;
use farview_testkit::s3::{Fault, S3Server};
use farview_tsdb::Chunk;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measures the store.
#[derive(Parser)]
struct Args {
    /// Series in each block of two hours.
    #[arg(long, default_value_t = 100_000)]
    series: usize,
    /// Blocks of two hours.
    #[arg(long, default_value_t = 3)]
    blocks: i64,
    /// Rounds that count, after one that does not.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Numbers of small blocks with which to look how soon a store is ready.
    #[arg(long, value_delimiter = ',', default_values_t = [400, 4_000, 40_000])]
    ready: Vec<usize>,
    /// File `cgroup.procs` of a cgroup with a memory limit, for the part `memory`.
    #[arg(long)]
    cgroup_procs: Option<PathBuf>,
    /// Parts to measure; `memory` is one more.
    #[arg(long, value_delimiter = ',', default_values = ["select", "query", "upload", "ready"])]
    parts: Vec<String>,
}

const SCRAPE: i64 = 15_000;
const BLOCK: i64 = 7_200_000;
/// Series are spread over so many jobs; a select asks for one.
const JOBS: usize = 10;

/// Writes a block of `series` series that begins at `start`, ms.
fn write(folder: &Path, series: usize, start: i64) -> anyhow::Result<BlockId> {
    let id = BlockId::generate();
    let names: Vec<(String, String)> =
        (0..series).map(|i| (format!("job-{}", i % JOBS), format!("pod-{:06}", i / JOBS))).collect();
    let mut symbols: BTreeSet<String> = ["__name__", "http_requests_total", "job", "pod"].map(str::to_owned).into();
    symbols.extend(names.iter().flat_map(|(job, pod)| [job.clone(), pod.clone()]));
    let mut sorted = names;
    sorted.sort();
    let times: Vec<i64> = (0..BLOCK / SCRAPE).map(|n| start + n * SCRAPE).collect();
    let all = sorted.into_iter().enumerate().map(|(i, (job, pod))| {
        let chunks = times.chunks(120).map(|times| {
            let jitter = |t: &i64| (t / SCRAPE * 7_919 + i as i64) % 11;
            let values: Vec<f64> =
                times.iter().map(|t| (t / SCRAPE * (1 + i as i64 % 50) + jitter(t)) as f64).collect();
            let data = ChunkData::Raw(Chunk::encode_xor(times, &values));
            AggrChunk { mint: times[0], maxt: times[times.len() - 1], data }
        });
        let labels = Labels::from_pairs([("__name__", "http_requests_total"), ("job", &job), ("pod", &pod)]);
        (labels, chunks.collect())
    });
    let range = TimeRange::new(start, start + BLOCK - 1);
    blocks::write(&folder.join(id.to_string()), id, &[("cluster", "bench")], range, symbols, all)?;
    Ok(id)
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.path() {
            path if path.is_dir() => size(&path),
            path => path.metadata().map_or(0, |meta| meta.len()),
        })
        .sum()
}

fn directory(folder: &Path) -> String {
    format!("type: FILESYSTEM\nconfig: {{directory: {}}}\n", folder.display())
}

fn store(dir: &Path, name: &str, objstore: &str, data: &Path) -> anyhow::Result<Farview> {
    let args = [format!("--objstore.config={objstore}"), format!("--data-dir={}", data.display())];
    Farview::start(&farview_integration::binary()?, dir, name, "store", (free()?, free()?), &args)
}

/// Sums of a counter over all of its labels.
async fn counter(store: &Farview, name: &str) -> anyhow::Result<f64> {
    let text = reqwest::get(format!("{}/metrics", store.url())).await?.text().await?;
    let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    Ok(values.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

struct Select {
    series: usize,
    wall: f64,
    first: f64,
}

async fn select(store: &Farview, range: TimeRange) -> anyhow::Result<Select> {
    let matchers = vec![Matcher::equal("__name__", "http_requests_total"), Matcher::equal("job", "job-3")];
    select_where(store, range, matchers).await
}

async fn select_where(store: &Farview, range: TimeRange, matchers: Vec<Matcher>) -> anyhow::Result<Select> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", store.grpc))?.connect().await?;
    let began = Instant::now();
    let options = CallOptions { max_message_bytes: Some(64 << 20), ..CallOptions::default() };
    let mut frames = StoreClient::new(channel).select(&SelectRequest::new(range, matchers), &options).await?;
    let (mut series, mut first) = (0, None);
    while let Some(frame) = frames.next().await {
        match frame?.frame {
            Frame::Series(more) => series += more.len(),
            Frame::Warning(text) => anyhow::bail!("{text}"),
            Frame::Hints(_) => {}
        }
        first.get_or_insert_with(|| began.elapsed().as_secs_f64());
    }
    Ok(Select { series, wall: began.elapsed().as_secs_f64(), first: first.unwrap_or_default() })
}

/// Selects one job over all blocks, from a store that has just started and from one that has answered the same before.
async fn selects(args: &Args, dir: &Path, root: &Path, server: &S3Server, range: TimeRange) -> anyhow::Result<()> {
    println!("\nselect of {} of {} series over {} blocks", args.series / JOBS, args.series, args.blocks);
    println!(
        "{:20} {:>9} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9}",
        "", "wall", "first", "CPU", "peak RSS", "GETs", "fetched", "needed"
    );
    for (name, yaml, delay) in [
        ("folder", directory(&root.join("bucket")), None),
        ("S3", server.yaml("uploaded"), None),
        ("S3, 50 ms a request", server.yaml("uploaded"), Some(Duration::from_millis(50))),
    ] {
        let data = tempfile::tempdir()?;
        let mut store = store(dir, &name.replace([' ', ','], "-"), &yaml, data.path())?;
        store.ready().await?;
        if let Some(delay) = delay {
            server.inject(move |_, _| Some(Fault::Delay(delay)));
        }
        let pid = store.pid().context("the store runs")?;
        let mut warm: [Vec<f64>; 3] = Default::default();
        for round in 0..=args.rounds {
            let before = (cpu(pid)?, server.requests(), fetched(&store).await?, needed(&store).await?);
            let answer = select(&store, range).await?;
            anyhow::ensure!(answer.series == args.series / JOBS, "{} series", answer.series);
            let used = cpu(pid)? - before.0;
            let bytes = (fetched(&store).await? - before.2, needed(&store).await? - before.3);
            if round == 0 {
                println!(
                    "{:20} {:>8.3}s {:>8.3}s {used:>8.2}s {:>5.0} MiB {:>6} {:>5.1} MiB {:>5.1} MiB",
                    format!("{name}, cold"),
                    answer.wall,
                    answer.first,
                    peak_rss(pid),
                    server.requests() - before.1,
                    bytes.0 / 1_048_576.0,
                    bytes.1 / 1_048_576.0,
                );
            } else {
                [answer.wall, answer.first, used].into_iter().zip(&mut warm).for_each(|(value, all)| all.push(value));
            }
        }
        let [wall, first, used] = warm.each_mut().map(|values| median(values));
        println!("{:20} {wall:>8.3}s {first:>8.3}s {used:>8.2}s {:>5.0} MiB", format!("{name}, warm"), peak_rss(pid));
        server.heal();
    }
    Ok(())
}

async fn fetched(store: &Farview) -> anyhow::Result<f64> {
    counter(store, "farview_bucket_fetched_bytes_total").await
}

async fn needed(store: &Farview) -> anyhow::Result<f64> {
    counter(store, "farview_store_chunk_bytes_needed_total").await
}

const QUERIES: [(&str, &str); 5] = [
    ("one series", "http_requests_total{job=\"job-3\",pod=\"pod-000007\"}"),
    ("sum(rate) of a tenth", "sum(rate(http_requests_total{job=\"job-3\"}[5m]))"),
    ("sum by (job) (rate)", "sum by (job) (rate(http_requests_total[5m]))"),
    ("max_over_time of a tenth", "max(max_over_time(http_requests_total{job=\"job-3\"}[1h]))"),
    ("topk(5, rate of a tenth)", "topk(5, rate(http_requests_total{job=\"job-3\"}[5m]))"),
];

/// Asks a Prometheus that holds the blocks, and a query over a store of them.
async fn queries(args: &Args, dir: &Path, root: &Path, range: TimeRange) -> anyhow::Result<()> {
    let version = Version::available().into_iter().next_back().context("there is a Prometheus")?;
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "global: {}\n")?;
    let address = free()?;
    // Its own links to the blocks: it would delete what it takes for superfluous.
    let data = dir.join("prometheus");
    for entry in std::fs::read_dir(root.join("bucket"))? {
        link(&entry?.path(), &data)?;
    }
    let flags = vec![
        format!("--config.file={}", config.display()),
        format!("--storage.tsdb.path={}", data.display()),
        format!("--web.listen-address={address}"),
        "--storage.tsdb.retention.time=100y".to_owned(),
        "--storage.tsdb.min-block-duration=2h".to_owned(),
        "--storage.tsdb.max-block-duration=2h".to_owned(),
    ];
    let program = version.prometheus()?;
    let mut prometheus = Farview::start_as(&program, dir, "prometheus", (address, address), flags, BTreeMap::new())?;
    let mut store = store(dir, "store", &directory(&root.join("bucket")), &dir.join("query-store"))?;
    store.ready().await?;
    let query_args = [format!("--endpoint={}", store.grpc), "--query.max-samples=500000000".to_owned()];
    let binary = farview_integration::binary()?;
    let mut query = Farview::start(&binary, dir, "query", "query", (free()?, free()?), &query_args)?;
    prometheus.ready().await?;
    query.ready().await?;
    let pid = |process: &Farview| process.pid().context("it runs");
    let (pp, ps, pq) = (pid(&prometheus)?, pid(&store)?, pid(&query)?);
    println!(
        "\nrange queries at 60 s steps: store and query beside a Prometheus with the same blocks, medians of {} rounds",
        args.rounds
    );
    println!(
        "{:28} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6}",
        "query", "CPU", "farview", "ratio", "wall", "farview", "ratio"
    );
    let client = reqwest::Client::builder().timeout(Duration::from_secs(180)).build()?;
    for (name, text) in QUERIES {
        let params = [
            ("query", text.to_owned()),
            ("start", (range.mint / 1_000 + 300).to_string()),
            ("end", (range.maxt / 1_000).to_string()),
            ("step", "60".to_owned()),
        ];
        let mut figures: [Vec<f64>; 4] = Default::default();
        let mut answers: [usize; 2] = [0; 2];
        for round in 0..=args.rounds {
            for (ours, url) in [(0, prometheus.url()), (1, query.url())] {
                let before = (cpu(pp)?, cpu(ps)? + cpu(pq)?);
                let began = Instant::now();
                let response = client.get(format!("{url}/api/v1/query_range")).query(&params).send().await?;
                let body = response.error_for_status()?.bytes().await?;
                let wall = began.elapsed().as_secs_f64();
                let used = [cpu(pp)? - before.0, cpu(ps)? + cpu(pq)? - before.1][ours];
                answers[ours] = body.iter().filter(|byte| **byte == b'[').count();
                if round > 0 {
                    figures[ours].push(used);
                    figures[2 + ours].push(wall);
                }
            }
        }
        anyhow::ensure!(answers[0] == answers[1] && answers[0] > 100, "{name}: {answers:?} samples");
        let [theirs_cpu, ours_cpu, theirs, ours] = figures.each_mut().map(|values| median(values));
        println!(
            "{name:28} {theirs_cpu:>8.2}s {ours_cpu:>8.2}s {:>6.2} {theirs:>8.3}s {ours:>8.3}s {:>6.2}",
            ours_cpu / theirs_cpu.max(0.005),
            ours / theirs
        );
    }
    println!("peak RSS MiB: Prometheus {:.0}, store {:.0}, query {:.0}", peak_rss(pp), peak_rss(ps), peak_rss(pq));
    Ok(())
}

/// Selects everything eight times at once from a store whose memory is limited.
async fn memory(args: &Args, dir: &Path, root: &Path, range: TimeRange) -> anyhow::Result<()> {
    let procs = args.cgroup_procs.as_ref().context("--cgroup-procs is missing")?;
    let (http, grpc) = (free()?, free()?);
    let enter = format!("echo $$ > {}; exec \"$0\" \"$@\"", procs.display());
    let binary = farview_integration::binary()?.display().to_string();
    let mut all = vec!["-c".to_owned(), enter, binary, "store".to_owned()];
    all.push(format!("--objstore.config={}", directory(&root.join("bucket"))));
    all.push(format!("--data-dir={}", dir.join("memory").display()));
    all.extend([format!("--http-address={http}"), format!("--grpc-address={grpc}")]);
    let mut store = Farview::start_as(Path::new("/bin/sh"), dir, "memory-store", (http, grpc), all, BTreeMap::new())?;
    store.ready().await?;
    let pid = store.pid().context("it runs")?;
    let selects = (0..8).map(|_| select_where(&store, range, vec![Matcher::equal("__name__", "http_requests_total")]));
    let results = futures::future::join_all(selects).await;
    let whole =
        results.iter().filter(|result| result.as_ref().is_ok_and(|answer| answer.series == args.series)).count();
    println!("\n8 selects of everything at once in limited memory: {whole} whole, peak RSS {:.0} MiB", peak_rss(pid));
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        println!("  refused: {error:#}");
    }
    let again = select(&store, range).await?;
    println!("  and still there: {} series", again.series);
    Ok(())
}

/// Links a block's files into `to`.
fn link(block: &Path, to: &Path) -> anyhow::Result<()> {
    let target = to.join(block.file_name().context("a block has a name")?);
    std::fs::create_dir_all(&target)?;
    for entry in std::fs::read_dir(block)? {
        let entry = entry?;
        if entry.path().is_dir() {
            link(&entry.path(), &target)?
        } else {
            std::fs::hard_link(entry.path(), target.join(entry.file_name()))?
        }
    }
    Ok(())
}

/// Uploads the blocks, beside copying them.
async fn uploads(dir: &Path, root: &Path, server: &S3Server) -> anyhow::Result<()> {
    let bytes = size(&root.join("bucket")) as f64 / 1e6;
    println!("\nuploads of {bytes:.0} MB");
    let copy = || -> anyhow::Result<f64> {
        let began = Instant::now();
        let status =
            std::process::Command::new("cp").arg("-r").arg(root.join("bucket")).arg(dir.join("copy")).status()?;
        anyhow::ensure!(status.success(), "cp failed");
        let took = began.elapsed().as_secs_f64();
        std::fs::remove_dir_all(dir.join("copy"))?;
        Ok(took)
    };
    copy()?;
    println!("{:20} {:>8.0} MB/s", "cp -r", bytes / copy()?);
    for (name, yaml) in [("to a folder", directory(&dir.join("folder"))), ("to S3", server.yaml("uploaded"))] {
        let _ = std::fs::remove_file(root.join("bucket/thanos.shipper.json"));
        let mut command = std::process::Command::new(farview_integration::binary()?);
        command.args(["tools", "bucket", "upload-blocks", "--label=cluster=\"bench\"", "--log.level=error"]);
        command.arg(format!("--path={}", root.join("bucket").display())).arg(format!("--objstore.config={yaml}"));
        let began = Instant::now();
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let took = began.elapsed().as_secs_f64();
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{name:20} {:>8.0} MB/s", bytes / took);
    }
    let _ = std::fs::remove_file(root.join("bucket/thanos.shipper.json"));
    Ok(())
}

/// Starts a store over many small blocks, twice.
async fn ready(args: &Args, dir: &Path) -> anyhow::Result<()> {
    println!("\nready over small blocks in a folder (10 series each)");
    println!("{:>8} {:>9} {:>9} {:>12} {:>12}", "blocks", "cold", "warm", "RSS cold", "RSS warm");
    for count in &args.ready {
        let bucket = dir.join(format!("small-{count}"));
        std::fs::create_dir_all(&bucket)?;
        let first = write(&bucket, 10, 0)?;
        let source = bucket.join(first.to_string());
        let meta = std::fs::read_to_string(source.join("meta.json"))?;
        for n in 1..*count {
            let id = BlockId::generate();
            let folder = bucket.join(id.to_string());
            std::fs::create_dir_all(folder.join("chunks"))?;
            std::fs::hard_link(source.join("index"), folder.join("index"))?;
            std::fs::hard_link(source.join("chunks/000001"), folder.join("chunks/000001"))?;
            let (from, to) = (n as i64 * BLOCK, (n as i64 + 1) * BLOCK);
            let meta = meta.replace(&first.to_string(), &id.to_string());
            let meta = meta.replace("\"minTime\": 0", &format!("\"minTime\": {from}"));
            let meta = meta.replace(&format!("\"maxTime\": {BLOCK}"), &format!("\"maxTime\": {to}"));
            std::fs::write(folder.join("meta.json"), meta)?;
        }
        let data = dir.join(format!("data-{count}"));
        let (mut took, mut held) = (Vec::new(), Vec::new());
        for round in ["cold", "warm"] {
            let began = Instant::now();
            let mut store = store(dir, &format!("{round}-{count}"), &directory(&bucket), &data)?;
            store.ready().await?;
            took.push(began.elapsed().as_secs_f64());
            let loaded = counter(&store, "thanos_bucket_store_blocks_loaded").await?;
            anyhow::ensure!(loaded as usize == *count, "{loaded} blocks");
            let kept = || std::fs::read_dir(&data).map_or(0, Iterator::count);
            // The headers are made after it is ready.
            let end = Instant::now() + Duration::from_secs(120);
            while kept() < *count && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            held.push(rss(store.pid().context("it runs")?));
            store.kill().await?;
        }
        println!("{count:>8} {:>8.2}s {:>8.2}s {:>8.0} MiB {:>8.0} MiB", took[0], took[1], held[0], held[1]);
        std::fs::remove_dir_all(&bucket)?;
        std::fs::remove_dir_all(&data)?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    // The S3 server reads 4 KiB at a time on this pool: hundreds of threads would only wait for each other.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(2).build()?;
    runtime.block_on(measure(Args::parse()))
}

async fn measure(args: Args) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let root: PathBuf = dir.path().join("root");
    let has = |part: &str| args.parts.iter().any(|name| name == part);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as i64;
    let start = (now / BLOCK - args.blocks - 12) * BLOCK;
    let range = TimeRange::new(start, start + args.blocks * BLOCK - 1);
    if has("select") || has("query") || has("upload") || has("memory") {
        let began = Instant::now();
        for n in 0..args.blocks {
            write(&root.join("bucket"), args.series, start + n * BLOCK)?;
        }
        let (mb, took) = (size(&root.join("bucket")) as f64 / 1e6, began.elapsed().as_secs_f64());
        println!("{} blocks of {} series at 15 s: {mb:.0} MB, written in {took:.1} s", args.blocks, args.series);
    }
    std::fs::create_dir_all(dir.path().join("uploaded"))?;
    // What is not uploaded through this server has no ETag of its own there: it would hash the whole object at each request.
    let server = S3Server::start(dir.path()).await?;
    if has("upload") || has("select") {
        uploads(dir.path(), &root, &server).await?;
    }
    if has("select") {
        selects(&args, dir.path(), &root, &server, range).await?;
    }
    if has("query") {
        queries(&args, dir.path(), &root, range).await?;
    }
    if has("memory") {
        memory(&args, dir.path(), &root, range).await?;
    }
    if has("ready") {
        ready(&args, dir.path()).await?;
    }
    Ok(())
}
