//! A thousand endpoints of one DNS name: how long until they are ready, and what they cost while nothing happens.
//!
//! `cargo bench -p farview-channels --bench thousand --profile ci`. The servers run in this process, in threads named `stores`, whose
//! CPU time is told apart. Figures: seconds to ready, CPU of our side while idle in percent of one core, memory per endpoint.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench speaks on its standard output and panics when it cannot go on"
)]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use farview_channels::{ChannelConfig, PeerConfig, PeerSet};
use farview_discovery::{Discovery, DiscoveryConfig, DnsMetrics, HickoryConfig, HickoryLookup, Vitals};
use farview_testkit::dns::DnsServer;
use stage::{InfoProbe, Many, dialer, until_healthy};

const COUNT: u32 = 1000;
const IDLE: Duration = Duration::from_secs(20);

/// CPU time of the threads whose name does or does not start with `stores`, in clock ticks of 10 ms (proc(5)).
fn ticks(of_stores: bool) -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        if head.contains("(stores") == of_stores {
            let fields: Vec<&str> = tail.split(' ').collect();
            sum += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    sum
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let stores = Many::start(COUNT).await;
    let dns = DnsServer::start().await.unwrap();
    dns.set_a("stores.mon.test.", stores.ips());
    let lookup =
        HickoryLookup::new(HickoryConfig { name_servers: vec![dns.addr()], ..HickoryConfig::default() }).unwrap();
    let vitals = Vitals::default();
    let before = resident_kib();
    let started = Instant::now();
    let discovery = Discovery::new(Arc::new(lookup), DiscoveryConfig::default(), vitals.clone(), DnsMetrics::default());
    discovery.set_targets([format!("dns+stores.mon.test.:{}", stores.port()).parse().unwrap()]);
    let set = PeerSet::follow(
        discovery.addresses(),
        Arc::new(dialer(ChannelConfig::default(), None)),
        InfoProbe,
        PeerConfig::default(),
        vitals,
    );
    until_healthy(&set, COUNT as usize).await;
    println!("{COUNT} endpoints ready after {:.2} s", started.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(6)).await;
    println!(
        "memory, both sides of each connection: {} KiB per endpoint",
        (resident_kib() - before) / u64::from(COUNT)
    );
    let (ours, theirs) = (ticks(false), ticks(true));
    tokio::time::sleep(IDLE).await;
    let percent = |ticks: u64| ticks as f64 / IDLE.as_secs_f64();
    println!(
        "idle CPU over {IDLE:?}: {:.1} % of a core; the servers' {:.1} %",
        percent(ticks(false) - ours),
        percent(ticks(true) - theirs)
    );
}
