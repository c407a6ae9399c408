//! What only nodes may call.
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use control::api::{
    Admission, AdmitRequest, Heartbeat, HeartbeatAnswer, MovingViewer, Places, PlacesRequest, PublishGrant,
    PublishRequest, SessionEvent, Source, SourceRequest, StreamReport,
};
use serde_json::{Value, json};

use super::caller::{Caller, host_of};
use super::{Failure, Shared, token};
use crate::app::now_ms;
use crate::credential::NodeIdentity;
use crate::reaper::Unheard;
use crate::registry::Wish;
use crate::{openings, reaper};

/// Refuses everybody but nodes, and tells what follows which one it is.
pub(super) async fn only_nodes(
    State(app): Shared,
    caller: Caller,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(node) = caller.node(&app) else {
        return Failure::unauthorized("this is for the nodes of the same system").into_response();
    };
    request.extensions_mut().insert(node);
    next.run(request).await
}

/// A node speaks for itself only.
fn check(node: &NodeIdentity, named: &str) -> Result<(), Failure> {
    if node.name == named {
        return Ok(());
    }
    tracing::warn!(node = node.name, named, "a node speaks for another one, and is refused");
    Err(Failure::another_node())
}

/// Checks a stream key and opens a session for its publisher. The key is checked in memory and the session is written
/// later if need be: a phone that reconnects does not depend on the database.
pub(super) async fn authorize(
    State(app): Shared,
    Extension(node): Extension<NodeIdentity>,
    Json(request): Json<PublishRequest>,
) -> Result<Json<PublishGrant>, Failure> {
    check(&node, &request.node)?;
    let (class, key) = app.classes.class_of_key(&request.key).ok_or_else(Failure::wrong_key)?;
    // Whoever names a class must have a key of that class.
    let named = request.name.as_deref().map(|name| app.classes.canonical(name));
    if named.is_some_and(|name| name != class.slug && name != request.key) {
        return Err(Failure::key_of_another_class());
    }
    let (session, epoch) = openings::open(&app, &class, &request).await;
    Ok(Json(PublishGrant { class: class.slug, session, epoch, key }))
}

/// Decides about a viewer without a token, by the same rule as about one who asks for a token without a PIN.
pub(super) async fn admit(State(app): Shared, Json(request): Json<AdmitRequest>) -> Json<Admission> {
    let is_known = app.classes.class(&request.class).is_some();
    let is_let_in = Caller::of(&request).is_let_in_by_address(&app);
    Json(match (is_let_in, is_known) {
        (false, _) => Admission::TokenNeeded,
        (true, false) => Admission::NoClass,
        (true, true) => Admission::Open,
    })
}

/// Says where a node that has viewers of a class gets its stream from.
pub(super) async fn source(
    State(app): Shared,
    Extension(node): Extension<NodeIdentity>,
    Json(request): Json<SourceRequest>,
) -> Result<Json<Option<Source>>, Failure> {
    check(&node, &request.node)?;
    let SourceRequest { class, failed, .. } = &request;
    Ok(Json(app.registry().source(class, &request.node, failed.as_deref())))
}

/// Says where viewers of a node that is about to end are to go.
pub(super) async fn places(
    State(app): Shared,
    Extension(node): Extension<NodeIdentity>,
    Json(request): Json<PlacesRequest>,
) -> Result<Json<Places>, Failure> {
    check(&node, &request.node)?;
    if request.viewers.len() > PlacesRequest::VIEWERS_MAX {
        return Err(Failure::bad_request("these are more viewers than one request may have"));
    }
    let mut registry = app.registry();
    let place = |MovingViewer { class, user_id, scheme, host }: &MovingViewer| {
        app.classes.class(class)?;
        let excluded = &[&*request.node];
        let wish = Wish { class, viewer: user_id, hint: None, excluded, region: None };
        let (next, from) = registry.place(Instant::now(), &wish).ok()?;
        let scheme = if scheme == "https" { "https" } else { "http" };
        let host = host.as_deref().and_then(host_of);
        token::place((next, from), class, (scheme, scheme), host).map(|place| place.endpoint)
    };
    let urls = request.viewers.iter().map(place).collect();
    drop(registry);
    Ok(Json(Places { urls }))
}

/// Takes a node's report.
pub(super) async fn heartbeat(
    State(app): Shared,
    caller: Caller,
    Extension(node): Extension<NodeIdentity>,
    Json(mut heartbeat): Json<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>, Failure> {
    check(&node, &heartbeat.node)?;
    if heartbeat.coordinator != app.run {
        // It may have been recorded in a life of which nothing is known any more. The node says it again.
        return Ok(Json(HeartbeatAnswer { coordinator: app.run.clone(), ..HeartbeatAnswer::default() }));
    }
    // The address that it joined with, whatever it says now: a stolen node must not send a class elsewhere.
    heartbeat.public_url = node.public_url;
    let has_key = |stream: &&StreamReport| !stream.is_relayed && !stream.key.is_empty();
    let keys = heartbeat.streams.iter().filter(has_key).map(|stream| stream.key.clone()).collect();
    let known_version = heartbeat.revocations;
    match reaper::hear(&app, caller.address(), heartbeat, (Instant::now(), now_ms())).await {
        Err(Unheard::Stale(stale)) => {
            app.metrics.heartbeats_refused.inc();
            tracing::debug!(node = node.name, %stale, "a heartbeat is refused");
            return Err(Failure::stale(stale));
        }
        // It is known here, and written down with one of the next: the node hears what it must in the meantime.
        Err(Unheard::Store(error)) => app.on_database_error(&error),
        Ok(()) => {}
    }
    let superseded = app.registry().superseded(&node.name);
    let (revocations_version, revocations) = app.revocations.news(known_version);
    Ok(Json(HeartbeatAnswer {
        coordinator: app.run.clone(),
        superseded,
        revoked_keys: app.classes.revoked_of(keys),
        revocations_version,
        revocations,
    }))
}

/// Takes what happened to sessions.
pub(super) async fn sessions(
    State(app): Shared,
    Extension(node): Extension<NodeIdentity>,
    Json(events): Json<Vec<SessionEvent>>,
) -> Result<Json<Value>, Failure> {
    for event in &events {
        if let SessionEvent::ViewerJoined { node: named, .. } = event {
            check(&node, named)?;
        }
    }
    // A viewer's session needs its stream's.
    openings::flush(&app).await.map_err(|error| Failure::database(&app, error))?;
    let unknown = app.store.record(&events).await.map_err(|error| Failure::database(&app, error))?;
    app.metrics.viewers_dropped.inc_by(unknown);
    if !events.is_empty() {
        app.on_written();
    }
    Ok(Json(json!({})))
}
