//! `POST /api/token`: who may watch what.
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use control::api::Heartbeat;
use control::{Claims, Right, Role};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::{Failure, Shared};
use crate::app::{App, now_seconds};
use crate::registry::{NoNode, Wish};
use crate::secret;

/// Characters of a user's id.
const USER_ID_MAX: usize = 64;
/// Nodes that a viewer may exclude.
const EXCLUDED_MAX: usize = 16;
/// Characters of a token's own number.
const JTI_LEN: usize = 20;

/// Who asks for what.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Parameters {
    /// `student`, `teacher` or `monitor`.
    user_type: Option<String>,
    /// Any id of up to 64 letters, digits, `.`, `_` and `-`.
    user_id: Option<String>,
    /// The class; the default class if left out.
    class_id: Option<String>,
    /// 1: give a token also before the lesson begins.
    wait: Option<String>,
    /// The node that the viewer was sent to before, which its token names: it is sent there again if that can be.
    hint: Option<String>,
    /// Nodes that the viewer could not reach, separated by commas, 16 at most.
    exclude: Option<String>,
}

/// A token and where to take it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Answer {
    token: String,
    /// The WHEP endpoint with the token in it, so that a plain `POST` of an offer is enough.
    webrtc_url: String,
    expires_in: u64,
    user_type: String,
    user_id: String,
    mode: &'static str,
}

/// Gives a token for watching a class.
#[utoipa::path(post, path = "/api/token", params(Parameters), responses(
    (status = 200, body = Answer), (status = 400), (status = 401, description = "a PIN is needed"),
    (status = 403, description = "the PIN is for students"), (status = 404, description = "no such class"), (status = 425, description = "not live yet"),
    (status = 429), (status = 503, description = "no media node, or all of them are full"),
))]
pub(super) async fn issue(
    State(app): Shared,
    caller: Caller,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let role = role_of(parameters.user_type.as_deref())?;
    let user_id = parameters
        .user_id
        .filter(|id| is_user_id(id))
        .ok_or_else(|| Failure::bad_request("user_id must be 1 to 64 letters, digits, '.', '_' or '-'"))?;
    let slug = parameters.class_id.as_deref().unwrap_or(app.classes.default_slug());
    let class = caller.enter(&app, slug, role)?;
    let is_waiting = parameters.wait.as_deref().is_some_and(|wait| wait != "0");
    let excluded = excluded(parameters.exclude.as_deref());
    let wish = Wish {
        class: &class.slug,
        viewer: &user_id,
        hint: parameters.hint.as_deref(),
        excluded: &excluded,
        region: None,
    };
    let Place { node, endpoint, .. } = {
        let mut registry = app.registry();
        if !is_waiting && !registry.is_live(&class.slug) {
            return Err(Failure::not_live());
        }
        let (node, from) = registry.place(Instant::now(), &wish).map_err(|error| failure(&app, error))?;
        place((node, from), &class.slug, (caller.scheme(), caller.own_scheme()), caller.host())
            .ok_or_else(|| Failure::bad_request("the Host header is missing or not a host"))?
    };
    let token = sign(&app, role, &user_id, (&class.slug, node))?;
    let webrtc_url = format!("{endpoint}?jwt={token}");
    app.metrics.tokens.with_label_values(&[role.as_str()]).inc();
    let user_type = role.as_str().to_owned();
    // Where whoever asks needs no token, other players of his need none either.
    let alternate =
        caller.is_let_in_by_address(&app).then(|| [(LINK, format!("<{endpoint}>; rel=\"alternate\""))]);
    let answer = Json(Answer {
        token,
        webrtc_url,
        expires_in: app.token_ttl.as_secs(),
        user_type,
        user_id,
        mode: "main",
    });
    Ok(match alternate {
        Some(link) => (link, answer).into_response(),
        None => answer.into_response(),
    })
}

/// The nodes of a list that a viewer could not reach.
pub(super) fn excluded(list: Option<&str>) -> Vec<&str> {
    list.into_iter().flat_map(|list| list.split(',')).take(EXCLUDED_MAX).collect()
}

pub(super) fn failure(app: &App, error: NoNode) -> Failure {
    match error {
        NoNode::Nobody => Failure::no_node(),
        NoNode::Full { retry_after } => {
            app.metrics.viewers_refused.inc();
            Failure::nodes_full(retry_after)
        }
    }
}

fn role_of(user_type: Option<&str>) -> Result<Role, Failure> {
    let roles = [Role::Student, Role::Teacher, Role::Monitor];
    let role = roles.into_iter().find(|role| user_type == Some(role.as_str()));
    role.ok_or_else(|| Failure::bad_request("user_type must be student, teacher or monitor"))
}

fn is_user_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=USER_ID_MAX).contains(&id.len()) && id.bytes().all(is_allowed)
}

/// Where a viewer finds its class.
#[derive(Debug)]
pub(super) struct Place {
    /// The node.
    pub(super) node: String,
    /// The node's WHEP endpoint for the viewer.
    pub(super) endpoint: String,
    /// The same for the coordinator. Nothing that the viewer says of itself is in it.
    pub(super) from_here: String,
}

/// The node's public address; that of a node on another machine; or the host that the viewer already speaks to with the node's
/// port, so that a laptop works under any of its addresses.
pub(super) fn place(
    (node, from): (&Heartbeat, IpAddr),
    slug: &str,
    (scheme, own_scheme): (&str, &str),
    host: Option<String>,
) -> Option<Place> {
    let port = node.whep_port;
    let url = |base: &str| format!("{}/live/{slug}/whep", base.trim_end_matches('/'));
    let at = |scheme: &str| url(&format!("{scheme}://{}", SocketAddr::new(from, port)));
    let endpoint = match &node.public_url {
        Some(public_url) => url(public_url),
        None if !from.is_loopback() => at(scheme),
        None => url(&format!("{scheme}://{}:{port}", host?)),
    };
    let from_here = node.public_url.as_deref().map_or_else(|| at(own_scheme), url);
    Some(Place { node: node.node.clone(), endpoint, from_here })
}

pub(super) fn sign(
    app: &App,
    role: Role,
    user_id: &str,
    (slug, node): (&str, String),
) -> Result<String, Failure> {
    let now = now_seconds();
    let claims = Claims {
        iss: Claims::ISSUER.to_owned(),
        aud: Claims::AUDIENCE.to_owned(),
        sub: user_id.to_owned(),
        role,
        // Whoever says of himself that he is a teacher may watch like everybody; publishing takes the stream key.
        rights: vec![Right::View],
        cls: slug.to_owned(),
        exp: now + app.token_ttl.as_secs(),
        nbf: now,
        iat: app.revocations.issued_at(now, slug, user_id),
        jti: secret::random_text(JTI_LEN),
        by: Some(app.run.clone()),
        node: Some(node),
        kid: String::new(),
    };
    app.keys.sign(&claims).map_err(|error| {
        tracing::error!(%error, "a token cannot be signed");
        Failure::internal()
    })
}
