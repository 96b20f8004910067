//! Spans, sent by OTLP as Thanos' `--tracing.config` says.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use farview_config::{PairSpec, PathOrContent, PromDuration, Secret};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;

/// The pair `--tracing.config`, `--tracing.config-file`.
#[derive(Debug)]
pub struct TracingConfig;

impl PairSpec for TracingConfig {
    const NAME: &'static str = "tracing.config";
    const ABOUT: &'static str = "YAML with the tracing configuration, see https://thanos.io/tip/thanos/tracing.md/";
    const GROUP: &'static str = "Tracing";
}

/// `--tracing.*`.
#[derive(Debug, Clone, Default, Args)]
pub struct TracingFlags {
    /// Where spans go.
    #[command(flatten)]
    pub config: PathOrContent<TracingConfig>,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] farview_config::Error),
    /// A kind of collector farview does not speak to.
    #[error(
        "{origin}: tracing type {kind} is not supported, only OTLP is; most collectors, Jaeger's included, take OTLP"
    )]
    Unsupported {
        /// The flag.
        origin: String,
        /// The type asked for.
        kind: String,
    },
    /// A value that means nothing.
    #[error("{origin}: {reason}")]
    Invalid {
        /// The flag.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// The exporter refused its settings.
    #[error("make the OTLP exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: serde_json::Value,
}

/// The keys of Thanos' OTLP configuration. Retrying and reconnecting is the exporter's own business here: those keys are
/// read and have no effect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Otlp {
    client_type: String,
    service_name: String,
    resource_attributes: BTreeMap<String, String>,
    endpoint: String,
    insecure: bool,
    timeout: Option<PromDuration>,
    headers: BTreeMap<String, Secret>,
    sampler_type: String,
    sampler_param: String,
    compression: String,
    url_path: String,
    reconnection_period: Option<PromDuration>,
    retry_config: serde::de::IgnoredAny,
    tls_config: serde::de::IgnoredAny,
}

/// Where spans go. Kept until the process ends, then [`Tracer::shut_down`].
#[derive(Debug)]
pub struct Tracer {
    provider: SdkTracerProvider,
}

impl TracingFlags {
    /// Makes the tracer that is configured, if one is. Needs a runtime around it; opens no connection yet.
    pub fn tracer(&self, service: &str) -> Result<Option<Tracer>, TracingError> {
        let Some(document) = self.config.parse::<Document>()? else { return Ok(None) };
        let origin = self.config.origin();
        if !document.kind.eq_ignore_ascii_case("OTLP") {
            return Err(TracingError::Unsupported { origin, kind: document.kind });
        }
        let invalid = |reason: String| TracingError::Invalid { origin: origin.clone(), reason };
        let otlp: Otlp = match document.config {
            serde_json::Value::Null => Otlp::default(),
            config => serde_json::from_value(config).map_err(|e| invalid(e.to_string()))?,
        };
        let sampler = sampler(&otlp.sampler_type, &otlp.sampler_param).map_err(&invalid)?;
        let exporter = exporter(&otlp).map_err(&invalid)??;
        let name = if otlp.service_name.is_empty() { format!("farview-{service}") } else { otlp.service_name };
        let attributes = otlp.resource_attributes.into_iter().map(|(k, v)| KeyValue::new(k, v));
        let resource = Resource::builder().with_service_name(name).with_attributes(attributes).build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Some(Tracer { provider }))
    }
}

/// Settings may be invalid (the outer error) or refused by the exporter (the inner one).
fn exporter(otlp: &Otlp) -> Result<Result<SpanExporter, TracingError>, String> {
    if !otlp.client_type.eq_ignore_ascii_case("grpc") {
        return Err(format!("client_type {:?} is not supported, use grpc", otlp.client_type));
    }
    if !otlp.compression.is_empty() && !otlp.compression.eq_ignore_ascii_case("none") {
        return Err(format!("compression {:?} is not supported, leave it out", otlp.compression));
    }
    let endpoint = match otlp.endpoint.as_str() {
        "" => "localhost:4317",
        endpoint => endpoint,
    };
    let endpoint = match endpoint.contains("://") {
        true => endpoint.to_owned(),
        false => format!("{}://{endpoint}", if otlp.insecure { "http" } else { "https" }),
    };
    let mut metadata = tonic::metadata::MetadataMap::new();
    for (name, value) in &otlp.headers {
        let key = tonic::metadata::MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes());
        let value = value.expose().parse();
        match (key, value) {
            (Ok(key), Ok(value)) => metadata.insert(key, value),
            _ => return Err(format!("header {name:?} is not valid")),
        };
    }
    let timeout = otlp.timeout.map_or(Duration::from_secs(10), PromDuration::get);
    let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(timeout);
    Ok(builder.with_metadata(metadata).build().map_err(TracingError::from))
}

/// The samplers of Thanos; its default follows the caller and takes a fraction of what begins here.
fn sampler(kind: &str, param: &str) -> Result<Sampler, String> {
    let ratio = || match param {
        "" => Ok(1.0),
        text => text.parse::<f64>().map_err(|_| format!("sampler_param {text:?} is not a number")),
    };
    let parent = |inner: Sampler| Sampler::ParentBased(Box::new(inner));
    Ok(match kind.to_ascii_lowercase().as_str() {
        "alwayssample" => Sampler::AlwaysOn,
        "neversample" => Sampler::AlwaysOff,
        "traceidratiobased" | "probabilistic" => Sampler::TraceIdRatioBased(ratio()?),
        "parentbasedalwayssample" => parent(Sampler::AlwaysOn),
        "parentbasedneversample" => parent(Sampler::AlwaysOff),
        "" | "parentbasedtraceidratio" | "parentbased" => parent(Sampler::TraceIdRatioBased(ratio()?)),
        other => return Err(format!("sampler_type {other:?} is not known")),
    })
}

impl Tracer {
    /// Returns the layer that turns spans of `tracing` into spans that are sent.
    pub fn layer<S>(&self) -> tracing_opentelemetry::OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer("farview"))
    }

    /// Sends what is left, within a few seconds. Blocks; call it outside of the runtime's threads.
    pub fn shut_down(self) {
        if let Err(e) = self.provider.shutdown_with_timeout(Duration::from_secs(5)) {
            tracing::warn!(error = %e, "could not send the last spans");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(yaml: &str) -> Result<Option<Tracer>, String> {
        let flags = TracingFlags { config: PathOrContent::inline(yaml) };
        flags.tracer("query").map_err(|e| e.to_string())
    }

    #[tokio::test]
    async fn otlp_is_taken_and_what_is_not_understood_is_refused_by_name() {
        assert!(TracingFlags::default().tracer("query").unwrap().is_none());
        let otlp = "type: OTLP\nconfig: {client_type: grpc, endpoint: 'localhost:1', insecure: true, headers: {a: b}}";
        assert!(tracer(otlp).unwrap().is_some());
        let refused = [
            ("type: JAEGER", "type JAEGER is not supported, only OTLP is"),
            ("type: OTLP\nconfig: {client_type: http}", "client_type \"http\" is not supported"),
            ("type: OTLP\nconfig: {client_type: grpc, sampler_type: dice}", "sampler_type \"dice\" is not known"),
            ("type: OTLP\nconfig: {clienttype: grpc}", "unknown field `clienttype`"),
        ];
        for (yaml, reason) in refused {
            let error = tracer(yaml).map(|_| ()).unwrap_err();
            assert!(error.starts_with("--tracing.config: ") && error.contains(reason), "{error}");
        }
    }
}
