use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use tempfile::TempDir;

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `<name>.crt` and `<name>.key`, signed by `ca`, for the host `localhost`.
fn issue(dir: &Path, name: &str, ca: &Ca, year: i32) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

fn world() -> (TempDir, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca("first");
    std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
    issue(dir.path(), "server", &ca, 2040);
    issue(dir.path(), "client", &ca, 2040);
    (dir, ca)
}

fn server(dir: &Path) -> TlsServerFiles {
    TlsServerFiles { cert: dir.join("server.crt"), key: dir.join("server.key"), ..Default::default() }
}

fn client(dir: &Path) -> TlsClientFiles {
    TlsClientFiles { ca: Some(dir.join("ca.crt")), ..Default::default() }
}

/// Shakes hands in memory and passes one message from the client.
fn handshake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), String> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().map_err(|e| format!("server: {e}"))?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|e| format!("client: {e}"))?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn shake(client: &TlsClientFiles, server: &TlsServerFiles) -> Result<(), String> {
    handshake(Arc::new(client.load().unwrap()), Arc::new(server.load().unwrap()))
}

#[test]
fn peers_that_are_signed_are_trusted_and_others_are_not() {
    let (dir, _) = world();
    let dir = dir.path();
    shake(&client(dir), &server(dir)).unwrap();

    std::fs::write(dir.join("other.crt"), ca("other").pem()).unwrap();
    let stranger = TlsClientFiles { ca: Some(dir.join("other.crt")), ..Default::default() };
    assert!(shake(&stranger, &server(dir)).unwrap_err().starts_with("client: invalid peer certificate"));
    shake(&TlsClientFiles { skip_verify: true, ..stranger }, &server(dir)).unwrap();
}

#[test]
fn mutual_tls_wants_a_certificate_of_the_right_ca() {
    let (dir, _) = world();
    let dir = dir.path();
    let mutual = TlsServerFiles {
        client_ca: Some(dir.join("ca.crt")),
        client_auth: ClientAuth::RequireAndVerify,
        ..server(dir)
    };
    let with_certificate = |name: &str| TlsClientFiles {
        cert: Some(dir.join(format!("{name}.crt"))),
        key: Some(dir.join(format!("{name}.key"))),
        ..client(dir)
    };
    shake(&with_certificate("client"), &mutual).unwrap();
    assert!(shake(&client(dir), &mutual).unwrap_err().starts_with("server: "));
    issue(dir, "stranger", &ca("other"), 2040);
    assert!(shake(&with_certificate("stranger"), &mutual).unwrap_err().starts_with("server: "));

    let lenient = TlsServerFiles { client_auth: ClientAuth::VerifyIfGiven, ..mutual };
    shake(&client(dir), &lenient).unwrap();
    assert!(shake(&with_certificate("stranger"), &lenient).is_err());
}

#[test]
fn the_lowest_version_and_the_curves_are_kept() {
    let (dir, _) = world();
    let dir = dir.path();
    let old = TlsServerFiles {
        min_version: TlsVersion::V1_2,
        ciphers: vec!["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".into()],
        ..server(dir)
    };
    shake(&TlsClientFiles { min_version: TlsVersion::V1_2, ..client(dir) }, &old).unwrap();
    let curves =
        |names: &[&str]| TlsServerFiles { curves: names.iter().map(ToString::to_string).collect(), ..server(dir) };
    shake(&client(dir), &curves(&["CurveP521", "CurveP256"])).unwrap();
    assert!(curves(&["CurveP521"]).load().unwrap_err().to_string().contains("valid are"));
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let (dir, ca) = world();
    let dir = dir.path();
    issue(dir, "other", &ca, 2040);
    std::fs::write(dir.join("empty"), "").unwrap();
    let cases = [
        (TlsServerFiles { key: dir.join("other.key"), ..server(dir) }, "server.crt"),
        (TlsServerFiles { cert: dir.join("empty"), ..server(dir) }, "empty: holds no certificate"),
        (TlsServerFiles { key: dir.join("empty"), ..server(dir) }, "empty: "),
        (TlsServerFiles { key: dir.join("nowhere"), ..server(dir) }, "nowhere: "),
        (TlsServerFiles { client_auth: ClientAuth::RequireAndVerify, ..server(dir) }, "needs a client CA"),
    ];
    for (files, named) in cases {
        let error = files.load().unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let path = dir.join("server.crt");
    let error = TlsServerFiles::from_pair("grpc-server-tls", Some(&path), None, None).unwrap_err().to_string();
    assert_eq!(error, "--grpc-server-tls-cert and --grpc-server-tls-key go together, give both or none");
    assert!(TlsServerFiles::from_pair("x", None, None, None).unwrap().is_none());
}

#[tokio::test]
async fn changed_files_are_taken_up_and_broken_ones_are_not() {
    let (dir, first) = world();
    let dir = dir.path();
    let mutual = TlsServerFiles {
        client_ca: Some(dir.join("ca.crt")),
        client_auth: ClientAuth::RequireAndVerify,
        ..server(dir)
    };
    let files = TlsClientFiles { cert: Some(dir.join("client.crt")), key: Some(dir.join("client.key")), ..client(dir) };
    let (server, client) = (mutual.watch().unwrap(), files.watch().unwrap());
    handshake(client.current(), server.current()).unwrap();
    assert_eq!(server.state().not_after(), Some(2_208_988_800));
    assert!(!server.refresh());

    // Half written: the certificate is new, the key is not.
    let key = std::fs::read(dir.join("server.key")).unwrap();
    issue(dir, "server", &first, 2041);
    let new_key = std::fs::read(dir.join("server.key")).unwrap();
    std::fs::write(dir.join("server.key"), key).unwrap();
    assert!(!server.refresh());
    assert!(!server.state().is_current());
    assert_eq!((server.state().failures(), server.state().reloads()), (1, 0));
    handshake(client.current(), server.current()).unwrap();
    std::fs::write(dir.join("server.key"), new_key).unwrap();
    assert!(server.refresh() && server.state().is_current());
    assert_eq!(server.state().not_after(), Some(2_240_611_200));
    handshake(client.current(), server.current()).unwrap();

    // A new authority on all sides: who has not followed is not trusted any more.
    let second = ca("second");
    std::fs::write(dir.join("ca.crt"), second.pem()).unwrap();
    issue(dir, "server", &second, 2042);
    issue(dir, "client", &second, 2042);
    assert!(server.refresh());
    assert!(handshake(client.current(), server.current()).is_err());
    assert!(client.refresh());
    handshake(client.current(), server.current()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_without_being_asked() {
    let (dir, ca) = world();
    let watched = server(dir.path()).watch().unwrap();
    issue(dir.path(), "server", &ca, 2050);
    for _ in 0..1000 {
        if watched.state().reloads() == 1 {
            return;
        }
        tokio::time::sleep(POLL / 2).await;
    }
    panic!("never looked");
}
