//! The life of endpoints, against real servers.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod stage;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use farview_channels::{ChannelConfig, PeerConfig, State, TransportStatus};
use farview_discovery::Address;
use stage::{Feed, Proxy, Server, ask, dialer, only, quick, until, until_healthy};
use tokio::net::TcpListener;

#[tokio::test]
async fn an_endpoint_is_used_once_it_serves_and_has_said_who_it_is() {
    let server = Server::start("a").await;
    server.serve(false).await;
    let set = Feed::new(&[server.address()]).follow(dialer(ChannelConfig::default(), None), quick());
    until(&set, "ejected", |peers| {
        matches!(peers.peers().first().map(|p| p.status().state), Some(State::Ejected { .. }))
    })
    .await;
    let peer = only(&set);
    assert!(peer.live().is_none());
    let status = ask(peer.channel()).await.unwrap_err();
    assert_eq!(TransportStatus::of(&status), TransportStatus::Unsent);
    assert!(
        status.message().contains("NOT_SERVING") && status.message().contains(&server.addr.to_string()),
        "{status}"
    );
    server.serve(true).await;
    until_healthy(&set, 1).await;
    assert_eq!(*peer.live().unwrap().identity, "a");
    assert_eq!(ask(peer.channel()).await.unwrap(), ["a", "a"]);
}

#[tokio::test]
async fn a_refused_endpoint_is_ejected_within_two_seconds_with_the_default_times() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let started = Instant::now();
    let set = Feed::new(&[addr.into()]).follow(dialer(ChannelConfig::default(), None), PeerConfig::default());
    until(&set, "ejected", |peers| {
        matches!(peers.peers().first().map(|p| p.status().state), Some(State::Ejected { .. }))
    })
    .await;
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
    let status = only(&set).status();
    assert_eq!(status.last_error.unwrap().1, "connection refused");
    assert!(set.peers().is_tried());
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_ejected() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = PeerConfig { probe_timeout: Duration::from_millis(200), ..quick() };
    let set = Feed::new(&[silent.local_addr().unwrap().into()]).follow(dialer(ChannelConfig::default(), None), config);
    until(&set, "ejected", |peers| {
        matches!(peers.peers().first().map(|p| p.status().state), Some(State::Ejected { .. }))
    })
    .await;
    assert!(only(&set).status().last_error.unwrap().1.contains("no answer to the probe"));
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_is_never_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let set = Feed::new(&[addr.into()]).follow(dialer(ChannelConfig::default(), None), quick());
    until(&set, "ejected", |peers| {
        matches!(peers.peers().first().map(|p| p.status().state), Some(State::Ejected { .. }))
    })
    .await;
    assert_eq!(only(&set).status().generation, 0);
    task.abort();
}

#[tokio::test]
async fn a_frozen_endpoint_is_ejected_and_its_open_stream_is_cut() {
    let server = Server::start("a").await;
    server.behaviour.hang.store(true, Ordering::Relaxed);
    let proxy = Proxy::start(server.addr).await;
    let channel = ChannelConfig {
        ping_interval: Duration::from_millis(500),
        ping_timeout: Duration::from_millis(500),
        ..ChannelConfig::default()
    };
    let config = PeerConfig { probe_timeout: Duration::from_millis(500), ..quick() };
    let set = Feed::new(&[proxy.addr.into()]).follow(dialer(channel, None), config);
    until_healthy(&set, 1).await;
    let live = only(&set).live().unwrap();
    let stream = tokio::spawn(ask(live.channel));
    while server.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    proxy.freeze(true);
    let status = tokio::time::timeout(Duration::from_secs(20), stream).await.unwrap().unwrap().unwrap_err();
    assert_eq!(TransportStatus::of(&status), TransportStatus::Broken, "{status:?}");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(&proxy.addr.to_string()), "{status}");
    until(&set, "ejected", |peers| matches!(peers.peers()[0].status().state, State::Ejected { .. })).await;
    proxy.freeze(false);
    until_healthy(&set, 1).await;
}

