//! Errors of the API: kinds of errors become Prometheus' `errorType` and an HTTP status, here and nowhere else.

use crate::engine::QueryError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use farview_model::ErrorKind;
use farview_promql::engine::Error;
use farview_storeapi::StoreError;
use serde_json::json;

/// An error that a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u32>,
}

impl ApiError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// A parameter is wrong.
    pub(crate) fn parameter(name: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, format!("invalid parameter {name:?}: {problem}"))
    }
}

/// Returns Prometheus' name and the HTTP status of a kind of error.
pub(crate) const fn status(kind: ErrorKind) -> (&'static str, StatusCode) {
    match kind {
        ErrorKind::Invalid => ("bad_data", StatusCode::BAD_REQUEST),
        ErrorKind::NotFound => ("not_found", StatusCode::NOT_FOUND),
        ErrorKind::LimitExceeded | ErrorKind::Execution | ErrorKind::Corrupt => {
            ("execution", StatusCode::UNPROCESSABLE_ENTITY)
        }
        ErrorKind::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        ErrorKind::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
        // 499, which has no name: the client has closed the request.
        ErrorKind::Cancelled => ("canceled", StatusCode::SERVICE_UNAVAILABLE),
        ErrorKind::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (error_type, status) = status(self.kind);
        let body = json!({ "status": "error", "errorType": error_type, "error": self.message }).to_string();
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let mut response = (status, headers, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind, error.message)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let limit = error.limit().filter(|limit| *limit != "--query.timeout");
        let mut this = Self::unnamed(error);
        // Prometheus' texts name no flag; who is to raise a limit must know which.
        if let Some(limit) = limit.filter(|limit| !this.message.contains(limit)) {
            this.message.push_str(&format!(" ({limit})"));
        }
        this
    }
}

impl ApiError {
    fn unnamed(error: QueryError) -> Self {
        match error {
            QueryError::Refused(refused) => {
                Self { retry_after: Some(5), ..Self::new(ErrorKind::Unavailable, refused.to_string()) }
            }
            QueryError::Engine(error) => error.into(),
        }
    }
}

/// Answers for paths that are none.
pub(super) async fn no_such_path(uri: axum::http::Uri) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("there is nothing at {}", uri.path()))
}
