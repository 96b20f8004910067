//! Client TLS that follows its files: certificate, key and CA may be replaced while the process runs, in any order.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The lowest TLS version spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V12,
    /// TLS 1.3.
    V13,
}

/// How to speak TLS to endpoints. The files are PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// CAs to trust; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate chain, for servers that ask for one. Needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The key of our certificate.
    pub key_file: Option<PathBuf>,
    /// The name to expect in the server's certificate instead of the address.
    pub server_name: Option<String>,
    /// Take any certificate. Whoever can sit in between can read and change everything.
    pub insecure_skip_verify: bool,
    /// The lowest version spoken.
    pub min_version: TlsVersion,
    /// How often the files are looked at, at most. Default 10 s. A failed handshake looks at once.
    pub follow: Duration,
}

impl Default for ClientTlsConfig {
    fn default() -> Self {
        Self {
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            insecure_skip_verify: false,
            min_version: TlsVersion::default(),
            follow: Duration::from_secs(10),
        }
    }
}

/// Why TLS could not be set up or spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A certificate needs a key, and a key a certificate.
    #[error("a client certificate and its key must be given together")]
    Unpaired,
    /// Certificate and key do not belong together, or the like.
    #[error("client certificate")]
    Certificate(#[source] rustls::Error),
    /// The system trusts nobody and no CA was given.
    #[error("no CA file is given and the system has no root certificates")]
    NoRoots,
    /// The name to expect is none.
    #[error("{name:?} is not a server name")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: InvalidDnsNameError,
    },
    /// The handshake failed.
    #[error("handshake")]
    Handshake(#[source] io::Error),
}

/// A TLS client configuration that is rebuilt when its files change. What does not build is reported and not taken.
pub struct ClientTls {
    config: ClientTlsConfig,
    current: ArcSwap<ClientConfig>,
    looked: Mutex<(Instant, Files)>,
    reloads: Counter,
    failures: Counter,
}

#[derive(PartialEq, Eq)]
struct Files {
    ca: Option<Vec<u8>>,
    pair: Option<(Vec<u8>, Vec<u8>)>,
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// Whatever makes the configuration unusable now. Later changes that are unusable keep the last good one.
    pub fn new(config: ClientTlsConfig) -> Result<Self, TlsError> {
        let files = Files::read(&config)?;
        let current = ArcSwap::new(build(&config, &files)?);
        let looked = Mutex::new((Instant::now(), files));
        Ok(Self { config, current, looked, reloads: Counter::default(), failures: Counter::default() })
    }

    /// Registers `farview_client_tls_reloads_total` and `farview_client_tls_reload_failures_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "farview_client_tls_reloads",
            "Changed client TLS files taken into use",
            self.reloads.clone(),
        );
        let help = "Changed client TLS files that were not usable; the former stayed in use";
        registry.register("farview_client_tls_reload_failures", help, self.failures.clone());
    }

    pub(crate) async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        self.follow(self.config.follow).await;
        let name = self.config.server_name.as_deref().unwrap_or(host);
        let server =
            ServerName::try_from(name.to_owned()).map_err(|source| TlsError::Name { name: name.to_owned(), source })?;
        let connected = TlsConnector::from(self.current.load_full()).connect(server, tcp).await;
        if connected.is_err() {
            // Perhaps the server's side has been rotated already: do not wait for the next look.
            self.follow(Duration::ZERO).await;
        }
        connected.map_err(TlsError::Handshake)
    }

    /// Looks at the files unless somebody did within `age`.
    async fn follow(&self, age: Duration) {
        let Ok(mut looked) = self.looked.try_lock() else { return };
        if looked.0.elapsed() < age {
            return;
        }
        looked.0 = Instant::now();
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || {
            let files = Files::read(&config)?;
            let built = build(&config, &files)?;
            Ok::<_, TlsError>((files, built))
        });
        match read.await {
            Ok(Ok((files, built))) if files != looked.1 => {
                tracing::info!("client TLS files changed");
                self.reloads.inc();
                self.current.store(built);
                looked.1 = files;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                self.failures.inc();
                tracing::warn!(error = %crate::status::with_causes(&error), "client TLS files are not usable; the former stay in use");
            }
            Err(error) => tracing::error!(%error, "reading client TLS files"),
        }
    }
}

impl Files {
    fn read(config: &ClientTlsConfig) -> Result<Self, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let pair = match (&config.cert_file, &config.key_file) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err(TlsError::Unpaired),
        };
        Ok(Self { ca: config.ca_file.as_deref().map(read).transpose()?, pair })
    }
}

fn build(config: &ClientTlsConfig, files: &Files) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[_] = match config.min_version {
        TlsVersion::V12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::V13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).map_err(TlsError::Certificate)?;
    let builder = if config.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        builder.with_root_certificates(roots(config, files)?)
    };
    let mut built = match (&files.pair, &config.cert_file, &config.key_file) {
        (Some((cert, key)), Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file, cert)?;
            let key =
                PrivateKeyDer::from_pem_slice(key).map_err(|e| content(key_file, format!("no private key: {e}")))?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Certificate)?
        }
        _ => builder.with_no_client_auth(),
    };
    built.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(built))
}

fn roots(config: &ClientTlsConfig, files: &Files) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    if let (Some(path), Some(pem)) = (&config.ca_file, &files.ca) {
        for certificate in certificates(path, pem)? {
            store.add(certificate).map_err(|e| content(path, e.to_string()))?;
        }
    } else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
    }
    Ok(store)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(content(path, "no certificate in it".to_owned())),
        Err(error) => Err(content(path, error.to_string())),
    }
}

fn content(path: &Path, problem: String) -> TlsError {
    TlsError::Content { path: path.to_owned(), problem }
}

/// Takes any certificate, but still wants the handshake signed by its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
