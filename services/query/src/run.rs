//! One query on its way: what was asked of it, what it lacks, what it cost.

use crate::endpoints::Endpoint;
use crate::endpoints::ledger::Missing;
use farview_model::{Budget, ErrorKind, Matcher, Warnings};
use farview_storeapi::{PartialResponse, StoreError};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Who may see what, over HTTP and gRPC alike.
#[derive(Debug, Clone)]
pub(crate) struct Tenancy {
    /// `--query.default-tenant-id`
    pub(crate) default_tenant: String,
    /// `--query.tenant-label-name`, if a tenant may see its own series only
    pub(crate) enforced_label: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    /// Its name, passed on to the endpoints.
    pub(crate) id: String,
    /// What every selector must match beside its own matchers: the tenant may see no other series.
    pub(crate) enforced: Option<Matcher>,
}

impl Tenancy {
    /// Returns the tenant of a request that names it; the default one for a request that names none.
    ///
    /// # Errors
    /// If the name is none: services below make a path of it.
    pub(crate) fn tenant(&self, named: &str) -> Result<Tenant, StoreError> {
        let id = if named.is_empty() { &self.default_tenant } else { named };
        if id.contains(['/', '\\']) || id == "." || id == ".." {
            return Err(StoreError::new(ErrorKind::Invalid, format!("the tenant {id:?} is no single path element")));
        }
        let enforced = self.enforced_label.as_deref().map(|label| Matcher::equal(label, id));
        Ok(Tenant { id: id.to_owned(), enforced })
    }
}

/// What one query shares from the HTTP request down to the last stream.
pub(crate) struct QueryRun {
    /// Whether an answer with parts missing will do.
    pub(crate) partial_response: PartialResponse,
    /// Of `storeMatch[]`.
    pub(crate) store_matchers: Vec<Vec<Matcher>>,
    /// Replica labels, empty when replicas are to stay apart.
    pub(crate) replica_labels: Vec<String>,
    /// Who asks.
    pub(crate) tenant: Tenant,
    /// Fires when nobody waits for the answer any more.
    pub(crate) cancelled: CancellationToken,
    /// When the answer must be there.
    pub(crate) deadline: Instant,
    /// Memory of the query.
    pub(crate) budget: Arc<Budget>,
    said: Mutex<Said>,
}

/// How a text begins that is an info for whom it is passed on to, and a warning for who does not know that.
const INFO: &str = "info: ";

/// What the answer has to say beside its data.
#[derive(Debug, Default)]
struct Said {
    warnings: Warnings,
    infos: Warnings,
    incomplete: bool,
    accounts: BTreeMap<String, Account>,
    missing: Vec<MissingSource>,
    skipped: BTreeMap<String, &'static str>,
}

/// The account of one endpoint in one query.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    /// How long it took.
    pub(crate) duration: Duration,
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    /// Frames.
    pub(crate) responses: u64,
    /// Series.
    pub(crate) series: u64,
    /// Chunks.
    pub(crate) chunks: u64,
    /// Samples in them.
    pub(crate) samples: u64,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

/// A source that should have been asked and could not be.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MissingSource {
    /// Its address.
    pub(crate) endpoint: String,
    /// Its external labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Why.
    pub(crate) reason: String,
    /// Whether it has ever said what it holds.
    pub(crate) known: bool,
}

/// Writes to the account of one endpoint.
pub(crate) struct AccountHandle {
    run: Arc<QueryRun>,
    address: String,
}

impl AccountHandle {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Account)) {
        let mut said = self.run.said.lock();
        change(said.accounts.entry(self.address.clone()).or_default());
    }
}

impl QueryRun {
    /// Begins a query.
    pub(crate) fn new(
        partial_response: PartialResponse,
        replica_labels: Vec<String>,
        store_matchers: Vec<Vec<Matcher>>,
        tenant: Tenant,
        timeout: Duration,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        Arc::new(Self {
            partial_response,
            store_matchers,
            replica_labels,
            tenant,
            cancelled: CancellationToken::new(),
            deadline: Instant::now() + timeout,
            budget,
            said: Mutex::default(),
        })
    }

    /// Returns how much time is left.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Opens the account of an endpoint.
    pub(crate) fn account(self: &Arc<Self>, address: &str) -> AccountHandle {
        self.said.lock().accounts.entry(address.to_owned()).or_default();
        AccountHandle { run: Arc::clone(self), address: address.to_owned() }
    }

