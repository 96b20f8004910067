//! Discovery against a real DNS server on loopback, with its faults.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use farview_discovery::{
    Address, Addresses, Answer, Discovery, DiscoveryConfig, DnsMetrics, Gap, HickoryConfig, HickoryLookup, HoldConfig,
    LeaveReason, Lookup, Movement, Unavailable, Vitals, resolve,
};
use farview_testkit::dns::{DnsServer, Fault, RecordType};
use tokio::sync::watch;

const NAME: &str = "stores.mon.test.";
const TARGET: &str = "dns+stores.mon.test.:10901";

fn lookup(server: &DnsServer) -> HickoryLookup {
    HickoryLookup::new(HickoryConfig {
        name_servers: vec![server.addr()],
        hosts: "/nonexistent".into(),
        ..HickoryConfig::default()
    })
    .unwrap()
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

fn many(count: u32) -> Vec<Ipv4Addr> {
    (0..count).map(|i| Ipv4Addr::from(0x7f00_0100 + i)).collect()
}

async fn ask(server: &DnsServer, target: &str) -> Answer<Vec<Address>> {
    resolve(&lookup(server), &target.parse().unwrap()).await
}

fn records(answer: &Answer<Vec<Address>>) -> Vec<String> {
    match answer {
        Answer::Found { records, .. } => records.iter().map(ToString::to_string).collect(),
        other => panic!("not found: {other:?}"),
    }
}

#[tokio::test]
async fn a_and_aaaa_records_become_endpoints_with_the_port() {
    let server = DnsServer::start().await.unwrap();
    server.set_ttl(17);
    server.set_addresses(NAME, ["127.0.0.2", "127.0.0.1", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    let answer = ask(&server, TARGET).await;
    assert_eq!(records(&answer), ["127.0.0.1:10901", "127.0.0.2:10901", "[::1]:10901"]);
    assert!(
        matches!(answer, Answer::Found { ttl, gap: Gap::None, .. } if ttl == Duration::from_secs(17)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn srv_records_bring_their_ports_and_the_addresses_of_their_targets() {
    let server = DnsServer::start().await.unwrap();
    server.set_srv("_grpc._tcp.stores.test.", [("a.test", 10901), ("b.test", 10902), ("gone.test", 1)]);
    server.set_a("a.test", [v4(1)]);
    server.set_a("b.test", [v4(2)]);
    assert_eq!(records(&ask(&server, "dnssrv+_grpc._tcp.stores.test.").await), ["127.0.0.1:10901", "127.0.0.2:10902"]);
    assert_eq!(records(&ask(&server, "dnssrv+_grpc._tcp.stores.test.:99").await), ["127.0.0.1:99", "127.0.0.2:99"]);
    assert_eq!(
        records(&ask(&server, "dnssrvnoa+_grpc._tcp.stores.test.").await),
        ["a.test:10901", "b.test:10902", "gone.test:1"]
    );
}

#[tokio::test]
async fn an_srv_target_that_fails_leaves_a_gap() {
    let server = DnsServer::start().await.unwrap();
    server.set_srv("_grpc._tcp.stores.test.", [("a.test", 10901), ("b.test", 10901)]);
    server.set_a("a.test", [v4(1)]);
    server.fault("b.test", Fault::Servfail);
    let answer = ask(&server, "dnssrv+_grpc._tcp.stores.test.").await;
    assert!(matches!(answer, Answer::Found { gap: Gap::Any, .. }), "{answer:?}");
    server.fault("a.test", Fault::Servfail);
    let answer = ask(&server, "dnssrv+_grpc._tcp.stores.test.").await;
    assert_eq!(answer, Answer::Unavailable(Unavailable::ServFail));
}

#[tokio::test]
async fn failures_are_not_known_and_never_none() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1)]);
    for (fault, why) in [(Fault::Servfail, Unavailable::ServFail), (Fault::Refused, Unavailable::Refused)] {
        server.fault(NAME, fault);
        assert_eq!(ask(&server, TARGET).await, Answer::Unavailable(why));
    }
    server.fault(NAME, Fault::Garbage);
    let answer = ask(&server, TARGET).await;
    assert!(matches!(answer, Answer::Unavailable(_)), "{answer:?}");
}

#[tokio::test]
async fn a_failed_a_beside_an_empty_aaaa_is_not_known() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1)]);
    server.fault_for(NAME, RecordType::A, Fault::Servfail);
    assert_eq!(ask(&server, TARGET).await, Answer::Unavailable(Unavailable::ServFail));
}

