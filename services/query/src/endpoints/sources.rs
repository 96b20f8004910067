//! Which endpoints are configured, by flags and by files that change, and how each is to be treated.

use crate::config::EndpointFlags;
use anyhow::Context;
use farview_channels::{ClientTls, ClientTlsConfig, TlsVersion};
use farview_discovery::{Address, ClientConfig, Discovery, EndpointEntry, EndpointFile, FileSd, FileStatus, Target};
use farview_discovery::{Scheme, TlsConfig, WatchedFiles};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How an endpoint is treated.
#[derive(Clone, Default)]
struct Source {
    strict: bool,
    group: bool,
    /// None: as the flags say.
    tls: Option<Tls>,
}

/// How an endpoint of a file is spoken to.
type Tls = Option<Arc<ClientTls>>;

type Sources = BTreeMap<Target, Source>;

/// All that is configured. Files are followed as long as this lives.
pub(crate) struct Configured {
    discovery: Discovery,
    /// By flags: these stay.
    fixed: Sources,
    /// Now, those of the files among them.
    now: RwLock<Sources>,
    /// Whether any of them is strict, a group, or spoken to in its own way.
    has_special: AtomicBool,
    default_tls: Tls,
    clients: Mutex<Vec<(ClientConfig, Tls)>>,
    endpoint_file: Option<WatchedFiles<EndpointFile>>,
    target_files: Option<WatchedFiles<FileSd>>,
}

impl Configured {
    /// Reads flags and files and begins to follow the files. Needs a tokio runtime.
    ///
    /// # Errors
    /// An address that is none, a file that cannot be used.
    pub(crate) fn start(flags: &EndpointFlags, discovery: Discovery, default_tls: Tls) -> anyhow::Result<Arc<Self>> {
        let mut fixed = Sources::new();
        for text in &flags.endpoints {
            fixed.insert(text.parse()?, Source::default());
        }
        for (texts, strict) in [(&flags.groups, false), (&flags.strict_groups, true)] {
            for text in texts {
                fixed.insert(group_target(text.parse()?)?, Source { strict, group: true, tls: None });
            }
        }
        for text in &flags.strict {
            let target = text.parse::<Target>()?;
            if target.is_dynamic() {
                anyhow::bail!(
                    "--endpoint-strict={text}: a strict endpoint is a fixed host:port, not a DNS name to look up"
                );
            }
            fixed.insert(target, Source { strict: true, ..Source::default() });
        }
        let clients = Mutex::default();
        let endpoint_file = match flags.file.path() {
            Some(path) => Some(EndpointFile::watch(path.to_owned(), flags.reload_interval.into())?),
            None => None,
        };
        if endpoint_file.is_none()
            && let Some(text) = flags.file.read()?
        {
            let file = EndpointFile::parse(text.expose(), Path::new(&flags.file.origin()))?;
            fixed.extend(in_file(&file, &clients)?);
        }
        let target_files = match flags.sd_files.is_empty() {
            true => None,
            false => Some(FileSd::watch(&flags.sd_files, flags.sd_interval.into())?),
        };
        let now = RwLock::new(fixed.clone());
        let has_special = AtomicBool::new(false);
        let this = Self { discovery, fixed, now, has_special, default_tls, clients, endpoint_file, target_files };
        this.apply()?;
        let this = Arc::new(this);
        Self::follow(&this);
        Ok(this)
    }

    /// Takes what the files say now.
    fn apply(&self) -> anyhow::Result<()> {
        let mut now = Sources::new();
        if let Some(files) = &self.target_files {
            now.extend(files.get().targets().into_iter().map(|target| (target, Source::default())));
        }
        if let Some(file) = &self.endpoint_file {
            now.extend(in_file(&file.get(), &self.clients)?);
        }
        // What is said of an address by flag is not taken back by a file.
        now.extend(self.fixed.clone());
        let targets: Vec<Target> = now.keys().cloned().collect();
        let special = now.values().any(|source| source.strict || source.group || source.tls.is_some());
        *self.now.write() = now;
        self.has_special.store(special, Ordering::Relaxed);
        self.discovery.set_targets(targets);
        Ok(())
    }

