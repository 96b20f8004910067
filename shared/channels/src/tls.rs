//! TLS towards endpoints. The files and how they are followed are `farview_config::tls`; here is what dialling adds: whom to expect,
//! and a look at the files when a handshake fails.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farview_config::tls::{Reloading, TlsClientFiles, TlsState};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::net::TcpStream;
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
    /// The greatest age of the last look at the files before a handshake. Default 10 s. A failed handshake looks at once.
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
            follow: farview_config::tls::POLL,
        }
    }
}

/// Why TLS could not be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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

/// A TLS client whose certificate, key and CA follow their files, in whatever order they are replaced. What cannot be used is
/// reported and not taken.
#[derive(Debug)]
pub struct ClientTls {
    files: Arc<Reloading<ClientConfig>>,
    server_name: Option<String>,
    follow: Duration,
    looked: Mutex<Instant>,
}

impl ClientTls {
    /// Reads the files and follows them. Needs a tokio runtime.
    ///
    /// # Errors
    /// Whatever makes the files unusable now.
    pub fn new(config: ClientTlsConfig) -> Result<Self, farview_config::Error> {
        let files = TlsClientFiles {
            ca: config.ca_file,
            cert: config.cert_file,
            key: config.key_file,
            skip_verify: config.insecure_skip_verify,
            min_version: match config.min_version {
                TlsVersion::V12 => farview_config::tls::TlsVersion::V1_2,
                TlsVersion::V13 => farview_config::tls::TlsVersion::V1_3,
            },
            alpn: vec![b"h2".to_vec()],
        };
        let looked = Mutex::new(Instant::now());
        Ok(Self { files: files.watch()?, server_name: config.server_name, follow: config.follow, looked })
    }

    /// Returns what metrics say about the files.
    pub fn state(&self) -> Arc<TlsState> {
        self.files.state()
    }

    pub(crate) async fn connect(&self, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, TlsError> {
        self.look(self.follow).await;
        let name = self.server_name.as_deref().unwrap_or(host);
        let server =
            ServerName::try_from(name.to_owned()).map_err(|source| TlsError::Name { name: name.to_owned(), source })?;
        let connected = TlsConnector::from(self.files.current()).connect(server, tcp).await;
        if connected.is_err() {
            // Perhaps the server's side has been rotated already: the next attempt should not wait for the next look.
            self.look(Duration::ZERO).await;
        }
        connected.map_err(TlsError::Handshake)
    }

    /// Looks at the files unless somebody did within `age`.
    async fn look(&self, age: Duration) {
        {
            let mut looked = self.looked.lock();
            if looked.elapsed() < age {
                return;
            }
            *looked = Instant::now();
        }
        let files = Arc::clone(&self.files);
        if let Err(error) = tokio::task::spawn_blocking(move || files.refresh()).await {
            tracing::error!(%error, "reading TLS files");
        }
    }
}
