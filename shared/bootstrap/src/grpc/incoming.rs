//! Connections for tonic: accepted, counted against the limit, cut when told.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use farview_config::tls::Reloading;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::flags::GrpcFlags;
use crate::listener::{Listener, handshake};

/// Accepts connections until `stop`.
pub(super) fn accept(
    listener: Listener,
    flags: &GrpcFlags,
    tls: Option<Arc<Reloading<ServerConfig>>>,
    stop: CancellationToken,
    cut: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(flags.max_connections));
    let (ready, incoming) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
                Some((permit, listener.accept().await))
            };
            let (permit, (stream, _)): (OwnedSemaphorePermit, (TcpStream, SocketAddr)) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = accepted => match accepted {
                    Some(accepted) => accepted,
                    None => return,
                },
            };
            let (ready, tls, cut) = (ready.clone(), tls.clone(), cut.clone());
            // On its own, so that a peer that is slow to shake hands holds up nobody.
            tokio::spawn(async move {
                let info = stream.connect_info();
                let io: Pin<Box<dyn Io>> = match tls {
                    None => Box::pin(stream),
                    Some(tls) => match handshake(&tls, stream).await {
                        Ok(stream) => Box::pin(stream),
                        Err(error) => {
                            tracing::debug!(error = %error, peer = ?info.remote_addr(), "TLS handshake failed");
                            return;
                        }
                    },
                };
                let cut = Box::pin(cut.cancelled_owned());
                // Fails once the server has stopped; the connection is then dropped.
                let _ = ready.send(Ok(Connection { io, info, cut, _permit: permit })).await;
            });
        }
    });
    ReceiverStream::new(incoming)
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// One connection. Reading fails once `cut` has come, which ends it and every call on it.
pub(super) struct Connection {
    io: Pin<Box<dyn Io>>,
    info: TcpConnectInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.io.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
