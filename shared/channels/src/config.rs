//! How endpoints are dialled, probed and given up.

use std::time::Duration;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Bound on TCP connect, name resolution and TLS handshake together. Default 1 s.
    pub connect_timeout: Duration,
    /// HTTP/2 receive window of one stream, in bytes. Default 4 MiB.
    pub stream_window: u32,
    /// HTTP/2 receive window of the connection, in bytes. Default 8 MiB.
    pub connection_window: u32,
    /// The largest message taken, in bytes; for the generated clients' `max_decoding_message_size`. Default 64 MiB: tonic's own 4 MiB
    /// is below what Thanos sends.
    pub max_message: usize,
    /// Distance of HTTP/2 pings while streams are open. Idle connections are not pinged: grpc-go servers count a ping without
    /// streams as abuse, and accept none more often than every 10 s. Default 10 s.
    pub ping_interval: Duration,
    /// For how long a ping may stay unanswered. Default 5 s.
    pub ping_timeout: Duration,
    /// How many connections are opened at the same time. Default 64.
    pub concurrent_dials: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            stream_window: 4 << 20,
            connection_window: 8 << 20,
            max_message: 64 << 20,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            concurrent_dials: 64,
        }
    }
}

/// The life of one endpoint: see [`crate::Machine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerConfig {
    /// Bound on one probe: health and identity together. Default 2 s.
    pub probe_timeout: Duration,
    /// Distance of probes, ±20 %. Default 5 s.
    pub probe_interval: Duration,
    /// Distance of attempts after a failure. Default 1 s.
    pub retry_interval: Duration,
    /// How many failures in a row eject. Default 3.
    pub failures: u32,
    /// How many refused connections in a row eject. Default 2.
    pub refusals: u32,
    /// The first time out of use. Default 1 s.
    pub backoff_first: Duration,
    /// The longest time out of use. Default 60 s.
    pub backoff_last: Duration,
    /// How long an endpoint that left the set is kept, so that it finds its connection again when it comes back. Default 30 s.
    pub drain: Duration,
    /// How many state changes are kept per endpoint for the status page. Default 32.
    pub history: usize,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            probe_timeout: Duration::from_secs(2),
            probe_interval: Duration::from_secs(5),
            retry_interval: Duration::from_secs(1),
            failures: 3,
            refusals: 2,
            backoff_first: Duration::from_secs(1),
            backoff_last: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            history: 32,
        }
    }
}
