//! What asking through sidecar and query costs, beside asking the same Prometheus directly: CPU-seconds and wall time of twelve
//! queries in paired rounds. `docs/performance.md` tells how it is run.
#![allow(clippy::print_stdout, reason = "it prints a table")]

use anyhow::Context;
use clap::Parser;
use farview_integration::Farview;
use farview_integration::measure::{cpu, free, median, peak_rss};
use farview_testkit::prometheus::{Prometheus, Version};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Measures twelve queries through sidecar and query against Prometheus alone.
#[derive(Parser)]
struct Args {
    /// Hours of data.
    #[arg(long, default_value_t = 6)]
    hours: i64,
    /// Pods; each has ten counters, two gauges and an info series, ten of them share a histogram of twenty buckets.
    #[arg(long, default_value_t = 660)]
    pods: usize,
    /// Rounds that count, after one that does not.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Use the newest Prometheus there is.
    #[arg(long)]
    newest: bool,
}

const SCRAPE: i64 = 15;

fn openmetrics(args: &Args, start: i64) -> (String, usize) {
    let steps = args.hours * 3_600 / SCRAPE;
    let mut text = String::with_capacity(1 << 30);
    let mut count = 0;
    let mut series = |text: &mut String, name: &str, labels: &str, value: &dyn Fn(i64) -> f64| {
        count += 1;
        for i in 0..steps {
            let _ = writeln!(text, "{name}{{{labels}}} {} {}", value(i), start + i * SCRAPE);
        }
    };
    text.push_str("# TYPE http_requests counter\n");
    for pod in 0..args.pods {
        for code in 0..10 {
            let labels = format!("ns=\"ns-{}\",pod=\"pod-{pod}\",code=\"{}\"", pod % 10, 200 + code * 30);
            let rate = 1 + (pod * 7 + code * 13) % 50;
            series(&mut text, "http_requests_total", &labels, &|i| {
                (i * rate as i64 + (i * 7919 + pod as i64) % 11) as f64
            });
        }
    }
    text.push_str("# TYPE memory_bytes gauge\n");
    for pod in 0..args.pods {
        for kind in ["rss", "cache"] {
            let labels = format!("ns=\"ns-{}\",pod=\"pod-{pod}\",kind=\"{kind}\"", pod % 10);
            series(&mut text, "memory_bytes", &labels, &|i| ((pod as f64 + i as f64 / 97.0).sin() * 1e6).round() / 1e3);
        }
    }
    text.push_str("# TYPE pod_info gauge\n");
    for pod in 0..args.pods {
        let labels = format!("pod=\"pod-{pod}\",node=\"node-{}\"", pod % 20);
        series(&mut text, "pod_info", &labels, &|_| 1.0);
    }
    text.push_str("# TYPE request_duration_seconds_bucket unknown\n");
    for dest in 0..args.pods / 10 {
        for le in 0..20 {
            let bound = if le == 19 { "+Inf".to_owned() } else { format!("{}", f64::from(1 << le) / 1_000.0) };
            let labels = format!("dest=\"dest-{dest}\",le=\"{bound}\"");
            series(&mut text, "request_duration_seconds_bucket", &labels, &|i| {
                (i * (le + 1) * (1 + dest as i64 % 5)) as f64
            });
        }
    }
    (text, count)
}

