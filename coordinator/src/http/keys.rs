//! Stream keys, for operators.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::ByOperator;
use super::{Failure, Shared, change};
use crate::classes::NewKey;

/// A valid key as the list shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    id: String,
    /// Milliseconds since 1970.
    created_at_ms: i64,
}

/// A key that was made. The secret is in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeKey {
    class: String,
    id: String,
    stream_key: String,
}

impl MadeKey {
    pub(super) fn new(class: String, key: NewKey) -> Self {
        Self { class, id: key.id, stream_key: key.secret }
    }
}

/// The valid stream keys of a class, oldest first.
#[utoipa::path(get, path = "/api/v1/classes/{class}/stream-keys", security(("operator" = [])),
    params(("class" = String, Path)), responses((status = 200, body = [Entry]), (status = 403), (status = 404)))]
pub(super) async fn list(
    State(app): Shared,
    _: ByOperator,
    Path(slug): Path<String>,
) -> Result<Json<Vec<Entry>>, Failure> {
    let (_, keys) = app.classes.keys(&slug).map_err(|error| Failure::change(&app, error))?;
    let entry = |(id, created_at_ms)| Entry { id, created_at_ms };
    Ok(Json(keys.into_iter().map(entry).collect()))
}

/// Adds a stream key to a class; the others stay valid.
#[utoipa::path(post, path = "/api/v1/classes/{class}/stream-keys", security(("operator" = [])),
    params(("class" = String, Path)), responses(
    (status = 201, body = MadeKey), (status = 403), (status = 404),
    (status = 409, description = "the class has too many keys"), (status = 503, description = "the database fails"),
))]
pub(super) async fn add(
    State(app): Shared,
    _: ByOperator,
    Path(slug): Path<String>,
) -> Result<(StatusCode, Json<MadeKey>), Failure> {
    let (class, key) = change(app, async move |classes| classes.add_key(&slug).await).await?;
    Ok((StatusCode::CREATED, Json(MadeKey::new(class.slug, key))))
}

/// Revokes a stream key: whoever publishes with it is sent away within a second or two, and refused when he comes back. The key that
/// stands in the file `stream-key` is replaced by a new one there.
#[utoipa::path(delete, path = "/api/v1/classes/{class}/stream-keys/{id}", security(("operator" = [])),
    params(("class" = String, Path), ("id" = String, Path)), responses(
    (status = 204), (status = 403), (status = 404), (status = 503, description = "the database fails"),
))]
pub(super) async fn revoke(
    State(app): Shared,
    _: ByOperator,
    Path((slug, id)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    change(app, async move |classes| classes.revoke_key(&slug, &id).await).await?;
    Ok(StatusCode::NO_CONTENT)
}
