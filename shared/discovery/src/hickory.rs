//! DNS through hickory-resolver, with its defaults overruled where they would lie to discovery.
//!
//! The cache is off: an old answer is of no use to somebody who polls. A and AAAA are asked separately and joined here, because the
//! resolver's own joining reports a failed A beside an empty AAAA as "no records". EDNS is on, large answers go over TCP, and a
//! truncated answer without TCP is "not known". resolv.conf and hosts are followed when they change, which hickory reads once.
//! Search domains are tried once per name; then the absolute name that answered is asked alone.

mod expand;
mod system;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

use crate::lookup::join;
use crate::{Answer, Error, Gap, Lookup, Service, Unavailable};
use system::{Followed, System};

/// How DNS is asked.
#[derive(Debug, Clone)]
pub struct HickoryConfig {
    /// Name servers to ask instead of those in `resolv_conf`, which may then be missing; its search domains still hold.
    pub name_servers: Vec<SocketAddr>,
    /// The resolver's configuration, followed when it changes.
    pub resolv_conf: PathBuf,
    /// The hosts file, followed when it changes; it may be missing.
    pub hosts: PathBuf,
    /// Bound on one attempt. Default 2 s.
    pub attempt: Duration,
    /// Bound on a whole name: attempts, search domains and both families. Default 5 s.
    pub deadline: Duration,
    /// For how long a missing AAAA answer may hold up an A answer. Default 250 ms.
    pub aaaa_delay: Duration,
    /// For how long AAAA is not asked after it held up an A answer. Default 60 s.
    pub aaaa_pause: Duration,
    /// How often the two files are looked at, at most. Default 5 s.
    pub follow: Duration,
}

impl Default for HickoryConfig {
    fn default() -> Self {
        Self {
            name_servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            attempt: Duration::from_secs(2),
            deadline: Duration::from_secs(5),
            aaaa_delay: Duration::from_millis(250),
            aaaa_pause: Duration::from_secs(60),
            follow: Duration::from_secs(5),
        }
    }
}

/// Asks the system's or the given name servers.
pub struct HickoryLookup {
    config: HickoryConfig,
    followed: Followed,
    /// The absolute name that answered for a relative one.
    remembered: Mutex<HashMap<String, String>>,
    /// Names whose AAAA is not asked before the time given.
    paused: Mutex<HashMap<String, Instant>>,
}

impl HickoryLookup {
    /// Reads the resolver's configuration.
    ///
    /// # Errors
    /// [`Error::Resolver`] when there is no usable name server. Later changes that are not usable are logged and not taken.
    pub fn new(config: HickoryConfig) -> Result<Self, Error> {
        let followed = Followed::new(&config)?;
        Ok(Self { config, followed, remembered: Mutex::default(), paused: Mutex::default() })
    }

