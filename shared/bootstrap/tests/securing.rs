//! TLS and users of a service started in this process.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use farview_bootstrap::{CancellationToken, GrpcServer, HttpServer, Process, Servers, ServiceFlags};
use farview_config::tls::TlsClientFiles;
use farview_config::{Flags, parse};
use farview_testkit::tls::Authority;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Debug, clap::Args)]
struct Config {
    #[command(flatten)]
    service: ServiceFlags,
}

impl Flags for Config {
    const SERVICE: &'static str = "example";
    const ABOUT: &'static str = "Serves an example.";
}

fn certificates(dir: &Path) {
    let authority = Authority::new().unwrap();
    std::fs::write(dir.join("ca.crt"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let identity = authority.issue("localhost").unwrap();
        std::fs::write(dir.join(format!("{name}.crt")), identity.cert).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), identity.key).unwrap();
    }
}

async fn build(extra: &[String]) -> anyhow::Result<Servers> {
    let argv = ["--http-address=127.0.0.1:0", "--grpc-address=127.0.0.1:0"].map(str::to_owned);
    let config: Config = parse(argv.into_iter().chain(extra.iter().cloned())).unwrap();
    config.service.validate()?;
    let process = Process::for_test("example");
    let http = HttpServer::bind(&config.service.http, Router::new(), &process).await?;
    let descriptors = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let grpc = GrpcServer::builder(descriptors).bind(&config.service.grpc, &process).await?;
    Ok(Servers::new(process, &config.service, http, Some(grpc)))
}

async fn refused(extra: &[String]) -> String {
    format!("{:#}", build(extra).await.map(|_| ()).unwrap_err())
}

fn client(dir: &Path, certificate: bool, alpn: &[u8]) -> TlsConnector {
    let own = |suffix: &str| certificate.then(|| dir.join(format!("client.{suffix}")));
    let files = TlsClientFiles {
        ca: Some(dir.join("ca.crt")),
        cert: own("crt"),
        key: own("key"),
        alpn: vec![alpn.to_vec()],
        ..Default::default()
    };
    TlsConnector::from(Arc::new(files.load().unwrap()))
}

async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, authorization: &str) -> String {
    let request = format!("GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn grpc_wants_a_certificate_when_it_has_a_client_ca() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    let flag = |name: &str, file: &str| format!("--grpc-server-tls-{name}={}", dir.join(file).display());
    let error = refused(&[flag("cert", "server.crt")]).await;
    assert_eq!(error, "--grpc-server-tls-cert and --grpc-server-tls-key go together, give both or none");

    let flags = [flag("cert", "server.crt"), flag("key", "server.key"), flag("client-ca", "ca.crt")];
    let servers = build(&flags).await.unwrap();
    let address = servers.grpc_address().unwrap();
    let running = tokio::spawn(servers.run(CancellationToken::new()));
    for (certificate, welcome) in [(true, true), (false, false)] {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        // In TLS 1.3 the server's refusal comes after the client thinks the handshake is over: look for its settings frame.
        let mut byte = [0];
        let spoken = async {
            let mut tls = client(dir, certificate, b"h2").connect(name, stream).await.ok()?;
            tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
            tls.read_exact(&mut byte).await.ok()
        };
        let spoken = tokio::time::timeout(Duration::from_secs(20), spoken).await.unwrap();
        assert_eq!(spoken.is_some(), welcome, "with certificate: {certificate}");
    }
    running.abort();
}

#[tokio::test]
async fn http_follows_the_web_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir);
    let web = dir.join("web.yml");
    let flags = [format!("--http.config={}", web.display())];
    let write = |text: &str| std::fs::write(&web, text).unwrap();
    write("basic_auth_user: {}\n");
    assert!(refused(&flags).await.contains("basic_auth_user"));
    write("http_server_config: {headers: {Set-Cookie: a}}\n");
    assert!(refused(&flags).await.contains("header \"Set-Cookie\" cannot be set"));

    let users = |password: &str| {
        let hash = bcrypt::hash(password, 4).unwrap();
        format!(
            "tls_server_config: {{cert_file: server.crt, key_file: server.key}}\nbasic_auth_users:\n  alice: {hash}\n\
             http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
        )
    };
    write(&users("first"));
    let servers = build(&flags).await.unwrap();
    let address = servers.http_address();
    let running = tokio::spawn(servers.run(CancellationToken::new()));
    let fetch = async |authorization: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = client(dir, false, b"http/1.1").connect(name, stream).await.unwrap();
        get(tls, authorization).await
    };
    let (first, second) = ("Authorization: Basic YWxpY2U6Zmlyc3Q=\r\n", "Authorization: Basic YWxpY2U6c2Vjb25k\r\n");
    let answer = fetch("").await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("www-authenticate: Basic"), "{answer}");
    let answer = fetch(first).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-frame-options: deny"), "{answer}");
    assert!(fetch(second).await.starts_with("HTTP/1.1 401 "));

    // A broken file changes nothing; a new password is taken up.
    write("nonsense: [\n");
    let mut took_up = 0;
    for _ in 0..2000 {
        if took_up == 0 && fetch(first).await.starts_with("HTTP/1.1 200 ") {
            took_up = 1;
            write(&users("second"));
        }
        if fetch(second).await.starts_with("HTTP/1.1 200 ") {
            took_up = 2;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(took_up, 2);
    assert!(fetch(first).await.starts_with("HTTP/1.1 401 "));
    running.abort();
}