#[tokio::test]
async fn a_killed_server_is_noticed_at_once_and_used_again_after_its_restart() {
    let mut server = Server::start("a").await;
    let set = Feed::new(&[server.address()]).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    let peer = only(&set);
    let killed = Instant::now();
    server.kill();
    until(&set, "not in use", |peers| peers.peers()[0].live().is_none()).await;
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(*peer.identity().unwrap(), "a", "who it was stays known");
    let _server = Server::start_at("a", server.addr).await;
    until_healthy(&set, 1).await;
    assert_eq!(peer.status().generation, 1, "the same party has come back");
    assert!(peer.status().connects >= 2);
    assert!(
        peer.history().iter().any(|t| t.from == State::Healthy && t.reason == "connection lost"),
        "{:?}",
        peer.history()
    );
}

#[tokio::test]
async fn an_address_used_again_by_another_identity_is_another_generation() {
    let mut first = Server::start("a").await;
    let set = Feed::new(&[first.address()]).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    let of_a = only(&set).live().unwrap();
    first.kill();
    let _second = Server::start_at("b", first.addr).await;
    until(&set, "b is known", |peers| peers.peers()[0].live().is_some_and(|live| *live.identity == "b")).await;
    assert_eq!(only(&set).live().unwrap().generation, of_a.generation + 1);
    let status = ask(of_a.channel).await.unwrap_err();
    assert_eq!(TransportStatus::of(&status), TransportStatus::Unsent, "what was bound to a never reaches b");
}

#[tokio::test]
async fn an_address_that_comes_back_within_the_drain_finds_its_connection() {
    let server = Server::start("a").await;
    let feed = Feed::new(&[server.address()]);
    let set = feed.follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    for _ in 0..20 {
        feed.set(&[]);
        until(&set, "left", |peers| peers.peers().is_empty()).await;
        feed.set(&[server.address()]);
        until(&set, "joined", |peers| peers.peers().len() == 1).await;
        assert!(only(&set).live().is_some(), "in use at once");
    }
    assert_eq!(only(&set).status().connects, 1);
}

#[tokio::test]
async fn a_call_under_way_outlives_the_departure_of_its_endpoint() {
    let server = Server::start("a").await;
    server.behaviour.delay_ms.store(500, Ordering::Relaxed);
    let feed = Feed::new(&[server.address()]);
    let set = feed.follow(dialer(ChannelConfig::default(), None), PeerConfig { drain: Duration::ZERO, ..quick() });
    until_healthy(&set, 1).await;
    let call = tokio::spawn(ask(only(&set).live().unwrap().channel));
    while server.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    feed.set(&[]);
    until(&set, "left", |peers| peers.peers().is_empty()).await;
    assert_eq!(call.await.unwrap().unwrap(), ["a", "a"]);
}

