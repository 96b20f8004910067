//! The configuration reloader: renders Prometheus' configuration, and has Prometheus read it again when anything that it is
//! made of has changed, until Prometheus has taken it.
//!
//! What counts is content: a hash over names and contents of everything watched. File events and the interval only say when
//! to look. Directories are watched, not files: Kubernetes changes a mounted ConfigMap by swapping a symlink beside it.

mod render;

use crate::config::{ReloadMethod, ReloaderFlags};
use crate::metrics::ReloaderMetrics;
use crate::prometheus::Prometheus;
use anyhow::{Context, bail};
use farview_bootstrap::CancellationToken;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Several files change together: after the first event so long is waited for the others.
const SETTLE: Duration = Duration::from_secs(1);

/// A reload may take this long: Prometheus answers when it is done.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Watches, renders and reloads.
pub(crate) struct Reloader {
    pub(crate) prometheus: Prometheus,
    pub(crate) metrics: ReloaderMetrics,
    config_file: Option<PathBuf>,
    output_file: Option<PathBuf>,
    rule_dirs: Vec<PathBuf>,
    watch_interval: Duration,
    retry_interval: Duration,
    method: ReloadMethod,
    process_name: String,
    /// Hash of what Prometheus has taken.
    applied: Option<[u8; 32]>,
}

impl Reloader {
    /// Makes the reloader; none if there is nothing to watch.
    pub(crate) fn new(flags: &ReloaderFlags, prometheus: Prometheus, metrics: ReloaderMetrics) -> Option<Self> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let this = Self {
            prometheus,
            metrics,
            config_file: path(&flags.config_file),
            output_file: path(&flags.envsubst_file),
            rule_dirs: flags.rule_dirs.clone(),
            watch_interval: flags.watch_interval.into(),
            retry_interval: flags.retry_interval.into(),
            method: flags.method,
            process_name: flags.process_name.clone(),
            applied: None,
        };
        (this.config_file.is_some() || !this.rule_dirs.is_empty()).then_some(this)
    }

    /// Runs until told to stop. What fails is logged, counted and tried again.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let (events, mut changed) = mpsc::channel(1);
        let _watcher = self.watch(events);
        loop {
            let wait = match self.apply().await {
                Ok(()) if self.watch_interval.is_zero() => return Ok(()),
                Ok(()) => self.watch_interval,
                Err(error) => {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the configuration was not applied, it is tried again"
                    );
                    self.retry_interval
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                Some(()) = changed.recv() => {
                    self.metrics.watch_events.inc();
                    tokio::time::sleep(SETTLE).await;
                    while changed.try_recv().is_ok() {}
                }
            }
        }
    }

    fn watch(&self, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
        if self.watch_interval.is_zero() {
            return None;
        }
        let errors = self.metrics.watch_errors.clone();
        let on_event = move |event: notify::Result<notify::Event>| match event {
            Ok(event) if event.kind.is_access() => {}
            // A full channel says already that there is something to look at.
            Ok(_) => drop(events.try_send(())),
            Err(error) => {
                errors.inc();
                tracing::warn!(%error, "watching files");
            }
        };
        let mut watcher = match notify::recommended_watcher(on_event) {
            Ok(watcher) => watcher,
            Err(error) => {
                self.metrics.watch_errors.inc();
                tracing::warn!(%error, "files cannot be watched, they are looked at every {:?}", self.watch_interval);
                return None;
            }
        };
        let parent = self.config_file.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let dirs: BTreeSet<PathBuf> = parent.into_iter().chain(self.rule_dirs.iter().cloned()).collect();
        for dir in dirs {
            let dir = if dir.as_os_str().is_empty() { PathBuf::from(".") } else { dir };
            match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.metrics.watches.inc()),
                Err(error) => {
                    self.metrics.watch_errors.inc();
                    tracing::warn!(%error, dir = %dir.display(), "a directory cannot be watched");
                }
            }
        }
        Some(watcher)
    }

    /// Renders, and has Prometheus reload if anything has changed since it last did.
    async fn apply(&mut self) -> anyhow::Result<()> {
        self.metrics.applies.inc();
        let hash = self.render().inspect_err(|_| {
            self.metrics.apply_failures.inc();
        })?;
        if self.applied == Some(hash) {
            return Ok(());
        }
        self.metrics.reloads.inc();
        match self.reload().await {
            Ok(()) => {
                self.applied = Some(hash);
                self.metrics.reloaded(true);
                tracing::info!(hash = hex::encode(&hash[..8]), "Prometheus has taken its configuration");
                Ok(())
            }
            Err(error) => {
                self.metrics.reload_failures.inc();
                self.metrics.reloaded(false);
                Err(error.context("reload"))
            }
        }
    }

    /// Writes the rendered configuration, if it goes anywhere, and returns the hash of everything watched.
    fn render(&self) -> anyhow::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        let mut add = |name: &str, content: &[u8]| {
            hash.update((name.len() as u64).to_be_bytes());
            hash.update(name);
            hash.update((content.len() as u64).to_be_bytes());
            hash.update(content);
        };
        if let Some(path) = &self.config_file {
            let raw = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            let content = match &self.output_file {
                None => raw,
                Some(output) => {
                    let plain = render::inflate(raw).with_context(|| format!("inflate {}", path.display()))?;
                    let rendered = render::expand(&plain, |name| std::env::var(name).ok()).inspect_err(|_| {
                        self.metrics.expansion_errors.inc();
                    })?;
                    render::replace(output, &rendered).with_context(|| format!("write {}", output.display()))?;
                    rendered
                }
            };
            add(&path.to_string_lossy(), &content);
        }
        for dir in &self.rule_dirs {
            let entries = std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
            paths.sort();
            // Metadata follows symlinks: the files of a ConfigMap are links into the folder that is swapped.
            for path in paths.into_iter().filter(|path| path.is_file()) {
                let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
                add(&path.to_string_lossy(), &content);
            }
        }
        Ok(hash.finalize().into())
    }

    async fn reload(&self) -> anyhow::Result<()> {
        match self.method {
            ReloadMethod::Http => Ok(self.prometheus.reload(None, RELOAD_TIMEOUT).await?),
            ReloadMethod::Signal => self.reload_by_signal().await,
        }
    }

    /// Sends SIGHUP and waits until Prometheus says that it has read its configuration since.
    async fn reload_by_signal(&self) -> anyhow::Result<()> {
        let before = self.prometheus.runtime_info(RELOAD_TIMEOUT).await?.last_config_time;
        let pid = render::find_process(&self.process_name)
            .with_context(|| format!("there is no process {:?}: is shareProcessNamespace on?", self.process_name))?;
        let status = tokio::process::Command::new("kill").args(["-HUP", &pid.to_string()]).status().await?;
        if !status.success() {
            bail!("SIGHUP to process {pid}: {status}");
        }
        let deadline = tokio::time::Instant::now() + RELOAD_TIMEOUT;
        loop {
            let info = self.prometheus.runtime_info(RELOAD_TIMEOUT).await?;
            if info.last_config_time != before && info.reload_config_success {
                return Ok(());
            }
            if !info.reload_config_success {
                bail!("Prometheus refuses the configuration: its log says why");
            }
            if tokio::time::Instant::now() > deadline {
                bail!("Prometheus has not read its configuration within {RELOAD_TIMEOUT:?} of the signal");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
