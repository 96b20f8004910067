//! TLS and its rotation, against a server that ends TLS with rustls.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod stage;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use farview_channels::{ChannelConfig, ClientTls, ClientTlsConfig, PeerConfig, State};
use farview_testkit::tls::{Authority, Identity};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use stage::{Feed, Server, ask, dialer, only, quick, until, until_healthy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A server that shows `identity` and takes clients of this authority only.
fn taking(authority: &Authority, identity: &Identity) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}
/// Ends TLS in front of a plain server; can drop all its connections.
struct Terminator {
    addr: SocketAddr,
    config: Arc<ArcSwap<ServerConfig>>,
    cut: watch::Sender<()>,
}

impl Terminator {
    async fn start(to: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let config = Arc::new(ArcSwap::new(config));
        let cut = watch::Sender::new(());
        let (current, cutting) = (config.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, mut cut) = (TlsAcceptor::from(current.load_full()), cutting.subscribe());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(tcp).await else { return };
                    let mut server = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { addr, config, cut }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn certificate_key_and_ca_rotate_and_a_torn_write_keeps_the_last_good() {
    let server = Server::start("a").await;
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let front = Terminator::start(server.addr, taking(&old, &old.issue("stores.test").unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| Some(folder.path().join(name));
    let mine = old.issue("query.test").unwrap();
    write(folder.path(), "ca.pem", &old.pem());
    write(folder.path(), "cert.pem", &mine.cert);
    write(folder.path(), "key.pem", &mine.key);
    let tls = ClientTls::new(ClientTlsConfig {
        ca_file: file("ca.pem"),
        cert_file: file("cert.pem"),
        key_file: file("key.pem"),
        server_name: Some("stores.test".to_owned()),
        follow: Duration::ZERO,
        ..ClientTlsConfig::default()
    });
    let config = PeerConfig { backoff_last: Duration::from_millis(200), ..quick() };
    let set = Feed::new(&[front.addr.into()]).follow(dialer(ChannelConfig::default(), Some(tls.unwrap())), config);
    until_healthy(&set, 1).await;
    assert_eq!(ask(only(&set).channel()).await.unwrap(), ["a", "a"]);

    // Half of the new pair is written; the server still wants the old one.
    let next = new.issue("query.test").unwrap();
    write(folder.path(), "cert.pem", &next.cert);
    let connects = only(&set).status().connects;
    front.cut.send_replace(());
    until(&set, "connected anew", |p| p.peers()[0].status().connects > connects && p.peers()[0].live().is_some()).await;

    write(folder.path(), "key.pem", &next.key);
    write(folder.path(), "ca.pem", &new.pem());
    front.config.store(taking(&new, &new.issue("stores.test").unwrap()));
    let connects = only(&set).status().connects;
    front.cut.send_replace(());
    until(&set, "connected with the new files", |p| {
        p.peers()[0].status().connects > connects && p.peers()[0].live().is_some()
    })
    .await;
    assert_eq!(ask(only(&set).channel()).await.unwrap(), ["a", "a"]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused_and_said_so() {
    let server = Server::start("a").await;
    let authority = Authority::new().unwrap();
    let front = Terminator::start(server.addr, taking(&authority, &authority.issue("other.test").unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "ca.pem", &authority.pem());
    let tls = ClientTls::new(ClientTlsConfig {
        ca_file: Some(folder.path().join("ca.pem")),
        server_name: Some("stores.test".to_owned()),
        ..ClientTlsConfig::default()
    });
    let set = Feed::new(&[front.addr.into()]).follow(dialer(ChannelConfig::default(), Some(tls.unwrap())), quick());
    until(&set, "ejected", |p| matches!(p.peers().first().map(|p| p.status().state), Some(State::Ejected { .. })))
        .await;
    let error = only(&set).status().last_error.unwrap().1;
    assert!(error.contains("TLS") && error.contains("other.test"), "{error}");
}

#[tokio::test]
async fn a_failed_handshake_looks_at_the_files_at_once() {
    let server = Server::start("a").await;
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let front = Terminator::start(server.addr, taking(&new, &new.issue("stores.test").unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| Some(folder.path().join(name));
    let mine = new.issue("query.test").unwrap();
    write(folder.path(), "ca.pem", &old.pem());
    write(folder.path(), "cert.pem", &mine.cert);
    write(folder.path(), "key.pem", &mine.key);
    let tls = ClientTls::new(ClientTlsConfig {
        ca_file: file("ca.pem"),
        cert_file: file("cert.pem"),
        key_file: file("key.pem"),
        server_name: Some("stores.test".to_owned()),
        follow: Duration::from_secs(3600),
        ..ClientTlsConfig::default()
    })
    .unwrap();
    write(folder.path(), "ca.pem", &new.pem());
    let started = Instant::now();
    let set = Feed::new(&[front.addr.into()]).follow(dialer(ChannelConfig::default(), Some(tls)), quick());
    until_healthy(&set, 1).await;
    assert!(started.elapsed() < farview_config::tls::POLL / 2, "{:?}", started.elapsed());
}
