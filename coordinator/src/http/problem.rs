//! Errors of the API.
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use control::Problem;

use super::App;
use crate::store::StoreError;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failure(Problem);

impl Failure {
    fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        Self(Problem::new(status.as_u16(), title, detail))
    }

    /// An error of this status, worded by somebody else.
    pub(crate) fn of(status: StatusCode, detail: &str) -> Self {
        Self::new(status, status.canonical_reason().unwrap_or("Error"), detail)
    }

    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Not identified", detail)
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", detail)
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "")
    }

    pub(crate) fn conflict(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", detail)
    }

    /// 425: there is a class and a right to watch it, but nothing to watch yet.
    pub(crate) fn not_live() -> Self {
        let failure = Self::new(StatusCode::TOO_EARLY, "Not live yet", "the lesson has not begun");
        Self(failure.0.retry_after(2))
    }

    pub(crate) fn too_many_requests() -> Self {
        Self(Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "").0.retry_after(1))
    }

    pub(crate) fn no_node() -> Self {
        Self(
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "No node", "no media node is running")
                .0
                .retry_after(2),
        )
    }

    pub(crate) fn no_database() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "No database", "")
    }

    /// The database's words are for the log, not for whoever asked.
    pub(crate) fn database(app: &App, error: &StoreError) -> Self {
        app.metrics.database_errors.inc();
        tracing::error!(%error, "a request failed");
        Self::internal()
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", "")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = HeaderValue::from_static(Problem::CONTENT_TYPE);
        let mut response = (status, [(CONTENT_TYPE, content_type)], self.0.to_json()).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
