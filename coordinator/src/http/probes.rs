//! Whether the coordinator works, and the keys that its tokens are verified with. Answered from memory, each of them.
use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use control::KEYS_AGE_MAX;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{Failure, Shared};

/// What works.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    status: &'static str,
    /// `ok`, or `failing`: then nothing can be changed, and what happens is recorded later or not at all.
    database: &'static str,
    /// Nodes that are heard.
    nodes: usize,
}

fn state(app: &crate::app::App) -> Health {
    let database = if app.is_database_up() { "ok" } else { "failing" };
    Health { status: "ok", database, nodes: app.registry().nodes().len() }
}

/// Whether everything works, for whoever watches over it.
#[utoipa::path(get, path = "/health", responses(
    (status = 200, body = Health), (status = 503, description = "the database fails"),
))]
pub(super) async fn health(State(app): Shared) -> Result<Json<Health>, Failure> {
    let health = state(&app);
    if health.database == "ok" { Ok(Json(health)) } else { Err(Failure::no_database()) }
}

/// Whether tokens can be given, for load balancers. That takes a media node, and no database.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, body = Health), (status = 503, description = "no media node, or the server is about to end"),
))]
pub(super) async fn ready(State(app): Shared) -> Result<Json<Health>, Failure> {
    if app.leaving.get().is_some_and(CancellationToken::is_cancelled) {
        return Err(Failure::leaving());
    }
    let health = state(&app);
    if health.nodes == 0 { Err(Failure::no_node()) } else { Ok(Json(health)) }
}

/// Whether the process runs.
#[utoipa::path(get, path = "/livez", responses((status = 200)))]
pub(super) async fn live() -> Json<Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

/// The keys that tokens are verified with (RFC 7517). Whoever keeps them for as long as the answer says knows each key before it signs.
#[utoipa::path(get, path = "/.well-known/jwks.json", responses((status = 200)))]
pub(super) async fn jwks(State(app): Shared) -> impl IntoResponse {
    let age_max = format!("public, max-age={}", KEYS_AGE_MAX.as_secs());
    ([(CACHE_CONTROL, age_max)], Json(app.keys.jwks()))
}
