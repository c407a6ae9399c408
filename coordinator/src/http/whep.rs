//! WHEP for players that know the coordinator alone: it places the viewer, and sends the offer on to its node.
mod forward;

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, HeaderName, LOCATION, ORIGIN,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use control::{Right, Role, TokenError};
use reqwest::Url;
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::token::{self, Place};
use super::{Failure, Shared};
use crate::app::App;
use crate::registry::Wish;
use crate::secret;
use crate::store::Class;

/// What offers and answers are.
const SDP: &str = "application/sdp";
const METHODS: &str = "POST, GET, HEAD, OPTIONS";
/// Bytes of an offer: what nodes take.
const OFFER_BYTES_MAX: usize = 64 << 10;
/// Random characters in the name of a viewer without a token.
const GUEST_LEN: usize = 20;

/// What concerns the coordinator; everything else in the query is the node's.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Parameters {
    /// The token, for players that cannot set a header.
    jwt: Option<String>,
    /// 0: pass the offer to the node and its answer back, for players that do not follow a redirect.
    redirect: Option<String>,
}

/// Sends an offer to the node that its viewer is placed at.
#[utoipa::path(post, path = "/live/{class}/whep", params(("class" = String, Path), Parameters),
    request_body(content = String, content_type = "application/sdp"), responses(
    (status = 307, description = "to the node's endpoint, with the token as ?jwt="),
    (status = 201, description = "with redirect=0: the node's answer"),
    (status = 401, description = "a token is needed, or it is not good"), (status = 403, description = "the token is for another class"),
    (status = 404, description = "no such class"), (status = 409, description = "nobody publishes"), (status = 422, description = "the offer is too large"),
    (status = 429), (status = 503, description = "no media node, all of them are full, or it does not answer"),
))]
pub(super) async fn offer(
    State(app): Shared,
    caller: Caller,
    Path(name): Path<String>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&app, &caller, &parameters, &name)?;
    // Only now: nobody else's offer is kept. It is read also where it is not needed, for who answers before hears nothing
    // of a player that is still sending.
    let (head, body) = request.into_parts();
    let offer = read(body).await?;
    let place = viewer.place(&app, &caller)?;
    if parameters.redirect.as_deref() == Some("0") {
        return forward::forward(&app, &caller, &viewer, &place, (head, offer)).await;
    }
    // Programs that follow a redirect to another origin leave the header behind. A browser says there that the page is of
    // no origin, which no node lets in without a token.
    let is_page = head.headers.contains_key(ORIGIN);
    let token = match &viewer.token {
        Some(token) => Some(token.clone()).filter(|token| parameters.jwt.as_ref() != Some(token)),
        // A secret stays here.
        None if is_page || viewer.role == Role::Monitor => Some(viewer.token(&app, &place.node)?),
        None => None,
    };
    let location = url(&place.endpoint, head.uri.query(), token.as_deref())?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location.as_str())]).into_response())
}

/// What players that look whether there is anything are told.
pub(super) async fn get() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The same without a body.
pub(super) async fn head() -> impl IntoResponse {
    [(CONTENT_TYPE, SDP)]
}

