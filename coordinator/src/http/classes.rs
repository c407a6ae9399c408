//! Classes and their stream keys, for operators.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::{Failure, Shared, now_ms};
use crate::secret;
use crate::server::PIN_LEN;
use crate::store::{Class, StoreError};

/// Characters of a class's name for people.
const NAME_LEN_MAX: usize = 200;
/// Characters of a PIN that somebody chose.
const PIN_LEN_MIN: usize = 4;
const PIN_LEN_MAX: usize = 64;

/// A class as the list shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    id: String,
    slug: String,
    name: String,
}

/// A new class.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClass {
    /// Its name in addresses: lower-case letters, digits and hyphens.
    slug: String,
    /// Its name for people; the slug if left out.
    name: Option<String>,
    /// A PIN, which guarded mode asks for; made at random if left out.
    pin: Option<String>,
}

/// A class that was made. Its secrets are in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeClass {
    id: String,
    slug: String,
    stream_key: String,
    pin: String,
}

/// A key that was made. The secret is in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeKey {
    class: String,
    stream_key: String,
}

/// The classes by their names.
#[utoipa::path(get, path = "/api/v1/classes", responses((status = 200, body = [Entry]), (status = 403)))]
pub(super) async fn list(State(app): Shared, caller: Caller) -> Result<Json<Vec<Entry>>, Failure> {
    caller.operates(&app)?;
    let classes = app.store.classes().await.map_err(|error| Failure::database(&app, &error))?;
    let entry = |Class { id, slug, name, .. }: Class| Entry { id, slug, name };
    Ok(Json(classes.into_iter().map(entry).collect()))
}

/// Adds a class with a stream key and a PIN.
#[utoipa::path(post, path = "/api/v1/classes", request_body = NewClass, responses(
    (status = 201, body = MadeClass), (status = 400), (status = 403),
    (status = 409, description = "the slug is taken"),
))]
pub(super) async fn add(
    State(app): Shared,
    caller: Caller,
    Json(new): Json<NewClass>,
) -> Result<(StatusCode, Json<MadeClass>), Failure> {
    caller.operates(&app)?;
    if !Class::is_slug(&new.slug) {
        return Err(Failure::bad_request(
            "slug must be 1 to 64 lower-case letters, digits or hyphens, not 'stream'",
        ));
    }
    let name = new.name.unwrap_or_else(|| new.slug.clone());
    if name.chars().count() > NAME_LEN_MAX {
        return Err(Failure::bad_request("name must have 200 characters at most"));
    }
    let pin = new.pin.unwrap_or_else(|| secret::random_pin(PIN_LEN));
    // It travels in a header.
    if !(PIN_LEN_MIN..=PIN_LEN_MAX).contains(&pin.len()) || !pin.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::bad_request("pin must be 4 to 64 printable ASCII characters without spaces"));
    }
    let added = app.store.add_class(&new.slug, &name, &pin, now_ms()).await;
    let class = added.map_err(|error| match error {
        StoreError::Exists => Failure::conflict("there is already a class with this slug"),
        error => Failure::database(&app, &error),
    })?;
    let key = app.store.add_stream_key(&class, now_ms()).await;
    let stream_key = key.map_err(|error| Failure::database(&app, &error))?;
    Ok((StatusCode::CREATED, Json(MadeClass { id: class.id, slug: class.slug, stream_key, pin })))
}

/// Adds a stream key to a class.
#[utoipa::path(post, path = "/api/v1/classes/{class}/stream-keys", params(("class" = String, Path)), responses(
    (status = 201, body = MadeKey), (status = 403), (status = 404),
))]
pub(super) async fn add_key(
    State(app): Shared,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<(StatusCode, Json<MadeKey>), Failure> {
    caller.operates(&app)?;
    let class = app.class(&slug).await?.ok_or_else(|| Failure::not_found("there is no such class"))?;
    let key = app.store.add_stream_key(&class, now_ms()).await;
    let stream_key = key.map_err(|error| Failure::database(&app, &error))?;
    Ok((StatusCode::CREATED, Json(MadeKey { class: class.slug, stream_key })))
}
