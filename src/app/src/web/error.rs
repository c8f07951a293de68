//! What a client is told when there is no page: a status and one sentence as JSON. What the operator
//! needs to know is in the log, under the same trace id.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::version;

/// Why there is no page.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Failure {
    /// This version's bug, or `FAIL_PERCENT`.
    #[error("internal error")]
    OnPurpose,
    /// A fault of ours: a query that fails, a row that is missing.
    #[error("internal error")]
    Fault,
    /// A page panicked.
    #[error("internal error")]
    Panic,
    /// The database cannot be reached at present.
    #[error("the database does not answer; try again")]
    Outage,
    /// `REQUEST_TIMEOUT` is over.
    #[error("no answer in {0:?}; try again")]
    TooSlow(Duration),
    /// No such path.
    #[error("no such page")]
    NotFound,
    /// The path has no such method.
    #[error("this page is only read: GET or HEAD")]
    Method,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self {
            Self::OnPurpose | Self::Fault | Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Outage | Self::TooSlow(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        };
        let body = json!({ "error": self.to_string(), "version": version::NUMBER });
        (status, Json(body)).into_response()
    }
}
