//! The seam to DNS, and the three kinds of answer.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::Address;

/// What DNS says to one question. The three kinds must never be taken for one another: "none" lets endpoints go, "not known" does
/// not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// There are records.
    Found {
        /// The records, at least one.
        records: T,
        /// For how long they may be believed.
        ttl: Duration,
        /// What may exist besides `records` because part of the question went unanswered.
        gap: Gap,
    },
    /// An authority says that there are none: NXDOMAIN, or the name has no records of the type.
    Absent,
    /// It is not known.
    Unavailable(Unavailable),
}

/// What a positive answer leaves open. Nothing that falls in the gap may be taken for gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The answer is the whole set.
    None,
    /// A was not answered: IPv4 addresses may be missing.
    V4,
    /// AAAA was not answered: IPv6 addresses may be missing.
    V6,
    /// Any address may be missing.
    Any,
}

impl Gap {
    /// Tells whether `address` may exist although the answer does not have it.
    pub fn may_hide(self, address: &Address) -> bool {
        match (self, address) {
            (Self::None, _) => false,
            (Self::Any, _) | (_, Address::Name(..)) => true,
            (Self::V4, Address::Socket(addr)) => addr.is_ipv4(),
            (Self::V6, Address::Socket(addr)) => addr.is_ipv6(),
        }
    }
}

/// Why it is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// No answer in time.
    Timeout,
    /// The UDP answer was cut and TCP could not be used. A subset is never taken.
    Truncated,
    /// The answer does not parse, or is none to the question.
    Garbage,
    /// Anything else, in words.
    Other(String),
}

impl Unavailable {
    /// Returns a short word for a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ServFail => "servfail",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Truncated => "truncated",
            Self::Garbage => "garbage",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServFail => f.write_str("the DNS server failed (SERVFAIL)"),
            Self::Refused => f.write_str("the DNS server refused the question (REFUSED)"),
            Self::Timeout => f.write_str("no DNS server answered in time"),
            Self::Truncated => f.write_str("the answer was truncated and TCP could not be used"),
            Self::Garbage => f.write_str("the answer of the DNS server does not parse"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// One SRV record without priority and weight, which discovery does not use: every instance is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The target's absolute name.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// Asks DNS.
///
/// # Contract
/// Every call ends within a bound of the implementation. Records come sorted and without duplicates.
#[async_trait::async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// Asks for the A and AAAA records of a name. A missing AAAA answer costs little and is told as [`Gap::V6`].
    async fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>>;

    /// Asks for the SRV records of a name.
    async fn services(&self, name: &str) -> Answer<Vec<Service>>;
}

/// Joins the answers to A and AAAA. "None" needs both to say so.
pub(crate) fn join(v4: Answer<Vec<IpAddr>>, v6: Answer<Vec<IpAddr>>) -> Answer<Vec<IpAddr>> {
    match (v4, v6) {
        (Answer::Found { mut records, ttl, gap }, Answer::Found { records: more, ttl: other, .. }) => {
            records.extend(more);
            records.sort_unstable();
            records.dedup();
            Answer::Found { records, ttl: ttl.min(other), gap }
        }
        (Answer::Found { records, ttl, .. }, Answer::Unavailable(_)) => Answer::Found { records, ttl, gap: Gap::V6 },
        (Answer::Unavailable(_), Answer::Found { records, ttl, .. }) => Answer::Found { records, ttl, gap: Gap::V4 },
        (found @ Answer::Found { .. }, Answer::Absent) | (Answer::Absent, found @ Answer::Found { .. }) => found,
        (Answer::Unavailable(why), _) | (_, Answer::Unavailable(why)) => Answer::Unavailable(why),
        (Answer::Absent, Answer::Absent) => Answer::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ips: &[&str]) -> Answer<Vec<IpAddr>> {
        let records = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Answer::Found { records, ttl: Duration::from_secs(5), gap: Gap::None }
    }

    #[test]
    fn none_needs_both_families_to_say_none() {
        let failed = || Answer::Unavailable(Unavailable::ServFail);
        assert_eq!(join(Answer::Absent, Answer::Absent), Answer::Absent);
        assert_eq!(join(failed(), Answer::Absent), failed());
        assert_eq!(join(Answer::Absent, failed()), failed());
        assert_eq!(join(failed(), failed()), failed());
    }

    #[test]
    fn a_family_that_went_unanswered_is_a_gap() {
        let failed = || Answer::Unavailable(Unavailable::Timeout);
        let Answer::Found { gap, .. } = join(found(&["10.0.0.1"]), failed()) else { panic!() };
        assert!(gap.may_hide(&Address::new("::1", 1)) && !gap.may_hide(&Address::new("10.0.0.2", 1)));
        let Answer::Found { gap, .. } = join(failed(), found(&["::1"])) else { panic!() };
        assert!(gap.may_hide(&Address::new("10.0.0.2", 1)) && !gap.may_hide(&Address::new("::2", 1)));
    }

    #[test]
    fn both_families_are_joined() {
        let Answer::Found { records, gap, .. } = join(found(&["10.0.0.1"]), found(&["::1"])) else { panic!() };
        assert_eq!((records.len(), gap), (2, Gap::None));
    }
}
