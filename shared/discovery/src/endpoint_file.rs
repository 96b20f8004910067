//! Thanos' endpoint file: `--endpoint.sd-config` and `--endpoint.sd-config-file`.
//!
//! ```yaml
//! default_client_config: {tls_config: {enabled: true, ca_file: ca.pem}, server_name: stores, compression: none}
//! endpoints:
//!   - {address: "dns+stores.mon.svc.:10901"}
//!   - {address: "10.0.0.1:10901", strict: true}
//!   - {address: "dns+gateways.mon.svc.:10901", group: true, client_config: {…}}
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::watched::{read, yaml};
use crate::{Error, Target, WatchedFiles};

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointFile {
    /// How endpoints are spoken to, unless they say otherwise.
    pub default_client_config: Option<ClientConfig>,
    /// The endpoints.
    pub endpoints: Vec<EndpointEntry>,
}

/// One endpoint or group.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointEntry {
    /// Where: a static address or a DNS target.
    #[serde(deserialize_with = "target")]
    pub address: Target,
    /// Whether it stays in the set although it fails. A strict endpoint has a static address, unless it is a group.
    #[serde(default)]
    pub strict: bool,
    /// Whether the addresses are interchangeable.
    #[serde(default)]
    pub group: bool,
    /// gRPC service config; for groups only.
    #[serde(default)]
    pub service_config: Option<serde_json::Value>,
    /// How this endpoint is spoken to, instead of the default.
    #[serde(default)]
    pub client_config: Option<ClientConfig>,
}

/// How endpoints are spoken to.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// TLS.
    pub tls_config: TlsConfig,
    /// The name to expect in certificates; empty: the host of the address.
    pub server_name: String,
    /// Compression of requests.
    pub compression: Compression,
}

/// TLS of a [`ClientConfig`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Whether TLS is spoken.
    pub enabled: bool,
    /// Take any certificate.
    pub insecure_skip_verify: bool,
    /// Our certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// CAs to trust.
    pub ca_file: Option<PathBuf>,
    /// Lowest version, `1.0` to `1.3` or `TLS10` to `TLS13`; what is below 1.2 is served as 1.2.
    pub min_version: Option<String>,
}

/// Compression of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None.
    #[default]
    None,
    /// Snappy.
    Snappy,
}

fn target<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl EndpointFile {
    /// Parses the content; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error::Content`]: not YAML, an unknown key, an address that does not parse, or settings that exclude each other.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let file: Self = yaml(origin, text)?;
        for entry in &file.endpoints {
            entry.check().map_err(|problem| Error::Content {
                path: origin.to_owned(),
                problem: format!("endpoint {}: {problem}", entry.address),
            })?;
        }
        Ok(file)
    }

    /// Reads and follows a file. `poll` is Thanos' `--endpoint.sd-config-reload-interval` (5 min). A file that becomes empty is not
    /// taken.
    ///
    /// # Errors
    /// See [`WatchedFiles::start`].
    pub fn watch(path: PathBuf, poll: Duration) -> Result<WatchedFiles<Self>, Error> {
        let file = path.clone();
        WatchedFiles::start(&[path], poll, move |before| {
            let text = read(&file)?;
            if before.is_some() && text.trim().is_empty() {
                // Seen while somebody writes in place: it must not let all endpoints go.
                let problem = "is empty now; write `endpoints: []` to mean none".to_owned();
                return Err(Error::Content { path: file.clone(), problem });
            }
            Self::parse(&text, &file)
        })
    }

    /// Returns how an endpoint of this file is spoken to, if the file says so.
    pub fn client_config<'a>(&'a self, entry: &'a EndpointEntry) -> Option<&'a ClientConfig> {
        entry.client_config.as_ref().or(self.default_client_config.as_ref())
    }
}

impl EndpointEntry {
    fn check(&self) -> Result<(), &'static str> {
        if self.strict && self.address.is_dynamic() && !self.group {
            return Err("strict needs a static address or a group");
        }
        if self.service_config.is_some() && !self.group {
            return Err("service_config is for groups only");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EndpointFile, String> {
        EndpointFile::parse(text, Path::new("endpoints.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let file = parse(
            r#"
default_client_config:
  tls_config: {enabled: true, insecure_skip_verify: false, cert_file: c.pem, key_file: k.pem, ca_file: ca.pem, min_version: "TLS13"}
  server_name: stores
  compression: snappy
endpoints:
  - address: dns+stores.mon.svc.:10901
  - address: 10.0.0.1:10901
    strict: true
    client_config: {tls_config: {enabled: false}, compression: none}
  - address: dns+gateways:10901
    group: true
    strict: true
    service_config: {loadBalancingPolicy: round_robin}
"#,
        )
        .unwrap();
        assert_eq!(file.endpoints.len(), 3);
        let enabled = |at: usize| file.client_config(&file.endpoints[at]).unwrap().tls_config.enabled;
        assert_eq!(file.client_config(&file.endpoints[0]).unwrap().compression, Compression::Snappy);
        assert!(enabled(0) && !enabled(1));
        assert!(file.endpoints[2].group && file.endpoints[2].service_config.is_some());
        assert_eq!(parse("").unwrap(), EndpointFile::default());
        assert_eq!(parse(r#"{"endpoints": [{"address": "a:1"}]}"#).unwrap().endpoints.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("endpoints: [{address: dns+a:1, strict: true}]", "dns+a:1: strict needs a static address"),
            ("endpoints: [{address: a:1, service_config: {}}]", "service_config is for groups"),
            ("endpoints: [{address: a}]", "port is missing"),
            ("endpoints: [{strict: true}]", "address"),
            ("endpoints: [{address: a:1, stric: true}]", "stric"),
            ("endpoint: []", "endpoint"),
            ("endpoints: [{", "endpoints.yaml"),
            ("endpoints: [{address: a:1, client_config: {compression: zip}}]", "zip"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