#[tokio::test]
async fn silence_is_not_known_within_the_deadline() {
    let server = DnsServer::start().await.unwrap();
    server.fault(NAME, Fault::Drop);
    let asked = Instant::now();
    assert_eq!(ask(&server, TARGET).await, Answer::Unavailable(Unavailable::Timeout));
    assert!(asked.elapsed() < Duration::from_millis(5500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_slow_answer_is_an_answer_and_one_that_is_too_late_is_not_known() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1)]);
    server.fault_for(NAME, RecordType::A, Fault::Delay(600));
    assert_eq!(records(&ask(&server, TARGET).await), ["127.0.0.1:10901"]);
    server.heal(NAME);
    server.fault(NAME, Fault::Delay(20_000));
    assert_eq!(ask(&server, TARGET).await, Answer::Unavailable(Unavailable::Timeout));
}

#[tokio::test]
async fn nxdomain_and_nodata_are_none_with_and_without_soa() {
    let server = DnsServer::start().await.unwrap();
    assert_eq!(ask(&server, TARGET).await, Answer::Absent);
    server.set_a(NAME, [v4(1)]);
    for fault in [Fault::Nxdomain, Fault::NxdomainWithoutSoa, Fault::Nodata] {
        server.fault(NAME, fault);
        assert_eq!(ask(&server, TARGET).await, Answer::Absent, "{fault:?}");
    }
}

#[tokio::test]
async fn a_missing_aaaa_answer_costs_little_and_once() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1)]);
    server.fault_for(NAME, RecordType::AAAA, Fault::Drop);
    let lookup = lookup(&server);
    let asked = Instant::now();
    let answer = lookup.addresses(NAME).await;
    assert!(matches!(answer, Answer::Found { gap: Gap::V6, .. }), "{answer:?}");
    assert!(asked.elapsed() < Duration::from_millis(1500), "{:?}", asked.elapsed());
    server.forget_asked();
    assert!(matches!(lookup.addresses(NAME).await, Answer::Found { gap: Gap::V6, .. }));
    assert!(server.asked().iter().all(|asked| asked.kind == RecordType::A), "AAAA is not asked while it is paused");
}

#[tokio::test]
async fn sixty_records_fit_udp_and_a_thousand_come_over_tcp() {
    let server = DnsServer::start().await.unwrap();
    for (count, tcp) in [(60, false), (1000, true)] {
        server.set_a(NAME, many(count));
        server.forget_asked();
        assert_eq!(records(&ask(&server, TARGET).await).len(), count as usize);
        assert_eq!(server.asked().iter().any(|asked| asked.tcp), tcp, "{count} records");
    }
}

#[tokio::test]
async fn a_truncated_answer_without_tcp_is_not_known_and_no_subset() {
    let server = DnsServer::start_udp_only().await.unwrap();
    server.set_a(NAME, many(1000));
    assert_eq!(ask(&server, TARGET).await, Answer::Unavailable(Unavailable::Truncated));
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, many(60));
    server.fault(NAME, Fault::TruncateWithoutTcp);
    let answer = ask(&server, TARGET).await;
    assert!(matches!(answer, Answer::Unavailable(Unavailable::Truncated | Unavailable::Timeout)), "{answer:?}");
}

/// A discovery with short intervals over one server.
fn discovery(server: &DnsServer, vitals: &Vitals, hold: HoldConfig) -> Discovery {
    let config = DiscoveryConfig {
        interval: Duration::from_millis(100),
        floor: Duration::from_millis(50),
        retry_first: Duration::from_millis(50),
        retry_last: Duration::from_millis(100),
        hold,
        ..DiscoveryConfig::default()
    };
    let discovery = Discovery::new(Arc::new(lookup(server)), config, vitals.clone(), DnsMetrics::default());
    discovery.set_targets([TARGET.parse().unwrap()]);
    discovery
}

