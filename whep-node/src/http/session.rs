//! The session resource: trickle, ICE restart and the end.
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use rtc::sdp::Fragment;

use super::reply::{self, FRAGMENT, Failure};
use super::{App, Parameters};

const METHODS: &str = "PATCH, DELETE, GET, HEAD, OPTIONS";

/// Knowing the URL is the permission (the session's id cannot be guessed): players send no token here.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<Parameters>, QueryRejection>,
    method: Method,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Ok(Path((stream, session))) = path else { return Failure::not_found().into_response() };
    let Ok(Query(parameters)) = query else { return Failure::bad_query().into_response() };
    let Ok(body) = body else { return Failure::bad_fragment().into_response() };
    let is_beacon = method == Method::POST && parameters.method.as_deref() == Some("DELETE");
    let outcome = match method {
        Method::PATCH => patch(&app, &stream, &session, &headers, &body),
        Method::DELETE => delete(&app, &stream, &session),
        Method::POST if is_beacon => delete(&app, &stream, &session),
        Method::OPTIONS => return reply::options(METHODS, "Accept-Patch", FRAGMENT, &[]),
        Method::GET | Method::HEAD => {
            app.sessions.find(&stream, &session).ok_or_else(Failure::not_found).map(|_| {
                if method == Method::HEAD { reply::head() } else { reply::empty(StatusCode::NO_CONTENT) }
            })
        }
        _ => Err(Failure::method_not_allowed(METHODS)),
    };
    outcome.unwrap_or_else(Failure::into_response)
}

/// RFC 9725, section 4.3: candidates, or new credentials for an ICE restart.
fn patch(app: &App, stream: &str, id: &str, headers: &HeaderMap, body: &[u8]) -> Result<Response, Failure> {
    let session = app.sessions.find(stream, id).ok_or_else(Failure::not_found)?;
    reply::check_content_type(headers.get(CONTENT_TYPE), FRAGMENT)?;
    let condition = headers.get(IF_MATCH).and_then(|value| value.to_str().ok());
    let condition = condition.ok_or_else(Failure::precondition_required)?;
    if !matches!(condition.trim(), "*" | "\"*\"")
        && !condition.split(',').any(|tag| tag.trim() == session.etag)
    {
        return Err(Failure::precondition_failed());
    }
    let fragment =
        std::str::from_utf8(body).ok().and_then(Fragment::parse).ok_or_else(Failure::bad_fragment)?;
    match fragment.credentials.clone() {
        Some(remote) if remote != session.remote => {
            let local =
                app.engine.restart(session.viewer, remote.clone()).map_err(|_| Failure::not_found())?;
            let etag = app.sessions.on_restart(id, remote).ok_or_else(Failure::not_found)?;
            tracing::info!("viewer restarts ICE");
            Ok(reply::restarted(&etag, fragment.answer(&local, &app.engine.candidates())))
        }
        // We are ICE-lite: the viewer's candidates reveal themselves by its checks.
        _ => Ok(reply::empty(StatusCode::NO_CONTENT)),
    }
}

fn delete(app: &App, stream: &str, id: &str) -> Result<Response, Failure> {
    let session = app.sessions.remove(stream, id).ok_or_else(Failure::not_found)?;
    app.engine.remove(session.viewer);
    Ok(reply::empty(StatusCode::OK))
}
