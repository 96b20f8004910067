//! The HTTP client of the Prometheus beside us.

use farview_model::{ErrorKind, Labels, Matcher, TimeRange};
use farview_storeapi::StoreError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

pub(crate) mod auth;
pub(crate) mod remote_read;

/// Answers of Prometheus' own API that are read whole are no larger than this, bytes.
const MAX_ANSWER_BYTES: usize = 256 << 20;

/// Talks to one Prometheus.
#[derive(Debug, Clone)]
pub(crate) struct Prometheus {
    base: Url,
    client: reqwest::Client,
    auth: auth::Auth,
}

/// The envelope of every answer.
#[derive(Debug, Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What `/api/v1/status/runtimeinfo` says about the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuntimeInfo {
    /// Whether the last reload worked.
    #[serde(default)]
    pub(crate) reload_config_success: bool,
    /// When it was, RFC 3339.
    #[serde(default)]
    pub(crate) last_config_time: String,
}

fn error(kind: ErrorKind, message: String) -> StoreError {
    StoreError::new(kind, message)
}

impl Prometheus {
    /// Makes a client for the server at `base`, which may have a path; connects nothing.
    ///
    /// # Errors
    /// [`StoreError`] of kind Invalid if the client's settings cannot be used.
    pub(crate) fn new(base: Url, auth: auth::Auth) -> Result<Self, StoreError> {
        let client = auth
            .client_builder()?
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .build()
            .map_err(|cause| error(ErrorKind::Invalid, format!("HTTP client for Prometheus: {cause}")))?;
        Ok(Self { base, client, auth })
    }

    /// Returns the address of the server.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<reqwest::Response, StoreError> {
        let request = self.auth.authorize(request)?;
        request.send().await.map_err(|cause| {
            let kind = if cause.is_timeout() { ErrorKind::Timeout } else { ErrorKind::Unavailable };
            error(kind, format!("Prometheus at {url} cannot be reached: {}", root_cause(&cause)))
        })
    }

    /// Asks an API end point and reads the data of its answer.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        params: &[(&str, String)],
        timeout: Duration,
    ) -> Result<(T, Vec<String>), StoreError> {
        let url = self.url(path);
        let mut request = self.client.get(url.clone()).timeout(timeout);
        // Matchers make long URLs: what may be posted is.
        let post = matches!(path, "/api/v1/series" | "/api/v1/labels")
            && params.iter().map(|p| p.1.len()).sum::<usize>() > 2_000;
        request =
            if post { self.client.post(url.clone()).timeout(timeout).form(params) } else { request.query(params) };
        let response = self.send(request, &url).await?;
        let status = response.status();
        let body = read_all(response, &url).await?;
        let envelope: Result<Envelope<T>, _> = serde_json::from_slice(&body);
        match envelope {
            Ok(Envelope { status, data: Some(data), warnings, .. }) if status == "success" => Ok((data, warnings)),
            Ok(envelope) => {
                let kind = match status.as_u16() {
                    400 => ErrorKind::Invalid,
                    404 => ErrorKind::NotFound,
                    422 => ErrorKind::Execution,
                    _ => ErrorKind::Unavailable,
                };
                Err(error(kind, format!("Prometheus at {url} answered {status}: {}", envelope.error)))
            }
            Err(cause) => {
                let start = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
                let text = format!(
                    "Prometheus at {url} answered {status} with something that is no API answer ({cause}): {start:?}"
                );
                Err(error(ErrorKind::Unavailable, text))
            }
        }
    }

    /// Tells whether Prometheus says it is ready.
    pub(crate) async fn ready(&self, timeout: Duration) -> Result<(), StoreError> {
        let url = self.url("/-/ready");
        let response = self.send(self.client.get(url.clone()).timeout(timeout), &url).await?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(error(ErrorKind::Unavailable, format!("Prometheus at {url} is not ready: {}", response.status())))
    }

    /// Reads the external labels out of the configuration.
    pub(crate) async fn external_labels(&self, timeout: Duration) -> Result<Labels, StoreError> {
        #[derive(Deserialize)]
        struct Config {
            yaml: String,
        }
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            global: Global,
        }
        #[derive(Deserialize, Default)]
        struct Global {
            #[serde(default)]
            external_labels: BTreeMap<String, String>,
        }
        let (config, _): (Config, _) = self.get("/api/v1/status/config", &[], timeout).await?;
        let file: File =
            farview_config::yaml::from_str(&config.yaml, "the configuration of Prometheus").map_err(|cause| {
                error(ErrorKind::Unavailable, format!("the configuration of Prometheus at {}: {cause}", self.base))
            })?;
        Ok(Labels::from_pairs(file.global.external_labels))
    }

    /// Returns the flags that Prometheus runs with.
    pub(crate) async fn flags(&self, timeout: Duration) -> Result<BTreeMap<String, String>, StoreError> {
        Ok(self.get("/api/v1/status/flags", &[], timeout).await?.0)
    }

    /// Makes Prometheus write all it has, what is only in memory too, as blocks into a folder below `snapshots/` of its data folder;
    /// returns the folder's name.
    pub(crate) async fn snapshot(&self, timeout: Duration) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Made {
            data: Snapshot,
        }
        #[derive(Deserialize)]
        struct Snapshot {
            name: String,
        }
        let url = self.url("/api/v1/admin/tsdb/snapshot");
        let response = self.send(self.client.post(url.clone()).timeout(timeout), &url).await?;
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let made: Result<Made, _> = serde_json::from_str(&text);
        match made {
            Ok(made) if status.is_success() && !made.data.name.contains(['/', '\\']) => Ok(made.data.name),
            _ => Err(error(
                ErrorKind::Unavailable,
                format!("Prometheus makes no snapshot, {status}: {text:.200}; it needs --web.enable-admin-api"),
            )),
        }
    }

    /// Returns what is known about the last reload of the configuration.
    pub(crate) async fn runtime_info(&self, timeout: Duration) -> Result<RuntimeInfo, StoreError> {
        Ok(self.get("/api/v1/status/runtimeinfo", &[], timeout).await?.0)
    }

    /// Returns Prometheus' version.
    pub(crate) async fn version(&self, timeout: Duration) -> Result<String, StoreError> {
        #[derive(Deserialize)]
        struct Build {
            version: String,
        }
        let (build, _): (Build, _) = self.get("/api/v1/status/buildinfo", &[], timeout).await?;
        Ok(build.version)
    }

    /// Returns the time of the oldest sample, ms, from Prometheus' own metrics; `i64::MAX` if it has none; none if it does
    /// not say.
    pub(crate) async fn lowest_timestamp(&self, timeout: Duration) -> Result<Option<i64>, StoreError> {
        let url = self.url("/metrics");
        let response = self.send(self.client.get(url.clone()).timeout(timeout), &url).await?;
        let body = read_all(response, &url).await?;
        let text = String::from_utf8_lossy(&body);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse::<f64>().ok().filter(|value| value.is_finite())
        };
        let seconds = value("prometheus_tsdb_lowest_timestamp_seconds").map(|seconds| seconds * 1_000.0);
        Ok(seconds
            .or_else(|| value("prometheus_tsdb_lowest_timestamp"))
            // One that is too large becomes the largest.
            .map(|millis| millis as i64))
    }

    /// Returns the label sets of the series that match, by Prometheus' own index; for requests that need no samples.
    pub(crate) async fn series(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
        timeout: Duration,
    ) -> Result<(Vec<Labels>, Vec<String>), StoreError> {
        let mut params = vec![("match[]", selector(matchers))];
        params.extend(times(range));
        if limit > 0 {
            params.push(("limit", limit.to_string()));
        }
        let (sets, warnings): (Vec<BTreeMap<String, String>>, _) = self.get("/api/v1/series", &params, timeout).await?;
        Ok((sets.into_iter().map(Labels::from_pairs).collect(), warnings))
    }

    /// Returns the names of labels, of the series that match or of all.
    pub(crate) async fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        timeout: Duration,
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let mut params = times(range);
        if !matchers.is_empty() {
            params.push(("match[]", selector(matchers)));
        }
        self.get("/api/v1/labels", &params, timeout).await
    }

    /// Returns the values of a label.
    pub(crate) async fn label_values(
        &self,
        label: &str,
        matchers: &[Matcher],
        range: TimeRange,
        timeout: Duration,
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let mut params = times(range);
        if !matchers.is_empty() {
            params.push(("match[]", selector(matchers)));
        }
        let mut path = Url::parse("http://x/").expect("a constant URL");
        path.path_segments_mut().expect("it has a path").extend(["api", "v1", "label", label, "values"]);
        self.get(path.path(), &params, timeout).await
    }

    /// Tells Prometheus to read its configuration again.
    pub(crate) async fn reload(&self, url: Option<&Url>, timeout: Duration) -> Result<(), StoreError> {
        let url = url.cloned().unwrap_or_else(|| self.url("/-/reload"));
        let response = self.send(self.client.post(url.clone()).timeout(timeout), &url).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = read_all(response, &url).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
        Err(error(ErrorKind::Unavailable, format!("reload at {url} answered {status}: {}", text.trim())))
    }
}

