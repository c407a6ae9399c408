//! Server-sent events of a session (draft-ietf-wish-whep's extension): a viewer says with a POST which kinds it wants, and reads
//! them at the same URL.
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use serde_json::json;
use tokio::sync::mpsc::Receiver;

use super::App;
use super::reply::{self, Failure, JSON};
use crate::sessions::{EventKind, SentEvent, SessionId};

const METHODS: &str = "POST, GET, OPTIONS";
/// Bytes of a list of kinds.
const BODY_MAX: usize = 1024;

pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path((stream, session))) = path else { return Failure::not_found().into_response() };
    let (head, body) = request.into_parts();
    if head.method == Method::OPTIONS {
        return reply::options(METHODS, "accept-post", JSON, &[]);
    }
    let Some(id) = SessionId::parse(&session) else { return Failure::not_found().into_response() };
    let class = app.class(&stream);
    match head.method {
        Method::POST => {
            if let Err(refused) = reply::check_content_type(head.headers.get(CONTENT_TYPE), JSON) {
                return refused.into_response();
            }
            let body = axum::body::to_bytes(body, BODY_MAX).await;
            let kinds = body.ok().and_then(|body| serde_json::from_slice::<Vec<EventKind>>(&body).ok());
            let Some(kinds) = kinds.filter(|kinds| kinds.len() <= EventKind::COUNT) else {
                return Failure::bad_events().into_response();
            };
            if app.sessions.subscribe(class, &id, kinds) {
                reply::made(head.uri.path())
            } else {
                Failure::not_found().into_response()
            }
        }
        Method::GET => {
            read(&app, class, &id).map_or_else(|| Failure::not_found().into_response(), Sse::into_response)
        }
        _ => Failure::method_not_allowed(METHODS).into_response(),
    }
}

/// The events until the session ends; first, whether somebody publishes.
fn read(
    app: &App,
    class: &str,
    id: &SessionId,
) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
    let is_active = app.streams.is_active(class);
    let first = if is_active { SentEvent::Active } else { SentEvent::Inactive };
    let waiting = app.sessions.listen(class, id, &first)?;
    let next = async |mut waiting: Receiver<SentEvent>| {
        let event = waiting.recv().await?;
        Some((Ok(event_of(&event)), waiting))
    };
    Some(Sse::new(unfold(waiting, next)).keep_alive(KeepAlive::default()))
}

fn event_of(event: &SentEvent) -> Event {
    match event {
        SentEvent::Active => Event::default().event("active").data("{}"),
        SentEvent::Inactive => Event::default().event("inactive").data("{}"),
        SentEvent::Reconnect { url } => {
            Event::default().event("reconnect").data(json!({ "url": url }).to_string())
        }
    }
}
