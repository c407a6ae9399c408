//! What only nodes may call.
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::api::{Heartbeat, PublishGrant, PublishRequest, SessionEvent};
use serde_json::{Value, json};

use super::caller::Caller;
use super::{Failure, Shared, now_ms};
use crate::reaper;

/// Refuses everybody who does not know the nodes' secret.
pub(super) async fn only_nodes(State(app): Shared, caller: Caller, request: Request, next: Next) -> Response {
    if !caller.knows_secret(&app) {
        return Failure::unauthorized("this is for the nodes of the same system").into_response();
    }
    next.run(request).await
}

/// Checks a stream key and opens a session for its publisher.
pub(super) async fn authorize(
    State(app): Shared,
    Json(request): Json<PublishRequest>,
) -> Result<Json<PublishGrant>, Failure> {
    let wrong = || Failure::forbidden("The stream key is not valid.");
    let found = app.store.class_of_key(&request.key).await;
    let class = found.map_err(|error| Failure::database(&app, &error))?.ok_or_else(wrong)?;
    // Whoever names a class must have a key of that class.
    let named = request.name.as_deref().map(|name| app.canonical(name));
    if named.is_some_and(|name| name != class.slug && name != request.key) {
        return Err(wrong());
    }
    let session = app.store.open_stream(&class, &request, now_ms()).await;
    let session = session.map_err(|error| Failure::database(&app, &error))?;
    Ok(Json(PublishGrant { class: class.slug, session }))
}

/// Takes a node's report.
pub(super) async fn heartbeat(
    State(app): Shared,
    Json(heartbeat): Json<Heartbeat>,
) -> Result<Json<Value>, Failure> {
    let now = Instant::now();
    let changes = app.registry().on_heartbeat(now, heartbeat);
    let written = reaper::apply(&app, changes, now, now_ms()).await;
    written.map_err(|error| Failure::database(&app, &error))?;
    Ok(Json(json!({})))
}

/// Takes what happened to sessions.
pub(super) async fn sessions(
    State(app): Shared,
    Json(events): Json<Vec<SessionEvent>>,
) -> Result<Json<Value>, Failure> {
    app.store.record(&events).await.map_err(|error| Failure::database(&app, &error))?;
    Ok(Json(json!({})))
}
