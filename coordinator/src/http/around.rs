//! What concerns every request: errors, headers, the count.
use axum::body::to_bytes;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::Problem;

use super::{Failure, Shared};

/// Bytes of an error's own words that are kept: they name a field.
const DETAIL_BYTES_MAX: usize = 1024;

/// Goes around every handler.
pub(super) async fn around(State(app): Shared, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("web", MatchedPath::as_str).to_owned();
    let mut response = as_problem(next.run(request).await).await;
    app.metrics.requests.with_label_values(&[route.as_str(), response.status().as_str()]).inc();
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Failure {
    /// What is wrong with a body, in the words of whoever read it.
    pub(super) fn body(rejection: axum::extract::rejection::JsonRejection) -> Self {
        Self::of(rejection.status(), &rejection.body_text())
    }
}

/// Errors that the framework words itself become problems like all others.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|known| known == Problem::CONTENT_TYPE);
    if !is_error || is_problem {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let words = to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
    // What went wrong inside is for the log.
    let detail = if status.is_client_error() { String::from_utf8_lossy(&words) } else { "".into() };
    let mut response = Failure::of(status, &detail).into_response();
    // Of the framework's headers those that are about the resource: what may be done with it, and by whom.
    for name in [ALLOW, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY] {
        if let Some(value) = head.headers.remove(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
