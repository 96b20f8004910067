//! From files to configurations of rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::verify::AnyServer;
use crate::Error;

/// The lowest version of TLS to speak. Below 1.2 there is nothing safe to offer: 1.0 and 1.1 are raised to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    #[default]
    V1_3,
}

impl TlsVersion {
    fn and_above(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V1_2 => rustls::ALL_VERSIONS,
            Self::V1_3 => TLS13_ONLY,
        }
    }
}

static TLS13_ONLY: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// What a server asks of its clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    None,
    /// A certificate, if they have one, that the CA has signed.
    VerifyIfGiven,
    /// A certificate that the CA has signed.
    RequireAndVerify,
}

/// Files and demands of a server.
#[derive(Debug, Clone, Default)]
pub struct TlsServerFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key of the first certificate, PEM.
    pub key: PathBuf,
    /// Certificates that sign clients', PEM.
    pub client_ca: Option<PathBuf>,
    /// What is asked of clients; anything but `None` needs `client_ca`.
    pub client_auth: ClientAuth,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Cipher suites of TLS 1.2 by IANA name; empty for the library's choice. Those of 1.3 are always on, as in Go.
    pub ciphers: Vec<String>,
    /// Curves by Go's names (`X25519`, `CurveP256`); empty for the library's choice.
    pub curves: Vec<String>,
    /// Protocols to offer, best first (`h2`, `http/1.1`).
    pub alpn: Vec<Vec<u8>>,
}

/// Files and demands of a client.
#[derive(Debug, Clone, Default)]
pub struct TlsClientFiles {
    /// Certificates that sign servers', PEM; the system's if not given.
    pub ca: Option<PathBuf>,
    /// Own certificate chain, PEM; goes with `key`.
    pub cert: Option<PathBuf>,
    /// Private key of the first certificate, PEM.
    pub key: Option<PathBuf>,
    /// Takes any certificate of the server. For tests and the desperate.
    pub skip_verify: bool,
    /// Lowest version.
    pub min_version: TlsVersion,
    /// Protocols to offer, best first.
    pub alpn: Vec<Vec<u8>>,
}

impl TlsServerFiles {
    /// Returns the server that a set of flags means: `None` if neither certificate nor key is given, an error if one is
    /// missing. A client CA means that clients must have a certificate. `flag` is the common prefix, for messages.
    pub fn from_pair(
        flag: &str,
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
        client_ca: Option<&PathBuf>,
    ) -> Result<Option<Self>, Error> {
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Self {
                cert: cert.clone(),
                key: key.clone(),
                client_auth: if client_ca.is_some() { ClientAuth::RequireAndVerify } else { ClientAuth::None },
                client_ca: client_ca.cloned(),
                ..Self::default()
            })),
            (None, None) if client_ca.is_some() => {
                Err(Error::Inconsistent(format!("--{flag}-client-ca needs --{flag}-cert and --{flag}-key")))
            }
            (None, None) => Ok(None),
            _ => Err(Error::Inconsistent(format!("--{flag}-cert and --{flag}-key go together, give both or none"))),
        }
    }

    /// Reads the files and checks that they fit together.
    pub fn load(&self) -> Result<ServerConfig, Error> {
        let provider = Arc::new(self.provider()?);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.and_above())
            .map_err(|e| tls("TLS versions", e))?;
        let builder = match (self.client_auth, &self.client_ca) {
            (ClientAuth::None, _) => builder.with_no_client_auth(),
            (auth, Some(ca)) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider);
                let verifier = match auth {
                    ClientAuth::VerifyIfGiven => verifier.allow_unauthenticated(),
                    ClientAuth::RequireAndVerify | ClientAuth::None => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| tls(ca.display(), e))?)
            }
            (_, None) => return Err(tls("client authentication", "needs a client CA")),
        };
        let (chain, key) = pair(&self.cert, &self.key)?;
        let mut config = builder.with_single_cert(chain, key).map_err(|e| tls(self.cert.display(), e))?;
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    fn provider(&self) -> Result<CryptoProvider, Error> {
        let mut provider = aws_lc_rs::default_provider();
        if !self.ciphers.is_empty() {
            let keep = |s: &SupportedCipherSuite| {
                s.tls13().is_some() || s.suite().as_str().is_some_and(|name| self.ciphers.iter().any(|c| c == name))
            };
            let known = |name: &str| aws_lc_rs::ALL_CIPHER_SUITES.iter().any(|s| iana(s) == name);
            warn_of_unknown("cipher suite", self.ciphers.iter().filter(|name| !known(name)));
            provider.cipher_suites.retain(keep);
        }
        if !self.curves.is_empty() {
            let wanted: Vec<NamedGroup> = self.curves.iter().filter_map(|c| curve(c)).collect();
            warn_of_unknown("curve", self.curves.iter().filter(|name| curve(name).is_none()));
            provider.kx_groups.retain(|g| wanted.contains(&g.name()));
            if provider.kx_groups.is_empty() {
                return Err(tls("TLS curves", "none of them is supported, valid are X25519, CurveP256, CurveP384"));
            }
        }
        Ok(provider)
    }
}

impl TlsClientFiles {
    /// Reads the files and checks that they fit together.
    pub fn load(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.and_above())
            .map_err(|e| tls("TLS versions", e))?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer::new(provider)))
        } else {
            builder.with_root_certificates(match &self.ca {
                Some(ca) => roots(ca)?,
                None => system_roots(),
            })
        };
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let (chain, key) = pair(cert, key)?;
                builder.with_client_auth_cert(chain, key).map_err(|e| tls(cert.display(), e))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Error::Inconsistent("a client certificate and its key go together, give both".to_owned())),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        [self.ca.as_ref(), self.cert.as_ref(), self.key.as_ref()].into_iter().flatten().cloned().collect()
    }
}

pub(super) fn tls(what: impl ToString, reason: impl ToString) -> Error {
    Error::Tls { what: what.to_string(), reason: reason.to_string() }
}

/// Reads all certificates of a file; an error if there is none.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|e| tls(path.display(), e))?;
    if certificates.is_empty() { Err(tls(path.display(), "holds no certificate in PEM")) } else { Ok(certificates) }
}

fn pair(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let chain = certificates(cert)?;
    let pem = std::fs::read(key).map_err(|source| Error::Read { path: key.to_owned(), source })?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|e| tls(key.display(), e))?;
    Ok((chain, key))
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|e| tls(path.display(), e))?;
    }
    Ok(store)
}

/// What of the system's certificates can be used: one broken file among a hundred does not stop a client.
fn system_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

fn iana(suite: &SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replacen("TLS13_", "TLS_", 1)
}

fn curve(name: &str) -> Option<NamedGroup> {
    Some(match name {
        "X25519" => NamedGroup::X25519,
        "CurveP256" | "P256" => NamedGroup::secp256r1,
        "CurveP384" | "P384" => NamedGroup::secp384r1,
        "X25519MLKEM768" => NamedGroup::X25519MLKEM768,
        _ => return None,
    })
}

/// Manifests list what Go supports; what is weaker than anything offered here is left out, and said.
fn warn_of_unknown<'a>(what: &str, names: impl Iterator<Item = &'a String>) {
    for name in names {
        tracing::warn!(name, "{what} is not supported and left out");
    }
}
