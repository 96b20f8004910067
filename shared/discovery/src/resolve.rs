//! One target asked once.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;

use crate::lookup::Service;
use crate::{Address, Answer, Gap, Lookup, Scheme, Target};

/// How many SRV targets are asked at the same time.
const SRV_TARGETS_AT_ONCE: usize = 16;

/// Which addresses of a name are endpoints when it has both families.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Prefer {
    /// All. A pod with both families is then two endpoints of one identity.
    #[default]
    Both,
    /// The IPv4 addresses, if there are any.
    V4,
    /// The IPv6 addresses, if there are any.
    V6,
}

/// Asks for the addresses of one target and keeps those of the preferred family; `dnsdualstack+` keeps all.
pub(crate) async fn resolve_preferring(lookup: &dyn Lookup, target: &Target, prefer: Prefer) -> Answer<Vec<Address>> {
    match resolve(lookup, target).await {
        Answer::Found { records, ttl, gap } if matches!(target.scheme(), Scheme::Dns | Scheme::Srv) => {
            Answer::Found { records: preferred(records, gap, prefer), ttl, gap }
        }
        answer => answer,
    }
}

/// While the preferred family is unanswered, the other does not stand in for it: the same pods would come under other addresses.
fn preferred(records: Vec<Address>, gap: Gap, prefer: Prefer) -> Vec<Address> {
    let wanted = |address: &Address| match (address, prefer) {
        (Address::Socket(addr), Prefer::V4) => addr.is_ipv4(),
        (Address::Socket(addr), Prefer::V6) => addr.is_ipv6(),
        _ => true,
    };
    let unanswered = matches!((prefer, gap), (Prefer::V4, Gap::V4) | (Prefer::V6, Gap::V6));
    match unanswered || records.iter().any(wanted) {
        true => records.into_iter().filter(wanted).collect(),
        false => records,
    }
}

/// Asks for the addresses of one target. A static target answers itself.
///
/// An SRV target whose addresses are not known leaves a [`Gap::Any`]: nothing is taken for gone because of it.
pub async fn resolve(lookup: &dyn Lookup, target: &Target) -> Answer<Vec<Address>> {
    match (target.scheme(), target.port()) {
        (Scheme::Static, _) => match target.address() {
            Some(address) => Answer::Found { records: vec![address], ttl: Duration::MAX, gap: Gap::None },
            None => Answer::Absent,
        },
        (Scheme::Dns | Scheme::DualStack, port) => match target.host().parse::<IpAddr>() {
            Ok(ip) => Answer::Found { records: with_port(&[ip], port), ttl: Duration::MAX, gap: Gap::None },
            Err(_) => match lookup.addresses(target.host()).await {
                Answer::Found { records, ttl, gap } => Answer::Found { records: with_port(&records, port), ttl, gap },
                Answer::Absent => Answer::Absent,
                Answer::Unavailable(why) => Answer::Unavailable(why),
            },
        },
        (Scheme::SrvNoA, port) => match lookup.services(target.host()).await {
            Answer::Found { records, ttl, gap } => {
                let named = |s: Service| Address::new(s.target.trim_end_matches('.'), port.unwrap_or(s.port));
                Answer::Found { records: sorted(records.into_iter().map(named).collect()), ttl, gap }
            }
            Answer::Absent => Answer::Absent,
            Answer::Unavailable(why) => Answer::Unavailable(why),
        },
        (Scheme::Srv, port) => match lookup.services(target.host()).await {
            Answer::Found { records, ttl, .. } => services(lookup, records, port, ttl).await,
            Answer::Absent => Answer::Absent,
            Answer::Unavailable(why) => Answer::Unavailable(why),
        },
    }
}

async fn services(
    lookup: &dyn Lookup,
    services: Vec<Service>,
    port: Option<u16>,
    mut ttl: Duration,
) -> Answer<Vec<Address>> {
    let (mut addresses, mut gap, mut failure) = (Vec::new(), Gap::None, None);
    let mut answers = futures::stream::iter(services)
        .map(|service| async move { (lookup.addresses(&service.target).await, port.unwrap_or(service.port)) })
        .buffer_unordered(SRV_TARGETS_AT_ONCE);
    while let Some((answer, port)) = answers.next().await {
        match answer {
            Answer::Found { records, ttl: other, gap: open } => {
                addresses.extend(with_port(&records, Some(port)));
                ttl = ttl.min(other);
                gap = match (gap, open) {
                    (Gap::None, open) => open,
                    (gap, open) if gap == open || open == Gap::None => gap,
                    _ => Gap::Any,
                };
            }
            Answer::Absent => {}
            Answer::Unavailable(why) => {
                gap = Gap::Any;
                failure = Some(why);
            }
        }
    }
    match (addresses.is_empty(), failure) {
        (true, Some(why)) => Answer::Unavailable(why),
        (true, None) => Answer::Absent,
        (false, _) => Answer::Found { records: sorted(addresses), ttl, gap },
    }
}

fn with_port(ips: &[IpAddr], port: Option<u16>) -> Vec<Address> {
    sorted(ips.iter().map(|ip| Address::Socket((*ip, port.unwrap_or_default()).into())).collect())
}

fn sorted(mut addresses: Vec<Address>) -> Vec<Address> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_family_is_taken_if_it_has_addresses() {
        let both = ["10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        let of = |records: &[Address], gap, prefer| preferred(records.to_vec(), gap, prefer);
        assert_eq!(of(&both, Gap::None, Prefer::Both), both);
        assert_eq!(of(&both, Gap::None, Prefer::V4), both[..1]);
        assert_eq!(of(&both, Gap::None, Prefer::V6), both[1..]);
        assert_eq!(of(&both[..1], Gap::None, Prefer::V6), both[..1]);
        assert_eq!(of(&both[..1], Gap::V6, Prefer::V6), [], "its addresses are not known now");
    }
}
