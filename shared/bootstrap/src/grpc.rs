//! The gRPC listener of a service: its services, health, reflection, metrics, and limits on what peers may do.

mod incoming;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farview_config::tls::{Reloading, TlsServerFiles};
use farview_telemetry::{GrpcMetrics, Readiness};
use rustls::ServerConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::{Routes, RoutesBuilder};
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Service;

use crate::Process;
use crate::flags::GrpcFlags;
use crate::listener::Listener;

/// Most bytes of a call's metadata (reliability row Q6).
const MAX_HEADER_LIST: u32 = 16 << 10;
/// A peer that is gone without a word is found by a ping that nobody answers.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A bound gRPC listener that has not begun to serve.
pub struct GrpcServer {
    listener: Listener,
    routes: Routes,
    names: Vec<&'static str>,
    flags: GrpcFlags,
    tls: Option<Arc<Reloading<ServerConfig>>>,
    metrics: GrpcMetrics,
    health: HealthReporter,
    readiness: Readiness,
}

impl std::fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServer").field("address", &self.listener.address).finish_non_exhaustive()
    }
}

/// Collects the services of a [`GrpcServer`].
pub struct GrpcServerBuilder {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    descriptors: &'static [u8],
}

impl std::fmt::Debug for GrpcServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServerBuilder").field("services", &self.names).finish_non_exhaustive()
    }
}

impl GrpcServer {
    /// Begins a server. `descriptors` is the encoded file descriptor set of all services that will be added, for
    /// reflection and for the names of methods in metrics.
    pub fn builder(descriptors: &'static [u8]) -> GrpcServerBuilder {
        GrpcServerBuilder { routes: RoutesBuilder::default(), names: Vec::new(), descriptors }
    }

    /// Returns the address in use, with the port the system chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Serves until `stop`, then lets calls finish, then cuts what is left at `cut`.
    pub(crate) async fn serve(self, stop: CancellationToken, cut: CancellationToken) -> anyhow::Result<()> {
        let health = report_health(self.health, self.names, self.readiness.subscribe());
        let incoming = incoming::accept(self.listener, &self.flags, self.tls, stop.clone(), cut.clone());
        let age = self.flags.max_connection_age.get();
        let mut server = Server::builder()
            .max_concurrent_streams(self.flags.max_concurrent_streams)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .http2_max_header_list_size(MAX_HEADER_LIST);
        if !age.is_zero() {
            // With a grace period tonic would cut the connection instead of sending GOAWAY.
            server = server.max_connection_age(age);
        }
        let serve = server
            .layer(self.metrics)
            .add_routes(self.routes)
            .serve_with_incoming_shutdown(incoming, async move { stop.cancelled().await });
        tokio::select! {
            served = serve => Ok(served?),
            () = cut.cancelled() => Ok(()),
            never = health => match never {},
        }
    }
}

impl GrpcServerBuilder {
    /// Adds a generated server.
    ///
    /// Its limits on messages are its own: set `max_decoding_message_size` (tonic's default is 4 MiB) before adding it.
    #[must_use]
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Binds the address of `flags`, and adds health and reflection.
    pub async fn bind(mut self, flags: &GrpcFlags, process: &Process) -> anyhow::Result<GrpcServer> {
        let tls = flags.tls()?.map(TlsServerFiles::watch).transpose()?;
        if let Some(tls) = &tls {
            process.tls_metrics.add("grpc", tls.state());
        }
        let listener = Listener::bind("gRPC", &flags.address).await?;
        let (health, health_service) = tonic_health::server::health_reporter();
        self.routes.add_service(health_service);
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(self.descriptors)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        self.routes.add_service(reflection().build_v1()?);
        self.routes.add_service(reflection().build_v1alpha()?);
        let descriptors = [
            self.descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let metrics = process.registry.register(|r| GrpcMetrics::server(r, &descriptors, process.request_log.clone()));
        Ok(GrpcServer {
            listener,
            routes: self.routes.routes(),
            names: self.names,
            flags: flags.clone(),
            tls,
            metrics,
            health,
            readiness: process.readiness.clone(),
        })
    }
}

/// Keeps gRPC health, of the server as a whole and of each service, the same as the readiness of the process.
async fn report_health(
    health: HealthReporter,
    names: Vec<&'static str>,
    mut ready: watch::Receiver<bool>,
) -> Infallible {
    loop {
        let status = if *ready.borrow_and_update() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in std::iter::once("").chain(names.iter().copied()) {
            health.set_service_status(name, status).await;
        }
        if ready.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
