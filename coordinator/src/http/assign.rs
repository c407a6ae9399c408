//! Why a viewer goes where it goes.
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::ByOperator;
use super::token::excluded;
use super::{Failure, Shared};
use crate::assign::Explanation;
use crate::registry::Wish;

/// A viewer, as it would ask for a token.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Parameters {
    /// The viewer.
    user_id: String,
    /// The class; the default class if left out.
    class_id: Option<String>,
    /// The node that it was sent to before.
    hint: Option<String>,
    /// Nodes that it could not reach, separated by commas.
    exclude: Option<String>,
}

/// What a request for a token would decide now, step by step. Nothing is changed by it.
#[utoipa::path(get, path = "/api/v1/assign/explain", params(Parameters), security(("operator" = [])), responses(
    (status = 200, body = Explanation), (status = 403, description = "not an operator"), (status = 404, description = "no such class"),
))]
pub(super) async fn explain(
    State(app): Shared,
    _: ByOperator,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Explanation>, Failure> {
    let slug = parameters.class_id.as_deref().unwrap_or(app.classes.default_slug());
    let class = app.classes.class(slug).ok_or_else(Failure::no_class)?;
    let excluded = excluded(parameters.exclude.as_deref());
    let (viewer, hint) = (&*parameters.user_id, parameters.hint.as_deref());
    let wish = Wish { class: &class.slug, viewer, hint, excluded: &excluded, region: None };
    Ok(Json(app.registry().explain(Instant::now(), &wish)))
}
