//! A picture of a lesson for whoever knows the coordinator alone: it says which node has one.
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, LOCATION,
};
use axum::response::{IntoResponse, Response};

use super::caller::Caller;
use super::whep::{Parameters, Viewer, url};
use super::{Failure, Shared, token};

/// Preflights of pages of other origins.
pub(super) async fn preflight() -> impl IntoResponse {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, If-None-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Sends whoever may watch to the node that the lesson's app speaks to, which has its newest keyframe.
#[utoipa::path(get, path = "/live/{class}/snapshot.mp4", params(("class" = String, Path), Parameters), responses(
    (status = 307, description = "to the node's picture, with a token as ?jwt="),
    (status = 401, description = "a token is needed, or it is not good"), (status = 403, description = "the token is for another class"),
    (status = 404, description = "no such class"), (status = 409, description = "nobody publishes"), (status = 429),
))]
pub(super) async fn find(
    State(app): Shared,
    caller: Caller,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&app, &caller, &parameters, &name)?;
    let place = {
        let registry = app.registry();
        let located = registry.stream(&viewer.class.slug).ok_or_else(Failure::nothing_to_watch)?;
        let node = registry.node(&located.node).ok_or_else(Failure::nothing_to_watch)?;
        let schemes = (caller.scheme(), caller.own_scheme());
        token::place(node, &viewer.class.slug, schemes, caller.host())
            .ok_or_else(|| Failure::bad_request("the Host header is missing or not a host"))?
    };
    let token = viewer.token(&app, &place.node)?;
    let endpoint = place.endpoint.trim_end_matches("/whep");
    let location = url(&format!("{endpoint}/snapshot.mp4"), None, Some(&token))?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location.as_str())]).into_response())
}
