//! Sockets that listen, and the handshake that follows.

use std::net::SocketAddr;

use std::io;
use std::time::Duration;

use anyhow::Context;
use farview_config::tls::Reloading;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::flags::ListenAddress;

/// A bound socket and the address it got.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    pub(crate) async fn bind(what: &str, address: &ListenAddress) -> anyhow::Result<Self> {
        let mut last = None;
        for candidate in address.candidates() {
            match TcpListener::bind(&candidate).await {
                Ok(socket) => {
                    let address = socket.local_addr().context("read the address of a bound socket")?;
                    return Ok(Self { socket, address });
                }
                Err(e) => last = Some(e),
            }
        }
        let error = last.map_or_else(|| anyhow::anyhow!("no address"), anyhow::Error::from);
        Err(error.context(format!("listen on {address} for {what}")))
    }

    /// Accepts the next connection, without Nagle's algorithm, which costs small answers 40 ms.
    ///
    /// An error of one connection (or a lack of file descriptors) does not end the server: it is waited out.
    pub(crate) async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    return (stream, peer);
                }
                Err(e) => {
                    tracing::debug!(error = &e as &dyn std::error::Error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

/// Time a client has for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Shakes hands by the files as they are now.
pub(crate) async fn handshake(tls: &Reloading<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let acceptor = TlsAcceptor::from(tls.current());
    tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await?
}
