//! An offer that the coordinator itself takes to a node, for a player that does not follow a redirect.
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{
    ACCEPT, CONTENT_TYPE, ETAG, LINK, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use control::read_body;
use reqwest::Url;

use super::super::Failure;
use super::super::caller::Caller;
use super::super::token::Place;
use super::{Viewer, url};
use crate::app::App;

/// What a node has for its answer: its own limit is a second shorter, and ours for a request four seconds longer.
const TIMEOUT: Duration = Duration::from_secs(11);
/// Bytes of a node's answer, which has about 2,000.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// What the node hears of the player.
const TO_NODE: [HeaderName; 3] = [CONTENT_TYPE, ACCEPT, USER_AGENT];
/// What the player hears of the node.
const TO_PLAYER: [HeaderName; 5] =
    [CONTENT_TYPE, ETAG, RETRY_AFTER, WWW_AUTHENTICATE, HeaderName::from_static("accept-patch")];

/// Asks the node for a session, and returns its answer. What follows concerns the player and the node alone.
pub(super) async fn forward(
    app: &App,
    caller: &Caller,
    viewer: &Viewer,
    place: &Place,
    (head, offer): (Parts, Bytes),
) -> Result<Response, Failure> {
    let Ok(_forwarding) = app.forwards.try_acquire() else { return Err(Failure::busy()) };
    let token = viewer.token(app, &place.node)?;
    let target = url(&place.from_here, head.uri.query(), None)?;
    let mut headers: HeaderMap = TO_NODE
        .into_iter()
        .filter_map(|name| Some((name.clone(), head.headers.get(name)?.clone())))
        .collect();
    // For its record and its limits, if it is told to believe us.
    if let Ok(client) = HeaderValue::from_str(&caller.address().to_string()) {
        headers.insert("x-forwarded-for", client);
    }
    let request = app.http.post(target).headers(headers).bearer_auth(token).body(offer).timeout(TIMEOUT);
    let unreachable = |error: String| {
        tracing::warn!(node = place.node, error, "an offer cannot be passed to its node");
        Failure::node_unreachable()
    };
    // Without its address, which has the token.
    let answer = request.send().await.map_err(|error| unreachable(error.without_url().to_string()))?;
    let (status, answered) = (answer.status(), answer.headers().clone());
    let body = read_body(answer, ANSWER_BYTES_MAX).await.map_err(|error| unreachable(error.to_string()))?;
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.remove(CONTENT_TYPE);
    for name in TO_PLAYER {
        answered.get_all(&name).iter().for_each(|value| _ = headers.append(name.clone(), value.clone()));
    }
    let node = Url::parse(&place.endpoint).map_err(|_| Failure::node_unreachable())?;
    if let Some(session) = answered.get(LOCATION).and_then(|session| absolute(&node, session)) {
        headers.insert(LOCATION, session);
    }
    for link in answered.get_all(LINK).iter().filter_map(|link| absolute_link(&node, link)) {
        headers.append(LINK, link);
    }
    Ok(response)
}

/// Where a session is for the player, which is not at the node's address.
fn absolute(node: &Url, session: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_str(node.join(session.to_str().ok()?).ok()?.as_str()).ok()
}

/// The same for what a link leads to (RFC 8288, section 3), if that is at the node: ICE servers are not.
fn absolute_link(node: &Url, link: &HeaderValue) -> Option<HeaderValue> {
    let text = link.to_str().ok()?;
    match text.strip_prefix('<').and_then(|text| text.split_once('>')) {
        Some((target, parameters)) if target.starts_with('/') => {
            HeaderValue::from_str(&format!("<{}>{parameters}", node.join(target).ok()?)).ok()
        }
        _ => Some(link.clone()),
    }
}
