//! `--http.config`: the web configuration of Prometheus' exporter-toolkit, taken unchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use farview_config::Secret;
use farview_config::tls::{ClientAuth, Reloading, TlsServerFiles, TlsVersion};
use farview_config::yaml;
use farview_telemetry::TlsMetrics;
use parking_lot::Mutex;
use rustls::ServerConfig;
use serde::Deserialize;

use super::auth::Users;

/// How long the file as last read is good for. The toolkit reads it for every request; a second later is as good.
const FRESH: Duration = Duration::from_secs(1);

/// The file's format. Unknown keys are refused: a misspelt `basic_auth_users` would leave the door open.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    tls_server_config: Option<Tls>,
    http_server_config: Http,
    basic_auth_users: BTreeMap<String, Secret>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_auth_type: String,
    client_ca_file: Option<PathBuf>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    /// Read and without effect, as in Go since 1.17.
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for Http {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

/// The headers that may be set, as in the toolkit.
const HEADERS: [&str; 5] = [
    "content-security-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
];

/// What the file says, ready for use.
struct Parsed {
    text: String,
    users: Arc<Users>,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<Arc<Reloading<ServerConfig>>>,
}

/// The file, followed. A file that cannot be used leaves the last good one in force.
pub(super) struct WebConfig {
    path: PathBuf,
    parsed: ArcSwap<Parsed>,
    looked: Mutex<(Instant, Option<String>)>,
    metrics: TlsMetrics,
}

impl WebConfig {
    /// Reads the file.
    pub(super) fn open(path: &Path, metrics: &TlsMetrics) -> anyhow::Result<Arc<Self>> {
        let text = read(path)?;
        let parsed = parse(path, text, metrics).with_context(|| format!("--http.config={}", path.display()))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            parsed: ArcSwap::from_pointee(parsed),
            looked: Mutex::new((Instant::now(), None)),
            metrics: metrics.clone(),
        }))
    }

    /// Returns what to shake hands by, if TLS is spoken.
    pub(super) fn tls(&self) -> Option<Arc<Reloading<ServerConfig>>> {
        self.current().tls.clone()
    }

    fn current(&self) -> Arc<Parsed> {
        let mut looked = self.looked.lock();
        if looked.0.elapsed() >= FRESH {
            looked.0 = Instant::now();
            let before = self.parsed.load();
            let outcome = read(&self.path).and_then(|text| match text == before.text {
                true => Ok(None),
                false => parse(&self.path, text, &self.metrics).map(Some),
            });
            let trouble = match outcome {
                Ok(None) => None,
                // Clients know the address with its scheme: that cannot change under them.
                Ok(Some(parsed)) if parsed.tls.is_some() != before.tls.is_some() => {
                    Some("turning TLS on or off needs a restart".to_owned())
                }
                Ok(Some(parsed)) => {
                    tracing::info!(path = %self.path.display(), "web configuration changed and is in use");
                    self.parsed.store(Arc::new(parsed));
                    None
                }
                Err(error) => Some(format!("{error:#}")),
            };
            if let Some(error) = trouble.as_ref().filter(|t| looked.1.as_ref() != Some(t)) {
                tracing::error!(path = %self.path.display(), error, "web configuration cannot be used, the last good one stays");
            }
            looked.1 = trouble;
        }
        self.parsed.load_full()
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn parse(path: &Path, text: String, metrics: &TlsMetrics) -> anyhow::Result<Parsed> {
    let document: Document = yaml::from_str(&text, &path.display().to_string())?;
    let alpn = if document.http_server_config.http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    let tls = document.tls_server_config.map(|tls| files(path, tls, alpn)).transpose()?;
    let tls = tls.map(TlsServerFiles::watch).transpose()?;
    if let Some(tls) = &tls {
        metrics.add("http", tls.state());
    }
    let headers = document.http_server_config.headers.into_iter().map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        anyhow::ensure!(HEADERS.contains(&lower.as_str()), "http_server_config: header {name:?} cannot be set");
        let value = value.parse().with_context(|| format!("http_server_config: header {name:?}"))?;
        Ok((HeaderName::try_from(lower)?, value))
    });
    let headers = headers.collect::<anyhow::Result<_>>()?;
    Ok(Parsed { text, users: Arc::new(Users::new(document.basic_auth_users)?), headers, tls })
}

/// Paths are relative to the web configuration, as in the toolkit.
fn files(path: &Path, tls: Tls, alpn: Vec<Vec<u8>>) -> anyhow::Result<TlsServerFiles> {
    let base = path.parent().unwrap_or(Path::new("."));
    let client_auth = match (tls.client_auth_type.as_str(), &tls.client_ca_file) {
        // A certificate that is asked for and not looked at is as good as none.
        ("" | "NoClientCert", None) | ("RequestClientCert", _) => ClientAuth::None,
        ("VerifyClientCertIfGiven", Some(_)) => ClientAuth::VerifyIfGiven,
        ("RequireAndVerifyClientCert", Some(_)) => ClientAuth::RequireAndVerify,
        ("VerifyClientCertIfGiven" | "RequireAndVerifyClientCert", None) => {
            anyhow::bail!("tls_server_config: client_auth_type {} needs client_ca_file", tls.client_auth_type)
        }
        ("" | "NoClientCert", Some(_)) => {
            anyhow::bail!("tls_server_config: client_ca_file is given but client_auth_type is NoClientCert")
        }
        (other, _) => anyhow::bail!(
            "tls_server_config: client_auth_type {other:?} is not supported, valid are NoClientCert, RequestClientCert, \
             VerifyClientCertIfGiven, RequireAndVerifyClientCert"
        ),
    };
    let min_version = match tls.min_version.as_deref() {
        None | Some("TLS10" | "TLS11" | "TLS12") => TlsVersion::V1_2,
        Some("TLS13") => TlsVersion::V1_3,
        Some(other) => anyhow::bail!("tls_server_config: min_version {other:?} is not known"),
    };
    match tls.max_version.as_deref() {
        None | Some("TLS13") => {}
        Some(other) => anyhow::bail!("tls_server_config: max_version {other:?} is not supported, only TLS13 is"),
    }
    let _ = tls.prefer_server_cipher_suites;
    Ok(TlsServerFiles {
        cert: base.join(tls.cert_file),
        key: base.join(tls.key_file),
        client_ca: tls.client_ca_file.map(|ca| base.join(ca)),
        client_auth,
        min_version,
        ciphers: tls.cipher_suites,
        curves: tls.curve_preferences,
        alpn,
    })
}

/// Lets in who may come in, and sets the configured headers on what goes out.
pub(super) async fn guard(State(web): State<Arc<WebConfig>>, request: Request, next: Next) -> Response<Body> {
    let parsed = web.current();
    if !parsed.users.is_empty() {
        let header = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        if !parsed.users.admits(header).await {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic")];
            return (StatusCode::UNAUTHORIZED, challenge, "Unauthorized\n").into_response();
        }
    }
    let mut response = next.run(request).await;
    response.headers_mut().extend(parsed.headers.iter().cloned());
    response
}
