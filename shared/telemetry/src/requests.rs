//! Lines about requests, as Thanos' `--request.logging-config` says.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::OriginalUri;
use clap::Args;
use farview_config::{Error, PairSpec, PathOrContent};
use serde::Deserialize;
use tonic::Code;
use tracing::Level;

/// The pair `--request.logging-config`, `--request.logging-config-file`.
#[derive(Debug)]
pub struct RequestLoggingConfig;

impl PairSpec for RequestLoggingConfig {
    const NAME: &'static str = "request.logging-config";
    const ABOUT: &'static str =
        "YAML with the request logging configuration, see https://thanos.io/tip/thanos/logging.md/";
    const GROUP: &'static str = "Logging";
}

/// `--request.*`.
#[derive(Debug, Clone, Default, Args)]
pub struct RequestLoggingFlags {
    /// What to log of requests.
    #[command(flatten)]
    pub config: PathOrContent<RequestLoggingConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    options: Options,
    http: Section<Endpoint>,
    grpc: Section<Method>,
}

/// What holds for one protocol; without `options`, those of the document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Section<T> {
    options: Option<Options>,
    config: Vec<T>,
}

impl<T> Default for Section<T> {
    fn default() -> Self {
        Self { options: None, config: Vec::new() }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    level: String,
    decision: Decision,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Decision {
    log_start: bool,
    log_end: bool,
}

/// A path, and the port that the client asked for; 0 for any.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    path: String,
    #[serde(default)]
    port: u16,
}

/// A service with its package, and one of its methods.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Method {
    service: String,
    method: String,
}

/// Which requests get lines. Cheap to clone; the default is none.
#[derive(Debug, Clone, Default)]
pub struct RequestLog(Arc<Policies>);

#[derive(Debug, Default)]
struct Policies {
    http: Policy<Endpoint>,
    grpc: Policy<Method>,
}

#[derive(Debug)]
struct Policy<T> {
    /// The least level of a line.
    least: Level,
    start: bool,
    end: bool,
    /// What is logged; everything if empty.
    only: Vec<T>,
}

impl<T> Default for Policy<T> {
    fn default() -> Self {
        Self { least: Level::DEBUG, start: false, end: false, only: Vec::new() }
    }
}

impl<T> Policy<T> {
    fn new(section: Section<T>, global: &Options) -> Result<Self, String> {
        let Options { level, decision } = section.options.unwrap_or_else(|| global.clone());
        let least = match level.to_ascii_uppercase().as_str() {
            "" | "DEBUG" => Level::DEBUG,
            "INFO" => Level::INFO,
            "WARN" | "WARNING" => Level::WARN,
            "ERROR" => Level::ERROR,
            _ => return Err(format!("level {level:?} is none of DEBUG, INFO, WARN, ERROR")),
        };
        if decision.log_start && !decision.log_end {
            return Err("log_start without log_end: set log_end as well".to_owned());
        }
        Ok(Self { least, start: decision.log_start, end: decision.log_end, only: section.config })
    }

    /// Begins the lines about a request, if it gets any.
    fn begin(&self, protocol: &'static str, what: impl FnOnce() -> String, is: impl Fn(&T) -> bool) -> Option<Line> {
        if !self.end || !(self.only.is_empty() || self.only.iter().any(is)) {
            return None;
        }
        let line = Line { protocol, what: what(), least: self.least };
        if self.start && Level::INFO <= self.least {
            tracing::info!(protocol, request = line.what, "started call");
        }
        Some(line)
    }
}

impl RequestLoggingFlags {
    /// Returns what is configured.
    ///
    /// # Errors
    /// If the configuration cannot be read, or says what makes no sense; the flag is named.
    pub fn log(&self) -> Result<RequestLog, Error> {
        let document: Document = self.config.parse()?.unwrap_or_default();
        let invalid = |reason| Error::Yaml { origin: self.config.origin(), message: reason };
        let http = Policy::new(document.http, &document.options).map_err(invalid)?;
        let grpc = Policy::new(document.grpc, &document.options).map_err(invalid)?;
        Ok(RequestLog(Arc::new(Policies { http, grpc })))
    }
}

impl RequestLog {
    /// Begins the lines about an HTTP request.
    pub(crate) fn http<B>(&self, request: &http::Request<B>) -> Option<Line> {
        // A nested router sees the end of the path only.
        let original = request.extensions().get::<OriginalUri>().map(|OriginalUri(uri)| uri);
        let path = original.unwrap_or(request.uri()).path();
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is = |endpoint: &Endpoint| {
            let port = || host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            endpoint.path == path && (endpoint.port == 0 || Some(endpoint.port) == port())
        };
        self.0.http.begin("http", || format!("{} {path}", request.method()), is)
    }

    /// Begins the lines about a call: `/thanos.Store/Series`.
    pub(crate) fn grpc(&self, path: &str) -> Option<Line> {
        let is = |one: &Method| path.trim_start_matches('/').split_once('/') == Some((&one.service, &one.method));
        self.0.grpc.begin("grpc", || path.to_owned(), is)
    }
}