const QUERIES: [(&str, &str, bool); 12] = [
    ("one series, instant", "memory_bytes{pod=\"pod-1\",kind=\"rss\"}", false),
    ("one series, raw", "memory_bytes{pod=\"pod-1\",kind=\"rss\"}", true),
    ("sum(rate), instant", "sum(rate(http_requests_total[5m]))", false),
    ("sum by (ns) (rate)", "sum by (ns) (rate(http_requests_total[5m]))", true),
    ("rate of 200 series", "rate(http_requests_total{pod=~\"pod-1.\"}[5m])", true),
    (
        "histogram_quantile by (dest)",
        "histogram_quantile(0.9, sum by (dest, le) (rate(request_duration_seconds_bucket[5m])))",
        true,
    ),
    ("topk(5, sum by (pod) (rate))", "topk(5, sum by (pod) (rate(http_requests_total[5m])))", true),
    ("sum by (ns) (counter)", "sum by (ns) (http_requests_total)", true),
    ("max by (ns) (avg_over_time 1h)", "max by (ns) (avg_over_time(memory_bytes[1h]))", true),
    ("quantile by (ns)", "quantile by (ns) (0.95, memory_bytes)", true),
    (
        "error ratio",
        "sum by (ns) (rate(http_requests_total{code=\"470\"}[5m])) / sum by (ns) (rate(http_requests_total[5m]))",
        true,
    ),
    ("join", "memory_bytes * on (pod) group_left (node) pod_info", true),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
    let end = (now - 3_600) / 60 * 60;
    let start = end - args.hours * 3_600;
    let (text, series) = openmetrics(&args, start);
    let mut builder =
        Prometheus::builder().external_label("cluster", "bench").external_label("replica", "a").openmetrics(&text);
    if args.newest {
        builder = builder.version(Version::available().into_iter().next_back().unwrap_or_default());
    }
    drop(text);
    let prometheus = builder.start().await?;
    let dir = tempfile::tempdir()?;
    let binary = farview_integration::binary()?;
    let grpc = free()?;
    let sidecar_args = [format!("--prometheus.url={}", prometheus.url())];
    let mut sidecar = Farview::start(&binary, dir.path(), "sidecar", "sidecar", (free()?, grpc), &sidecar_args)?;
    let query_args = [format!("--endpoint={grpc}"), "--query.replica-label=replica".to_owned()];
    let mut query = Farview::start(&binary, dir.path(), "query", "query", (free()?, free()?), &query_args)?;
    sidecar.ready().await?;
    query.ready().await?;

    println!("{series} series, {} h at {SCRAPE} s, range queries at 60 s steps, {} rounds", args.hours, args.rounds);
    println!(
        "{:32} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6}",
        "query", "direct", "farview", "CPU", "direct", "farview", "wall"
    );
    let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).build()?;
    let (pp, ps, pq) = (
        prometheus.pid().context("Prometheus runs")?,
        sidecar.pid().context("sidecar runs")?,
        query.pid().context("query runs")?,
    );
    for (name, text, range) in QUERIES {
        let params: Vec<(&str, String)> = if range {
            vec![("query", text.into()), ("start", start.to_string()), ("end", end.to_string()), ("step", "60".into())]
        } else {
            vec![("query", text.into()), ("time", (end - 60).to_string())]
        };
        let path = if range { "/api/v1/query_range" } else { "/api/v1/query" };
        let mut figures: [Vec<f64>; 4] = Default::default();
        for round in 0..=args.rounds {
            for (through, url) in [(false, prometheus.url()), (true, query.url())] {
                let before = (cpu(pp)?, cpu(ps)? + cpu(pq)?);
                let began = Instant::now();
                let response = client.get(format!("{url}{path}")).query(&params).send().await?.error_for_status()?;
                let body = response.bytes().await?;
                let wall = began.elapsed().as_secs_f64();
                let used = cpu(pp)? - before.0 + cpu(ps)? + cpu(pq)? - before.1;
                anyhow::ensure!(body.len() > 60, "{name}: {}", String::from_utf8_lossy(&body));
                if round > 0 {
                    figures[usize::from(through)].push(used);
                    figures[2 + usize::from(through)].push(wall);
                }
            }
        }
        let [direct_cpu, farview_cpu, direct, farview] = figures.each_mut().map(|values| median(values));
        println!(
            "{name:32} {direct_cpu:>8.2}s {farview_cpu:>8.2}s {:>6.2} {direct:>8.3}s {farview:>8.3}s {:>6.2}",
            farview_cpu / direct_cpu.max(0.005),
            farview / direct
        );
    }
    println!("peak RSS MiB: Prometheus {:.0}, sidecar {:.0}, query {:.0}", peak_rss(pp), peak_rss(ps), peak_rss(pq));
    Ok(())
}
