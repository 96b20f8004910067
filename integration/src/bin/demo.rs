//! The demo: two clusters, three real Prometheus servers, one global view.
#![allow(clippy::print_stdout, reason = "it talks to a person")]

use anyhow::{Context, bail};
use clap::Parser;
use farview_integration::{World, proof, world::Plan};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Starts a small world and shows the global view over it.
#[derive(Parser)]
struct Args {
    /// Prove that it works, and exit.
    #[arg(long)]
    check: bool,
    /// The farview binary.
    #[arg(long)]
    farview: Option<PathBuf>,
    /// Where the global query serves HTTP.
    #[arg(long, default_value = "127.0.0.1:10912")]
    http: SocketAddr,
    /// Days of history that are written into a bucket at the start; 0 for no bucket.
    #[arg(long, default_value_t = 90)]
    history_days: i64,
}

/// How long an answer may take to become what it should.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let binary = match args.farview {
        Some(path) => path.canonicalize().with_context(|| format!("{}", path.display()))?,
        None => farview_integration::binary()?,
    };
    let dir = tempfile::Builder::new().prefix("farview-demo-").tempdir()?;
    let mut plan = Plan { history_days: args.history_days, ..Plan::east_and_west() };
    if args.history_days > 0 {
        println!("writing {} days of history into a bucket on an S3-compatible server", args.history_days);
    }
    println!(
        "starting 3 Prometheus servers, 3 sidecars, 3 queries, 2 stores and a DNS server; logs in {}",
        dir.path().display()
    );
    // A check must not depend on a port being free.
    plan.global_http = if args.check { SocketAddr::from(([127, 0, 0, 1], 0)) } else { args.http };
    let mut world = World::start(&binary, dir.path(), plan).await?;

    let query = "count by (cluster) (up)";
    println!("\nwaiting for a deduplicated answer over both clusters to: {query}");
    let counts = eventually(&world, query, |answer| answer.len() == 2).await?;
    show(&counts);
    println!("without deduplication:");
    show(
        &eventually_with(&world, "count by (cluster, replica) (up)", &[("dedup", "false")], |answer| answer.len() == 3)
            .await?,
    );
    if args.check {
        return check(&mut world).await;
    }
    let url = world.global.url();
    let east = &world.clusters[0];
    println!("\nthe global query listens at {url}. Try:");
    println!("  curl -s '{url}/api/v1/query?query=up'");
    println!("  curl -s '{url}/api/v1/stores'");
    println!("  curl -s '{url}/api/v1/query?query=up&completeness=true'");
    if let Some(archive) = &world.archive {
        let query = "query=sum+by+(service)+(rate(mesh_requests_total[1h]))";
        let (start, end) = (archive.archived.mint / 1_000 + 3_600, archive.recent.maxt / 1_000);
        println!("  curl -s '{url}/api/v1/query_range?{query}&start={start}&end={end}&step=1d'");
        println!("the blocks that the stores serve: {}", archive.stores[0].url());
    }
    println!("kill one of the pair, and see that the answer stays and says so:");
    println!("  kill -9 {}", east.prometheus[0].pid().unwrap_or_default());
    println!("kill the only one of the other cluster, and see what is missing named:");
    println!("  kill -9 {}", world.clusters[1].prometheus[0].pid().unwrap_or_default());
    println!("\nCtrl-C ends it.");
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn rows(answer: &farview_integration::process::Answer) -> Vec<String> {
    answer.vector().into_iter().map(|(labels, value)| format!("{labels} {value}")).collect()
}

fn show(rows: &[String]) {
    for row in rows {
        println!("  {row}");
    }
}

/// Asks the global query until the answer is complete and as wanted.
async fn eventually(world: &World, query: &str, wanted: impl Fn(&[String]) -> bool) -> anyhow::Result<Vec<String>> {
    eventually_with(world, query, &[], wanted).await
}

async fn eventually_with(
    world: &World,
    query: &str,
    params: &[(&str, &str)],
    wanted: impl Fn(&[String]) -> bool,
) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = world.global.query(query, params).await?;
        let found = rows(&answer);
        if answer.is_complete() && wanted(&found) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!(
                "no such answer to {query} within {PATIENCE:?}; the last one was {}\n{}",
                answer.json,
                world.global.log()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Kills a replica and then a whole cluster: the answer must stay, and say what is missing.
async fn check(world: &mut World) -> anyhow::Result<()> {
    if world.archive.is_some() {
        let blocks = proof::shipped(world).await?;
        println!("\nthe sidecars have shipped {blocks} blocks");
        let began = Instant::now();
        let values = proof::history(world).await?;
        println!("{values} values of the history are what they must be, asked for in {:.1?}", began.elapsed());
    }
    let before = eventually(world, "sum by (cluster) (up)", |answer| answer.len() == 2).await?;
    println!("\nkilling one Prometheus of the pair in east");
    world.clusters[0].prometheus[0].kill().await?;
    said(world, "east", |answer, text| {
        let rows = rows(answer);
        rows.iter().any(|row| row.contains("east"))
            && rows.iter().any(|row| row.contains("west"))
            && text.contains("replica")
    })
    .await?;
    println!("killing the only Prometheus in west");
    world.clusters[1].prometheus[0].kill().await?;
    said(world, "west", |answer, text| rows(answer).iter().any(|row| row.contains("east")) && text.contains("west"))
        .await?;
    let strict = world.global.query("sum by (cluster) (up)", &[("partial_response", "false")]).await?;
    if strict.status == 200 {
        bail!("a strict query must fail while a cluster is missing, got {}", strict.json);
    }
    println!("strict: {} {}", strict.status, strict.json["error"]);
    println!("starting both again");
    world.clusters[0].prometheus[0].restart().await?;
    world.clusters[1].prometheus[0].restart().await?;
    let after = eventually(world, "sum by (cluster) (up)", |answer| answer.len() == 2).await?;
    println!("complete again: {} before, {} after", before.join(" "), after.join(" "));
    println!("demo: ok");
    Ok(())
}

/// Waits until the answer says that something of `cluster` is missing, and is as wanted. An answer that lacks the cluster and
/// does not say so ends the check at once: that is the lie that must not be.
async fn said(
    world: &World,
    cluster: &str,
    wanted: impl Fn(&farview_integration::process::Answer, &str) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = world.global.query("sum by (cluster) (up)", &[]).await?;
        let texts = [answer.warnings(), answer.infos()].concat();
        let present = rows(&answer).iter().any(|row| row.contains(cluster));
        if !present && answer.is_complete() && texts.is_empty() {
            bail!("a lie: {cluster} is not in the answer and nothing is said: {}", answer.json);
        }
        let text = texts.join("\n");
        if !answer.is_complete() && wanted(&answer, &text) {
            show(&rows(&answer));
            println!("  says: {}", texts.first().cloned().unwrap_or_default());
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("nothing is said of {cluster} within {PATIENCE:?}; the last answer was {}", answer.json);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
