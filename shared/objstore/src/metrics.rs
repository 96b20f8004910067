//! What is counted of buckets, under the names that Thanos' alerts read, and by purpose.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    bucket: String,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBucket {
    bucket: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForPurpose {
    purpose: &'static str,
}

/// Counts operations on buckets; once per process.
#[derive(Debug, Clone)]
pub struct BucketMetrics {
    operations: Family<Operation, Counter>,
    failures: Family<Operation, Counter>,
    duration: Family<Operation, Histogram>,
    last_upload: Family<OfBucket, Gauge<f64, AtomicU64>>,
    requests: Family<ForPurpose, Counter>,
    fetched: Family<ForPurpose, Counter>,
    hedged: Counter,
    refetched: Counter,
}

impl BucketMetrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        const SECONDS: [f64; 12] = [0.001, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 6.0, 9.0, 20.0, 30.0, 60.0];
        let this = Self {
            operations: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            last_upload: Family::default(),
            requests: Family::default(),
            fetched: Family::default(),
            hedged: Counter::default(),
            refetched: Counter::default(),
        };
        let thanos = registry.sub_registry_with_prefix("thanos_objstore_bucket");
        thanos.register("operations", "Operations on the bucket", this.operations.clone());
        thanos.register(
            "operation_failures",
            "Operations that failed, but for objects that were not there",
            this.failures.clone(),
        );
        thanos.register("operation_duration_seconds", "Time that operations took", this.duration.clone());
        thanos.register(
            "last_successful_upload_time",
            "Time of the last upload that worked, seconds since the epoch",
            this.last_upload.clone(),
        );
        let own = registry.sub_registry_with_prefix("farview_bucket");
        own.register("requests", "Requests to the bucket by what they were for", this.requests.clone());
        own.register("fetched_bytes", "Bytes fetched from the bucket by what they were for", this.fetched.clone());
        own.register("hedged_reads", "Second reads sent because the first took long", this.hedged.clone());
        own.register("refetched", "Reads repeated because the answer had the wrong length", this.refetched.clone());
        this
    }

    pub(crate) fn done(&self, bucket: &str, operation: &'static str, purpose: &'static str, took: Duration, ok: bool) {
        let labels = Operation { bucket: bucket.to_owned(), operation };
        self.operations.get_or_create(&labels).inc();
        // The counter of failures begins at zero: a rate does not see a series that begins with its first one.
        self.failures.get_or_create(&labels).inc_by(u64::from(!ok));
        self.duration.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&ForPurpose { purpose }).inc();
        if ok && operation == "upload" {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.last_upload.get_or_create(&OfBucket { bucket: bucket.to_owned() }).set(now.as_secs_f64());
        }
    }

    pub(crate) fn fetched(&self, purpose: &'static str, bytes: u64) {
        self.fetched.get_or_create(&ForPurpose { purpose }).inc_by(bytes);
    }

    pub(crate) fn hedged(&self) {
        self.hedged.inc();
    }

    pub(crate) fn refetched(&self) {
        self.refetched.inc();
    }

    /// Returns requests and fetched bytes so far for a purpose.
    pub fn spent(&self, purpose: crate::Purpose) -> (u64, u64) {
        let labels = ForPurpose { purpose: purpose.name() };
        (self.requests.get_or_create(&labels).get(), self.fetched.get_or_create(&labels).get())
    }
}