/// The lines about one request.
#[derive(Debug)]
pub(crate) struct Line {
    protocol: &'static str,
    what: String,
    least: Level,
}

impl Line {
    /// Says how an HTTP request ended.
    pub(crate) fn http_ended(&self, code: u16, bytes: u64, took: Duration) {
        let level = match code {
            500.. => Level::ERROR,
            400.. => Level::WARN,
            _ => Level::INFO,
        };
        self.ended(level, &code.to_string(), bytes, took);
    }

    /// Says how a call ended; the levels are those of go-grpc-middleware.
    pub(crate) fn grpc_ended(&self, code: Code, name: &str, took: Duration) {
        let level = match code {
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::Unauthenticated => Level::INFO,
            Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => Level::ERROR,
            _ => Level::WARN,
        };
        self.ended(level, name, 0, took);
    }

    fn ended(&self, level: Level, code: &str, bytes: u64, took: Duration) {
        if level > self.least {
            return;
        }
        let Self { protocol, what, .. } = self;
        let bytes = (bytes > 0).then_some(bytes);
        match level {
            Level::ERROR => tracing::error!(protocol, request = what, code, bytes, duration = ?took, "finished call"),
            Level::WARN => tracing::warn!(protocol, request = what, code, bytes, duration = ?took, "finished call"),
            _ => tracing::info!(protocol, request = what, code, bytes, duration = ?took, "finished call"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::LogFormat;
    use crate::logs::format::tests::logged;

    fn log(yaml: &str) -> Result<RequestLog, String> {
        RequestLoggingFlags { config: PathOrContent::inline(yaml) }.log().map_err(|error| error.to_string())
    }

    /// The lines about a good and a failed request by each protocol, without time and place.
    fn lines(yaml: &str) -> Vec<String> {
        let log = log(yaml).unwrap();
        let text = logged(LogFormat::Logfmt, || {
            let took = Duration::from_millis(3);
            for (path, code) in [("/api/v1/query", 200), ("/api/v1/query", 503), ("/metrics", 200)] {
                let request = http::Request::get(path).header("host", "localhost:10902").body(()).unwrap();
                if let Some(line) = log.http(&request) {
                    line.http_ended(code, 7, took);
                }
            }
            for (path, code) in [("/thanos.Store/Series", Code::Ok), ("/thanos.info.Info/Info", Code::Internal)] {
                if let Some(line) = log.grpc(path) {
                    line.grpc_ended(code, &format!("{code:?}"), took);
                }
            }
        });
        text.lines().map(|line| line[line.find("level=").unwrap()..].to_owned()).collect()
    }

    #[test]
    fn nothing_is_logged_unless_it_is_asked_for() {
        for yaml in ["", "{}", "http: {options: {level: DEBUG}}", "options: {decision: {log_end: false}}"] {
            assert!(lines(yaml).is_empty(), "{yaml}");
        }
    }

    #[test]
    fn every_request_gets_a_line_at_its_end_and_one_at_its_start_if_wanted() {
        let all = lines("options: {level: DEBUG, decision: {log_start: true, log_end: true}}");
        assert_eq!(all.len(), 10, "{all:#?}");
        assert_eq!(all[0], r#"level=info msg="started call" protocol=http request="GET /api/v1/query""#);
        let ended =
            r#"level=info msg="finished call" protocol=http request="GET /api/v1/query" code=200 bytes=7 duration=3ms"#;
        assert_eq!(all[1], ended);
        assert!(all[3].starts_with("level=error") && all[3].contains("code=503"), "{}", all[3]);
        assert!(all[9].starts_with("level=error") && all[9].contains("request=/thanos.info.Info/Info"), "{}", all[9]);
    }

    #[test]
    fn levels_methods_paths_and_ports_choose() {
        let failed = lines("options: {level: ERROR, decision: {log_end: true}}");
        assert_eq!(failed.len(), 2, "{failed:#?}");
        let options = "options: {decision: {log_end: true}}";
        let only = |rest: &str| lines(&format!("{options}\n{rest}")).len();
        assert_eq!(only("http: {config: [{path: /api/v1/query, port: 10902}]}\ngrpc: {options: {}}"), 2);
        assert_eq!(only("http: {config: [{path: /api/v1/query, port: 1}]}\ngrpc: {options: {}}"), 0);
        assert_eq!(only("http: {options: {}}\ngrpc: {config: [{service: thanos.Store, method: Series}]}"), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = log("http: {options: {level: LOUD, decision: {log_end: true}}}").unwrap_err();
        assert!(error.contains("--request.logging-config") && error.contains("LOUD"), "{error}");
        assert!(log("options: {decision: {log_start: true}}").unwrap_err().contains("log_end"));
        assert!(log("htp: {}").unwrap_err().contains("htp"));
    }
}
