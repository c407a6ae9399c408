//! Errors of the API. Codes are for programs and stay as they are: `docs/api.md` lists them.
use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use control::Problem;

use crate::app::App;
use crate::classes::ChangeError;
use crate::registry::Stale;
use crate::shared::SharedError;
use crate::store::StoreError;

/// Seconds after which a player that finds no lesson tries again, as nodes say it.
const RETRY_NOT_LIVE: u32 = 2;
/// Seconds in which offers have been passed on.
const RETRY_BUSY: u32 = 1;

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failure(Problem);

impl Failure {
    fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        Self(Problem::new(status.as_u16(), title, detail))
    }

    pub(crate) fn code(self, code: &str) -> Self {
        Self(self.0.code(code))
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self(self.0.retry_after(seconds))
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

    /// A player has no token and needs one. Codes of WHEP are those of nodes.
    pub(crate) fn token_missing() -> Self {
        Self::unauthorized("send a token as Bearer or as ?jwt=").code("token_missing")
    }

    pub(crate) fn token_expired() -> Self {
        Self::unauthorized("the token has expired").code("token_expired")
    }

    pub(crate) fn token_revoked() -> Self {
        Self::unauthorized("the token was revoked").code("token_revoked")
    }

    pub(crate) fn token_invalid() -> Self {
        Self::unauthorized("the token is not valid").code("token_invalid")
    }

    pub(crate) fn token_of_another_class() -> Self {
        Self::forbidden("the token does not allow to watch this class").code("forbidden")
    }

    pub(crate) fn offer_unusable(detail: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Offer not usable", detail).code("offer_unusable")
    }

    /// 409, as a node says it: players try again then.
    pub(crate) fn nothing_to_watch() -> Self {
        Self::new(StatusCode::CONFLICT, "Not live", "the lesson is not live now")
            .code("not_live")
            .retry_after(RETRY_NOT_LIVE)
    }

    pub(crate) fn node_unreachable() -> Self {
        let detail = "the node of this viewer does not answer";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Node unreachable", detail)
            .code("node_unreachable")
            .retry_after(RETRY_NOT_LIVE)
    }

    pub(crate) fn full_of_pages(retry_after: u32) -> Self {
        let detail = "as many pages listen as may; look at the stream from time to time instead";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", detail).code("busy").retry_after(retry_after)
    }

    pub(crate) fn busy() -> Self {
        let detail = "more offers are being passed on than there may be at a time";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Busy", detail).code("busy").retry_after(RETRY_BUSY)
    }

    pub(crate) fn pin_needed() -> Self {
        Self::unauthorized("send the class's PIN as X-Class-Pin").code("pin_needed")
    }

    /// Of an unknown class it is said as well, so that names cannot be tried out.
    pub(crate) fn pin_wrong() -> Self {
        Self::unauthorized("the PIN or the class is wrong").code("pin_wrong")
    }

    pub(crate) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", detail)
    }

    pub(crate) fn not_operator() -> Self {
        let detail = "this takes the operators' secret, or the socket operator.sock in the data folder";
        Self::forbidden(detail).code("operator_only")
    }

    /// It may well be good for another class.
    pub(crate) fn key_of_another_class() -> Self {
        Self::forbidden("The stream key is not for the class that the address names.")
            .code("stream_key_invalid")
    }

    pub(crate) fn wrong_key() -> Self {
        Self::forbidden("The stream key is not valid.").code("stream_key_invalid")
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(crate) fn no_class() -> Self {
        Self::not_found("there is no such class").code("no_class")
    }

    pub(crate) fn no_stream() -> Self {
        Self::not_found("nobody publishes in this class").code("no_stream")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "")
    }

    /// 425: there is a class and a right to watch it, but nothing to watch yet.
    pub(crate) fn not_live() -> Self {
        Self::new(StatusCode::TOO_EARLY, "Not live yet", "the lesson has not begun").retry_after(2)
    }

    pub(crate) fn too_many_requests() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "").retry_after(1)
    }

    pub(crate) fn too_many_pins(wait: Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let detail = "there were too many wrong PINs; wait before trying again";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many wrong PINs", detail)
            .code("pin_attempts")
            .retry_after(seconds)
    }

    pub(crate) fn no_node() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "No node", "no media node is running")
            .code("no_node")
            .retry_after(2)
    }

    /// 503: every node has as many viewers as it may.
    pub(crate) fn nodes_full(retry_after: Duration) -> Self {
        let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "All nodes are full", "every media node is full")
            .code("nodes_full")
            .retry_after(seconds)
    }

    /// 409: a heartbeat that says less than is known.
    pub(crate) fn stale(stale: Stale) -> Self {
        Self::new(StatusCode::CONFLICT, "Stale heartbeat", &stale.to_string()).code("heartbeat_stale")
    }

    pub(crate) fn leaving() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Leaving", "the server is about to end").code("leaving")
    }

    pub(crate) fn no_database() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "No database", "").code("no_database")
    }

    /// The database's words are for the log, not for whoever asked.
    pub(crate) fn database(app: &App, error: StoreError) -> Self {
        app.on_database_error(&error);
        Self::no_database()
    }

    pub(crate) fn change(app: &App, error: ChangeError) -> Self {
        let text = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, "Conflict", &text).code(code);
        match error {
            ChangeError::Store(error) | ChangeError::Shared(SharedError::Store(error)) => {
                Self::database(app, error)
            }
            ChangeError::Shared(error) => {
                tracing::error!(%error, "what coordinators share cannot be changed");
                Self::internal()
            }
            ChangeError::File(error) => {
                tracing::error!(%error, "a file of the data folder cannot be written");
                let detail = "a file of the data folder cannot be written; nothing was changed";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal error", detail)
            }
            ChangeError::Exists => conflict("class_exists"),
            ChangeError::IsDefault => conflict("class_is_default"),
            ChangeError::Full(_) => conflict("limit_reached"),
            ChangeError::Pin | ChangeError::Key => Self::bad_request(&text),
            ChangeError::RotationUnderWay => conflict("rotation_under_way"),
            ChangeError::NoClass => Self::no_class(),
            ChangeError::NoSigningKey => Self::not_found(&text).code("no_signing_key"),
            ChangeError::NoKey => Self::not_found(&text).code("no_stream_key"),
        }
    }

    pub(crate) fn name_taken() -> Self {
        let detail = "a node of this name is there; choose another name, or wait until it is gone";
        Self::new(StatusCode::CONFLICT, "Name taken", detail).code("node_name_taken")
    }

    pub(crate) fn another_node() -> Self {
        let detail = "a node speaks for itself only: the credential is another node's";
        Self::new(StatusCode::FORBIDDEN, "Not this node", detail).code("not_this_node")
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
