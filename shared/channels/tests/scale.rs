//! Many endpoints at once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farview_channels::{ChannelConfig, ClientTls, ClientTlsConfig, PeerConfig, PeerSet};
use farview_discovery::{Address, Discovery, DiscoveryConfig, DnsMetrics, HickoryConfig, HickoryLookup, Vitals};
use farview_testkit::dns::DnsServer;
use stage::{Feed, InfoProbe, Many, dialer, quick, until_healthy};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_addresses_of_one_name_are_ready_within_thirty_seconds() {
    let stores = Many::start(1000).await;
    let dns = DnsServer::start().await.unwrap();
    dns.set_a("stores.mon.test.", stores.ips());
    let lookup =
        HickoryLookup::new(HickoryConfig { name_servers: vec![dns.addr()], ..HickoryConfig::default() }).unwrap();
    let vitals = Vitals::default();
    let started = Instant::now();
    let discovery = Discovery::new(Arc::new(lookup), DiscoveryConfig::default(), vitals.clone(), DnsMetrics::default());
    discovery.set_targets([format!("dns+stores.mon.test.:{}", stores.port()).parse().unwrap()]);
    let dialer = Arc::new(dialer(ChannelConfig::default(), None));
    let set = PeerSet::follow(discovery.addresses(), dialer, InfoProbe, PeerConfig::default(), vitals);
    until_healthy(&set, 1000).await;
    println!("1,000 addresses ready after {:?}", started.elapsed());
    assert!(started.elapsed() <= Duration::from_secs(30));
}

#[tokio::test]
async fn no_more_connections_are_opened_at_the_same_time_than_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (open, most, total) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (open.clone(), most.clone(), total.clone());
    let task = tokio::spawn(async move {
        // It accepts and never ends the TLS handshake: the client keeps the connection open until its connect timeout.
        while let Ok((mut stream, _)) = listener.accept().await {
            let (open, most, total) = counts.clone();
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            total.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut sink = vec![0; 4096];
                while let Ok(1..) = stream.read(&mut sink).await {}
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    // The same listener under many names: each is an endpoint of its own.
    let addresses: Vec<Address> = (0..100).map(|i| Address::new(&format!("h{i}.localhost"), port)).collect();
    let tls = ClientTls::new(ClientTlsConfig { insecure_skip_verify: true, ..ClientTlsConfig::default() }).unwrap();
    let config =
        ChannelConfig { concurrent_dials: 8, connect_timeout: Duration::from_millis(200), ..ChannelConfig::default() };
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<String> = (0..100).map(|i| format!("127.0.0.1 h{i}.localhost")).collect();
    std::fs::write(hosts.path(), lines.join("\n")).unwrap();
    let set = Feed::new(&addresses).follow(stage::dialer_with_hosts(config, Some(tls), hosts.path()), quick());
    while total.load(Ordering::SeqCst) < 100 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // A connection that has just been given up may still be open at the server.
    assert!(most.load(Ordering::SeqCst) <= 16, "{}", most.load(Ordering::SeqCst));
    drop(set);
    task.abort();
}
