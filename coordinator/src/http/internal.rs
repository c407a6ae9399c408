//! What only nodes may call.
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::api::{Heartbeat, PublishGrant, PublishRequest, SessionEvent};
use serde_json::{Value, json};

use super::{App, Failure, Shared, now_ms};
use crate::registry::Change;
use crate::secret;

/// Refuses everybody who does not know the nodes' secret.
pub(super) async fn only_nodes(State(app): Shared, request: Request, next: Next) -> Response {
    let bearer = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    if !secret::is_equal(secret, &app.node_secret) {
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
    // Whoever names a class must have a key of that class; "stream" is the default class's other name.
    let named = request.name.as_deref().map(|name| if name == "stream" { &*app.default_class } else { name });
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
    let changes = app.registry().on_heartbeat(Instant::now(), heartbeat);
    apply(&app, changes).await?;
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

/// Writes changes of the registry into the database.
pub(crate) async fn apply(app: &Arc<App>, changes: Vec<Change>) -> Result<(), Failure> {
    for change in changes {
        let now = now_ms();
        let outcome = match &change {
            Change::Stream(report) => app.store.update_stream(report, now).await,
            Change::Restarted { node, started_at_ms } => {
                let before = i64::try_from(*started_at_ms).unwrap_or(i64::MAX);
                app.store.end_node(node, before, "the node restarted", now).await
            }
            Change::Lost { node } => app.store.end_node(node, i64::MAX, "the node was lost", now).await,
        };
        outcome.map_err(|error| Failure::database(app, &error))?;
    }
    Ok(())
}