/// Preflights, and players that ask what is taken.
pub(super) async fn options() -> impl IntoResponse {
    let headers = [
        (ALLOW, METHODS),
        (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (HeaderName::from_static("accept-post"), SDP),
    ];
    (StatusCode::NO_CONTENT, headers)
}

/// Players live on other origins. Tokens travel in headers and addresses and never in cookies, so any origin may ask.
pub(super) async fn allow_other_origins(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = "Location, Link, ETag, Accept-Patch, Accept-Post, Retry-After, WWW-Authenticate";
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    response
}

/// Who may watch what.
pub(super) struct Viewer {
    pub(super) class: Class,
    /// By which it is placed.
    name: String,
    /// The node that it was sent to before.
    hint: Option<String>,
    /// Nothing, if it needs none.
    token: Option<String>,
    role: Role,
}

impl Viewer {
    /// Whose token is good and for this class, or who is let in without one.
    pub(super) fn of(
        app: &App,
        caller: &Caller,
        parameters: &Parameters,
        class: &str,
    ) -> Result<Self, Failure> {
        if !app.tokens.take(caller.address(), Instant::now()) {
            return Err(Failure::too_many_requests());
        }
        let class = app.classes.class(class);
        let guest = || format!("{}-{}", caller.address(), secret::random_text(GUEST_LEN));
        if caller.is_monitor(app) {
            let class = class.ok_or_else(Failure::no_class)?;
            return Ok(Self { class, name: guest(), hint: None, token: None, role: Role::Monitor });
        }
        let in_query = parameters.jwt.as_deref().filter(|jwt| !jwt.is_empty());
        let Some(token) = caller.bearer().or(in_query) else {
            if !caller.is_let_in_by_address(app) {
                return Err(Failure::token_missing());
            }
            let class = class.ok_or_else(Failure::no_class)?;
            return Ok(Self { class, name: guest(), hint: None, token: None, role: Role::Student });
        };
        let claims = app.verify(token).map_err(|error| match error {
            TokenError::Expired => Failure::token_expired(),
            TokenError::Revoked => Failure::token_revoked(),
            _ => Failure::token_invalid(),
        })?;
        let class = class.filter(|class| claims.cls == class.slug && claims.rights.contains(&Right::View));
        let class = class.ok_or_else(Failure::token_of_another_class)?;
        Ok(Self {
            class,
            name: claims.sub,
            hint: claims.node,
            token: Some(token.to_owned()),
            role: claims.role,
        })
    }

    /// The node that it is sent to. Who waits for a lesson to begin takes no place meanwhile.
    fn place(&self, app: &App, caller: &Caller) -> Result<Place, Failure> {
        let wish = Wish {
            class: &self.class.slug,
            viewer: &self.name,
            hint: self.hint.as_deref(),
            excluded: &[],
            region: None,
        };
        let mut registry = app.registry();
        if registry.stream(&self.class.slug).is_none() {
            return Err(Failure::nothing_to_watch());
        }
        let placed = registry.place(Instant::now(), &wish);
        let (node, from) = placed.map_err(|error| token::failure(app, error))?;
        let schemes = (caller.scheme(), caller.own_scheme());
        token::place((node, from), &self.class.slug, schemes, caller.host())
            .ok_or_else(|| Failure::bad_request("the Host header is missing or not a host"))
    }

    /// What it proves itself with to the node, when the coordinator asks for it.
    pub(super) fn token(&self, app: &App, node: &str) -> Result<String, Failure> {
        match &self.token {
            Some(token) => Ok(token.clone()),
            // The node would judge by the coordinator's address, and not by the viewer's.
            None => token::sign(app, self.role, &self.name, (&self.class.slug, node.to_owned())),
        }
    }
}

async fn read(body: Body) -> Result<Bytes, Failure> {
    let read = axum::body::to_bytes(body, OFFER_BYTES_MAX).await;
    read.map_err(|_| Failure::offer_unusable("the offer is too large or was cut off"))
}

/// An endpoint with what the player had in its query, and with a token in place of the one there, if there is one.
pub(super) fn url(endpoint: &str, query: Option<&str>, token: Option<&str>) -> Result<Url, Failure> {
    let mut url = Url::parse(endpoint).map_err(|_| Failure::no_node())?;
    let asked = Url::parse(&format!("http://player/?{}", query.unwrap_or_default()));
    let asked = asked.map_err(|_| Failure::bad_request("the query cannot be read"))?;
    let is_kept = |name: &str| name != "redirect" && !(name == "jwt" && token.is_some());
    let kept = asked.query_pairs().filter(|(name, _)| is_kept(name));
    let mut pairs: Vec<_> = kept.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    pairs.extend(token.map(|token| ("jwt".to_owned(), token.to_owned())));
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_players_query_goes_with_it_and_the_token_that_counts() {
        let url = |query, token| url("http://n:8889/live/lesson/whep", query, token).unwrap().to_string();
        let endpoint = "http://n:8889/live/lesson/whep";
        assert_eq!(url(None, None), endpoint);
        assert_eq!(url(Some("redirect=1"), None), endpoint);
        assert_eq!(url(None, Some("a.b-c_d")), format!("{endpoint}?jwt=a.b-c_d"));
        assert_eq!(url(Some("latency=low&jwt=old"), Some("new")), format!("{endpoint}?latency=low&jwt=new"));
        assert_eq!(url(Some("jwt=old&latency=low"), None), format!("{endpoint}?jwt=old&latency=low"));
        assert_eq!(url(Some("a=%26b&c"), None), format!("{endpoint}?a=%26b&c="));
    }
}
