//! How requests to Prometheus prove who they come from: `--prometheus.http-client`, in the form that Thanos takes.

use super::error;
use farview_config::Secret;
use farview_model::ErrorKind;
use farview_storeapi::StoreError;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// The YAML of `--prometheus.http-client(-file)`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpClientConfig {
    basic_auth: Option<BasicAuth>,
    bearer_token: Option<Secret>,
    bearer_token_file: Option<PathBuf>,
    proxy_url: Option<String>,
    tls_config: TlsConfig,
    transport_config: TransportConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BasicAuth {
    username: String,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
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

/// Of Go's transport settings those that mean something here; the others are read and change nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TransportConfig {
    max_idle_conns: Option<i64>,
    max_idle_conns_per_host: Option<usize>,
    idle_conn_timeout: Option<i64>,
    response_header_timeout: Option<i64>,
    expect_continue_timeout: Option<i64>,
    max_conns_per_host: Option<i64>,
    disable_compression: Option<bool>,
    tls_handshake_timeout: Option<i64>,
    dialer_timeout: Option<i64>,
}

/// Credentials for Prometheus. Those in files are read again for every request, so that they can rotate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Auth {
    config: HttpClientConfig,
}

fn read(path: &std::path::Path, what: &str) -> Result<String, StoreError> {
    std::fs::read_to_string(path)
        .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        .map_err(|cause| error(ErrorKind::Unavailable, format!("{what} in {}: {cause}", path.display())))
}

impl Auth {
    pub(crate) fn new(config: HttpClientConfig) -> Self {
        Self { config }
    }

    /// Returns the builder of a client with the TLS settings.
    pub(super) fn client_builder(&self) -> Result<reqwest::ClientBuilder, StoreError> {
        let tls = &self.config.tls_config;
        let invalid = |what: &str, cause: &dyn std::fmt::Display| {
            error(ErrorKind::Invalid, format!("{what} of the HTTP client for Prometheus: {cause}"))
        };
        // Credentials must not follow a redirect to somebody else.
        let same_host = reqwest::redirect::Policy::custom(|attempt| {
            let first = attempt.previous().first().map(|url| (url.host_str().map(str::to_owned), url.port()));
            let next = (attempt.url().host_str().map(str::to_owned), attempt.url().port());
            if attempt.previous().len() > 5 || first != Some(next) { attempt.stop() } else { attempt.follow() }
        });
        let mut builder =
            reqwest::Client::builder().redirect(same_host).tls_danger_accept_invalid_certs(tls.insecure_skip_verify);
        if let Some(path) = &tls.ca_file {
            let pem = std::fs::read(path).map_err(|cause| invalid("tls_config.ca_file", &cause))?;
            let roots =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|cause| invalid("tls_config.ca_file", &cause))?;
            builder = builder.tls_certs_only(roots);
        }
        if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
            let mut pem = std::fs::read(cert).map_err(|cause| invalid("tls_config.cert_file", &cause))?;
            pem.push(b'\n');
            pem.extend(std::fs::read(key).map_err(|cause| invalid("tls_config.key_file", &cause))?);
            let identity =
                reqwest::Identity::from_pem(&pem).map_err(|cause| invalid("tls_config.cert_file", &cause))?;
            builder = builder.identity(identity);
        }
        if let Some(name) = &tls.server_name {
            tracing::warn!(server_name = %name, "tls_config.server_name is not supported yet: the name in --prometheus.url is checked");
        }
        if let Some(proxy) = &self.config.proxy_url {
            builder = builder.proxy(reqwest::Proxy::all(proxy.as_str()).map_err(|cause| invalid("proxy_url", &cause))?);
        } else {
            builder = builder.no_proxy();
        }
        if let Some(per_host) = self.config.transport_config.max_idle_conns_per_host {
            builder = builder.pool_max_idle_per_host(per_host);
        }
        Ok(builder.pool_idle_timeout(Duration::from_secs(90)))
    }

    /// Adds the credentials to a request.
    pub(super) fn authorize(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, StoreError> {
        if let Some(basic) = &self.config.basic_auth {
            let password = match (&basic.password, &basic.password_file) {
                (Some(password), _) => Some(password.expose().to_owned()),
                (None, Some(path)) => Some(read(path, "basic_auth.password_file")?),
                (None, None) => None,
            };
            return Ok(request.basic_auth(&basic.username, password));
        }
        if let Some(token) = &self.config.bearer_token {
            return Ok(request.bearer_auth(token.expose()));
        }
        if let Some(path) = &self.config.bearer_token_file {
            return Ok(request.bearer_auth(read(path, "bearer_token_file")?));
        }
        Ok(request)
    }
}