async fn until(addresses: &mut watch::Receiver<Addresses>, wanted: &[&str]) {
    let wanted: Vec<String> = wanted.iter().map(|last| format!("127.0.0.{last}:10901")).collect();
    let same = |now: &Addresses| now.settled && now.set.iter().map(ToString::to_string).collect::<Vec<_>>() == wanted;
    if tokio::time::timeout(Duration::from_secs(20), addresses.wait_for(same)).await.is_err() {
        panic!("wanted {wanted:?}, have {:?}", *addresses.borrow());
    }
}

async fn until_asked(server: &DnsServer, times: usize) {
    server.forget_asked();
    let enough = async {
        while server.asked().iter().filter(|asked| asked.kind == RecordType::A).count() < times {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap();
}

#[tokio::test]
async fn the_set_follows_the_records() {
    let server = DnsServer::start().await.unwrap();
    server.set_ttl(0);
    server.set_a(NAME, [v4(1), v4(2)]);
    let discovery = discovery(&server, &Vitals::default(), HoldConfig::default());
    let mut addresses = discovery.addresses();
    until(&mut addresses, &["1", "2"]).await;
    server.set_a(NAME, [v4(2), v4(3)]);
    until(&mut addresses, &["2", "3"]).await;
    let history = discovery.history();
    let left = history
        .iter()
        .find(|change| change.address.to_string() == "127.0.0.1:10901" && matches!(change.movement, Movement::Left(_)));
    assert_eq!(left.unwrap().movement, Movement::Left(LeaveReason::Answer));
    assert_eq!(discovery.targets()[0].last_answer, "2 addresses");
}

#[tokio::test]
async fn a_failing_server_never_empties_the_set() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1), v4(2)]);
    let discovery = discovery(&server, &Vitals::default(), HoldConfig::default());
    let mut addresses = discovery.addresses();
    until(&mut addresses, &["1", "2"]).await;
    for fault in [Fault::Servfail, Fault::Refused, Fault::Garbage] {
        server.fault(NAME, fault);
        until_asked(&server, 4).await;
        until(&mut addresses, &["1", "2"]).await;
    }
}

#[tokio::test]
async fn negative_answers_let_the_dead_go_and_hold_the_living() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1), v4(2)]);
    let vitals = Vitals::default();
    vitals.set(&"127.0.0.1:10901".parse().unwrap(), true);
    let hold = HoldConfig { hold: Duration::from_secs(2), ..HoldConfig::default() };
    let discovery = discovery(&server, &vitals, hold);
    let mut addresses = discovery.addresses();
    until(&mut addresses, &["1", "2"]).await;
    server.fault(NAME, Fault::Nxdomain);
    until(&mut addresses, &["1"]).await;
    until(&mut addresses, &[]).await;
    assert_eq!(discovery.history().last().unwrap().movement, Movement::Left(LeaveReason::HoldExpired));
    server.heal(NAME);
    until(&mut addresses, &["1", "2"]).await;
}

