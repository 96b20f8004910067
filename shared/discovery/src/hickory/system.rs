//! The system's resolver configuration, followed when it changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver, system_conf};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::HickoryConfig;
use crate::Error;

/// One reading of resolv.conf and hosts.
pub(super) struct System {
    pub(super) resolver: TokioResolver,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    hosts: Hosts,
}

impl System {
    fn build(config: &HickoryConfig, files: &Files) -> Result<Self, Error> {
        let error = |problem: String| Error::Resolver { path: config.resolv_conf.clone(), problem };
        let overridden: Vec<_> = config.name_servers.iter().map(|addr| name_server(*addr)).collect();
        let (servers, search, ndots) = match system_conf::parse_resolv_conf(&files.resolv_conf) {
            Ok((parsed, options)) => {
                let servers = if overridden.is_empty() { parsed.name_servers } else { overridden };
                (servers, parsed.search.iter().map(Name::to_ascii).collect(), options.ndots)
            }
            Err(_) if !overridden.is_empty() => (overridden, Vec::new(), ResolverOpts::default().ndots),
            Err(e) => return Err(error(e.to_string())),
        };
        let mut hosts = Hosts::default();
        if let Err(problem) = hosts.read_hosts_conf(files.hosts.as_slice()) {
            tracing::warn!(path = %config.hosts.display(), error = %problem, "hosts file is not readable");
        }
        let mut builder = Resolver::builder_with_config(
            ResolverConfig::from_parts(None, Vec::new(), servers),
            TokioRuntimeProvider::default(),
        );
        let options = builder.options_mut();
        options.cache_size = 0;
        options.edns0 = true;
        // 1,232 bytes pass any path without fragments (dnsflagday.net/2020).
        options.edns_payload_len = 1232;
        options.timeout = config.attempt;
        options.attempts = 1;
        options.use_hosts_file = ResolveHosts::Never;
        options.case_randomization = true;
        let resolver = builder.build().map_err(|e| error(e.to_string()))?;
        Ok(Self { resolver, search, ndots, hosts })
    }

    /// Returns the addresses that the hosts file gives to an absolute name. `localhost` needs no file (RFC 6761 §6.3).
    pub(super) fn host(&self, name: &str) -> Option<Vec<IpAddr>> {
        let absolute = Name::from_ascii(name).ok()?;
        let of = |kind| self.hosts.lookup_static_host(&Query::query(absolute.clone(), kind));
        let found = [of(RecordType::A), of(RecordType::AAAA)];
        let mut ips: Vec<IpAddr> = found
            .iter()
            .flatten()
            .flat_map(|lookup| lookup.answers())
            .filter_map(|record| record.data.ip_addr())
            .collect();
        if ips.is_empty() && name.eq_ignore_ascii_case("localhost.") {
            ips = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        }
        ips.sort_unstable();
        ips.dedup();
        (!ips.is_empty()).then_some(ips)
    }
}

fn name_server(addr: std::net::SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (addr.port(), addr.port());
    let mut server = NameServerConfig::udp_and_tcp(addr.ip());
    server.connections = vec![udp, tcp];
    server
}

#[derive(Default, PartialEq, Eq)]
struct Files {
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
}

impl Files {
    fn read(config: &HickoryConfig) -> std::io::Result<Self> {
        let resolv_conf = match std::fs::read(&config.resolv_conf) {
            Err(error) if config.name_servers.is_empty() => return Err(error),
            read => read.unwrap_or_default(),
        };
        Ok(Self { resolv_conf, hosts: std::fs::read(&config.hosts).unwrap_or_default() })
    }
}

/// Looks at the files now and then and rebuilds the resolver when their content changed.
pub(super) struct Followed {
    system: ArcSwap<System>,
    looked: Mutex<(Instant, Files)>,
}

impl Followed {
    pub(super) fn new(config: &HickoryConfig) -> Result<Self, Error> {
        let files = Files::read(config).map_err(|source| Error::Read { path: config.resolv_conf.clone(), source })?;
        let system = System::build(config, &files)?;
        Ok(Self { system: ArcSwap::from_pointee(system), looked: Mutex::new((Instant::now(), files)) })
    }

    /// Returns the newest usable configuration, and whether it is another one than before. A file that is gone or does not parse
    /// leaves the former in place: resolv.conf is often absent for a moment while it is replaced.
    pub(super) async fn current(&self, config: &HickoryConfig) -> (Arc<System>, bool) {
        let Ok(mut looked) = self.looked.try_lock() else {
            return (self.system.load_full(), false);
        };
        if looked.0.elapsed() < config.follow {
            return (self.system.load_full(), false);
        }
        looked.0 = Instant::now();
        let owned = config.clone();
        let read = tokio::task::spawn_blocking(move || Files::read(&owned)).await;
        let Ok(Ok(files)) = read else {
            return (self.system.load_full(), false);
        };
        if files == looked.1 {
            return (self.system.load_full(), false);
        }
        let changed = match System::build(config, &files) {
            Ok(system) => {
                tracing::info!(path = %config.resolv_conf.display(), "resolver configuration changed");
                self.system.store(Arc::new(system));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "changed resolver configuration is not usable; the former stays");
                false
            }
        };
        looked.1 = files;
        (self.system.load_full(), changed)
    }
}
