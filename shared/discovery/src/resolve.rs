//! One target asked once.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;

use crate::lookup::Service;
use crate::{Address, Answer, Gap, Lookup, Scheme, Target};

/// How many SRV targets are asked at the same time.
const SRV_TARGETS_AT_ONCE: usize = 16;

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
