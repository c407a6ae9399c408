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

use super::IceServer;

pub(super) const SDP: &str = "application/sdp";
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Seconds after which a player that finds no lesson tries again.
const RETRY_NOT_LIVE: u32 = 2;
/// Seconds after which a player that finds no room tries again.
const RETRY_OVERLOADED: u32 = 5;

/// An answer that is an error.
#[derive(Debug)]
pub(super) struct Failure {
    problem: Problem,
    header: Option<(HeaderName, &'static str)>,
}

impl Failure {
    fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        Self { problem: Problem::new(status.as_u16(), title, detail), header: None }
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", "there is no such session or endpoint")
    }

    pub(super) fn method_not_allowed(methods: &'static str) -> Self {
        let failure = Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "");
        Self { header: Some((ALLOW, methods)), ..failure }
    }

    /// RFC 6750, section 3: without a token there is nothing to say about it.
    pub(super) fn no_token() -> Self {
        let failure =
            Self::new(StatusCode::UNAUTHORIZED, "Token needed", "send a token as Bearer or as ?jwt=");
        Self { header: Some((WWW_AUTHENTICATE, "Bearer")), ..failure }
    }

    pub(super) fn bad_token(detail: &str) -> Self {
        let failure = Self::new(StatusCode::UNAUTHORIZED, "Token refused", detail);
        Self { header: Some((WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")), ..failure }
    }

    pub(super) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", "the token is not for this class")
    }

    pub(super) fn bad_query() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Query not usable", "a parameter of the URL is there twice")
    }

    pub(super) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "Too slow", "the request did not arrive in time")
    }

    pub(super) fn bad_offer(detail: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Offer not usable", detail)
    }

    pub(super) fn bad_fragment() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Fragment not usable",
            "the body is not an SDP fragment (RFC 8840)",
        )
    }

    pub(super) fn precondition_required() -> Self {
        Self::new(StatusCode::PRECONDITION_REQUIRED, "If-Match needed", "send the session's entity tag, or *")
    }

    pub(super) fn precondition_failed() -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "Entity tag outdated", "ICE was restarted since")
    }

    pub(super) fn not_live() -> Self {
        let failure = Self::new(StatusCode::CONFLICT, "Not live", "the lesson is not live now");
        Self { problem: failure.problem.retry_after(RETRY_NOT_LIVE), ..failure }
    }

    pub(super) fn overloaded() -> Self {
        let failure =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "No room", "this node has no room for another viewer");
        Self { problem: failure.problem.retry_after(RETRY_OVERLOADED), ..failure }
    }

    pub(super) fn too_many_requests() -> Self {
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "");
        Self { problem: failure.problem.retry_after(1), ..failure }
    }

    pub(super) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
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
    let detail = format!("send the content type {expected}");
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content type not supported", &detail))
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
pub(super) fn created(location: &str, etag: &str, sdp: String, ice_servers: &[IceServer]) -> Response {
    let mut response = Response::new(Body::from(sdp));
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("accept-patch", HeaderValue::from_static(FRAGMENT));
    insert(headers, LOCATION, location);
    insert(headers, ETAG, etag);
    link(headers, ice_servers);
    response
}

/// The answer to an ICE restart.
pub(super) fn restarted(etag: &str, fragment: String) -> Response {
    let mut response = Response::new(Body::from(fragment));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
    insert(response.headers_mut(), ETAG, etag);
    response
}

/// Answers preflights, and players that ask what a resource takes.
pub(super) fn options(
    methods: &'static str,
    accept: &'static str,
    media_type: &'static str,
    ice_servers: &[IceServer],
) -> Response {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    let allowed = HeaderValue::from_static("Authorization, Content-Type, If-Match");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    if let Ok(name) = HeaderName::from_bytes(accept.as_bytes()) {
        headers.insert(name, HeaderValue::from_static(media_type));
    }
    link(headers, ice_servers);
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
fn link(headers: &mut HeaderMap, ice_servers: &[IceServer]) {
    for server in ice_servers {
        let mut value = format!("<{}>; rel=\"ice-server\"", server.url);
        if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
            value += &format!(
                "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
            );
        }
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(LINK, value);
        }
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
