//! Groups of flags that several services take, under the names of Thanos.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use farview_config::tls::{TlsClientFiles, TlsServerFiles, TlsVersion};
use farview_config::{ByteSize, PromDuration};
use farview_telemetry::{LogFlags, RequestLoggingFlags, TracingFlags};

/// An address to listen on, as Go writes them: `0.0.0.0:10902`, `[::]:10902`, `:10902` for all addresses, `localhost:0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress(String);

impl ListenAddress {
    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }

    /// Returns the text to bind: a bare `:port` listens on IPv6 and IPv4.
    pub(crate) fn candidates(&self) -> Vec<String> {
        match self.0.strip_prefix(':') {
            // A machine without IPv6 refuses the first.
            Some(port) => vec![format!("[::]:{port}"), format!("0.0.0.0:{port}")],
            None => vec![self.0.clone()],
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.rsplit_once(':').map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) => Ok(Self(text.to_owned())),
            _ => Err("expected host:port or :port".to_owned()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(addr: SocketAddr) -> Self {
        Self(addr.to_string())
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `--http*`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP server")]
pub struct HttpFlags {
    /// Listen host:port for HTTP endpoints.
    #[arg(id = "http_address", long = "http-address", default_value = "0.0.0.0:10902")]
    pub address: ListenAddress,
    /// Time to wait after an interrupt received for HTTP requests to finish.
    #[arg(id = "http_grace_period", long = "http-grace-period", default_value = "2m")]
    pub grace_period: PromDuration,
    /// Path to the configuration file that can enable TLS or authentication for all HTTP endpoints, in the format of
    /// Prometheus' exporter-toolkit. Re-read when it changes.
    #[arg(id = "http_config", long = "http.config")]
    pub web_config: Option<PathBuf>,
    /// Most HTTP connections open at once; more wait to be accepted.
    #[arg(id = "http_max_connections", long = "http.max-connections", default_value_t = 1024)]
    pub max_connections: usize,
    /// Time a client has for sending the head of a request.
    #[arg(id = "http_header_timeout", long = "http.header-timeout", default_value = "10s")]
    pub header_timeout: PromDuration,
    /// Time a client has for sending the body of a request.
    #[arg(id = "http_body_timeout", long = "http.body-timeout", default_value = "30s")]
    pub body_timeout: PromDuration,
    /// Time after which a connection without requests is closed.
    #[arg(id = "http_idle_timeout", long = "http.idle-timeout", default_value = "2m")]
    pub idle_timeout: PromDuration,
    /// Largest body of a request.
    #[arg(id = "http_max_body", long = "http.max-body-size", default_value = "32MiB")]
    pub max_body_size: ByteSize,
}

/// `--grpc-*` of the server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "gRPC server")]
pub struct GrpcFlags {
    /// Listen ip:port address for gRPC endpoints (StoreAPI). Make sure this address is routable from other components.
    #[arg(id = "grpc_address", long = "grpc-address", default_value = "0.0.0.0:10901")]
    pub address: ListenAddress,
    /// Time to wait after an interrupt received for gRPC calls to finish.
    #[arg(id = "grpc_grace_period", long = "grpc-grace-period", default_value = "2m")]
    pub grace_period: PromDuration,
    /// The grpc server max connection age. This controls how often to re-establish connections and redo TLS handshakes.
    #[arg(long = "grpc-server-max-connection-age", default_value = "60m")]
    pub max_connection_age: PromDuration,
    /// Most calls at once on one connection.
    #[arg(long = "grpc-server-max-concurrent-streams", default_value_t = 256)]
    pub max_concurrent_streams: u32,
    /// Most gRPC connections open at once; more wait to be accepted.
    #[arg(long = "grpc-server-max-connections", default_value_t = 4096)]
    pub max_connections: usize,
    /// TLS certificate for the gRPC server, leave blank to disable TLS. Re-read when it changes.
    #[arg(id = "grpc_tls_cert", long = "grpc-server-tls-cert")]
    pub tls_cert: Option<PathBuf>,
    /// TLS key for the gRPC server, leave blank to disable TLS. Re-read when it changes.
    #[arg(id = "grpc_tls_key", long = "grpc-server-tls-key")]
    pub tls_key: Option<PathBuf>,
    /// TLS CA to verify clients against. If no client CA is specified, there is no client verification on server side.
    #[arg(id = "grpc_tls_client_ca", long = "grpc-server-tls-client-ca")]
    pub tls_client_ca: Option<PathBuf>,
    /// TLS supported minimum version for the gRPC server. Versions below 1.2 are raised to 1.2.
    #[arg(id = "grpc_tls_min_version", long = "grpc-server-tls-min-version", value_enum, default_value = "1.3")]
    pub tls_min_version: MinTls,
    /// TLS cipher suites for the gRPC server, comma-separated, by their IANA names. The default is the library's.
    #[arg(id = "grpc_tls_ciphers", long = "grpc-server-tls-ciphers", value_delimiter = ',')]
    pub tls_ciphers: Vec<String>,
    /// TLS curves for the gRPC server, comma-separated, by Go's names. The default is the library's.
    #[arg(id = "grpc_tls_curves", long = "grpc-server-tls-curves", value_delimiter = ',')]
    pub tls_curves: Vec<String>,
}

impl GrpcFlags {
    /// Returns the TLS files of the server, if it is to speak TLS.
    pub fn tls(&self) -> Result<Option<TlsServerFiles>, farview_config::Error> {
        let (cert, key, ca) = (self.tls_cert.as_ref(), self.tls_key.as_ref(), self.tls_client_ca.as_ref());
        let files = TlsServerFiles::from_pair("grpc-server-tls", cert, key, ca)?;
        Ok(files.map(|files| TlsServerFiles {
            min_version: self.tls_min_version.into(),
            ciphers: self.tls_ciphers.clone(),
            curves: self.tls_curves.clone(),
            alpn: vec![b"h2".to_vec()],
            ..files
        }))
    }
}

impl GrpcClientFlags {
    /// Returns the TLS files of the client, if it is to speak TLS.
    pub fn tls(&self) -> Option<TlsClientFiles> {
        self.secure.then(|| TlsClientFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            skip_verify: self.skip_verify,
            min_version: self.min_version.into(),
            alpn: vec![b"h2".to_vec()],
        })
    }
}

impl From<MinTls> for TlsVersion {
    fn from(version: MinTls) -> Self {
        match version {
            MinTls::V1_0 | MinTls::V1_1 | MinTls::V1_2 => Self::V1_2,
            MinTls::V1_3 => Self::V1_3,
        }
    }
}

/// A version of TLS to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MinTls {
    /// Raised to 1.2.
    #[value(name = "1.0")]
    V1_0,
    /// Raised to 1.2.
    #[value(name = "1.1")]
    V1_1,
    /// TLS 1.2.
    #[value(name = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[value(name = "1.3")]
    V1_3,
}

/// `--grpc-client-*` and `--grpc-compression`: how other gRPC servers are called.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "gRPC client")]
pub struct GrpcClientFlags {
    /// Use TLS when talking to the gRPC server.
    #[arg(id = "grpc_client_secure", long = "grpc-client-tls-secure")]
    pub secure: bool,
    /// Disable TLS certificate verification i.e self signed, signed by fake CA.
    #[arg(id = "grpc_client_skip_verify", long = "grpc-client-tls-skip-verify")]
    pub skip_verify: bool,
    /// TLS certificate to use to identify this client to the server. Re-read when it changes.
    #[arg(id = "grpc_client_cert", long = "grpc-client-tls-cert")]
    pub cert: Option<PathBuf>,
    /// TLS key for the client's certificate. Re-read when it changes.
    #[arg(id = "grpc_client_key", long = "grpc-client-tls-key")]
    pub key: Option<PathBuf>,
    /// TLS CA certificates to use to verify gRPC servers. Re-read when it changes.
    #[arg(id = "grpc_client_ca", long = "grpc-client-tls-ca")]
    pub ca: Option<PathBuf>,
    /// Server name to verify the hostname on the returned gRPC certificates.
    #[arg(id = "grpc_client_server_name", long = "grpc-client-server-name")]
    pub server_name: Option<String>,
    /// TLS supported minimum version for the gRPC client.
    #[arg(id = "grpc_client_min", long = "grpc-client-tls-min-version", value_enum, default_value = "1.3")]
    pub min_version: MinTls,
    /// Compression of gRPC requests to other clients. Only none is supported: snappy is accepted and not used.
    #[arg(id = "grpc_compression", long = "grpc-compression", value_enum, default_value = "none")]
    pub compression: Compression,
}

/// How requests are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    None,
    /// Accepted for Thanos' sake.
    Snappy,
}

/// How the process stops.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "General")]
pub struct ShutdownFlags {
    /// Time between saying that the process is not ready any more and refusing new connections, so that load balancers and
    /// resolvers can look away first.
    #[arg(long = "farview.drain-delay", default_value = "0s")]
    pub drain_delay: PromDuration,
}

impl ServiceFlags {
    /// Says what does not fit together; services call it from their own `validate`.
    pub fn validate(&self) -> Result<(), farview_config::Error> {
        self.grpc.tls().map(|_| ())
    }
}

/// What every service takes.
#[derive(Debug, Clone, Args)]
pub struct ServiceFlags {
    /// Logs.
    #[command(flatten)]
    pub log: LogFlags,
    /// Traces.
    #[command(flatten)]
    pub tracing: TracingFlags,
    /// Request logs.
    #[command(flatten)]
    pub request_logging: RequestLoggingFlags,
    /// The HTTP server.
    #[command(flatten)]
    pub http: HttpFlags,
    /// The gRPC server.
    #[command(flatten)]
    pub grpc: GrpcFlags,
    /// The end.
    #[command(flatten)]
    pub shutdown: ShutdownFlags,
}
