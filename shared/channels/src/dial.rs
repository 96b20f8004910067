//! Opening one connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farview_discovery::{Address, Answer, Lookup};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::connection::Connection;
use crate::status::with_causes;
use crate::tls::{ClientTls, TlsError};
use crate::{ChannelConfig, Failure};

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// It took longer than [`ChannelConfig::connect_timeout`].
    #[error("no connection within {0:?}")]
    TimedOut(std::time::Duration),
    /// The network failed.
    #[error("connect: {0}")]
    Io(io::Error),
    /// The name has no addresses, or it is not known which.
    #[error("resolve {name}: {problem}")]
    Resolve {
        /// The name.
        name: String,
        /// What DNS said.
        problem: String,
    },
    /// TLS failed.
    #[error("TLS: {0}")]
    Tls(String),
    /// HTTP/2 failed.
    #[error("HTTP/2: {0}")]
    Http(String),
}

impl DialError {
    /// Returns what the error says about the endpoint.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused => Failure::Refused,
            Self::TimedOut(_) => Failure::Silent,
            Self::Io(_) | Self::Resolve { .. } | Self::Tls(_) | Self::Http(_) => Failure::Broken,
        }
    }
}

/// Opens connections, a bounded number at a time.
pub struct Dialer {
    config: ChannelConfig,
    tls: TlsByAddress,
    lookup: Arc<dyn Lookup>,
    slots: Semaphore,
}

/// Says how an address is spoken to: over TLS, or in plain text.
pub type TlsByAddress = Box<dyn Fn(&Address) -> Option<Arc<ClientTls>> + Send + Sync>;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dialer {
    /// Makes a dialer. Without `tls` connections are plain text. `lookup` resolves the addresses that are names.
    pub fn new(config: ChannelConfig, tls: Option<Arc<ClientTls>>, lookup: Arc<dyn Lookup>) -> Self {
        Self::by_address(config, Box::new(move |_| tls.clone()), lookup)
    }

    /// Makes a dialer that asks `tls` anew for every connection.
    pub fn by_address(config: ChannelConfig, tls: TlsByAddress, lookup: Arc<dyn Lookup>) -> Self {
        let slots = Semaphore::new(config.concurrent_dials.max(1));
        Self { config, tls, lookup, slots }
    }

    /// Returns how connections are made.
    pub fn config(&self) -> &ChannelConfig {
        &self.config
    }

    /// Opens a connection. Waiting for a slot does not count against the connect timeout.
    pub(crate) async fn dial(&self, address: &Address) -> Result<Connection, DialError> {
        let _slot = self.slots.acquire().await.map_err(|_| DialError::Io(io::Error::other("dialer is closed")))?;
        let limit = self.config.connect_timeout;
        tokio::time::timeout(limit, self.connect(address)).await.map_err(|_| DialError::TimedOut(limit))?
    }

    async fn connect(&self, address: &Address) -> Result<Connection, DialError> {
        let tcp = self.tcp(address).await?;
        tcp.set_nodelay(true).map_err(DialError::Io)?;
        let tls = (self.tls)(address);
        let io: Box<dyn Io> = match &tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(
                tls.connect(&address.host(), tcp).await.map_err(|e: TlsError| DialError::Tls(with_causes(&e)))?,
            ),
        };
        let (sender, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(self.config.stream_window)
            .initial_connection_window_size(self.config.connection_window)
            .max_header_list_size(64 << 10)
            .keep_alive_interval(self.config.ping_interval)
            .keep_alive_timeout(self.config.ping_timeout)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|e| DialError::Http(with_causes(&e)))?;
        Ok(Connection::new(address.clone(), tls.is_some(), sender, driver))
    }

    /// Tries the addresses of a name one after the other: an endpoint by name is one endpoint, whichever of them answers.
    async fn tcp(&self, address: &Address) -> Result<TcpStream, DialError> {
        let (name, port) = match address {
            Address::Socket(addr) => return TcpStream::connect(addr).await.map_err(io_error),
            Address::Name(name, port) => (name, *port),
        };
        let unresolved = |problem: String| DialError::Resolve { name: name.to_string(), problem };
        let ips: Vec<IpAddr> = match self.lookup.addresses(name).await {
            Answer::Found { records, .. } => records,
            Answer::Absent => return Err(unresolved("there are no addresses".to_owned())),
            Answer::Unavailable(why) => return Err(unresolved(why.to_string())),
        };
        let mut last = unresolved("there are no addresses".to_owned());
        for ip in ips {
            match TcpStream::connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = io_error(error),
            }
        }
        Err(last)
    }
}

fn io_error(error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused,
        _ => DialError::Io(error),
    }
}
