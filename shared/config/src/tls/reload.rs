//! Configurations that follow their files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};

use super::files::{TlsClientFiles, TlsServerFiles, certificates};
use crate::Error;

/// How often files are looked at.
pub const POLL: Duration = Duration::from_secs(10);

/// A configuration of rustls that follows its files. Watched until it is dropped.
pub struct Reloading<C> {
    current: ArcSwap<C>,
    state: Arc<TlsState>,
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<C, Error> + Send + Sync>,
    certificate: Option<PathBuf>,
    seen: Mutex<Vec<Option<Vec<u8>>>>,
}

/// What a metric should say about a reloading configuration.
#[derive(Debug, Default)]
pub struct TlsState {
    not_after: AtomicI64,
    reloads: AtomicU64,
    failures: AtomicU64,
    failing: AtomicBool,
    last_success: AtomicI64,
}

impl TlsState {
    /// Returns when the certificate in use ends, in seconds since the Unix epoch; `None` without one.
    pub fn not_after(&self) -> Option<i64> {
        Some(self.not_after.load(Ordering::Relaxed)).filter(|t| *t != 0)
    }

    /// Returns how often changed files have been taken into use.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Returns how often changed files could not be used.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Tells whether the files as they are now can be used.
    pub fn is_current(&self) -> bool {
        !self.failing.load(Ordering::Relaxed)
    }

    /// Returns when files were last taken into use, in seconds since the Unix epoch.
    pub fn last_success(&self) -> i64 {
        self.last_success.load(Ordering::Relaxed)
    }
}

impl TlsServerFiles {
    /// Loads the files and follows them. Needs a Tokio runtime.
    pub fn watch(self) -> Result<Arc<Reloading<ServerConfig>>, Error> {
        Reloading::start(self.files(), Some(self.cert.clone()), move || self.load())
    }
}

impl TlsClientFiles {
    /// Loads the files and follows them. Needs a Tokio runtime.
    pub fn watch(self) -> Result<Arc<Reloading<ClientConfig>>, Error> {
        Reloading::start(self.files(), self.cert.clone(), move || self.load())
    }
}

impl<C: Send + Sync + 'static> Reloading<C> {
    fn start(
        files: Vec<PathBuf>,
        certificate: Option<PathBuf>,
        load: impl Fn() -> Result<C, Error> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Error> {
        // Read before loading: a change in between is then seen as one.
        let seen = contents(&files);
        let this = Arc::new(Self {
            current: ArcSwap::from_pointee(load()?),
            state: Arc::default(),
            files,
            load: Box::new(load),
            certificate,
            seen: Mutex::new(seen),
        });
        this.taken();
        let weak = Arc::downgrade(&this);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(POLL).await;
                let Some(this) = weak.upgrade() else { return };
                // A panic or a shutdown of the runtime ends the watch, not the configuration.
                if tokio::task::spawn_blocking(move || this.refresh()).await.is_err() {
                    return;
                }
            }
        });
        Ok(this)
    }

    /// Returns the configuration for the next handshake.
    pub fn current(&self) -> Arc<C> {
        self.current.load_full()
    }

    /// Returns what metrics say.
    pub fn state(&self) -> Arc<TlsState> {
        Arc::clone(&self.state)
    }

    /// Looks at the files now, as the watch does every [`POLL`]; tells whether the configuration changed. Blocks on files.
    pub fn refresh(&self) -> bool {
        let now = contents(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return false;
        }
        *seen = now;
        match (self.load)() {
            Ok(config) => {
                self.current.store(Arc::new(config));
                self.taken();
                self.state.reloads.fetch_add(1, Ordering::Relaxed);
                self.state.failing.store(false, Ordering::Relaxed);
                tracing::info!(files = ?self.files, "TLS files changed and are in use");
                true
            }
            Err(error) => {
                self.state.failures.fetch_add(1, Ordering::Relaxed);
                self.state.failing.store(true, Ordering::Relaxed);
                tracing::warn!(error = %error, "TLS files changed and cannot be used, the last good ones stay in use");
                false
            }
        }
    }

    fn taken(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        self.state.last_success.store(i64::try_from(now).unwrap_or(i64::MAX), Ordering::Relaxed);
        let not_after = self.certificate.as_ref().and_then(|path| {
            let chain = certificates(path).ok()?;
            let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
            Some(certificate.validity().not_after.timestamp())
        });
        self.state.not_after.store(not_after.unwrap_or(0), Ordering::Relaxed);
    }
}

impl<C> std::fmt::Debug for Reloading<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Whole contents rather than times of change: symlinks swap to older files, and clocks of file systems are coarse.
fn contents(files: &[PathBuf]) -> Vec<Option<Vec<u8>>> {
    files.iter().map(|path| std::fs::read(path).ok()).collect()
}
