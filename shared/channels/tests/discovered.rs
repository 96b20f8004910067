//! Endpoints found by DNS while DNS and endpoints fail: the living stay in use, whatever DNS says for a while.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod stage;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farview_channels::{ChannelConfig, PeerSet};
use farview_discovery::{
    Discovery, DiscoveryConfig, DnsMetrics, HickoryConfig, HickoryLookup, HoldConfig, LeaveReason, Movement, Vitals,
};
use farview_testkit::dns::{DnsServer, Fault};
use stage::{InfoProbe, Server, ask, dialer, quick, until, until_healthy};

const NAME: &str = "stores.mon.test.";

/// Three servers with one port on 127.0.0.0/8 behind one name.
struct World {
    dns: DnsServer,
    servers: Vec<Server>,
    discovery: Discovery,
    set: PeerSet<String>,
}

impl World {
    async fn start(hold: Duration) -> Self {
        let first = Server::start_at("a", "127.0.7.1:0".parse().unwrap()).await;
        let port = first.addr.port();
        let mut servers = vec![first];
        for (name, ip) in [("b", [127, 0, 7, 2]), ("c", [127, 0, 7, 3])] {
            servers.push(Server::start_at(name, (ip, port).into()).await);
        }
        let dns = DnsServer::start().await.unwrap();
        dns.set_ttl(0);
        let lookup =
            HickoryLookup::new(HickoryConfig { name_servers: vec![dns.addr()], ..HickoryConfig::default() }).unwrap();
        let vitals = Vitals::default();
        let config = DiscoveryConfig {
            interval: Duration::from_millis(200),
            floor: Duration::from_millis(50),
            retry_first: Duration::from_millis(50),
            retry_last: Duration::from_millis(100),
            hold: HoldConfig { hold, ..HoldConfig::default() },
            ..DiscoveryConfig::default()
        };
        let discovery = Discovery::new(Arc::new(lookup), config, vitals.clone(), DnsMetrics::default());
        discovery.set_targets([format!("dns+{NAME}:{port}").parse().unwrap()]);
        let dialer = Arc::new(dialer(ChannelConfig::default(), None));
        let set = PeerSet::follow(discovery.addresses(), dialer, InfoProbe, quick(), vitals);
        let world = Self { dns, servers, discovery, set };
        world.list(3);
        until_healthy(&world.set, 3).await;
        world
    }

    fn list(&self, count: usize) {
        self.dns.set_addresses(NAME, self.servers[..count].iter().map(|server| server.addr.ip()));
    }

    /// Asks every endpoint in use again and again; returns how often one of `wanted` was missing or failed.
    async fn ask_all(&self, wanted: &[&str], during: Duration) -> usize {
        let (started, mut missing) = (Instant::now(), 0);
        while started.elapsed() < during {
            let mut answered = Vec::new();
            for peer in self.set.peers().peers() {
                if let Some(live) = peer.live() {
                    answered.extend(ask(live.channel).await.into_iter().map(|names| names[0].clone()));
                }
            }
            missing += wanted.iter().filter(|name| !answered.iter().any(|a| a == *name)).count();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        missing
    }
}

#[tokio::test]
async fn no_answer_suffers_while_dns_fails_or_denies_the_living() {
    let world = World::start(Duration::from_secs(60)).await;
    for fault in [
        Fault::Servfail,
        Fault::Refused,
        Fault::Garbage,
        Fault::Drop,
        Fault::Nxdomain,
        Fault::Nodata,
        Fault::TruncateWithoutTcp,
    ] {
        world.dns.fault(NAME, fault);
        let missing = world.ask_all(&["a", "b", "c"], Duration::from_millis(700)).await;
        assert_eq!(missing, 0, "{fault:?}");
        world.dns.heal(NAME);
    }
    assert!(world.set.peers().peers().iter().all(|peer| peer.status().connects == 1), "nothing was dialled anew");
}

#[tokio::test]
async fn a_denied_endpoint_goes_when_it_dies_and_the_living_when_the_hold_ends() {
    let mut world = World::start(Duration::from_secs(4)).await;
    world.dns.fault(NAME, Fault::Nxdomain);
    let denied = Instant::now();
    world.servers[0].kill();
    until(&world.set, "a is gone", |peers| peers.peers().len() == 2).await;
    assert_eq!(world.ask_all(&["b", "c"], Duration::from_millis(500)).await, 0);
    until(&world.set, "all are gone", |peers| peers.peers().is_empty()).await;
    assert!(denied.elapsed() >= Duration::from_secs(4), "{:?}", denied.elapsed());
    let reasons: Vec<_> = world.discovery.history().into_iter().map(|change| change.movement).collect();
    assert!(reasons.contains(&Movement::Left(LeaveReason::AbsentAndDead)), "{reasons:?}");
    assert!(reasons.contains(&Movement::Left(LeaveReason::HoldExpired)), "{reasons:?}");
}

#[tokio::test]
async fn a_flapping_set_does_not_dial_anew() {
    let world = World::start(Duration::from_secs(60)).await;
    for count in [1, 3, 2, 3, 1, 2, 3] {
        world.list(count);
        until(&world.set, "listed", |peers| peers.peers().len() == count).await;
        assert!(world.set.peers().peers().iter().all(|peer| peer.live().is_some()), "each is in use at once");
    }
    assert!(world.set.peers().peers().iter().all(|peer| peer.status().connects == 1));
}

#[tokio::test]
async fn a_removed_endpoint_is_not_asked_any_more() {
    let world = World::start(Duration::from_secs(60)).await;
    world.list(2);
    until(&world.set, "two are left", |peers| peers.peers().len() == 2).await;
    let before = world.servers[2].calls();
    world.ask_all(&["a", "b"], Duration::from_millis(200)).await;
    assert_eq!(world.servers[2].calls(), before);
    let ips: Vec<IpAddr> = world.servers[..2].iter().map(|server| server.addr.ip()).collect();
    assert!(world.set.peers().peers().iter().all(|peer| ips.iter().any(|ip| peer.address().host() == ip.to_string())));
}
