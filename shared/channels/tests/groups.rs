//! Groups of interchangeable endpoints, against real servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod stage;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farview_channels::{ChannelConfig, ClientMetrics, Group, GroupConfig, State, TransportStatus};
use farview_discovery::Address;
use prometheus_client::registry::Registry;
use stage::{Feed, Server, ask, dialer, quick, until, until_healthy};

async fn three() -> (Vec<Server>, Group<String>) {
    let servers = vec![Server::start("a").await, Server::start("b").await, Server::start("c").await];
    let addresses: Vec<Address> = servers.iter().map(Server::address).collect();
    let set = Feed::new(&addresses).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 3).await;
    (servers, Group::new("dns+stores", set, GroupConfig::default()))
}

#[tokio::test]
async fn calls_go_to_all_and_less_to_the_slow() {
    let (servers, group) = three().await;
    servers[2].behaviour.delay_ms.store(40, Ordering::Relaxed);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let group = group.clone();
        callers.spawn(async move {
            for _ in 0..50 {
                ask(group.clone()).await.unwrap();
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let calls: Vec<u64> = servers.iter().map(Server::calls).collect();
    assert_eq!(calls.iter().sum::<u64>(), 400);
    assert!(calls.iter().all(|n| *n > 0), "{calls:?}");
    // Its headers are as fast as the others': only a load that lasts to the end of the stream can tell.
    assert!(calls[2] * 3 < calls[0].min(calls[1]), "{calls:?}");
}

#[tokio::test]
async fn after_a_kill_no_call_fails_once_two_seconds_have_passed() {
    let (mut servers, group) = three().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (group, stop) = (group.clone(), stop.clone());
        callers.spawn(async move {
            let mut failures = Vec::new();
            let mut total = 0;
            while !stop.is_cancelled() {
                total += 1;
                if let Err(status) = ask(group.clone()).await {
                    assert!(TransportStatus::of(&status).is_retryable(), "{status:?}");
                    failures.push(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (total, failures)
        });
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let killed = Instant::now();
    servers[0].kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    stop.cancel();
    let (mut total, mut late, mut early) = (0, 0, 0);
    while let Some(done) = callers.join_next().await {
        let (calls, failures) = done.unwrap();
        total += calls;
        late += failures.iter().filter(|at| **at > killed + Duration::from_secs(2)).count();
        early += failures.iter().filter(|at| **at <= killed + Duration::from_secs(2)).count();
    }
    println!("{total} calls, {early} failed within 2 s of the kill, {late} later");
    assert!(total > 500, "{total}");
    assert_eq!(late, 0);
    assert!(early < 20, "only those under way may fail: {early}");
}

#[tokio::test]
async fn without_an_endpoint_calls_fail_at_once_and_say_why() {
    let set = Feed::new(&[]).follow(dialer(ChannelConfig::default(), None), quick());
    let group = Group::new("dns+stores", set, GroupConfig::default());
    let started = Instant::now();
    let status = ask(group).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
    assert_eq!(TransportStatus::of(&status), TransportStatus::Unsent);
    assert_eq!(status.message(), "dns+stores: no endpoint is known");
}

#[tokio::test]
async fn with_all_dead_calls_fail_at_once_and_name_the_dead() {
    let (mut servers, group) = three().await;
    servers.iter_mut().for_each(Server::kill);
    until(group.set(), "none in use", |peers| peers.peers().iter().all(|p| p.live().is_none())).await;
    let started = Instant::now();
    let status = ask(group).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(50), "{:?}", started.elapsed());
    assert!(status.message().contains("none of 3 endpoints is in use"), "{status}");
    assert!(
        status.message().contains(&servers[0].addr.to_string())
            || status.message().contains(&servers[1].addr.to_string()),
        "{status}"
    );
}

#[tokio::test]
async fn members_join_and_leave() {
    let (a, b) = (Server::start("a").await, Server::start("b").await);
    let feed = Feed::new(&[a.address()]);
    let set = feed.follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    let group = Group::new("g", set, GroupConfig::default());
    assert_eq!(ask(group.clone()).await.unwrap()[0], "a");
    feed.set(&[b.address()]);
    until(group.set(), "b in use", |p| {
        p.peers().len() == 1 && p.peers()[0].address() == &b.address() && p.peers()[0].live().is_some()
    })
    .await;
    for _ in 0..10 {
        assert_eq!(ask(group.clone()).await.unwrap()[0], "b");
    }
}

#[tokio::test]
async fn when_most_are_ejected_all_with_a_connection_are_used() {
    let (servers, group) = three().await;
    servers[0].serve(false).await;
    servers[1].serve(false).await;
    until(group.set(), "two ejected", |p| {
        let out = |s: State| matches!(s, State::Ejected { .. } | State::Probation);
        p.peers().iter().filter(|p| out(p.status().state)).count() == 2
    })
    .await;
    assert!(group.is_in_panic());
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..200 {
        answered.insert(ask(group.clone()).await.unwrap()[0].clone());
    }
    assert_eq!(answered.len(), 3, "{answered:?}");
    servers[0].serve(true).await;
    until_healthy(group.set(), 2).await;
    assert!(!group.is_in_panic());
    for _ in 0..50 {
        assert_ne!(ask(group.clone()).await.unwrap()[0], "b", "one in three may be left out");
    }
}

#[tokio::test]
async fn calls_are_counted_with_their_type_code_and_messages() {
    let (servers, group) = three().await;
    let mut registry = Registry::default();
    let metrics = ClientMetrics::register(&mut registry);
    let measured = metrics.measure(group);
    ask(measured.clone()).await.unwrap();
    servers.iter().for_each(|s| s.behaviour.unavailable.store(true, Ordering::Relaxed));
    ask(measured.clone()).await.unwrap_err();
    servers.iter().for_each(|s| {
        s.behaviour.unavailable.store(false, Ordering::Relaxed);
        s.behaviour.hang.store(true, Ordering::Relaxed);
    });
    assert!(tokio::time::timeout(Duration::from_millis(300), ask(measured.clone())).await.is_err());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let of = "grpc_method=\"MetricMetadata\",grpc_service=\"thanos.Metadata\",grpc_type=\"server_stream\"";
    for line in [
        format!("grpc_client_started_total{{{of}}} 3"),
        format!("grpc_client_handled_total{{grpc_code=\"OK\",{of}}} 1"),
        format!("grpc_client_handled_total{{grpc_code=\"Unavailable\",{of}}} 1"),
        format!("grpc_client_handled_total{{grpc_code=\"Canceled\",{of}}} 1"),
        format!("grpc_client_msg_sent_total{{{of}}} 3"),
        format!("grpc_client_msg_received_total{{{of}}} 3"),
        format!("grpc_client_handling_seconds_count{{{of}}} 3"),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}
