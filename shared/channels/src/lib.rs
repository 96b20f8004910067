//! A changing set of addresses becomes callable, health-checked, balanced gRPC channels.
//!
//! A [`Dialer`] opens one HTTP/2 connection to an address, over TLS that follows its files. A [`Peer`] keeps one address connected: its
//! [`Machine`] decides when to dial, probe, give up and try again, and a connection is used only after its [`Probe`] has told who
//! answers there. A [`PeerSet`] follows the addresses that discovery publishes and holds a peer for each. Two shapes of use:
//! [`FanOut`] is every peer, each its own store; a [`Group`] treats the peers as interchangeable and sends each call to the less
//! loaded of two.
//!
//! A [`Channel`] reaches one party: the one that answered the probe when it was handed out ([`Peer::live`]), or whoever answers at
//! the address ([`Peer::channel`]). A connection that its server ends by age is replaced under it, but the next one is probed first,
//! because behind an address that is used again another store may answer: then the call fails rather than reach it. Failures of the
//! way are a [`tonic::Status`] whose [`TransportStatus`] says whether the call may be sent again.
//!
//! What the peers serve (labels, time ranges) and what to do when one is missing belong to the caller.

mod balance;
mod channel;
mod config;
mod connection;
mod dial;
mod frames;
mod group;
mod hedge;
mod metrics;
mod peer;
mod peer_set;
mod probe;
mod service_peers;
mod state;
mod status;
mod tls;

pub use channel::Channel;
pub use config::{ChannelConfig, PeerConfig};
pub use dial::{DialError, Dialer, TlsByAddress};
pub use group::{Group, GroupConfig};
pub use hedge::{Hedge, HedgeConfig};
pub use metrics::{ClientMetrics, Measured, MeasuredLayer};
pub use peer::{Live, Peer, PeerStatus, Transition};
pub use peer_set::{FanOut, PeerSet};
pub use probe::{HealthOnly, Probe};
pub use service_peers::ServicePeers;
pub use state::{Event, Failure, Machine, State, Todo};
pub use status::{TransportError, TransportStatus};
pub use tls::{ClientTls, ClientTlsConfig, TlsError, TlsVersion};
