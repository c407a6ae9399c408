//! The session resource: trickle, ICE restart and the end.
use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use rtc::sdp::{Fragment, SDP_BYTES_MAX};

use super::reply::{self, FRAGMENT, Failure};
use super::{App, Parameters};
use crate::sessions::{PatchError, Patched, SessionId};

const METHODS: &str = "PATCH, DELETE, GET, HEAD, OPTIONS";

/// Knowing the URL is the permission (the session's id cannot be guessed): players send no token here.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Parameters>, QueryRejection>,
    request: Request,
) -> Response {
    let Ok(Path((stream, session))) = path else { return Failure::not_found().into_response() };
    let Ok(Query(parameters)) = query else { return Failure::bad_query().into_response() };
    let (head, body) = request.into_parts();
    let is_beacon = head.method == Method::POST && parameters.method.as_deref() == Some("DELETE");
    if head.method == Method::OPTIONS {
        return reply::options(METHODS, "accept-patch", FRAGMENT, &[]);
    }
    let is_allowed = matches!(head.method, Method::PATCH | Method::DELETE | Method::GET | Method::HEAD);
    if !is_allowed && !is_beacon {
        return Failure::method_not_allowed(METHODS).into_response();
    }
    let Some(id) = SessionId::parse(&session) else { return Failure::not_found().into_response() };
    if !app.sessions.contains(app.class(&stream), &id) {
        let is_goodbye = head.method == Method::DELETE || is_beacon;
        return if is_goodbye && app.sessions.has_ended(&id) {
            reply::empty(StatusCode::OK)
        } else {
            Failure::not_found().into_response()
        };
    }
    let resource = Resource { app: &app, class: app.class(&stream), id };
    let outcome = match head.method {
        Method::PATCH => match axum::body::to_bytes(body, SDP_BYTES_MAX).await {
            Ok(body) => resource.patch(&head.headers, &body),
            Err(_) => Err(Failure::bad_fragment()),
        },
        Method::GET => Ok(reply::empty(StatusCode::NO_CONTENT)),
        Method::HEAD => Ok(reply::head()),
        _ => resource.delete(),
    };
    outcome.unwrap_or_else(Failure::into_response)
}

/// One session's URL.
struct Resource<'a> {
    app: &'a App,
    class: &'a str,
    id: SessionId,
}

impl Resource<'_> {
    /// RFC 9725, section 4.3: candidates, or new credentials for an ICE restart.
    fn patch(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Failure> {
        let engine = &self.app.engine;
        reply::check_content_type(headers.get(CONTENT_TYPE), FRAGMENT)?;
        let condition = headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
        let fragment = std::str::from_utf8(body).ok().and_then(Fragment::parse);
        let fragment = fragment.ok_or_else(Failure::bad_fragment)?;
        let remote = fragment.credentials.clone();
        let restart = |viewer, remote| engine.restart(viewer, remote);
        let patched = self.app.sessions.patch(self.class, &self.id, condition, remote, restart);
        match patched.map_err(Failure::from)? {
            Patched::Restarted { local, etag } => {
                tracing::debug!("viewer restarts ICE");
                Ok(reply::restarted(etag, fragment.answer(&local, &engine.candidates())))
            }
            // We are ICE-lite: the viewer's candidates reveal themselves by its checks.
            Patched::Unchanged => Ok(reply::empty(StatusCode::NO_CONTENT)),
        }
    }

    fn delete(&self) -> Result<Response, Failure> {
        let viewer = self.app.sessions.end(self.class, &self.id).ok_or_else(Failure::not_found)?;
        self.app.engine.remove(viewer);
        Ok(reply::empty(StatusCode::OK))
    }
}

impl From<PatchError> for Failure {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::NotFound => Self::not_found(),
            PatchError::Outdated => Self::precondition_failed(),
            PatchError::Unconditional => Self::precondition_required(),
            PatchError::Busy => Self::busy(),
        }
    }
}
