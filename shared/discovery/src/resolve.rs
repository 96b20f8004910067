//! One target asked once.

use std::net::IpAddr;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::lookup::Service;
use crate::{Address, Answer, Gap, Lookup, Scheme, Target, Unavailable};

/// How many SRV targets are asked at the same time.
const SRV_TARGETS_AT_ONCE: usize = 16;

/// Bound on asking all SRV targets. What has not answered by then is not known.
const SRV_TARGETS_DEADLINE: Duration = Duration::from_secs(10);

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
    let deadline = Instant::now() + SRV_TARGETS_DEADLINE;
    loop {
        let (answer, port) = match tokio::time::timeout_at(deadline, answers.next()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => break,
            Err(_) => {
                (gap, failure) = (Gap::Any, Some(Unavailable::Timeout));
                break;
            }
        };
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

    /// A server that lists a thousand SRV targets and answers for the first alone.
    struct Mute;

    #[async_trait::async_trait]
    impl Lookup for Mute {
        async fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>> {
            if name != "s0." {
                std::future::pending::<()>().await;
            }
            Answer::Found { records: vec!["10.0.0.1".parse().unwrap()], ttl: Duration::from_secs(5), gap: Gap::None }
        }

        async fn services(&self, _: &str) -> Answer<Vec<Service>> {
            let records = (0..1000).map(|i| Service { target: format!("s{i}."), port: 1 }).collect();
            Answer::Found { records, ttl: Duration::from_secs(5), gap: Gap::None }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn srv_targets_without_an_answer_end_within_the_deadline_as_a_gap() {
        let started = Instant::now();
        let answer = resolve(&Mute, &"dnssrv+_grpc._tcp.stores.test.".parse().unwrap()).await;
        assert_eq!(started.elapsed(), SRV_TARGETS_DEADLINE);
        let records = vec!["10.0.0.1:1".parse().unwrap()];
        assert_eq!(answer, Answer::Found { records, ttl: Duration::from_secs(5), gap: Gap::Any });
    }
}
