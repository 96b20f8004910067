//! Asking an endpoint whether it serves and who it is.

use std::time::Duration;

use farview_discovery::Address;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::status::TransportStatus;
use crate::{Channel, Failure};

/// The caller's part of a probe: who answers at the address.
///
/// # Contract
/// A connection is used only after `probe` succeeded on it. The call is bounded by [`crate::PeerConfig::probe_timeout`].
#[async_trait::async_trait]
pub trait Probe: Send + Sync + 'static {
    /// What the endpoint says about itself, for example its Info answer.
    type Identity: Send + Sync + 'static;

    /// Asks. An error counts as a failed probe.
    async fn probe(&self, address: &Address, channel: Channel) -> Result<Self::Identity, Status>;

    /// Tells whether two answers come from the same party. When not, the peer begins a new generation: whatever was concluded from
    /// the former answer must not be applied to what is received now.
    fn is_same_party(&self, before: &Self::Identity, now: &Self::Identity) -> bool;
}

/// A probe that asks for health and nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct HealthOnly;

#[async_trait::async_trait]
impl Probe for HealthOnly {
    type Identity = ();

    async fn probe(&self, _: &Address, _: Channel) -> Result<(), Status> {
        Ok(())
    }

    fn is_same_party(&self, (): &(), (): &()) -> bool {
        true
    }
}

/// Why a probe failed.
#[derive(Debug)]
pub(crate) struct ProbeError {
    pub(crate) failure: Failure,
    pub(crate) problem: String,
}

/// Asks for identity, and for health at the same time if wanted, within a bound.
pub(crate) async fn probe<P: Probe>(
    probe: &P,
    address: &Address,
    channel: Channel,
    with_health: bool,
    limit: Duration,
) -> Result<P::Identity, ProbeError> {
    let identity = async { probe.probe(address, channel.clone()).await.map_err(|status| failed("identity", &status)) };
    let both = async {
        match with_health {
            true => tokio::try_join!(identity, health(channel.clone())).map(|(identity, ())| identity),
            false => identity.await,
        }
    };
    let late = || ProbeError { failure: Failure::Silent, problem: format!("no answer to the probe within {limit:?}") };
    tokio::time::timeout(limit, both).await.map_err(|_| late())?
}

/// Checks `grpc.health.v1`. A server without that service, or without an entry for the whole server, has not said no.
async fn health(channel: Channel) -> Result<(), ProbeError> {
    let request = HealthCheckRequest { service: String::new() };
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            status => {
                Err(ProbeError { failure: Failure::Answered, problem: format!("health: {}", status.as_str_name()) })
            }
        },
        Err(status) if matches!(status.code(), Code::Unimplemented | Code::NotFound) => Ok(()),
        Err(status) => Err(failed("health", &status)),
    }
}

fn failed(what: &str, status: &Status) -> ProbeError {
    let failure = if TransportStatus::of(status).is_transport() { Failure::Broken } else { Failure::Answered };
    ProbeError { failure, problem: format!("{what}: {}: {}", status.code(), status.message()) }
}