#[tokio::test]
async fn a_death_asks_early_but_not_faster_than_the_floor() {
    let server = DnsServer::start().await.unwrap();
    server.set_ttl(3600);
    server.set_a(NAME, [v4(1)]);
    let vitals = Vitals::default();
    let config = DiscoveryConfig {
        interval: Duration::from_secs(3600),
        floor: Duration::from_millis(300),
        ..DiscoveryConfig::default()
    };
    let discovery = Discovery::new(Arc::new(lookup(&server)), config, vitals.clone(), DnsMetrics::default());
    discovery.set_targets([TARGET.parse().unwrap()]);
    let mut addresses = discovery.addresses();
    until(&mut addresses, &["1"]).await;
    server.set_a(NAME, [v4(2)]);
    let started = Instant::now();
    let asks = server.asked().len();
    let address = "127.0.0.1:10901".parse().unwrap();
    while started.elapsed() < Duration::from_secs(2) {
        vitals.set(&address, true);
        vitals.set(&address, false);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(&mut addresses, &["2"]).await;
    // A and AAAA once per floor.
    let bound = (started.elapsed().as_millis() / 300 + 1) as usize * 2;
    let asked = server.asked().len() - asks;
    assert!(asked <= bound, "{asked} questions");
}

#[tokio::test]
async fn a_name_that_never_had_addresses_is_asked_for_before_the_interval() {
    let server = DnsServer::start().await.unwrap();
    let config = DiscoveryConfig {
        interval: Duration::from_secs(3600),
        retry_first: Duration::from_millis(20),
        ..DiscoveryConfig::default()
    };
    let discovery = Discovery::new(Arc::new(lookup(&server)), config, Vitals::default(), DnsMetrics::default());
    discovery.set_targets([TARGET.parse().unwrap()]);
    until_asked(&server, 2).await;
    server.set_a(NAME, [v4(1)]);
    until(&mut discovery.addresses(), &["1"]).await;
}

#[tokio::test]
async fn targets_that_go_take_their_addresses_along() {
    let server = DnsServer::start().await.unwrap();
    server.set_a(NAME, [v4(1)]);
    let discovery = discovery(&server, &Vitals::default(), HoldConfig::default());
    let mut addresses = discovery.addresses();
    until(&mut addresses, &["1"]).await;
    discovery.set_targets(["127.0.0.9:10901".parse().unwrap()]);
    until(&mut addresses, &["9"]).await;
    assert!(discovery.history().iter().any(|change| change.movement == Movement::Left(LeaveReason::Unconfigured)));
}

#[tokio::test]
async fn the_hosts_file_goes_before_dns_and_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let server = DnsServer::start().await.unwrap();
    let hosts = folder.path().join("hosts");
    let config = HickoryConfig {
        name_servers: vec![server.addr()],
        hosts: hosts.clone(),
        follow: Duration::ZERO,
        ..HickoryConfig::default()
    };
    let lookup = HickoryLookup::new(config).unwrap();
    for last in [7, 8] {
        std::fs::write(&hosts, format!("127.0.0.{last} fixed.test\n")).unwrap();
        let Answer::Found { records, .. } = lookup.addresses("fixed.test").await else { panic!() };
        assert_eq!(records, [IpAddr::V4(v4(last))]);
    }
    assert_eq!(server.asked(), []);
}

#[tokio::test]
async fn search_domains_are_tried_once_and_followed_when_resolv_conf_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = DnsServer::start().await.unwrap();
    server.set_a("stores.one.test", [v4(1)]);
    server.set_a("stores.two.test", [v4(2)]);
    let resolv_conf = folder.path().join("resolv.conf");
    let lookup = HickoryLookup::new(HickoryConfig {
        name_servers: vec![server.addr()],
        resolv_conf: resolv_conf.clone(),
        hosts: "/nonexistent".into(),
        follow: Duration::ZERO,
        ..HickoryConfig::default()
    })
    .unwrap();
    for (domain, last) in [("one.test", 1), ("two.test", 2)] {
        std::fs::write(&resolv_conf, format!("nameserver 127.0.0.1\nsearch none.test {domain}\noptions ndots:5\n"))
            .unwrap();
        let Answer::Found { records, .. } = lookup.addresses("stores").await else { panic!() };
        assert_eq!(records, [IpAddr::V4(v4(last))]);
        server.forget_asked();
        assert!(matches!(lookup.addresses("stores").await, Answer::Found { .. }));
        assert!(server.asked().iter().all(|asked| asked.name == format!("stores.{domain}.")), "{:?}", server.asked());
    }
}

#[tokio::test]
async fn a_failing_search_domain_does_not_hide_the_name_and_is_no_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = DnsServer::start().await.unwrap();
    server.fault("stores.mon.broken.test", Fault::Servfail);
    server.set_a("stores.mon", [v4(1)]);
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch broken.test\noptions ndots:5\n").unwrap();
    let lookup = HickoryLookup::new(HickoryConfig {
        name_servers: vec![server.addr()],
        resolv_conf,
        hosts: "/nonexistent".into(),
        ..HickoryConfig::default()
    })
    .unwrap();
    assert!(matches!(lookup.addresses("stores.mon").await, Answer::Found { .. }));
    server.remove("stores.mon");
    assert_eq!(lookup.addresses("stores.mon").await, Answer::Unavailable(Unavailable::ServFail));
}
