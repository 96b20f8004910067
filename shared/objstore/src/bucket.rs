//! A bucket: objects by key.

use crate::hedge::Hedge;
use crate::{BucketError, BucketMetrics};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutPayload};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// How often a read whose answer has the wrong length is made.
const READS: usize = 3;
/// Parts of a file that are uploaded at a time.
const PARTS_AT_ONCE: usize = 4;

/// What an operation is for, as metrics tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Finding out which blocks there are.
    Sync,
    /// Index headers.
    IndexHeader,
    /// Posting lists.
    Postings,
    /// Series of an index.
    Series,
    /// Chunks.
    Chunks,
    /// Putting blocks into the bucket.
    Upload,
    /// People at the command line.
    Tools,
}

impl Purpose {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::IndexHeader => "index_header",
            Self::Postings => "postings",
            Self::Series => "series",
            Self::Chunks => "chunks",
            Self::Upload => "upload",
            Self::Tools => "tools",
        }
    }
}

/// An object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key, without the prefix of the bucket.
    pub key: String,
    /// Its size, bytes.
    pub size: u64,
    /// When it was last written, ms since the epoch.
    pub modified: i64,
    /// What changes with its content, if the bucket says.
    pub tag: Option<String>,
}

/// A bucket; cheap to clone. Keys go without the configured prefix.
#[derive(Debug, Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
    purpose: Purpose,
}

#[derive(Debug)]
struct Shared {
    name: String,
    prefix: String,
    store: Arc<dyn ObjectStore>,
    part_size: u64,
    hedge: Option<Hedge>,
    metrics: BucketMetrics,
}

impl Bucket {
    pub(crate) fn new(
        name: String,
        prefix: String,
        store: Arc<dyn ObjectStore>,
        part_size: u64,
        hedging: Option<f64>,
        metrics: BucketMetrics,
    ) -> Self {
        let hedge = hedging.map(Hedge::new);
        Self { shared: Arc::new(Shared { name, prefix, store, part_size, hedge, metrics }), purpose: Purpose::Sync }
    }

    /// Makes a bucket over any store, for tests that hold its other end.
    pub fn over(name: &str, store: Arc<dyn ObjectStore>, metrics: BucketMetrics) -> Self {
        Self::new(name.to_owned(), String::new(), store, 64 << 20, None, metrics)
    }

    /// Returns the same bucket, whose operations count for `purpose`.
    #[must_use]
    pub fn purpose(&self, purpose: Purpose) -> Self {
        Self { shared: Arc::clone(&self.shared), purpose }
    }

