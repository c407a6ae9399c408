//! `POST` of what a player's people see and hear, every ten seconds. Knowing the session's URL is the permission.
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::App;
use super::reply::{self, Failure, JSON};
use crate::sessions::{PlaybackReport, SessionId};

pub(super) const PATH: &str = "/live/{stream}/whep/{session}/playback";
const METHODS: &str = "POST, OPTIONS";
/// Bytes of a report.
const BODY_MAX: usize = 1024;

pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path((stream, session))) = path else { return Failure::not_found().into_response() };
    let (head, body) = request.into_parts();
    match head.method {
        Method::OPTIONS => return reply::options(METHODS, "accept-post", JSON, &[]),
        Method::POST => {}
        _ => return Failure::method_not_allowed(METHODS).into_response(),
    }
    if let Err(refused) = reply::check_content_type(head.headers.get(CONTENT_TYPE), JSON) {
        return refused.into_response();
    }
    let Some(id) = SessionId::parse(&session) else { return Failure::not_found().into_response() };
    let body = axum::body::to_bytes(body, BODY_MAX).await;
    let report = body.ok().and_then(|body| serde_json::from_slice::<PlaybackReport>(&body).ok());
    let Some(report) = report else { return Failure::bad_report().into_response() };
    if !app.sessions.report(app.class(&stream), &id, report, Instant::now()) {
        return Failure::not_found().into_response();
    }
    let milliseconds = |ms: u32| Duration::from_millis(ms.into()).as_secs_f64();
    let player = &app.metrics.player;
    player.freezes.inc_by(report.freezes.into());
    player.lost.inc_by(report.lost.into());
    report.delay_ms().into_iter().for_each(|ms| player.delay_seconds.observe(milliseconds(ms)));
    report.first_picture_ms.into_iter().for_each(|ms| player.first_picture_seconds.observe(milliseconds(ms)));
    // The next one is ten seconds away, when the connection would have been closed.
    (StatusCode::NO_CONTENT, [(CONNECTION, "close")]).into_response()
}