    fn follow(this: &Arc<Self>) {
        let mut endpoints = this.endpoint_file.as_ref().map(WatchedFiles::watch);
        let mut targets = this.target_files.as_ref().map(WatchedFiles::watch);
        if endpoints.is_none() && targets.is_none() {
            return;
        }
        let this = Arc::downgrade(this);
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    changed = changed(&mut endpoints) => changed,
                    changed = changed(&mut targets) => changed,
                };
                let Some(this) = changed.then(|| this.upgrade()).flatten() else { return };
                if let Err(error) = this.apply() {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the endpoint file is not usable; what was read before stays"
                    );
                }
            }
        });
    }

    /// Returns where the addresses come from.
    pub(crate) fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Returns how many endpoints and names there are.
    pub(crate) fn count(&self) -> usize {
        self.now.read().len()
    }

    fn of(&self, address: &Address) -> Option<(Target, Source)> {
        // If no endpoint is treated in its own way, nobody need look for this one: every query looks for all of them.
        if !self.has_special.load(Ordering::Relaxed) {
            return None;
        }
        let targets = self.discovery.targets_of(address);
        let now = self.now.read();
        let of = targets.into_iter().filter_map(|target| now.get(&target).map(|source| (target, source.clone())));
        // An address may be configured twice; the special treatment is the one that was meant.
        of.max_by_key(|(_, source)| (source.group, source.strict, source.tls.is_some()))
    }

    /// Tells whether an address is never to be missing silently, even before it first answered, and its group if it is in one.
    pub(crate) fn treatment(&self, address: &Address) -> (bool, Option<String>) {
        let of = self.of(address);
        of.map_or((false, None), |(target, source)| (source.strict, source.group.then(|| group_name(&target))))
    }

    /// Returns the name of the group whose members hold the same data, if the address is in one.
    pub(crate) fn group_of(&self, address: &Address) -> Option<String> {
        self.treatment(address).1
    }

    /// Returns the groups that are never to be missing silently and have no address.
    pub(crate) fn empty_strict_groups(&self) -> Vec<(Target, String)> {
        let now = self.now.read();
        if !now.values().any(|source| source.group && source.strict) {
            return Vec::new();
        }
        let empty = self.discovery.targets().into_iter().filter(|status| status.addresses.is_empty());
        empty
            .filter(|status| now.get(&status.target).is_some_and(|source| source.group && source.strict))
            .map(|status| (status.target, status.last_answer))
            .collect()
    }

    /// Returns how an address is spoken to.
    pub(crate) fn tls(&self, address: &Address) -> Tls {
        self.of(address).and_then(|(_, source)| source.tls).unwrap_or_else(|| self.default_tls.clone())
    }

    /// Returns the files that are followed, and how they were read last.
    pub(crate) fn files(&self) -> Vec<(&'static str, FileStatus)> {
        let endpoints = self.endpoint_file.as_ref().map(|file| ("--endpoint.sd-config-file", file.status()));
        let targets = self.target_files.as_ref().map(|files| {
            let mut status = files.status();
            let problems: Vec<_> = files.get().problems.values().cloned().collect();
            if !problems.is_empty() {
                status.error = Some(problems.join("; "));
            }
            ("--store.sd-files", status)
        });
        endpoints.into_iter().chain(targets).collect()
    }
}

async fn changed<T>(watch: &mut Option<tokio::sync::watch::Receiver<Arc<T>>>) -> bool {
    match watch {
        Some(watch) => watch.changed().await.is_ok(),
        None => std::future::pending().await,
    }
}

fn group_name(target: &Target) -> String {
    format!("group {target}")
}

/// A group is a name with several addresses: Thanos takes it with and without a prefix.
fn group_target(target: Target) -> anyhow::Result<Target> {
    let is_name = target.host().parse::<std::net::IpAddr>().is_err();
    Ok(if target.scheme() == Scheme::Static && is_name { format!("dns+{target}").parse()? } else { target })
}

fn in_file(file: &EndpointFile, clients: &Mutex<Vec<(ClientConfig, Tls)>>) -> anyhow::Result<Sources> {
    let source = |entry: &EndpointEntry| {
        let target = entry.address.clone();
        let tls = file.client_config(entry).map(|client| tls_of(client, clients)).transpose();
        let tls = tls.with_context(|| format!("endpoint {target}"))?;
        let target = if entry.group { group_target(target)? } else { target };
        Ok((target, Source { strict: entry.strict, group: entry.group, tls }))
    };
    file.endpoints.iter().map(source).collect()
}

/// Endpoints with the same settings share a client, also over re-readings of the file.
fn tls_of(config: &ClientConfig, clients: &Mutex<Vec<(ClientConfig, Tls)>>) -> anyhow::Result<Tls> {
    if !config.tls_config.enabled {
        return Ok(None);
    }
    let mut clients = clients.lock();
    if let Some((_, tls)) = clients.iter().find(|(known, _)| known == config) {
        return Ok(tls.clone());
    }
    let TlsConfig { insecure_skip_verify, cert_file, key_file, ca_file, min_version, .. } = config.tls_config.clone();
    let server_name = (!config.server_name.is_empty()).then(|| config.server_name.clone());
    let min_version = match min_version.as_deref() {
        Some("1.3" | "TLS13") => TlsVersion::V13,
        _ => TlsVersion::V12,
    };
    let follow = ClientTlsConfig::default().follow;
    let tls = ClientTlsConfig { ca_file, cert_file, key_file, server_name, insecure_skip_verify, min_version, follow };
    let tls = Some(Arc::new(ClientTls::new(tls).context("tls_config")?));
    clients.push((config.clone(), tls.clone()));
    Ok(tls)
}
