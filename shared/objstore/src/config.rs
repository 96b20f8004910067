//! The objstore YAML, as Thanos reads it: `type`, `config`, `prefix`.

use crate::client::{Connector, HttpConfig};
use crate::{Bucket, BucketMetrics};
use base64::Engine;
use farview_config::{Error, PairSpec, PathOrContent, Secret, yaml};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a request is tried again for.
pub const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the objects are.
#[derive(Debug, Clone)]
pub struct BucketConfig {
    backend: Backend,
    prefix: String,
    hedging: Hedging,
}

#[derive(Debug, Clone)]
enum Backend {
    Filesystem(Filesystem),
    S3(Box<S3>),
    Gcs(Box<Gcs>),
    Azure(Box<Azure>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    r#type: String,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    hedging_config: Hedging,
    #[serde(default)]
    config: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Body<T> {
    config: T,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hedging {
    enabled: bool,
    up_to: u32,
    quantile: f64,
}

impl Default for Hedging {
    fn default() -> Self {
        Self { enabled: true, up_to: 3, quantile: 0.95 }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filesystem {
    directory: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct S3 {
    bucket: String,
    endpoint: String,
    region: String,
    disable_dualstack: bool,
    aws_sdk_auth: bool,
    access_key: Secret,
    secret_key: Secret,
    session_token: Secret,
    insecure: bool,
    signature_version2: bool,
    put_user_metadata: BTreeMap<String, String>,
    http_config: HttpConfig,
    trace: Trace,
    list_objects_version: String,
    bucket_lookup_type: String,
    send_content_md5: bool,
    disable_multipart: bool,
    part_size: u64,
    sse_config: Sse,
    sts_endpoint: String,
    max_retries: usize,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            endpoint: String::new(),
            region: String::new(),
            disable_dualstack: false,
            aws_sdk_auth: false,
            access_key: Secret::default(),
            secret_key: Secret::default(),
            session_token: Secret::default(),
            insecure: false,
            signature_version2: false,
            put_user_metadata: BTreeMap::new(),
            http_config: HttpConfig::default(),
            trace: Trace::default(),
            list_objects_version: String::new(),
            bucket_lookup_type: "auto".to_owned(),
            send_content_md5: true,
            disable_multipart: false,
            part_size: 64 << 20,
            sse_config: Sse::default(),
            sts_endpoint: String::new(),
            max_retries: 0,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Trace {
    enable: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sse {
    r#type: String,
    kms_key_id: String,
    kms_encryption_context: BTreeMap<String, String>,
    encryption_key: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gcs {
    bucket: String,
    service_account: Secret,
    use_grpc: bool,
    grpc_conn_pool_size: u64,
    http_config: HttpConfig,
    chunk_size_bytes: u64,
    max_retries: usize,
    /// Not a key of Thanos: another server, for tests and proxies.
    endpoint: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Azure {
    storage_account: String,
    storage_account_key: Secret,
    storage_connection_string: Secret,
    storage_create_container: bool,
    container: String,
    endpoint: String,
    user_assigned_id: String,
    az_tenant_id: String,
    client_id: String,
    client_secret: Secret,
    msi_resource: String,
    max_retries: usize,
    reader_config: ReaderConfig,
    pipeline_config: PipelineConfig,
    http_config: HttpConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ReaderConfig {
    max_retry_requests: usize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PipelineConfig {
    max_tries: usize,
    try_timeout: String,
    retry_delay: String,
    max_retry_delay: String,
}

const TYPES: [&str; 4] = ["FILESYSTEM", "S3", "GCS", "AZURE"];

/// `--objstore.config` of those that read the blocks of a bucket.
#[derive(Debug)]
pub struct BucketFlag;

impl PairSpec for BucketFlag {
    const NAME: &'static str = "objstore.config";
    const ABOUT: &'static str = "YAML with the object store that holds the blocks";
    const GROUP: &'static str = "Bucket";
}

impl BucketConfig {
    /// Reads the YAML; `origin` names it in errors.
    ///
    /// # Errors
    /// [`Error`] for an unknown type or key, which names the nearest one, and for what does not fit together.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let wrong = |message: String| Error::Yaml { origin: origin.to_owned(), message };
        let head: Head = yaml::from_str(text, origin)?;
        if head.config.is_none() {
            return Err(wrong(format!("type {} needs a config", head.r#type)));
        }
        let backend = match head.r#type.to_ascii_uppercase().as_str() {
            "FILESYSTEM" => Backend::Filesystem(yaml::from_str::<Body<_>>(text, origin)?.config),
            "S3" => Backend::S3(yaml::from_str::<Body<_>>(text, origin)?.config),
            "GCS" => Backend::Gcs(yaml::from_str::<Body<_>>(text, origin)?.config),
            "AZURE" => Backend::Azure(yaml::from_str::<Body<_>>(text, origin)?.config),
            other => {
                let hint = farview_config::nearest(other, TYPES).map(|n| format!(", did you mean {n}?"));
                let known = "known are FILESYSTEM, S3, GCS and AZURE";
                return Err(wrong(format!("unknown type {other:?} ({known}){}", hint.unwrap_or_default())));
            }
        };
        let prefix = head.prefix.trim_matches('/').to_owned();
        let config = Self { backend, prefix, hedging: head.hedging_config };
        let bucket = match &config.backend {
            Backend::Filesystem(_) => "directory",
            Backend::S3(s3) => &s3.bucket,
            Backend::Gcs(gcs) => &gcs.bucket,
            Backend::Azure(azure) => &azure.container,
        };
        if bucket.is_empty() {
            return Err(wrong(format!("config has no {}", config.bucket_key())));
        }
        Ok(config)
    }

    /// Makes the configuration of a folder.
    pub fn folder(directory: impl Into<PathBuf>) -> Self {
        let backend = Backend::Filesystem(Filesystem { directory: directory.into() });
        Self { backend, prefix: String::new(), hedging: Hedging::default() }
    }

    fn bucket_key(&self) -> &'static str {
        if matches!(self.backend, Backend::Azure(_)) { "container" } else { "bucket" }
    }

    /// Returns what the bucket is called in messages and metrics.
    pub fn name(&self) -> String {
        match &self.backend {
            Backend::Filesystem(folder) => folder.directory.display().to_string(),
            Backend::S3(s3) => s3.bucket.clone(),
            Backend::Gcs(gcs) => gcs.bucket.clone(),
            Backend::Azure(azure) => azure.container.clone(),
        }
    }

    /// Reads the YAML that a pair of flags gives; none if neither was given.
    ///
    /// # Errors
    /// As [`BucketConfig::parse`], and if the file cannot be read.
    pub fn read<P: PairSpec>(flags: &PathOrContent<P>) -> Result<Option<Self>, Error> {
        flags.read()?.map(|text| Self::parse(text.expose(), &flags.origin())).transpose()
    }

    /// Builds the bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`Error`] if credentials, certificates or addresses cannot be used.
    pub fn open(&self, metrics: BucketMetrics) -> Result<Bucket, Error> {
        let (store, part_size): (Arc<dyn ObjectStore>, u64) = match &self.backend {
            Backend::Filesystem(folder) => (folder.open()?, 64 << 20),
            Backend::S3(s3) => (s3.open()?, if s3.disable_multipart { u64::MAX } else { s3.part_size.max(5 << 20) }),
            Backend::Gcs(gcs) => (gcs.open()?, gcs.chunk_size_bytes.max(16 << 20)),
            Backend::Azure(azure) => (azure.open()?, 64 << 20),
        };
        let hedging = (self.hedging.enabled && self.hedging.up_to > 1).then_some(self.hedging.quantile);
        Ok(Bucket::new(self.name(), self.prefix.clone(), store, part_size, hedging, metrics))
    }
}

fn inconsistent(what: &str, reason: impl std::fmt::Display) -> Error {
    Error::Inconsistent(format!("objstore {what}: {reason}"))
}

fn retry(max_retries: usize) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(10),
        ..BackoffConfig::default()
    };
    let max_retries = if max_retries == 0 { 10 } else { max_retries };
    RetryConfig { backoff, max_retries, retry_timeout: RETRY_TIMEOUT }
}

fn client(insecure: bool) -> ClientOptions {
    ClientOptions::new().with_allow_http(insecure)
}

impl Filesystem {
    fn open(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        std::fs::create_dir_all(&self.directory)
            .map_err(|source| Error::Read { path: self.directory.clone(), source })?;
        let store = LocalFileSystem::new_with_prefix(&self.directory).map_err(|e| inconsistent("directory", e))?;
        // Blocks must not half exist after a crash, and folders without files would look like blocks.
        Ok(Arc::new(store.with_fsync(true).with_automatic_cleanup(true)))
    }
}

impl S3 {
    fn open(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        if self.signature_version2 {
            return Err(inconsistent("signature_version2", "only version 4 is supported"));
        }
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(inconsistent("access_key", "access_key and secret_key go together"));
        }
        for (set, key) in [
            (!self.put_user_metadata.is_empty(), "put_user_metadata"),
            (!self.sts_endpoint.is_empty(), "sts_endpoint"),
            (self.list_objects_version == "v1", "list_objects_version: v1"),
            (!self.sse_config.kms_encryption_context.is_empty(), "sse_config.kms_encryption_context"),
        ] {
            if set {
                return Err(inconsistent(key, "is not supported"));
            }
        }
        let (host, region) = (self.endpoint.trim_end_matches('/'), self.region.as_str());
        let amazon = host.split(':').next().is_some_and(|host| host.ends_with(".amazonaws.com")) || host.is_empty();
        let region = match region {
            "" if amazon => host.split('.').find(|part| part.matches('-').count() >= 2).unwrap_or("us-east-1"),
            "" => "us-east-1",
            region => region,
        };
        let virtual_hosted = match self.bucket_lookup_type.as_str() {
            "" | "auto" => amazon,
            "virtual-hosted" => true,
            "path" => false,
            other => {
                return Err(inconsistent(
                    "bucket_lookup_type",
                    format!("{other:?} is none of auto, virtual-hosted, path"),
                ));
            }
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(virtual_hosted)
            .with_retry(retry(self.max_retries))
            .with_client_options(client(self.insecure))
            .with_allow_http(self.insecure)
            .with_http_connector(Connector::new(&self.http_config)?);
        if !host.is_empty() {
            let scheme = if self.insecure { "http" } else { "https" };
            let bare = host.trim_start_matches("https://").trim_start_matches("http://");
            builder = builder.with_endpoint(match virtual_hosted {
                true => format!("{scheme}://{}.{bare}", self.bucket),
                false => format!("{scheme}://{bare}"),
            });
        }
        if !self.access_key.is_empty() {
            builder =
                builder.with_access_key_id(self.access_key.expose()).with_secret_access_key(self.secret_key.expose());
            if !self.session_token.is_empty() {
                builder = builder.with_token(self.session_token.expose());
            }
        } else if std::env::var_os("AWS_ACCESS_KEY_ID").is_none()
            && let Some(profile) = shared_credentials()
        {
            builder = builder.with_access_key_id(&profile.key).with_secret_access_key(profile.secret.expose());
            if let Some(token) = &profile.token {
                builder = builder.with_token(token.expose());
            }
        }
        builder = self.sse_config.apply(builder)?;
        Ok(Arc::new(builder.build().map_err(|error| inconsistent("S3", error))?))
    }
}

impl Sse {
    fn apply(&self, builder: AmazonS3Builder) -> Result<AmazonS3Builder, Error> {
        Ok(match self.r#type.as_str() {
            "" => builder,
            "SSE-S3" => {
                let key: AmazonS3ConfigKey =
                    "aws_server_side_encryption".parse().map_err(|error| inconsistent("sse_config", error))?;
                builder.with_config(key, "AES256")
            }
            "SSE-KMS" => builder.with_sse_kms_encryption(&self.kms_key_id),
            "SSE-C" => {
                let path = &self.encryption_key;
                let key = std::fs::read(path).map_err(|source| Error::Read { path: path.clone(), source })?;
                if key.len() != 32 {
                    let text = format!("{} has {} bytes and not 32", path.display(), key.len());
                    return Err(inconsistent("sse_config.encryption_key", text));
                }
                builder.with_ssec_encryption(base64::engine::general_purpose::STANDARD.encode(key))
            }
            other => {
                return Err(inconsistent("sse_config.type", format!("{other:?} is none of SSE-S3, SSE-KMS, SSE-C")));
            }
        })
    }
}

/// Credentials of a profile of the shared file.
struct Profile {
    key: String,
    secret: Secret,
    token: Option<Secret>,
}

/// Reads the credentials that the tools of AWS keep in the home folder, which `object_store` does not look at.
fn shared_credentials() -> Option<Profile> {
    let path = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".aws/credentials")))?;
    let wanted = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    profile(&std::fs::read_to_string(path).ok()?, &wanted)
}

fn profile(text: &str, wanted: &str) -> Option<Profile> {
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == wanted;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    Some(Profile {
        key: found.remove("aws_access_key_id")?,
        secret: Secret::new(found.remove("aws_secret_access_key")?),
        token: found.remove("aws_session_token").map(Secret::new),
    })
}

impl Gcs {
    fn open(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        if self.use_grpc {
            return Err(inconsistent("use_grpc", "is not supported: leave it out to use HTTP"));
        }
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&self.bucket)
            .with_retry(retry(self.max_retries))
            .with_client_options(client(self.endpoint.starts_with("http://")))
            .with_http_connector(Connector::new(&self.http_config)?);
        if !self.endpoint.is_empty() {
            builder = builder.with_base_url(&self.endpoint).with_skip_signature(self.service_account.is_empty());
        }
        if !self.service_account.is_empty() {
            builder = builder.with_service_account_key(self.service_account.expose());
        }
        Ok(Arc::new(builder.build().map_err(|error| inconsistent("GCS", error))?))
    }
}

impl Azure {
    fn open(&self) -> Result<Arc<dyn ObjectStore>, Error> {
        let connection: BTreeMap<&str, &str> =
            self.storage_connection_string.expose().split(';').filter_map(|part| part.split_once('=')).collect();
        let of = |key: &str| connection.get(key).map(|value| (*value).to_owned());
        let account = of("AccountName").unwrap_or_else(|| self.storage_account.clone());
        if account.is_empty() {
            return Err(inconsistent("storage_account", "is missing"));
        }
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_account(&account)
            .with_container_name(&self.container)
            .with_retry(retry(self.max_retries.max(self.pipeline_config.max_tries)))
            .with_http_connector(Connector::new(&self.http_config)?);
        let endpoint = of("BlobEndpoint").or_else(|| match self.endpoint.as_str() {
            "" | "blob.core.windows.net" => None,
            full if full.contains("://") => Some(full.to_owned()),
            domain => Some(format!("https://{account}.{domain}")),
        });
        if let Some(endpoint) = endpoint {
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        if let Some(key) = of("AccountKey").or_else(|| some(&self.storage_account_key)) {
            builder = builder.with_access_key(key);
        } else if let Some(secret) = some(&self.client_secret) {
            builder = builder.with_client_secret_authorization(&self.client_id, secret, &self.az_tenant_id);
        } else if !self.user_assigned_id.is_empty() {
            builder = builder.with_config(AzureConfigKey::ClientId, &self.user_assigned_id);
        }
        Ok(Arc::new(builder.build().map_err(|error| inconsistent("AZURE", error))?))
    }
}

fn some(secret: &Secret) -> Option<String> {
    (!secret.is_empty()).then(|| secret.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        BucketConfig::parse(text, "bucket.yaml").map(|c| panic!("{c:?}")).unwrap_err().to_string()
    }

    #[test]
    fn what_thanos_reads_is_read() {
        let s3 = "type: s3\nconfig:\n  bucket: b\n  endpoint: s3.eu-west-1.amazonaws.com\n  access_key: a\n  secret_key: x\n  http_config:\n    idle_conn_timeout: 1m30s\n    tls_config: {insecure_skip_verify: true}\n  sse_config: {type: SSE-S3}\n  trace: {enable: false}\n  part_size: 67108864\nprefix: /tenants/a/\n";
        let config = BucketConfig::parse(s3, "x").unwrap();
        assert_eq!((config.name().as_str(), config.prefix.as_str()), ("b", "tenants/a"));
        config.open(BucketMetrics::register(&mut Default::default())).unwrap();
        for text in [
            "type: GCS\nconfig: {bucket: b, service_account: ''}\n",
            "type: AZURE\nconfig: {storage_account: a, storage_account_key: 'a2V5', container: c}\n",
            "type: AZURE\nconfig: {storage_connection_string: 'AccountName=a;AccountKey=a2V5;BlobEndpoint=http://h/a', container: c}\n",
        ] {
            BucketConfig::parse(text, "x").unwrap().open(BucketMetrics::register(&mut Default::default())).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        let text = error("type: S3\nconfig:\n  buckt: b\n  secret_key: hunter2\n");
        assert!(text.contains("buckt") && text.contains("did you mean bucket?") && !text.contains("hunter2"), "{text}");
        assert!(error("type: AZUR\nconfig: {}\n").contains("did you mean AZURE?"));
        assert!(error("type: S3\n").contains("needs a config"));
        assert!(error("type: S3\nconfig: {endpoint: h}\n").contains("config has no bucket"));
        assert!(error("type: S3\nconfig: {bucket: b}\nprefx: a\n").contains("prefx"));
    }

    #[test]
    fn a_profile_of_the_shared_file_is_found() {
        let text =
            "[other]\naws_access_key_id=no\n[default]\n# mine\naws_access_key_id = a\naws_secret_access_key = b=c\n";
        let found = profile(text, "default").unwrap();
        assert_eq!((found.key.as_str(), found.secret.expose()), ("a", "b=c"));
        assert!(profile(text, "other").is_none() && profile("", "default").is_none());
    }
}
