//! A DNS server for tests and the demo: UDP and TCP on one loopback port, a record set that changes under test, and faults
//! scripted per name.
//!
//! The plain case is served by hickory-server as any authority would: EDNS honoured, large answers truncated over UDP and whole
//! over TCP. A fault changes what one name (or one type of one name) answers. A name without records answers NXDOMAIN, as
//! CoreDNS does for a headless service without a ready pod; a name with records of another type only answers NODATA.
//!
//! It is an authority without recursion: CNAME chains and zones are not served.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
pub use hickory_server::proto::rr::RecordType;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What a name answers instead of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The server failed: "unknown", never "none".
    Servfail,
    /// The server will not answer.
    Refused,
    /// No such name, although records may be set.
    Nxdomain,
    /// No such name, without the SOA that tells for how long.
    NxdomainWithoutSoa,
    /// The name exists without records of this type.
    Nodata,
    /// No answer at all.
    Drop,
    /// The right answer, this many milliseconds late.
    Delay(u64),
    /// The first half of the records, flagged truncated, over UDP; no answer over TCP.
    TruncateWithoutTcp,
    /// Bytes that are no DNS message but carry the right id (UDP); SERVFAIL over TCP.
    Garbage,
}

/// One question that reached the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name in lower case with the final dot.
    pub name: String,
    /// The record type asked for.
    pub kind: RecordType,
    /// Whether it came over TCP.
    pub tcp: bool,
}

/// A running server. Dropping it frees the port.
#[derive(Debug)]
pub struct DnsServer {
    addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Zone {
    ttl: u32,
    records: BTreeMap<(String, RecordType), Vec<RData>>,
    faults: HashMap<(String, Option<RecordType>), Fault>,
    asked: Vec<Asked>,
}

impl DnsServer {
    /// Starts a server on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    /// Starts a server at a given address; port 0 takes a free one, the same for UDP and TCP.
    pub async fn start_at(addr: SocketAddr) -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..20 {
            let listener = TcpListener::bind(addr).await.with_context(|| format!("bind TCP {addr}"))?;
            let local = listener.local_addr()?;
            match std::net::UdpSocket::bind(local) {
                Ok(socket) => return Self::serve(local, socket, Some(listener)),
                Err(error) => last = Some(error),
            }
        }
        anyhow::bail!("no port is free for both UDP and TCP at {addr}: {last:?}")
    }

    /// Starts a server that listens on UDP only: TCP connections are refused.
    pub async fn start_udp_only() -> anyhow::Result<Self> {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Self::serve(socket.local_addr()?, socket, None)
    }

