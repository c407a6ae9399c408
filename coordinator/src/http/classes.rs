//! Classes and their PINs, for operators.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::ByOperator;
use super::{Failure, Shared, change};
use crate::pins;
use crate::store::Class;

/// Characters of a class's name for people.
const NAME_LEN_MAX: usize = 200;

/// A class as the list shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    id: String,
    slug: String,
    name: String,
    /// Whether it is the one that is meant when none is named.
    is_default: bool,
}

/// A new class.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewClass {
    /// Its name in addresses: lower-case letters, digits and hyphens.
    slug: String,
    /// Its name for people; the slug if left out.
    name: Option<String>,
    /// A PIN of 6 to 64 printable ASCII characters; made at random if left out.
    pin: Option<String>,
}

/// A class that was made. Its secrets are in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeClass {
    id: String,
    slug: String,
    key_id: String,
    stream_key: String,
    pin: String,
}

/// Another PIN.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPin {
    /// 6 to 64 printable ASCII characters; made at random if left out.
    pin: Option<String>,
}

/// The PIN of a class. It is in this answer and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadePin {
    class: String,
    pin: String,
}

/// The classes by their names.
#[utoipa::path(get, path = "/api/v1/classes", security(("operator" = [])), responses(
    (status = 200, body = [Entry]), (status = 403),
))]
pub(super) async fn list(State(app): Shared, _: ByOperator) -> Json<Vec<Entry>> {
    let entry = |Class { id, slug, name, .. }: Class| {
        let is_default = slug == app.classes.default_slug();
        Entry { id, slug, name, is_default }
    };
    Json(app.classes.all().into_iter().map(entry).collect())
}

/// Adds a class with a stream key and a PIN.
#[utoipa::path(post, path = "/api/v1/classes", security(("operator" = [])), request_body = NewClass, responses(
    (status = 201, body = MadeClass), (status = 400), (status = 403),
    (status = 409, description = "the slug is taken, or there are too many classes"),
    (status = 503, description = "the database fails"),
))]
pub(super) async fn add(
    State(app): Shared,
    _: ByOperator,
    body: Result<Json<NewClass>, axum::extract::rejection::JsonRejection>,
) -> Result<(StatusCode, Json<MadeClass>), Failure> {
    let Json(new) = body.map_err(Failure::body)?;
    if !Class::is_slug(&new.slug) {
        return Err(Failure::bad_request(
            "the name in addresses (slug) must be 1 to 64 lower-case letters, digits or hyphens; stream is taken, for it means the default class",
        ));
    }
    let name = new.name.unwrap_or_else(|| new.slug.clone());
    if name.chars().count() > NAME_LEN_MAX {
        return Err(Failure::bad_request("name must have 200 characters at most"));
    }
    let pin = chosen(new.pin)?;
    let chosen = pin.clone();
    let added = change(app, async move |classes| classes.add(&new.slug, &name, &chosen).await).await;
    let (Class { id, slug, .. }, key) = added?;
    let made = MadeClass { id, slug, key_id: key.id, stream_key: key.secret, pin };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Removes a class: its keys and its PIN are void at once, and whoever publishes with one of them is sent away; what was recorded
/// stays. Tokens stay good until they expire, unless they are revoked.
#[utoipa::path(delete, path = "/api/v1/classes/{class}", security(("operator" = [])),
    params(("class" = String, Path)), responses(
    (status = 204), (status = 403), (status = 404), (status = 409, description = "it is the default class"),
    (status = 503, description = "the database fails"),
))]
pub(super) async fn remove(
    State(app): Shared,
    _: ByOperator,
    Path(slug): Path<String>,
) -> Result<StatusCode, Failure> {
    change(app, async move |classes| classes.remove(&slug).await).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a class another PIN. Nobody who watches is cut off.
#[utoipa::path(put, path = "/api/v1/classes/{class}/pin", security(("operator" = [])),
    params(("class" = String, Path)), request_body = NewPin, responses(
    (status = 200, body = MadePin), (status = 400), (status = 403), (status = 404),
    (status = 503, description = "the database fails"),
))]
pub(super) async fn set_pin(
    State(app): Shared,
    _: ByOperator,
    Path(slug): Path<String>,
    body: Result<Json<NewPin>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<MadePin>, Failure> {
    let Json(new) = body.map_err(Failure::body)?;
    let pin = chosen(new.pin)?;
    let chosen = pin.clone();
    let class = change(app, async move |classes| classes.set_pin(&slug, &chosen).await).await?;
    Ok(Json(MadePin { class: class.slug, pin }))
}

/// The PIN that somebody chose, or one at random.
fn chosen(pin: Option<String>) -> Result<String, Failure> {
    let pin = pin.unwrap_or_else(pins::random);
    if !pins::is_allowed(&pin) {
        return Err(Failure::bad_request("pin must be 6 to 64 printable ASCII characters without spaces"));
    }
    Ok(pin)
}
