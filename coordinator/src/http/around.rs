//! What concerns every request: pages of other origins, errors, the count.
use axum::body::to_bytes;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::Problem;

use super::{Failure, Shared};

/// The routes that pages of other origins may ask: a school's own site with a player in it. What lets somebody in
/// travels in headers that such a page must know, never in cookies that the browser would add by itself. Everything
/// else, what operators do above all, is not for them.
const FOR_OTHER_ORIGINS: [&str; 5] = [
    "/.well-known/jwks.json",
    "/api/openapi.json",
    "/api/token",
    "/api/v1/streams",
    "/api/v1/streams/{class}",
];
/// Bytes of an error's own words that are kept: they name a field.
const DETAIL_BYTES_MAX: usize = 1024;

/// Goes around every handler.
pub(super) async fn around(State(app): Shared, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("web", MatchedPath::as_str).to_owned();
    let is_for_others = FOR_OTHER_ORIGINS.contains(&route.as_str());
    let mut response = if is_for_others && request.method() == Method::OPTIONS {
        preflight()
    } else {
        as_problem(next.run(request).await).await
    };
    app.metrics.requests.with_label_values(&[route.as_str(), response.status().as_str()]).inc();
    let headers = response.headers_mut();
    if is_for_others {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After"));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer to a browser that asks first.
fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, X-Class-Pin"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Errors that the framework words itself become problems like all others.
async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|known| known == Problem::CONTENT_TYPE);
    if !is_error || is_problem {
        return response;
    }
    let (head, body) = response.into_parts();
    let words = to_bytes(body, DETAIL_BYTES_MAX).await.unwrap_or_default();
    // What went wrong inside is for the log.
    let detail = if status.is_client_error() { String::from_utf8_lossy(&words) } else { "".into() };
    let mut response = Failure::of(status, &detail).into_response();
    if let Some(allow) = head.headers.get(ALLOW) {
        response.headers_mut().insert(ALLOW, allow.clone());
    }
    response
}
