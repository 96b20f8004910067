//! The HTTP API: Prometheus' own, with Thanos' parameters.

use crate::endpoints::Endpoints;
use crate::engine::QueryEngine;
use crate::federate::Federate;
use axum::Router;
use axum::routing::{MethodRouter, get};
use farview_config::Effective;
use farview_telemetry::HttpMetrics;
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod error;
mod federated;
pub(crate) mod labels;
mod params;
mod query;
mod response;
mod status;
mod stores;

/// Points that a range query may have in each series, as in Prometheus.
pub(crate) const MAX_POINTS: i64 = 11_000;

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) engine: Arc<QueryEngine>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) federate: Arc<Federate>,
    pub(crate) settings: Settings,
    pub(crate) effective: Effective,
    pub(crate) started: std::time::SystemTime,
}

/// Defaults of parameters.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `--query.replica-label`
    pub(crate) replica_labels: Vec<String>,
    /// `--query.partial-response`
    pub(crate) partial_response: bool,
    /// `--query.timeout`
    pub(crate) timeout: Duration,
    /// `--query.default-step`, ms
    pub(crate) default_step: i64,
    /// `--query.auto-downsampling`
    pub(crate) auto_downsampling: bool,
    /// `--query.instant.default.max_source_resolution`, ms
    pub(crate) instant_resolution: i64,
    /// `--query.metadata.default-time-range`, ms; 0 for everything
    pub(crate) metadata_range: i64,
    /// `--query.tenant-header`
    pub(crate) tenant_header: String,
    /// Who may see what.
    pub(crate) tenancy: crate::run::Tenancy,
}

/// Returns the routes below `/api/v1`, each counted under its name.
pub(crate) fn router(api: Arc<Api>, metrics: &HttpMetrics) -> Router {
    let counted = |name, route: MethodRouter<Arc<Api>>| metrics.instrument(name, route);
    Router::new()
        .route("/query", counted("query", get(query::instant).post(query::instant)))
        .route("/query_range", counted("query_range", get(query::range).post(query::range)))
        .route("/query_explain", counted("query_explain", get(query::explain_instant).post(query::explain_instant)))
        .route(
            "/query_range_explain",
            counted("query_range_explain", get(query::explain_range).post(query::explain_range)),
        )
        .route("/format_query", counted("format_query", get(query::format).post(query::format)))
        .route("/parse_query", counted("parse_query", get(query::parse).post(query::parse)))
        .route("/series", counted("series", get(labels::series).post(labels::series)))
        .route("/labels", counted("label_names", get(labels::names).post(labels::names)))
        .route("/label/{name}/values", counted("label_values", get(labels::values)))
        .route("/query_exemplars", counted("exemplars", get(federated::exemplars).post(federated::exemplars)))
        .route("/rules", counted("rules", get(federated::rules)))
        .route("/alerts", counted("alerts", get(federated::alerts)))
        .route("/targets", counted("targets", get(federated::targets)))
        .route("/metadata", counted("metadata", get(federated::metadata)))
        .route("/stores", counted("stores", get(stores::stores)))
        .route("/endpoints", counted("endpoints", get(stores::endpoints)))
        .route("/status/buildinfo", counted("status_build", get(status::build_info)))
        .route("/status/runtimeinfo", counted("status_runtime", get(status::runtime_info)))
        .route("/status/flags", counted("status_flags", get(status::flags)))
        .route("/status/tsdb", counted("status_tsdb", get(status::tsdb)))
        .fallback(error::no_such_path)
        .with_state(api)
}
