//! The keys that sign tokens, for operators.
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::ByOperator;
use super::{Failure, Shared, complete};
use crate::app::App;
use crate::keys::Standing;

/// A key that is published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    kid: String,
    /// `next`: it is published and signs later; `signing`; `retiring`: it signs no longer, and its tokens are still good.
    state: &'static str,
    /// Milliseconds since 1970.
    signs_from_ms: i64,
}

fn entries(app: &App) -> Vec<Entry> {
    let entry = |(kid, standing, signs_from_ms): (String, Standing, i64)| {
        let state = match standing {
            Standing::Next => "next",
            Standing::Signing => "signing",
            Standing::Retiring => "retiring",
        };
        Entry { kid, state, signs_from_ms }
    };
    app.keys.published().into_iter().map(entry).collect()
}

/// The published keys, in the order in which they sign.
#[utoipa::path(get, path = "/api/v1/signing-keys", security(("operator" = [])),
    responses((status = 200, body = [Entry]), (status = 403)))]
pub(super) async fn list(State(app): Shared, _: ByOperator) -> Json<Vec<Entry>> {
    Json(entries(&app))
}

/// Publishes the next key, which signs tokens when everybody has had the time to hear of it. The former one stays published until its
/// last token has expired.
#[utoipa::path(post, path = "/api/v1/signing-keys/rotate", security(("operator" = [])), responses(
    (status = 201, body = [Entry]), (status = 403),
    (status = 409, description = "the next key is published already, or there are too many"),
    (status = 503, description = "the database fails"),
))]
pub(super) async fn rotate(
    State(app): Shared,
    _: ByOperator,
) -> Result<(StatusCode, Json<Vec<Entry>>), Failure> {
    let changing = Arc::clone(&app);
    complete(&app, async move { changing.keys.rotate().await }).await?;
    Ok((StatusCode::CREATED, Json(entries(&app))))
}
