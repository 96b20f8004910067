//! The life of a running service, from its first connection to its last.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::flags::ServiceFlags;
use crate::{GrpcServer, HttpServer, Process};

/// How long background tasks may take to end after everything else has: a last upload takes its time.
const TASKS_PATIENCE: Duration = Duration::from_secs(120);

/// The bound listeners of a service and how to stop them.
#[derive(Debug)]
pub struct Servers {
    process: Process,
    http: HttpServer,
    grpc: Option<GrpcServer>,
    drain_delay: Duration,
    http_grace: Duration,
    grpc_grace: Duration,
}

impl Servers {
    /// Puts together what a service serves.
    pub fn new(process: Process, flags: &ServiceFlags, http: HttpServer, grpc: Option<GrpcServer>) -> Self {
        Self {
            process,
            http,
            grpc,
            drain_delay: flags.shutdown.drain_delay.get(),
            http_grace: flags.http.grace_period.get(),
            grpc_grace: flags.grpc.grace_period.get(),
        }
    }

    /// Returns where HTTP is served.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Returns where gRPC is served, if it is.
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(GrpcServer::address)
    }

    /// Serves until `shutdown` is cancelled or a background task fails, then stops in order (see the crate's page).
    ///
    /// # Cancellation
    /// Dropping the future cuts the HTTP connections and leaves gRPC connections to finish on their own: cancel
    /// `shutdown` instead.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { mut process, http, grpc, drain_delay, http_grace, grpc_grace } = self;
        tracing::info!(http = %http.address(), grpc = grpc.as_ref().map(|g| g.address().to_string()), "listening");
        let stop = CancellationToken::new();
        // However this ends, nothing keeps listening.
        let _stop_on_drop = stop.clone().drop_guard();
        let (http_cut, grpc_cut) = (CancellationToken::new(), CancellationToken::new());
        let http = http.serve(stop.clone(), http_cut.clone());
        let grpc_stop = (stop.clone(), grpc_cut.clone());
        let grpc = async move {
            match grpc {
                Some(grpc) => grpc.serve(grpc_stop.0, grpc_stop.1).await,
                None => Ok(()),
            }
        };
        let mut served = pin!(async { tokio::try_join!(http, grpc) });
        let ended = async {
            let failure = tokio::select! {
                // Without having been told to stop, only a failure ends a server.
                served = served.as_mut() => return served.map(|_| ()),
                () = shutdown.cancelled() => None,
                Some(error) = process.failed.recv() => Some(error),
            };
            process.readiness.shut_down();
            match &failure {
                None => tracing::info!(?drain_delay, "shutting down"),
                Some(error) => tracing::error!(error = format!("{error:#}"), "shutting down"),
            }
            tokio::select! {
                served = served.as_mut() => return served.map(|_| ()),
                () = tokio::time::sleep(drain_delay) => stop.cancel(),
            }
            let cuts = async {
                tokio::join!(cut_after(http_grace, &http_cut), cut_after(grpc_grace, &grpc_cut));
                std::future::pending().await
            };
            tokio::select! {
                served = served => served?,
                never = cuts => never,
            };
            failure.map_or(Ok(()), Err)
        }
        .await;
        if !process.tasks.stop(TASKS_PATIENCE).await {
            tracing::warn!("background tasks did not end in time");
        }
        ended
    }
}

async fn cut_after(grace: Duration, cut: &CancellationToken) {
    tokio::time::sleep(grace).await;
    cut.cancel();
}
