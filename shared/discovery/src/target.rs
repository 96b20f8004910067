//! What an operator writes: a static address, or a name to be asked.

use std::fmt;
use std::str::FromStr;

use crate::address::{problem, split_host_port};
use crate::{Address, Error};

/// How a target becomes addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `host:port`: one endpoint, as is.
    Static,
    /// `dns+host:port`: every A and AAAA record is an endpoint.
    Dns,
    /// `dnsdualstack+host:port`: the same; both families always, whatever family is preferred.
    DualStack,
    /// `dnssrv+_service._proto.host[:port]`: SRV, then the addresses of each SRV target. A port here overrides the records'.
    Srv,
    /// `dnssrvnoa+_service._proto.host[:port]`: SRV, each SRV target is an endpoint by name.
    SrvNoA,
}

impl Scheme {
    const PREFIXES: [(&str, Self); 4] =
        [("dns", Self::Dns), ("dnsdualstack", Self::DualStack), ("dnssrv", Self::Srv), ("dnssrvnoa", Self::SrvNoA)];

    fn prefix(self) -> &'static str {
        Self::PREFIXES.iter().find(|(_, scheme)| *scheme == self).map_or("", |(prefix, _)| prefix)
    }
}

/// A parsed target. Prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
}

impl Target {
    /// Returns how the target becomes addresses.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Tells whether DNS is asked, so that the set of addresses can change by itself.
    pub fn is_dynamic(&self) -> bool {
        self.scheme != Scheme::Static
    }

    /// Returns the name to ask for, or the host of a static address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port as written; only the SRV schemes may go without.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns the address of a static target.
    pub fn address(&self) -> Option<Address> {
        match (self.scheme, self.port) {
            (Scheme::Static, Some(port)) => Some(Address::new(&self.host, port)),
            _ => None,
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    /// Parses a target.
    ///
    /// # Errors
    /// [`Error::Target`] names the text and what was expected instead.
    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once('+') {
            None => (Scheme::Static, text),
            Some((prefix, rest)) => match Scheme::PREFIXES.iter().find(|(name, _)| *name == prefix) {
                Some((_, scheme)) => (*scheme, rest),
                None => {
                    return Err(problem(
                        text,
                        format!("{prefix:?} is not one of dns+, dnssrv+, dnssrvnoa+, dnsdualstack+"),
                    ));
                }
            },
        };
        let (host, port) = split_host_port(rest).map_err(|error| match error {
            Error::Target { problem, .. } => Error::Target { text: text.to_owned(), problem },
            other => other,
        })?;
        match scheme {
            Scheme::Static if port.is_none() => return Err(problem(text, "the port is missing, expected host:port")),
            Scheme::Dns | Scheme::DualStack if port.is_none() => {
                return Err(problem(text, format!("the port is missing, expected {}+host:port", scheme.prefix())));
            }
            Scheme::Srv | Scheme::SrvNoA if host.parse::<std::net::IpAddr>().is_ok() => {
                return Err(problem(text, "an IP address has no SRV records, expected _service._proto.host"));
            }
            _ => {}
        }
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dynamic() {
            write!(f, "{}+", self.scheme.prefix())?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_parse_and_print_as_written() {
        for (text, scheme, host, port) in [
            ("10.0.0.1:10901", Scheme::Static, "10.0.0.1", Some(10901)),
            ("[::1]:10901", Scheme::Static, "::1", Some(10901)),
            ("store.mon.svc:10901", Scheme::Static, "store.mon.svc", Some(10901)),
            ("dns+stores.mon.svc.:10901", Scheme::Dns, "stores.mon.svc.", Some(10901)),
            ("dnsdualstack+stores:1", Scheme::DualStack, "stores", Some(1)),
            ("dnssrv+_grpc._tcp.stores.mon.svc", Scheme::Srv, "_grpc._tcp.stores.mon.svc", None),
            ("dnssrv+_grpc._tcp.stores:99", Scheme::Srv, "_grpc._tcp.stores", Some(99)),
            ("dnssrvnoa+_grpc._tcp.stores", Scheme::SrvNoA, "_grpc._tcp.stores", None),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.scheme(), target.host(), target.port()), (scheme, host, port), "{text}");
            assert_eq!(target.to_string(), text);
        }
    }

    #[test]
    fn wrong_targets_say_what_is_expected() {
        for (text, says) in [
            ("", "host is missing"),
            (":10901", "host is missing"),
            ("store", "port is missing"),
            ("store:", "not a port"),
            ("store:0", "not a port"),
            ("store:70000", "not a port"),
            ("dns+store", "expected dns+host:port"),
            ("dnsdualstack+store", "expected dnsdualstack+host:port"),
            ("srv+store:1", "is not one of dns+"),
            ("dnssrv+10.0.0.1:1", "has no SRV records"),
            ("::1:10901", "brackets"),
            ("[::1:10901", "']' is missing"),
            ("[store]:1", "not an IPv6 address"),
            ("http://store:1", "without a URL scheme"),
            ("dns+a..b:1", "label \"\""),
            ("dns+a b:1", "' ' cannot stand"),
            ("store/x:1", "without a URL scheme"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_an_error_and_what_parses_prints_and_parses_the_same(
            text in r"(dns|dnssrv|dnssrvnoa|dnsdualstack|x)?\+?[\[\]:a-z0-9_.+/ é-]{0,40}(:[0-9]{0,6})?"
        ) {
            if let Ok(target) = text.parse::<Target>() {
                proptest::prop_assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
            }
        }
    }
}