    /// Returns what it is called.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    fn key(&self, key: &str) -> Result<Key, BucketError> {
        let full = match self.shared.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        Key::parse(&full).map_err(|error| self.failed("address", key, error.to_string()))
    }

    fn failed(&self, operation: &'static str, key: &str, reason: String) -> BucketError {
        BucketError::Failed { bucket: self.shared.name.clone(), operation, key: key.to_owned(), reason }
    }

    fn error(&self, operation: &'static str, key: &str, error: object_store::Error) -> BucketError {
        let (bucket, key) = (self.shared.name.clone(), key.to_owned());
        match error {
            object_store::Error::NotFound { .. } => BucketError::NotFound { bucket, key },
            object_store::Error::PermissionDenied { source, .. }
            | object_store::Error::Unauthenticated { source, .. } => {
                BucketError::Refused { bucket, operation, key, reason: causes(source.as_ref()) }
            }
            error => BucketError::Failed { bucket, operation, key, reason: causes(&error) },
        }
    }

    async fn counted<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let start = Instant::now();
        let result = work.await;
        let ok = result.as_ref().err().is_none_or(BucketError::is_not_found);
        self.shared.metrics.done(&self.shared.name, operation, self.purpose.name(), start.elapsed(), ok);
        result
    }

    /// Lists all objects whose keys begin with the folder `folder`; all if it is empty. Sorted by key.
    ///
    /// # Errors
    /// [`BucketError`] if the listing cannot be had whole.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, BucketError> {
        let whole = match (self.shared.prefix.as_str(), folder) {
            ("", "") => None,
            _ => Some(self.key(folder)?),
        };
        let strip = if self.shared.prefix.is_empty() { 0 } else { self.shared.prefix.len() + 1 };
        self.counted("iter", async {
            let found: Result<Vec<_>, _> = self.shared.store.list(whole.as_ref()).try_collect().await;
            let mut objects: Vec<Object> = found
                .map_err(|error| self.error("list", folder, error))?
                .into_iter()
                .map(|meta| Object {
                    key: meta.location.as_ref().get(strip..).unwrap_or_default().to_owned(),
                    size: meta.size,
                    modified: meta.last_modified.timestamp_millis(),
                    tag: meta.e_tag,
                })
                .collect();
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        })
        .await
    }

    /// Returns the size of an object, bytes.
    ///
    /// # Errors
    /// [`BucketError`] if it is not there or cannot be asked for.
    pub async fn size(&self, key: &str) -> Result<u64, BucketError> {
        let location = self.key(key)?;
        self.counted("attributes", async {
            let meta = self.shared.store.head(&location).await.map_err(|error| self.error("head", key, error))?;
            Ok(meta.size)
        })
        .await
    }

    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BucketError`] if it is not there, larger, or cannot be read whole.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Bytes, BucketError> {
        let location = self.key(key)?;
        self.counted("get", async {
            for attempt in 1.. {
                let result = self.shared.store.get(&location).await.map_err(|error| self.error("get", key, error))?;
                let size = result.meta.size;
                if size > limit {
                    let (bucket, key) = (self.shared.name.clone(), key.to_owned());
                    return Err(BucketError::TooLarge { bucket, key, size, limit });
                }
                match self.body(key, result, size).await {
                    Err(BucketError::Length { .. }) if attempt < READS => self.shared.metrics.refetched(),
                    done => return done,
                }
            }
            unreachable!("the last attempt returns")
        })
        .await
    }

    /// Reads a range of an object, all of it.
    ///
    /// # Errors
    /// [`BucketError`] if the object is not there, shorter, or cannot be read.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BucketError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let location = self.key(key)?;
        self.counted("get_range", async {
            for attempt in 1.. {
                match self.hedged(key, &location, range.clone()).await {
                    Err(BucketError::Length { .. }) if attempt < READS => self.shared.metrics.refetched(),
                    done => return done,
                }
            }
            unreachable!("the last attempt returns")
        })
        .await
    }

    /// Reads once, and once more beside it if the first takes longer than is usual.
    async fn hedged(&self, key: &str, location: &Key, range: Range<u64>) -> Result<Bytes, BucketError> {
        let first = self.read(key, location, range.clone());
        let Some(hedge) = &self.shared.hedge else { return first.await };
        let start = Instant::now();
        let mut first = std::pin::pin!(first);
        let result = match hedge.patience() {
            None => first.await,
            Some(patience) => tokio::select! {
                biased;
                done = first.as_mut() => done,
                () = earned(hedge, patience) => {
                    self.shared.metrics.hedged();
                    let second = std::pin::pin!(self.read(key, location, range));
                    match futures::future::select(first, second).await {
                        futures::future::Either::Left((Ok(done), _)) | futures::future::Either::Right((Ok(done), _)) => Ok(done),
                        futures::future::Either::Left((Err(_), other)) => other.await,
                        futures::future::Either::Right((Err(_), other)) => other.await,
                    }
                }
            },
        };
        if result.is_ok() {
            hedge.took(start.elapsed());
        }
        result
    }

    async fn read(&self, key: &str, location: &Key, range: Range<u64>) -> Result<Bytes, BucketError> {
        let wanted = range.end - range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let result =
            self.shared.store.get_opts(location, options).await.map_err(|error| self.error("get", key, error))?;
        self.body(key, result, wanted).await
    }

    /// Reads a body that must have `wanted` bytes.
    async fn body(&self, key: &str, result: object_store::GetResult, wanted: u64) -> Result<Bytes, BucketError> {
        let failed = |error| self.error("get", key, error);
        let mut stream = result.into_stream();
        // Most bodies come in few pieces, and one needs no copy.
        let mut whole: Option<BytesMut> = None;
        let mut first: Option<Bytes> = None;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(failed)?;
            match (&mut whole, first.take()) {
                (Some(whole), _) => whole.extend_from_slice(&piece),
                (None, None) => first = Some(piece),
                (None, Some(before)) => {
                    let mut joined = BytesMut::with_capacity((wanted as usize).max(before.len() + piece.len()));
                    joined.extend_from_slice(&before);
                    joined.extend_from_slice(&piece);
                    whole = Some(joined);
                }
            }
        }
        let bytes = whole.map(BytesMut::freeze).or(first).unwrap_or_default();
        self.shared.metrics.fetched(self.purpose.name(), bytes.len() as u64);
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let (bucket, key) = (self.shared.name.clone(), key.to_owned());
        Err(BucketError::Length { bucket, key, wanted, got: bytes.len() as u64 })
    }

    /// Writes a small object.
    ///
    /// # Errors
    /// [`BucketError`] if it cannot be written; then it does not half exist.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BucketError> {
        let location = self.key(key)?;
        self.counted("upload", async {
            let payload = PutPayload::from_bytes(bytes);
            self.shared.store.put(&location, payload).await.map(|_| ()).map_err(|error| self.error("put", key, error))
        })
        .await
    }

    /// Writes a file as an object, in parts if it is large; returns its size.
    ///
    /// # Errors
    /// [`BucketError`] if the file cannot be read or the object not be written; then it does not half exist.
    pub async fn upload(&self, key: &str, file: &Path) -> Result<u64, BucketError> {
        let location = self.key(key)?;
        self.counted("upload", async {
            let unreadable =
                |error: std::io::Error| self.failed("read", &file.display().to_string(), error.to_string());
            let mut source = tokio::fs::File::open(file).await.map_err(unreadable)?;
            let size = source.metadata().await.map_err(unreadable)?.len();
            if size <= self.shared.part_size {
                let mut bytes = Vec::with_capacity(size as usize);
                source.read_to_end(&mut bytes).await.map_err(unreadable)?;
                let payload = PutPayload::from(bytes);
                self.shared.store.put(&location, payload).await.map_err(|error| self.error("put", key, error))?;
                return Ok(size);
            }
            self.upload_parts(key, &location, &mut source, size).await.map(|()| size)
        })
        .await
    }

    async fn upload_parts(
        &self,
        key: &str,
        location: &Key,
        source: &mut tokio::fs::File,
        size: u64,
    ) -> Result<(), BucketError> {
        let failed = |error| self.error("put", key, error);
        let mut upload = self.shared.store.put_multipart(location).await.map_err(failed)?;
        let parts = async {
            let mut running = futures::stream::FuturesUnordered::new();
            let mut left = size;
            while left > 0 {
                if running.len() >= PARTS_AT_ONCE {
                    running.next().await.transpose().map_err(failed)?;
                }
                let len = left.min(self.shared.part_size);
                let mut part = vec![0; len as usize];
                source.read_exact(&mut part).await.map_err(|error| self.failed("read", key, error.to_string()))?;
                running.push(upload.put_part(part.into()));
                left -= len;
            }
            while running.next().await.transpose().map_err(failed)?.is_some() {}
            Ok(())
        }
        .await;
        match parts {
            Ok(()) => upload.complete().await.map(|_| ()).map_err(failed),
            Err(error) => {
                // What remains of it costs money and is seen by nobody; the error to tell is the first.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    /// Deletes an object; that it is not there is no error.
    ///
    /// # Errors
    /// [`BucketError`] if it cannot be deleted.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let location = self.key(key)?;
        self.counted("delete", async {
            match self.shared.store.delete(&location).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.error("delete", key, error)),
            }
        })
        .await
    }

    /// Returns how many requests were made and how many bytes fetched for a purpose, since the process began.
    pub fn spent(&self, purpose: Purpose) -> (u64, u64) {
        self.shared.metrics.spent(purpose)
    }
}

/// Ends when it is time for a second read, and never if none is earned.
async fn earned(hedge: &Hedge, patience: Duration) {
    tokio::time::sleep(patience).await;
    if !hedge.spend() {
        std::future::pending::<()>().await;
    }
}

/// Returns what went wrong, outermost first, each once.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}
