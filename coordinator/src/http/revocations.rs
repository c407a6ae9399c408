//! Tokens that are void before they expire, for operators.
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use control::{Revocation, Revoked};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::ByOperator;
use super::{Failure, Shared, complete};
use crate::store::Class;

/// Characters of a token's number, of a user's id and of a key's.
const SUBJECT_LEN_MAX: usize = 128;

/// Which tokens: exactly one of `token`, `class`, `user` with `class`, and `kid`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRevocation {
    /// The number of a single one, its claim `jti`.
    token: Option<String>,
    /// Those of this user in the class.
    user: Option<String>,
    /// Those of this class.
    class: Option<String>,
    /// Those that this key has signed. It signs no longer.
    kid: Option<String>,
}

/// Tokens that are void.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    /// Of a class and of a user those that were issued until then, in seconds since 1970.
    issued_until: u64,
    /// When the last of them has expired, in seconds since 1970: then this is forgotten.
    good_until: u64,
}

impl From<Revocation> for Entry {
    fn from(Revocation { of, issued_until, good_until }: Revocation) -> Self {
        let none = Self { token: None, user: None, class: None, kid: None, issued_until, good_until };
        match of {
            Revoked::Token { token } => Self { token: Some(token), ..none },
            Revoked::User { user, class } => Self { user: Some(user), class: Some(class), ..none },
            Revoked::Class { class } => Self { class: Some(class), ..none },
            Revoked::Key { kid } => Self { kid: Some(kid), ..none },
        }
    }
}

/// What is revoked.
#[utoipa::path(get, path = "/api/v1/revocations", security(("operator" = [])),
    responses((status = 200, body = [Entry]), (status = 403)))]
pub(super) async fn list(State(app): Shared, _: ByOperator) -> Json<Vec<Entry>> {
    Json(app.revocations.list().into_iter().map(Entry::from).collect())
}

/// Revokes tokens: nodes refuse them within seconds, and end the sessions that were opened with them.
#[utoipa::path(post, path = "/api/v1/revocations", security(("operator" = [])), request_body = NewRevocation, responses(
    (status = 201, body = Entry), (status = 400), (status = 403), (status = 404, description = "there is no such key"),
    (status = 409, description = "there are too many revocations"), (status = 503, description = "the database fails"),
))]
pub(super) async fn add(
    State(app): Shared,
    _: ByOperator,
    body: Result<Json<NewRevocation>, JsonRejection>,
) -> Result<(StatusCode, Json<Entry>), Failure> {
    let Json(new) = body.map_err(Failure::body)?;
    let class = new.class.map(|class| app.classes.canonical(&class).to_owned());
    let of = match (new.token, new.user, class, new.kid) {
        (Some(token), None, None, None) => Revoked::Token { token },
        (None, Some(user), Some(class), None) => Revoked::User { user, class },
        (None, None, Some(class), None) => Revoked::Class { class },
        (None, None, None, Some(kid)) => Revoked::Key { kid },
        _ => {
            let detail = "send exactly one of token, class, user together with class, and kid";
            return Err(Failure::bad_request(detail));
        }
    };
    check(&of)?;
    let changing = Arc::clone(&app);
    let change = async move { changing.revocations.add(of, &changing.keys).await };
    let revocation = complete(&app, change).await?;
    tracing::info!(of = ?revocation.of, "tokens are revoked");
    Ok((StatusCode::CREATED, Json(revocation.into())))
}

/// Whether that can be in a token. A class that was removed still has tokens.
fn check(of: &Revoked) -> Result<(), Failure> {
    let is_subject = |text: &str| {
        (1..=SUBJECT_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let (subject, class) = match of {
        Revoked::Token { token } => (Some(token), None),
        Revoked::User { user, class } => (Some(user), Some(class)),
        Revoked::Class { class } => (None, Some(class)),
        Revoked::Key { kid } => (Some(kid), None),
    };
    if subject.is_some_and(|subject| !is_subject(subject)) {
        return Err(Failure::bad_request(
            "token, user and kid must have 1 to 128 printable ASCII characters without spaces",
        ));
    }
    if class.is_some_and(|class| !Class::is_slug(class)) {
        return Err(Failure::bad_request("class must be a class's name in addresses"));
    }
    Ok(())
}
