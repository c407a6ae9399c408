//! Answers: the headers that players rely on, and errors as RFC 9457 has them.
use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, LINK,
    LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use control::Problem;

use crate::sessions::{EntityTag, EventKind};

pub(super) const SDP: &str = "application/sdp";
/// What the link to a session's events is called.
const EVENTS_REL: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// RFC 6750, section 3.1.
const INVALID_TOKEN: &str = "Bearer error=\"invalid_token\"";
pub(super) const JSON: &str = "application/json";
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Seconds after which a player that finds no lesson tries again.
const RETRY_NOT_LIVE: u32 = 2;
/// Seconds after which a player that finds the node full tries again: seats come back when others leave.
const RETRY_FULL: u32 = 5;
/// Seconds after which a player that found a shard's queue full tries again: a shard works it off in much less.
const RETRY_BUSY: u32 = 1;
/// Seconds after which the coordinator is asked for its keys again.
const RETRY_NO_KEYS: u32 = 2;
/// Seconds in which the bucket of an address has gained some requests.
const RETRY_RATE_LIMITED: u32 = 1;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Box<Problem>,
    header: Option<(HeaderName, &'static str)>,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, title: &str, detail: &str) -> Self {
        let problem = Problem::new(status.as_u16(), title, detail).code(code);
        Self { problem: Box::new(problem), header: None }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { problem: Box::new(self.problem.retry_after(seconds)), ..self }
    }

    fn with_header(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    pub(super) fn not_found() -> Self {
        let detail = "there is no such session or endpoint";
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    pub(super) fn method_not_allowed(methods: &'static str) -> Self {
        let detail = "the Allow header lists the methods of this resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
            .with_header(ALLOW, methods)
    }

    /// RFC 6750, section 3: without a token there is nothing to say about it.
    pub(super) fn no_token() -> Self {
        let detail = "send a token as Bearer or as ?jwt=";
        Self::new(StatusCode::UNAUTHORIZED, "token_missing", "Token needed", detail)
            .with_header(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn expired_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token_expired", "Token refused", "the token has expired")
            .with_header(WWW_AUTHENTICATE, INVALID_TOKEN)
    }

    /// A new one may be had where tokens are given.
    pub(super) fn revoked_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token_revoked", "Token refused", "the token was revoked")
            .with_header(WWW_AUTHENTICATE, INVALID_TOKEN)
    }

    pub(super) fn bad_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "token_invalid", "Token refused", "the token is not valid")
            .with_header(WWW_AUTHENTICATE, INVALID_TOKEN)
    }

    /// The coordinator publishes the keys, and has not been reached yet.
    pub(super) fn no_keys() -> Self {
        let detail = "tokens cannot be verified at the moment: the coordinator does not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", "No keys", detail)
            .retry_after(RETRY_NO_KEYS)
    }

    /// The coordinator knows who needs a token, and has not been reached.
    pub(super) fn no_coordinator() -> Self {
        let detail = "who may watch without a token cannot be found out at the moment: the coordinator does not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "coordinator_unavailable", "No coordinator", detail)
            .retry_after(RETRY_NO_KEYS)
    }

    pub(super) fn no_class() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_class", "Not found", "there is no such class")
    }

    pub(super) fn forbidden() -> Self {
        let detail = "the token does not allow to watch this class";
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    pub(super) fn bad_query() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "query_invalid", "Query not usable", "duplicate query parameter")
    }

    pub(super) fn timeout() -> Self {
        let detail = "the request did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request timeout", detail)
    }

    pub(super) fn bad_content_type(expected: &str) -> Self {
        let detail = format!("send the content type {expected}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "content_type_unsupported", "Content type not supported", &detail)
    }

    pub(super) fn bad_offer(detail: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "offer_unusable", "Offer not usable", detail)
    }

    pub(super) fn bad_fragment() -> Self {
        let detail = "the body is not an SDP fragment (RFC 8840)";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "fragment_unusable", "Fragment not usable", detail)
    }

    pub(super) fn precondition_required() -> Self {
        let detail = "send the session's entity tag, or *";
        Self::new(StatusCode::PRECONDITION_REQUIRED, "etag_missing", "If-Match needed", detail)
    }

    pub(super) fn precondition_failed() -> Self {
        let detail = "If-Match is not the present tag of the session";
        Self::new(StatusCode::PRECONDITION_FAILED, "etag_outdated", "Entity tag outdated", detail)
    }

    pub(super) fn not_live() -> Self {
        let detail = "the lesson is not live now";
        Self::new(StatusCode::CONFLICT, "not_live", "Not live", detail).retry_after(RETRY_NOT_LIVE)
    }

    /// Sound alone, or nothing yet that a decoder can begin with.
    pub(super) fn no_picture() -> Self {
        let detail = "the lesson has no picture at the moment";
        Self::new(StatusCode::NOT_FOUND, "no_picture", "No picture", detail).retry_after(RETRY_NOT_LIVE)
    }

    pub(super) fn bad_report() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "report_invalid", "Report not usable", "send the report as JSON")
    }

    pub(super) fn bad_events() -> Self {
        let detail = format!("send a JSON list of events, of {}", EventKind::NAMES);
        Self::new(StatusCode::BAD_REQUEST, "events_unknown", "Events not known", &detail)
    }

    /// The node is about to end, and its viewers go elsewhere.
    pub(super) fn draining() -> Self {
        let detail = "this node takes no new viewers: it is about to end";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "node_draining", "Node draining", detail)
            .retry_after(RETRY_BUSY)
    }

    /// Every seat is taken.
    pub(super) fn full() -> Self {
        let detail = "this node has no room for another viewer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "node_full", "Node full", detail).retry_after(RETRY_FULL)
    }

    /// The queue of a shard is full.
    pub(super) fn busy() -> Self {
        let detail = "this node has more requests than it can serve at the moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "node_busy", "Node busy", detail).retry_after(RETRY_BUSY)
    }

    pub(super) fn too_many_requests() -> Self {
        let detail = "this address sends more requests than one address may";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests", detail)
            .retry_after(RETRY_RATE_LIMITED)
    }

    pub(super) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        tracing::debug!(code = self.problem.code, detail = self.problem.detail, "request refused");
        let mut response = Response::new(Body::from(self.problem.to_json()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if let Some(seconds) = self.problem.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// 415 unless the content type is the one expected, whatever its parameters.
pub(super) fn check_content_type(value: Option<&HeaderValue>, expected: &str) -> Result<(), Failure> {
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(Failure::bad_content_type(expected))
}

pub(super) fn accepts(accept: &HeaderValue, wanted: &str) -> bool {
    accept.to_str().is_ok_and(|accept| accept.contains(wanted) || accept.contains("*/*"))
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(super) fn head() -> Response {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    response
}

/// The answer to an offer.
pub(super) fn created(location: &str, etag: EntityTag, sdp: String, links: &[HeaderValue]) -> Response {
    let events = format!("<{location}/sse>; rel=\"{EVENTS_REL}\"; events=\"{}\"", EventKind::NAMES);
    let mut response = Response::new(Body::from(sdp));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("accept-patch", HeaderValue::from_static(FRAGMENT));
    insert(headers, LOCATION, location);
    insert(headers, ETAG, &etag.to_string());
    link(headers, links);
    if let Ok(events) = HeaderValue::from_str(&events) {
        headers.append(LINK, events);
    }
    response
}

/// A resource has been made at this path.
pub(super) fn made(path: &str) -> Response {
    let mut response = empty(StatusCode::CREATED);
    insert(response.headers_mut(), LOCATION, path);
    response
}

/// The answer to an ICE restart.
pub(super) fn restarted(etag: EntityTag, fragment: String) -> Response {
    let mut response = Response::new(Body::from(fragment));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    insert(response.headers_mut(), ETAG, &etag.to_string());
    response
}

/// Answers players that ask what a resource takes, and preflights.
pub(super) fn options(
    methods: &'static str,
    accept: &'static str,
    media_type: &'static str,
    links: &[HeaderValue],
) -> Response {
    let mut response = preflight(methods);
    let headers = response.headers_mut();
    headers.insert(accept, HeaderValue::from_static(media_type));
    link(headers, links);
    response
}

/// Answers preflights.
pub(super) fn preflight(methods: &'static str) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    let allowed = HeaderValue::from_static("Authorization, Content-Type, If-Match, If-None-Match");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// Players live on other origins than nodes. Tokens travel in headers and never in cookies, so any origin may ask.
pub(super) fn allow_other_origins(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = "Location, Link, ETag, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate";
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
}

/// The methods that are counted under their own name; a stranger may invent others.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}

/// RFC 9725, section 4.6.
fn link(headers: &mut HeaderMap, links: &[HeaderValue]) {
    for link in links {
        headers.append(LINK, link.clone());
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status, code, detail, seconds until a new try makes sense, and the header that the status asks for.
    type Row = (Failure, u16, &'static str, &'static str, Option<u32>, Option<(&'static str, &'static str)>);

    fn failures() -> Vec<Row> {
        let allow = Some(("allow", "GET"));
        let bearer = Some(("www-authenticate", "Bearer"));
        let invalid = Some(("www-authenticate", "Bearer error=\"invalid_token\""));
        let (full, busy) = ("no room for another viewer", "more requests than it can serve");
        vec![
            (Failure::bad_query(), 400, "query_invalid", "duplicate query parameter", None, None),
            (Failure::no_token(), 401, "token_missing", "send a token as Bearer", None, bearer),
            (Failure::expired_token(), 401, "token_expired", "the token has expired", None, invalid),
            (Failure::revoked_token(), 401, "token_revoked", "the token was revoked", None, invalid),
            (Failure::bad_token(), 401, "token_invalid", "the token is not valid", None, invalid),
            (Failure::forbidden(), 403, "forbidden", "does not allow to watch this class", None, None),
            (Failure::no_class(), 404, "no_class", "no such class", None, None),
            (Failure::no_picture(), 404, "no_picture", "has no picture", Some(2), None),
            (Failure::not_found(), 404, "not_found", "no such session or endpoint", None, None),
            (Failure::method_not_allowed("GET"), 405, "method_not_allowed", "Allow header", None, allow),
            (Failure::timeout(), 408, "request_timeout", "did not arrive in time", None, None),
            (Failure::not_live(), 409, "not_live", "the lesson is not live now", Some(2), None),
            (Failure::precondition_failed(), 412, "etag_outdated", "not the present tag", None, None),
            (Failure::bad_content_type(SDP), 415, "content_type_unsupported", SDP, None, None),
            (Failure::bad_offer("no codec"), 422, "offer_unusable", "no codec", None, None),
            (Failure::bad_fragment(), 422, "fragment_unusable", "not an SDP fragment", None, None),
            (
                Failure::precondition_required(),
                428,
                "etag_missing",
                "send the session's entity tag",
                None,
                None,
            ),
            (Failure::too_many_requests(), 429, "rate_limited", "more requests than one", Some(1), None),
            (Failure::no_keys(), 503, "keys_unavailable", "cannot be verified", Some(2), None),
            (Failure::no_coordinator(), 503, "coordinator_unavailable", "does not answer", Some(2), None),
            (Failure::full(), 503, "node_full", full, Some(5), None),
            (Failure::busy(), 503, "node_busy", busy, Some(1), None),
        ]
    }

    #[tokio::test]
    async fn every_failure_says_its_status_code_reason_and_when_to_try_again() {
        let mut codes = std::collections::HashSet::new();
        for (failure, status, code, detail, seconds, expected) in failures() {
            assert!(codes.insert(code), "{code} means two things");
            let response = failure.into_response();
            assert_eq!(response.status().as_u16(), status, "{code}");
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("content-type"), Some("application/problem+json"), "{code}");
            assert_eq!(
                header("retry-after"),
                seconds.map(|seconds| seconds.to_string()).as_deref(),
                "{code}"
            );
            for name in ["allow", "www-authenticate"] {
                let value = expected.filter(|expected| expected.0 == name).map(|expected| expected.1);
                assert_eq!(header(name), value, "{code}");
            }
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert_eq!((problem.status, problem.retry_after), (status, seconds), "{code}");
            assert_eq!(problem.code, code);
            assert!(problem.detail.contains(detail) && !problem.title.is_empty(), "{problem:?}");
        }
    }
}