    /// Says something that the answer lacks.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let mut said = self.said.lock();
        said.incomplete = true;
        said.warnings.add(text);
    }

    /// Notes a source that could not be asked.
    pub(crate) fn missing(&self, missing: &Missing, text: String) {
        let mut said = self.said.lock();
        said.incomplete = true;
        if missing.replica_answers {
            said.infos.add(text.clone());
        } else {
            said.warnings.add(text.clone());
        }
        let labels = missing.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let source = MissingSource { endpoint: missing.address.clone(), labels, reason: text, known: !missing.unknown };
        if !said.missing.iter().any(|other| other.endpoint == source.endpoint && other.labels == source.labels) {
            said.missing.push(source);
        }
    }

    /// Notes who was not asked and why.
    pub(crate) fn skipped(&self, skipped: &[(String, &'static str)]) {
        self.said.lock().skipped.extend(skipped.iter().cloned());
    }

    /// Notes that an endpoint failed in mid-answer.
    ///
    /// # Errors
    /// The same, if a partial answer will not do.
    pub(crate) fn failed(&self, endpoint: &Endpoint, mut error: StoreError) -> Result<(), StoreError> {
        // The library's text does not know what set its limit.
        if error.message.contains("decoded message length too large") {
            error.message += " (--query.max-message-bytes)";
        }
        if self.partial_response == PartialResponse::Abort {
            return Err(error.within(format_args!("endpoint {}", endpoint.address)));
        }
        let component = endpoint.info.as_ref().map_or("endpoint", |info| info.component.as_str());
        let sets: Vec<String> =
            endpoint.info.iter().flat_map(|info| &info.label_sets).take(3).map(ToString::to_string).collect();
        let sets = if sets.is_empty() { String::new() } else { format!(" with {}", sets.join(", ")) };
        let verb = if error.kind == ErrorKind::Timeout { "is late" } else { "failed" };
        let text =
            format!("{component} {}{sets} {verb}, its data are missing or incomplete: {error}", endpoint.address);
        let mut said = self.said.lock();
        said.incomplete = true;
        said.accounts.entry(endpoint.address.clone()).or_default().error = Some(error.to_string());
        said.warnings.add(text);
        Ok(())
    }

    /// Passes on what an endpoint says that its own answer lacks.
    ///
    /// # Errors
    /// The same, if a partial answer will not do: a server that knows no strict mode warns where it should fail.
    pub(crate) fn failed_below(&self, address: &str, text: &str) -> Result<(), StoreError> {
        if let Some(info) = text.strip_prefix(INFO) {
            let mut said = self.said.lock();
            said.incomplete = true;
            said.infos.add(format!("{address}: {info}"));
            return Ok(());
        }
        if self.partial_response == PartialResponse::Abort {
            return Err(StoreError::new(ErrorKind::Unavailable, format!("endpoint {address}: {text}")));
        }
        self.warn(format!("{address}: {text}"));
        Ok(())
    }

    /// Returns the warnings and infos so far as gRPC carries them, which knows warnings only.
    pub(crate) fn warnings_for_above(&self) -> Vec<String> {
        let (mut warnings, infos) = self.texts();
        warnings.extend(infos.into_iter().map(|text| format!("{INFO}{text}")));
        warnings
    }

    /// Returns the warnings and infos so far.
    pub(crate) fn texts(&self) -> (Vec<String>, Vec<String>) {
        let said = self.said.lock();
        (said.warnings.iter().map(str::to_owned).collect(), said.infos.iter().map(str::to_owned).collect())
    }

    /// Tells whether everything that should have been asked has answered.
    pub(crate) fn is_complete(&self) -> bool {
        !self.said.lock().incomplete
    }

    /// Returns the account of every endpoint that was asked.
    pub(crate) fn accounts(&self) -> BTreeMap<String, Account> {
        self.said.lock().accounts.clone()
    }

    /// Returns who was not asked by any selector, and why.
    pub(crate) fn skipped_endpoints(&self) -> BTreeMap<String, &'static str> {
        let said = self.said.lock();
        let never = said.skipped.iter().filter(|(address, _)| !said.accounts.contains_key(*address));
        never.map(|(address, reason)| (address.clone(), *reason)).collect()
    }

    /// Returns what could not be asked.
    pub(crate) fn missing_sources(&self) -> Vec<MissingSource> {
        self.said.lock().missing.clone()
    }
}
