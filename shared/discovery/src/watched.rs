//! Files that are read again when they change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::Error;

/// How the last reading went.
#[derive(Debug, Clone, Default)]
pub struct FileStatus {
    /// When the files were last read with success.
    pub loaded: Option<SystemTime>,
    /// Why the files as they are now are not in use. `None` when they are.
    pub error: Option<String>,
}

/// A value read from files, followed by change notices and by looking now and then, because notices get lost on some file systems.
///
/// Directories are watched, not files: an editor's rename and the symlink swap of a mounted ConfigMap leave the file's own watch
/// behind on what is gone. A reading that fails keeps the former value and is reported.
pub struct WatchedFiles<T> {
    value: watch::Receiver<Arc<T>>,
    status: watch::Receiver<FileStatus>,
    task: JoinHandle<()>,
}

/// Changes come in bursts (write, rename, chmod); one reading after the burst is enough.
const SETTLE: Duration = Duration::from_millis(100);

impl<T: PartialEq + Send + Sync + 'static> WatchedFiles<T> {
    /// Reads now, and again whenever something changes in the directories of `files`, and every `poll`.
    ///
    /// # Errors
    /// The first reading must succeed, and the directories must exist.
    pub fn start(
        files: &[PathBuf],
        poll: Duration,
        read: impl FnMut(Option<&T>) -> Result<T, Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let mut read = read;
        let first = Arc::new(read(None)?);
        let (notices, noticed) = mpsc::channel(1);
        let watcher = watch_directories(files, notices)?;
        let (value_out, value) = watch::channel(first);
        let loaded = FileStatus { loaded: Some(SystemTime::now()), error: None };
        let (status_out, status) = watch::channel(loaded);
        let follower = Follower { noticed, poll, value: value_out, status: status_out, _watcher: watcher };
        Ok(Self { value, status, task: tokio::spawn(follower.run(read)) })
    }
}

impl<T> WatchedFiles<T> {
    /// Returns a watch on the value.
    pub fn watch(&self) -> watch::Receiver<Arc<T>> {
        self.value.clone()
    }

    /// Returns the value now.
    pub fn get(&self) -> Arc<T> {
        self.value.borrow().clone()
    }

    /// Returns how the last reading went.
    pub fn status(&self) -> FileStatus {
        self.status.borrow().clone()
    }

    /// Returns a watch on how readings go.
    pub fn watch_status(&self) -> watch::Receiver<FileStatus> {
        self.status.clone()
    }
}

impl<T> Drop for WatchedFiles<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watch_directories(files: &[PathBuf], notices: mpsc::Sender<()>) -> Result<RecommendedWatcher, Error> {
    let failed = |path: &Path, source| Error::Watch { path: path.to_owned(), source };
    let here = PathBuf::from(".");
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too, and must not lead to reading it.
        if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. })) {
            let _ = notices.try_send(());
        }
    })
    .map_err(|source| failed(&here, source))?;
    let parent = |file: &PathBuf| match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => here.clone(),
    };
    for directory in files.iter().map(parent).collect::<BTreeSet<_>>() {
        watcher.watch(&directory, RecursiveMode::NonRecursive).map_err(|source| failed(&directory, source))?;
    }
    Ok(watcher)
}

struct Follower<T> {
    noticed: mpsc::Receiver<()>,
    poll: Duration,
    value: watch::Sender<Arc<T>>,
    status: watch::Sender<FileStatus>,
    _watcher: RecommendedWatcher,
}

impl<T: PartialEq + Send + Sync + 'static> Follower<T> {
    async fn run<R: FnMut(Option<&T>) -> Result<T, Error> + Send + 'static>(mut self, mut read: R) {
        loop {
            tokio::select! {
                Some(()) = self.noticed.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    while self.noticed.try_recv().is_ok() {}
                }
                () = tokio::time::sleep(self.poll) => {}
            }
            let before = self.value.borrow().clone();
            let reading = tokio::task::spawn_blocking(move || {
                let result = read(Some(&before));
                (read, result)
            });
            let Ok((again, result)) = reading.await else { return };
            read = again;
            self.took(result);
        }
    }

    fn took(&self, result: Result<T, Error>) {
        match result {
            Ok(new) => {
                self.status.send_replace(FileStatus { loaded: Some(SystemTime::now()), error: None });
                self.value.send_if_modified(|value| {
                    let changed = **value != new;
                    if changed {
                        *value = Arc::new(new);
                    }
                    changed
                });
            }
            Err(error) => {
                let text = in_words(&error);
                if self.status.borrow().error.as_deref() != Some(&text) {
                    tracing::warn!(error = text, "file is not usable; what was read before stays");
                }
                self.status.send_modify(|status| status.error = Some(text));
            }
        }
    }
}

pub(crate) fn in_words(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Reads YAML, of which JSON is a part. Errors have line and column.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let problem = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Content { path: path.to_owned(), problem }
    })
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}