    fn serve(addr: SocketAddr, socket: std::net::UdpSocket, listener: Option<TcpListener>) -> anyhow::Result<Self> {
        socket.set_nonblocking(true)?;
        let raw = UdpSocket::from_std(socket.try_clone()?)?;
        let zone = Arc::new(Mutex::new(Zone { ttl: 5, ..Zone::default() }));
        let mut server = Server::new(Handler { zone: zone.clone(), raw });
        server.register_socket(UdpSocket::from_std(socket)?);
        if let Some(listener) = listener {
            server.register_listener(listener, Duration::from_secs(5), 1024);
        }
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                result = server.block_until_done() => tracing::warn!(?result, "DNS server ended"),
            }
        });
        Ok(Self { addr, zone, _stop: stop.drop_guard() })
    }

    /// Returns where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the TTL of every answer, in seconds (5 at start, as CoreDNS' kubernetes plugin).
    pub fn set_ttl(&self, seconds: u32) {
        self.zone().ttl = seconds;
    }

    /// Replaces the A records of a name. An empty set removes them.
    pub fn set_a(&self, name: &str, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        self.set(name, RecordType::A, addresses.into_iter().map(|a| RData::A(A(a))).collect());
    }

    /// Replaces the AAAA records of a name. An empty set removes them.
    pub fn set_aaaa(&self, name: &str, addresses: impl IntoIterator<Item = Ipv6Addr>) {
        self.set(name, RecordType::AAAA, addresses.into_iter().map(|a| RData::AAAA(AAAA(a))).collect());
    }

    /// Replaces the A and AAAA records of a name.
    pub fn set_addresses(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in addresses {
            match address {
                IpAddr::V4(a) => v4.push(a),
                IpAddr::V6(a) => v6.push(a),
            }
        }
        self.set_a(name, v4);
        self.set_aaaa(name, v6);
    }

    /// Replaces the SRV records of a name by `(target, port)` pairs.
    pub fn set_srv<'a>(&self, name: &str, services: impl IntoIterator<Item = (&'a str, u16)>) {
        let records =
            services.into_iter().map(|(target, port)| RData::SRV(SRV::new(0, 0, port, parse(target)))).collect();
        self.set(name, RecordType::SRV, records);
    }

    /// Removes all records and faults of a name: it answers NXDOMAIN.
    pub fn remove(&self, name: &str) {
        let name = canonical(name);
        let mut zone = self.zone();
        zone.records.retain(|(n, _), _| *n != name);
        zone.faults.retain(|(n, _), _| *n != name);
    }

    /// Makes every type of a name misbehave.
    pub fn fault(&self, name: &str, fault: Fault) {
        self.zone().faults.insert((canonical(name), None), fault);
    }

    /// Makes one type of a name misbehave.
    pub fn fault_for(&self, name: &str, kind: RecordType, fault: Fault) {
        self.zone().faults.insert((canonical(name), Some(kind)), fault);
    }

    /// Ends the faults of a name.
    pub fn heal(&self, name: &str) {
        let name = canonical(name);
        self.zone().faults.retain(|(n, _), _| *n != name);
    }

    /// Returns every question so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.zone().asked.clone()
    }

    /// Forgets the questions so far.
    pub fn forget_asked(&self) {
        self.zone().asked.clear();
    }

    fn set(&self, name: &str, kind: RecordType, records: Vec<RData>) {
        let key = (canonical(name), kind);
        let mut zone = self.zone();
        if records.is_empty() {
            zone.records.remove(&key);
        } else {
            zone.records.insert(key, records);
        }
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a name in lower case with its final dot.
fn canonical(name: &str) -> String {
    let mut name = name.to_ascii_lowercase();
    if !name.ends_with('.') {
        name.push('.');
    }
    name
}

fn parse(name: &str) -> Name {
    Name::from_ascii(canonical(name)).unwrap_or_else(|_| Name::root())
}

struct Handler {
    zone: Arc<Mutex<Zone>>,
    /// The server's own UDP socket once more, for bytes that no encoder would write.
    raw: UdpSocket,
}

/// What the zone says to one question.
struct Reply {
    code: ResponseCode,
    records: Vec<RData>,
    soa: bool,
    ttl: u32,
    fault: Option<Fault>,
}

impl Handler {
    fn reply(&self, name: &str, kind: RecordType, tcp: bool) -> Reply {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.asked.push(Asked { name: name.to_owned(), kind, tcp });
        let fault = zone
            .faults
            .get(&(name.to_owned(), Some(kind)))
            .or_else(|| zone.faults.get(&(name.to_owned(), None)))
            .copied();
        let records = zone.records.get(&(name.to_owned(), kind)).cloned().unwrap_or_default();
        let exists = zone.records.keys().any(|(n, _)| n == name);
        let (code, records, soa) = match fault {
            Some(Fault::Servfail | Fault::Garbage) => (ResponseCode::ServFail, Vec::new(), false),
            Some(Fault::Refused) => (ResponseCode::Refused, Vec::new(), false),
            Some(Fault::Nxdomain) => (ResponseCode::NXDomain, Vec::new(), true),
            Some(Fault::NxdomainWithoutSoa) => (ResponseCode::NXDomain, Vec::new(), false),
            Some(Fault::Nodata) => (ResponseCode::NoError, Vec::new(), true),
            _ if records.is_empty() && !exists => (ResponseCode::NXDomain, records, true),
            _ => (ResponseCode::NoError, records, true),
        };
        Reply { code, records, soa, ttl: zone.ttl, fault }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut response: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let unanswered = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Ok(info) = request.request_info() else {
            return unanswered;
        };
        let tcp = request.protocol() == Protocol::Tcp;
        let name = info.query.original().name().clone();
        let mut reply = self.reply(&canonical(&name.to_ascii()), info.query.query_type(), tcp);
        match reply.fault {
            Some(Fault::Drop) => return unanswered,
            Some(Fault::Delay(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(Fault::TruncateWithoutTcp) if tcp => return unanswered,
            Some(Fault::TruncateWithoutTcp) => {
                reply.records.truncate(reply.records.len().div_ceil(2).min(20));
                metadata.truncation = true;
            }
            Some(Fault::Garbage) if !tcp => {
                let mut bytes = request.metadata.id.to_be_bytes().to_vec();
                bytes.extend([0x84, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0xff]);
                let _ = self.raw.send_to(&bytes, request.src()).await;
                return unanswered;
            }
            _ => {}
        }
        metadata.response_code = reply.code;
        let answers: Vec<Record> =
            reply.records.into_iter().map(|r| Record::from_rdata(name.clone(), reply.ttl, r)).collect();
        let soa = (answers.is_empty() && reply.soa).then(|| {
            let data = SOA::new(name.base_name(), Name::root(), 1, 3600, 600, 86400, reply.ttl);
            Record::from_rdata(name.base_name(), reply.ttl, RData::SOA(data))
        });
        let mut builder = MessageResponseBuilder::from_message_request(request);
        let mut edns = Edns::new();
        if let Some(asked) = &request.edns {
            edns.set_max_payload(asked.max_payload().max(512));
            builder.edns(&edns);
        }
        let message = builder.build(metadata, answers.iter(), [], soa.iter(), []);
        response.send_response(message).await.unwrap_or(unanswered)
    }
}
