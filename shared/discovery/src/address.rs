//! One place to connect to.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::Error;

/// An endpoint's address: usually a socket address out of DNS. A name remains where the operator asked for it (a static
/// `host:port`, `dnssrvnoa+`); it is resolved when it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address and a port.
    Socket(SocketAddr),
    /// A host name without final dot handling, and a port.
    Name(Arc<str>, u16),
}

impl Address {
    /// Builds an address from a host, IP literal (without brackets) or name, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        match host.parse() {
            Ok(ip) => Self::Socket(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host.into(), port),
        }
    }

    /// Returns the host as it appears in a certificate: the name without its final dot, or the IP address.
    pub fn host(&self) -> String {
        match self {
            Self::Socket(addr) => addr.ip().to_string(),
            Self::Name(name, _) => name.trim_end_matches('.').to_owned(),
        }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket(addr) => addr.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Socket(addr)
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (host, port) = split_host_port(text)?;
        let port = port.ok_or_else(|| problem(text, "the port is missing, expected host:port"))?;
        Ok(Self::new(host, port))
    }
}

pub(crate) fn problem(text: &str, problem: impl Into<String>) -> Error {
    Error::Target { text: text.to_owned(), problem: problem.into() }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port`. The host is checked to be an IP address or a DNS name.
pub(crate) fn split_host_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    if text.contains('/') {
        return Err(problem(text, "expected host:port without a URL scheme or path"));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) =
                rest.split_once(']').ok_or_else(|| problem(text, "']' is missing after the IPv6 address"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(problem(text, format!("{host:?} in brackets is not an IPv6 address")));
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(problem(text, "expected ':' and a port after ']'")),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(problem(text, "an IPv6 address must stand in brackets: [address]:port"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    check_host(text, host)?;
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(problem(text, format!("{port:?} is not a port (1 to 65535)"))),
        },
    };
    Ok((host, port))
}

/// Accepts what can stand in DNS, underscores included (SRV names, and service names people do use).
fn check_host(text: &str, host: &str) -> Result<(), Error> {
    if host.is_empty() {
        return Err(problem(text, "the host is missing, expected host:port"));
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 {
        return Err(problem(text, "the name is longer than 253 bytes"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err(problem(text, format!("the name has a label {label:?} that is not 1 to 63 bytes long")));
        }
        if let Some(c) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
            return Err(problem(text, format!("{c:?} cannot stand in a host name")));
        }
    }
    Ok(())
}
