//! Proves that what a world answers about its [history](crate::history) is what it must be.

use crate::history::{Metric, SERVICES, service};
use crate::world::World;
use anyhow::{Context, bail, ensure};
use farview_block::Source;
use std::time::{Duration, Instant};

/// How long the sidecars may take to ship what they have.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until every sidecar has shipped the blocks of its Prometheus; returns how many there are.
///
/// # Errors
/// If that takes too long, or there is no archive.
pub async fn shipped(world: &World) -> anyhow::Result<usize> {
    let archive = world.archive.as_ref().context("there is no archive")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut fetcher = farview_block::MetaFetcher::new(archive.bucket.clone(), None, 8);
        let fetched = fetcher.fetch().await?;
        let by_sidecars: Vec<_> = fetched
            .blocks
            .values()
            .filter(|block| block.meta.thanos.as_ref().is_some_and(|thanos| thanos.source.0 == Source::SIDECAR))
            .collect();
        let whole = |cluster: &str, replica: usize| {
            let replica = char::from(b'a' + replica as u8).to_string();
            let mine = by_sidecars.iter().filter(|block| {
                let labels = block.meta.external_labels();
                labels.labels().get("cluster") == Some(cluster) && labels.labels().get("replica") == Some(&replica)
            });
            // The last block may end early, by less than a scrape.
            let until = mine.map(|block| block.meta.max_time).max().unwrap_or(i64::MIN);
            until + 120_000 > archive.recent.maxt
        };
        if world.clusters.iter().all(|cluster| (0..cluster.prometheus.len()).all(|r| whole(&cluster.name, r))) {
            return Ok(by_sidecars.len());
        }
        if Instant::now() > deadline {
            let logs: Vec<String> = world.clusters[0].sidecars.iter().map(crate::process::Farview::log).collect();
            bail!("not shipped within {PATIENCE:?}: {} blocks by sidecars\n{}", by_sidecars.len(), logs.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks for all of the history, raw and evaluated, and compares it with the closed form; returns how many values were compared.
///
/// # Errors
/// With the first difference.
pub async fn history(world: &World) -> anyhow::Result<usize> {
    let archive = world.archive.as_ref().context("there is no archive")?;
    let (from, until) = (archive.archived.mint, archive.recent.maxt);
    Ok(samples(world, from, until).await? + rates(world, from, until).await?)
}

/// Every sample of one series of each kind is what it must be, at its own time, none twice and none missing.
async fn samples(world: &World, from: i64, until: i64) -> anyhow::Result<usize> {
    let mut compared = 0;
    let days = (until - from) / 86_400_000;
    for metric in Metric::ALL {
        // In pieces, as a person looks at it; and over the border between bucket and Prometheus.
        for day in 0..=days {
            let end = (from + (day + 1) * 86_400_000).min(until);
            let (query, time) = (format!("{}{{service=\"{}\"}}[1d]", metric.name(), service(1)), seconds(end));
            let answer = world.global.query(&query, &[("time", &time)]).await?;
            ensure!(answer.is_complete(), "{query} at {time}: {:?}", answer.warnings());
            let all = answer.json["data"]["result"].as_array().context("no result")?.clone();
            ensure!(all.len() == world.clusters.len(), "{query} at {time}: {} series", all.len());
            for series in all {
                let points = series["values"].as_array().context("no values")?;
                let mut before = i64::MIN;
                for point in points {
                    let t = (point[0].as_f64().unwrap_or_default() * 1_000.0).round() as i64;
                    let value: f64 = point[1].as_str().unwrap_or_default().parse()?;
                    ensure!(value == metric.value(1, t), "{query}: {value} at {t}, expected {}", metric.value(1, t));
                    ensure!(t > before, "{query}: {t} after {before}");
                    // One of a pair fills what the other lacks: no gap is longer than a scrape and the distance of the two.
                    ensure!(before == i64::MIN || t - before <= 75_000, "{query}: nothing from {before} to {t}");
                    before = t;
                    compared += 1;
                }
                let first = points.first().and_then(|point| point[0].as_f64()).unwrap_or_default() * 1_000.0;
                let wanted = (end - 86_400_000).max(from) as f64;
                ensure!(first - wanted <= 75_000.0, "{query}: begins at {first}, asked from {wanted}");
                ensure!(end - before <= 75_000, "{query}: ends at {before}, asked until {end}");
            }
        }
    }
    Ok(compared)
}

/// Rates over all of the history, in steps of an hour, are what rises in a second.
async fn rates(world: &World, from: i64, until: i64) -> anyhow::Result<usize> {
    let mut compared = 0;
    for metric in [Metric::Requests, Metric::Errors] {
        let query = format!("sum by (cluster) (rate({}[30m]))", metric.name());
        let (start, end) = (seconds(from + 3_600_000), seconds(until));
        let params = [("query", query.as_str()), ("start", &start), ("end", &end), ("step", "1h")];
        let answer = world.global.get("/api/v1/query_range", &params).await?;
        ensure!(answer.is_complete() && answer.status == 200, "{query}: {} {:?}", answer.status, answer.warnings());
        let all = answer.json["data"]["result"].as_array().context("no result")?.clone();
        ensure!(all.len() == world.clusters.len(), "{query}: {} series", all.len());
        let expected: f64 = (0..SERVICES).map(|i| metric.per_second(i)).sum();
        for series in all {
            let points = series["values"].as_array().context("no values")?;
            let steps = (until - from - 3_600_000) / 3_600_000;
            ensure!(points.len() as i64 >= steps, "{query}: {} points, expected {steps}", points.len());
            for point in points {
                let value: f64 = point[1].as_str().unwrap_or_default().parse()?;
                ensure!(
                    (value - expected).abs() < 1e-6 * expected,
                    "{query}: {point} of {}, expected {expected}, {from} to {until}",
                    series["metric"]
                );
                compared += 1;
            }
        }
    }
    Ok(compared)
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}