/// Reads a body, within [`MAX_ANSWER_BYTES`].
async fn read_all(mut response: reqwest::Response, url: &Url) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|cause| {
            error(ErrorKind::Unavailable, format!("the answer of {url} broke off: {}", root_cause(&cause)))
        })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            let text = format!("the answer of {url} is larger than {MAX_ANSWER_BYTES} bytes");
            return Err(error(ErrorKind::LimitExceeded, text));
        }
        body.extend_from_slice(&chunk);
    }
}

/// The innermost cause: reqwest's own text says only that something failed.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn times(range: TimeRange) -> Vec<(&'static str, String)> {
    vec![("start", seconds(range.mint)), ("end", seconds(range.maxt))]
}

/// Returns a time in ms as Prometheus takes it, in seconds.
pub(crate) fn seconds(millis: i64) -> String {
    // Prometheus refuses times beyond its own sentinels. Up to here a float has room for every millisecond.
    const FAR: i64 = 9_000_000_000_000;
    format!("{:.3}", millis.clamp(-FAR, FAR) as f64 / 1_000.0)
}

/// Returns the matchers as a selector in braces.
pub(crate) fn selector(matchers: &[Matcher]) -> String {
    let each: Vec<String> = matchers.iter().map(Matcher::to_string).collect();
    format!("{{{}}}", each.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_seconds_on_either_side_of_the_epoch() {
        for (millis, text) in [
            (0, "0.000"),
            (1_700_000_000_123, "1700000000.123"),
            (-1, "-0.001"),
            (-1_500, "-1.500"),
            (i64::MAX, "9000000000.000"),
            (i64::MIN, "-9000000000.000"),
        ] {
            assert_eq!(seconds(millis), text);
        }
    }
}
