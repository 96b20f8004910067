//! The HTTP client of a bucket: its TLS, and its patience with a server that asks for some.

use async_trait::async_trait;
use farview_config::Error;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The longest that a server may ask to be left alone; beyond it the request fails and says so.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);
/// One attempt may go without a byte for so long.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// `http_config` of the YAML. Sizes of connection pools and timeouts of the handshake are accepted and have no effect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpConfig {
    idle_conn_timeout: Option<String>,
    response_header_timeout: Option<String>,
    pub(crate) insecure_skip_verify: bool,
    tls_handshake_timeout: Option<String>,
    expect_continue_timeout: Option<String>,
    max_idle_conns: Option<u64>,
    max_idle_conns_per_host: Option<u64>,
    max_conns_per_host: Option<u64>,
    tls_config: TlsConfig,
    disable_compression: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TlsConfig {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    insecure_skip_verify: bool,
}

/// Makes the client of one bucket.
#[derive(Debug)]
pub(crate) struct Connector {
    client: reqwest::Client,
}

impl Connector {
    pub(crate) fn new(config: &HttpConfig) -> Result<Self, Error> {
        let tls = &config.tls_config;
        let failed = |what: &str, reason: String| Error::Tls { what: what.to_owned(), reason };
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source });
        if tls.server_name.as_ref().is_some_and(|name| !name.is_empty()) {
            let reason = "server_name is not supported: give the endpoint by the name in its certificate";
            return Err(failed("http_config.tls_config", reason.to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(READ_TIMEOUT)
            .pool_idle_timeout(Duration::from_secs(90))
            .no_gzip()
            .tcp_nodelay(true)
            .danger_accept_invalid_certs(config.insecure_skip_verify || tls.insecure_skip_verify);
        if let Some(path) = tls.ca_file.as_ref().filter(|path| !path.as_os_str().is_empty()) {
            let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?)
                .map_err(|error| failed("http_config.tls_config.ca_file", error.to_string()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => {
                let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
                let identity = reqwest::Identity::from_pem(&pem)
                    .map_err(|error| failed("http_config.tls_config.cert_file", error.to_string()))?;
                builder = builder.identity(identity);
            }
            (None, None) => {}
            _ => return Err(failed("http_config.tls_config", "cert_file and key_file go together".to_owned())),
        }
        let client = builder.build().map_err(|error| failed("http_config", error.to_string()))?;
        Ok(Self { client })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Patient(self.client.clone())))
    }
}

/// Waits as long as the server asks for before its refusal goes on to be retried.
#[derive(Debug)]
struct Patient(reqwest::Client);

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.call(request).await?;
        if matches!(response.status().as_u16(), 429 | 503) {
            let header = response.headers().get(http::header::RETRY_AFTER);
            let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
            if let Some(wait) = seconds.map(Duration::from_secs) {
                tokio::time::sleep(wait.min(LONGEST_RETRY_AFTER)).await;
            }
        }
        Ok(response)
    }
}
