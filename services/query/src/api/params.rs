//! Parameters: the URL's query and a posted form count alike, and both together.

use super::{Settings, error::ApiError};
use crate::run::QueryRun;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use farview_model::{Budget, ErrorKind, Matcher};
use farview_promql::{duration, parse};
use farview_storeapi::PartialResponse;
use std::sync::Arc;
use std::time::Duration;

/// A form may be this large, bytes: a long query with its matchers.
const MAX_FORM_BYTES: usize = 4 << 20;

/// The parameters of a request, in order, with its headers.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
}

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let mut pairs = Vec::new();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("application/x-www-form-urlencoded"));
        if is_form {
            let body = Bytes::from_request(request, state)
                .await
                .map_err(|error| ApiError::new(ErrorKind::Invalid, format!("the form cannot be read: {error}")))?;
            if body.len() > MAX_FORM_BYTES {
                let text = format!("the form of {} bytes is larger than {MAX_FORM_BYTES}", body.len());
                return Err(ApiError::new(ErrorKind::Invalid, text));
            }
            pairs.extend(decode(&body));
        }
        pairs.extend(decode(query.as_bytes()));
        Ok(Self { pairs, headers })
    }
}

fn decode(text: &[u8]) -> impl Iterator<Item = (String, String)> + '_ {
    url::form_urlencoded::parse(text).map(|(name, value)| (name.into_owned(), value.into_owned()))
}

impl Params {
    /// Returns a parameter; an empty one counts as missing.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a repeated parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Returns a time, ms; `None` if it is not given.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| {
                time(text).ok_or_else(|| {
                    ApiError::parameter(name, format_args!("cannot parse {text:?} to a valid timestamp"))
                })
            })
            .transpose()
    }

    /// Returns a duration, ms; `None` if it is not given.
    pub(crate) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|text| {
                millis(text)
                    .ok_or_else(|| ApiError::parameter(name, format_args!("cannot parse {text:?} to a valid duration")))
            })
            .transpose()
    }

    /// Returns a switch.
    pub(crate) fn switch(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(text) => Err(ApiError::parameter(name, format_args!("{text:?} is neither true nor false"))),
        }
    }

    /// Returns a number of items, 0 for all.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        self.get("limit").map_or(Ok(0), |text| {
            text.parse().map_err(|_| ApiError::parameter("limit", "limit must be a non-negative number"))
        })
    }

    /// Returns the selectors of `match[]`, each a list of matchers.
    pub(crate) fn selectors(&self, name: &str) -> Result<Vec<Vec<Matcher>>, ApiError> {
        self.all(name)
            .map(|text| parse::parse_selector(text).map_err(|error| ApiError::parameter(name, error)))
            .collect()
    }

    /// Begins the run of a request with what its parameters say about replicas, partial answers and stores.
    pub(crate) fn run(&self, settings: &Settings, budget: Arc<Budget>) -> Result<Arc<QueryRun>, ApiError> {
        let given: Vec<String> = self
            .all("replicaLabels[]")
            .chain(self.all("replicaLabels"))
            .flat_map(|text| text.split(','))
            .map(str::to_owned)
            .collect();
        let replica_labels = match (self.switch("dedup", true)?, given.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => settings.replica_labels.clone(),
            (true, false) => given,
        };
        let partial = self.switch("partial_response", settings.partial_response)?;
        let partial = if partial { PartialResponse::Warn } else { PartialResponse::Abort };
        let store_matcher =
            |text| parse::parse_matchers(text).map_err(|error| ApiError::parameter("storeMatch[]", error));
        let store_matchers = self.all("storeMatch[]").map(store_matcher).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = store_matchers.iter().flatten().find(|matcher| matcher.name() != "__address__") {
            let text = format!("storeMatch[] selects by __address__ only, not by {:?}", other.name());
            return Err(ApiError::parameter("storeMatch[]", text));
        }
        let timeout =
            self.duration("timeout")?.map_or(settings.timeout, |millis| Duration::from_millis(millis.max(0) as u64));
        let tenant = self.headers.get(&settings.tenant_header).and_then(|value| value.to_str().ok());
        let tenant = settings.tenancy.tenant(tenant.unwrap_or_default())?;
        let timeout = timeout.min(settings.timeout);
        Ok(QueryRun::new(partial, replica_labels, store_matchers, tenant, timeout, budget))
    }
}

/// Times beyond this are Prometheus' own sentinels for the beginning and the end, ms.
const FAR: f64 = 9.2e15;

/// Reads a time: seconds since the epoch, of any size, or RFC 3339. Returns ms.
pub(crate) fn time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = seconds * 1_000.0;
        return millis.is_finite().then(|| millis.round().clamp(-FAR, FAR) as i64);
    }
    match text {
        // What Go's client library sends for no beginning and no end.
        "-292273086-05-16T16:47:06Z" => return Some(-(FAR as i64)),
        "292277025-08-18T07:12:54.999999999Z" => return Some(FAR as i64),
        _ => {}
    }
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond())
}

/// Reads a duration: seconds, or `1h30m`. Returns ms.
pub(crate) fn millis(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        let millis = seconds * 1_000.0;
        return (millis.is_finite() && millis.abs() < FAR).then_some(millis as i64);
    }
    duration::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_dates() {
        for (text, millis) in [
            ("0", 0),
            ("1.5", 1_500),
            ("-3.001", -3_001),
            ("1767312000000", 1_767_312_000_000_000),
            ("2026-01-02T03:04:05.678Z", 1_767_323_045_678),
            ("2026-01-02T03:04:05+01:00", 1_767_319_445_000),
            ("1e30", FAR as i64),
        ] {
            assert_eq!(time(text), Some(millis), "{text}");
        }
        for text in ["", "yesterday", "NaN", "Inf", "2026-13-01T00:00:00Z", "5m"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_seconds_or_units() {
        assert_eq!(millis("15"), Some(15_000));
        assert_eq!(millis("0.5"), Some(500));
        assert_eq!(millis("1h30m"), Some(5_400_000));
        for text in ["", "1x", "NaN", "1h1h", "1e300"] {
            assert_eq!(millis(text), None, "{text}");
        }
    }
}