    async fn system(&self) -> Arc<System> {
        let (system, changed) = self.followed.current(&self.config).await;
        if changed {
            self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        system
    }

    /// Asks the names that `name` may stand for, in order, until one has records.
    ///
    /// A candidate that fails does not end the search, because a node's own search domain may be broken for ever while the name
    /// itself is fine; but after a failure "none" is never said, and what answered is not remembered.
    async fn search<'a, T>(
        &self,
        system: &System,
        name: &str,
        ask: impl Fn(String) -> BoxFuture<'a, Answer<T>>,
    ) -> Answer<T> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(absolute) = remembered {
            return ask(absolute).await;
        }
        let mut failure = None;
        for candidate in expand::candidates(name, &system.search, system.ndots) {
            match ask(candidate.clone()).await {
                Answer::Absent => {}
                Answer::Unavailable(why) => failure = failure.or(Some(why)),
                found => {
                    if failure.is_none() {
                        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
                        remembered.insert(name.to_owned(), candidate);
                    }
                    return found;
                }
            }
        }
        failure.map_or(Answer::Absent, Answer::Unavailable)
    }

    async fn both_families(&self, system: &System, name: String, deadline: Instant) -> Answer<Vec<IpAddr>> {
        if let Some(ips) = system.host(&name) {
            return Answer::Found { records: ips, ttl: Duration::MAX, gap: Gap::None };
        }
        let v4 = self.ask(system, &name, RecordType::A, deadline, ip);
        if self.is_paused(&name) {
            return match v4.await {
                found @ Answer::Found { .. } => join(found, Answer::Unavailable(Unavailable::Timeout)),
                other => join(other, self.ask(system, &name, RecordType::AAAA, deadline, ip).await),
            };
        }
        let v6 = self.ask(system, &name, RecordType::AAAA, deadline, ip);
        tokio::pin!(v4, v6);
        tokio::select! {
            v4 = &mut v4 => {
                if !matches!(v4, Answer::Found { .. }) {
                    return join(v4, v6.await);
                }
                let v6 = tokio::time::timeout(self.config.aaaa_delay, v6).await.unwrap_or_else(|_| {
                    self.pause(&name);
                    Answer::Unavailable(Unavailable::Timeout)
                });
                join(v4, v6)
            }
            v6 = &mut v6 => join(v4.await, v6),
        }
    }

    async fn ask<T: Ord>(
        &self,
        system: &System,
        name: &str,
        kind: RecordType,
        deadline: Instant,
        take: fn(&RData) -> Option<T>,
    ) -> Answer<Vec<T>> {
        let Ok(absolute) = Name::from_ascii(name) else {
            return Answer::Unavailable(Unavailable::Other(format!("{name:?} is not a DNS name")));
        };
        let lookup = match tokio::time::timeout_at(deadline, system.resolver.lookup(absolute, kind)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) => return told_apart(&error),
            Err(_) => return Answer::Unavailable(Unavailable::Timeout),
        };
        if lookup.message().metadata.truncation {
            return Answer::Unavailable(Unavailable::Truncated);
        }
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let mut records: Vec<T> = lookup.answers().iter().filter_map(|record| take(&record.data)).collect();
        records.sort_unstable();
        records.dedup();
        match records.is_empty() {
            true => Answer::Absent,
            false => Answer::Found { records, ttl: Duration::from_secs(ttl.into()), gap: Gap::None },
        }
    }

    fn is_paused(&self, name: &str) -> bool {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        match paused.get(name) {
            Some(until) if Instant::now() < *until => true,
            Some(_) => {
                paused.remove(name);
                false
            }
            None => false,
        }
    }

    fn pause(&self, name: &str) {
        let until = Instant::now() + self.config.aaaa_pause;
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), until);
    }
}

#[async_trait::async_trait]
impl Lookup for HickoryLookup {
    async fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>> {
        let deadline = Instant::now() + self.config.deadline;
        let system = self.system().await;
        self.search(&system, name, |candidate| self.both_families(&system, candidate, deadline).boxed()).await
    }

    async fn services(&self, name: &str) -> Answer<Vec<Service>> {
        let deadline = Instant::now() + self.config.deadline;
        let system = self.system().await;
        let system = &system;
        let ask = move |candidate: String| {
            async move { self.ask(system, &candidate, RecordType::SRV, deadline, service).await }.boxed()
        };
        self.search(system, name, ask).await
    }
}

fn ip(data: &RData) -> Option<IpAddr> {
    data.ip_addr()
}

/// A target of "." says that the service is decidedly not available there (RFC 2782).
fn service(data: &RData) -> Option<Service> {
    match data {
        RData::SRV(srv) if !srv.target.is_root() => Some(Service { target: srv.target.to_ascii(), port: srv.port }),
        _ => None,
    }
}

/// Tells "none" from "not known" in the resolver's errors. Only NXDOMAIN and an empty success are "none".
fn told_apart<T>(error: &NetError) -> Answer<T> {
    let why = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain | ResponseCode::NoError => return Answer::Absent,
            code => by_code(code),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => by_code(*code),
        NetError::Timeout => Unavailable::Timeout,
        NetError::Truncated => Unavailable::Truncated,
        NetError::Proto(_) => Unavailable::Garbage,
        other => Unavailable::Other(other.to_string()),
    };
    Answer::Unavailable(why)
}

fn by_code(code: ResponseCode) -> Unavailable {
    match code {
        ResponseCode::ServFail => Unavailable::ServFail,
        ResponseCode::Refused => Unavailable::Refused,
        code => Unavailable::Other(format!("the DNS server answered {code}")),
    }
}