#[tokio::test]
async fn calls_that_are_answered_unavailable_raise_suspicion_and_a_probe() {
    let server = Server::start("a").await;
    let set = Feed::new(&[server.address()]).follow(
        dialer(ChannelConfig::default(), None),
        PeerConfig { probe_interval: Duration::from_secs(60), ..quick() },
    );
    until_healthy(&set, 1).await;
    server.behaviour.unavailable.store(true, Ordering::Relaxed);
    let peer = only(&set);
    let mut suspected = false;
    for _ in 0..500 {
        match ask(peer.channel()).await {
            Err(status) if TransportStatus::of(&status) == TransportStatus::Unavailable => {}
            other => panic!("{other:?}"),
        }
        // The server's health says otherwise, and the probe that the suspicion asked for clears it.
        suspected |= peer.history().iter().any(|t| matches!(t.to, State::Suspect { .. }));
        if suspected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(suspected);
    until(&set, "cleared", |peers| peers.peers()[0].status().state == State::Healthy).await;
}

#[tokio::test]
async fn pings_are_sent_only_while_streams_are_open_and_never_faster_than_the_interval() {
    let server = Server::start("a").await;
    let proxy = Proxy::start(server.addr).await;
    let interval = Duration::from_millis(300);
    let channel = ChannelConfig { ping_interval: interval, ..ChannelConfig::default() };
    let config = PeerConfig { probe_interval: Duration::from_secs(3600), ..quick() };
    let set = Feed::new(&[proxy.addr.into()]).follow(dialer(channel, None), config);
    until_healthy(&set, 1).await;
    let before = proxy.pings().len();
    tokio::time::sleep(interval * 5).await;
    assert_eq!(proxy.pings().len(), before, "an idle connection is not pinged");
    server.behaviour.hang.store(true, Ordering::Relaxed);
    let stream = tokio::spawn(ask(only(&set).channel()));
    let enough = async {
        while proxy.pings().len() < before + 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap();
    stream.abort();
    for pair in proxy.pings()[before..].windows(2) {
        assert!(pair[1] - pair[0] >= interval - Duration::from_millis(50), "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test]
async fn a_static_name_is_resolved_when_it_is_dialled() {
    let server = Server::start("a").await;
    let address = Address::new("localhost", server.addr.port());
    let set = Feed::new(std::slice::from_ref(&address)).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    assert_eq!(only(&set).address(), &address);
    assert_eq!(ask(only(&set).channel()).await.unwrap(), ["a", "a"]);
}

#[tokio::test]
async fn an_ipv6_endpoint_is_used() {
    let server = Server::start_at("a", "[::1]:0".parse().unwrap()).await;
    let set = Feed::new(&[server.address()]).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    assert_eq!(ask(only(&set).channel()).await.unwrap(), ["a", "a"]);
}

#[tokio::test]
async fn a_call_cut_before_its_answer_is_unavailable_and_broken_not_unknown() {
    let mut server = Server::start("a").await;
    server.behaviour.mute.store(true, Ordering::Relaxed);
    let set = Feed::new(&[server.address()]).follow(dialer(ChannelConfig::default(), None), quick());
    until_healthy(&set, 1).await;
    let call = tokio::spawn(ask(only(&set).channel()));
    while server.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.kill();
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    assert_eq!(TransportStatus::of(&status), TransportStatus::Broken);
}

#[tokio::test]
async fn a_server_that_ends_connections_by_age_cuts_no_stream_and_costs_no_call() {
    let age = Duration::from_millis(400);
    let server = Server::start_aging("a", "127.0.0.1:0".parse().unwrap(), Some(age)).await;
    let config = PeerConfig { retry_interval: Duration::from_millis(50), ..quick() };
    let set = Feed::new(&[server.address()]).follow(dialer(ChannelConfig::default(), None), config);
    until_healthy(&set, 1).await;
    let peer = only(&set);
    server.behaviour.delay_ms.store(1500, Ordering::Relaxed);
    let long = tokio::spawn(ask(peer.channel()));
    while server.calls() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.behaviour.delay_ms.store(0, Ordering::Relaxed);
    let (started, mut calls, mut unsent) = (Instant::now(), 0, 0_u64);
    while started.elapsed() < Duration::from_secs(3) {
        calls += 1;
        let live = peer.live().unwrap();
        if let Err(status) = ask(live.channel).await {
            assert_eq!(TransportStatus::of(&status), TransportStatus::Unsent, "{status:?}");
            unsent += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(long.await.unwrap().unwrap(), ["a", "a"], "a stream under way outlives its connection's age");
    assert!(peer.status().connects >= 4);
    assert_eq!(unsent, 0, "of {calls} calls over {} connections", peer.status().connects);
    assert!(!peer.history().iter().any(|t| matches!(t.to, State::Ejected { .. })), "{:?}", peer.history());
}
