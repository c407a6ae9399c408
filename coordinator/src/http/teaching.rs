//! What a teacher may do, who proves himself with a stream key of the class: whoever may publish may see what arrives.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, StatusCode};
use control::api::Heartbeat;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::keys::MadeKey;
use super::{Failure, Shared, change};
use crate::app::App;
use crate::store::Class;

/// The header that a stream key travels in.
pub(super) const STREAM_KEY: HeaderName = HeaderName::from_static("x-stream-key");
/// The port of RTMP that apps take if none is named.
const RTMP_PORT: u16 = 1935;

/// A teacher of the class that the path names. The argument before all that reads the request.
#[derive(Debug)]
pub(super) struct ByTeacher {
    caller: Caller,
    class: Class,
    /// The id of the key that he came with.
    key: String,
}

impl FromRequestParts<Arc<App>> for ByTeacher {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let path = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Failure::no_class())?;
        let named = path.iter().find(|(name, _)| *name == "class").map(|(_, value)| value.to_owned());
        let caller = match Caller::from_request_parts(parts, app).await {
            Ok(caller) => caller,
            Err(never) => match never {},
        };
        let Some(found) = caller.taught(app) else { return Err(Failure::wrong_key()) };
        let (class, key) = found?;
        if named.is_none_or(|named| app.classes.canonical(&named) != class.slug) {
            return Err(Failure::key_of_another_class());
        }
        Ok(Self { caller, class, key })
    }
}

impl Caller {
    /// The class whose stream key it has, and the key's id; nothing if it brings none. Wrong ones are as rare as looks are.
    pub(super) fn taught(&self, app: &App) -> Option<Result<(Class, String), Failure>> {
        let key = self.text(&STREAM_KEY)?;
        // A right one is no guess, and its teacher is not shut out by those who make them.
        let known = app.classes.class_of_key(key);
        if known.is_none() && !app.looks.take(self.address(), Instant::now()) {
            return Some(Err(Failure::too_many_requests()));
        }
        Some(known.ok_or_else(Failure::wrong_key))
    }

    /// The class of this name, if it comes with one of its stream keys.
    pub(super) fn teaches(&self, app: &App, name: &str) -> Option<Result<Class, Failure>> {
        let taught = self.taught(app)?.and_then(|(class, _)| {
            let is_named = class.slug == app.classes.canonical(name);
            is_named.then_some(class).ok_or_else(Failure::key_of_another_class)
        });
        Some(taught)
    }
}

/// What a teacher's app needs but for the key, which whoever asks has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PublishInfo {
    class: String,
    /// The name of the class for people.
    name: String,
    /// Addresses for an app; over TLS first.
    servers: Vec<String>,
}

/// Where to publish.
#[utoipa::path(get, path = "/api/v1/classes/{class}/publish-info", security(("teacher" = [])),
    params(("class" = String, Path)), responses((status = 200, body = PublishInfo),
    (status = 403, description = "the key is wrong, or another class's"), (status = 429), (status = 503, description = "no node")))]
pub(super) async fn publish_info(
    State(app): Shared,
    ByTeacher { caller, class, .. }: ByTeacher,
) -> Result<Json<PublishInfo>, Failure> {
    let host =
        caller.host().ok_or_else(|| Failure::bad_request("the Host header is missing or not a host"))?;
    let servers = {
        let registry = app.registry();
        let (node, from) = registry.publishing_node(&class.slug).ok_or_else(Failure::no_node)?;
        servers(node, from, &host)
    };
    Ok(Json(PublishInfo { class: class.slug, name: class.name, servers }))
}

/// Replaces the key that whoever asks came with: it is void, and whoever publishes with it is sent away.
#[utoipa::path(post, path = "/api/v1/classes/{class}/stream-key/rotate", security(("teacher" = [])),
    params(("class" = String, Path)), responses((status = 201, body = MadeKey),
    (status = 403, description = "the key is wrong, or another class's"), (status = 429), (status = 503, description = "the database fails")))]
pub(super) async fn rotate(
    State(app): Shared,
    ByTeacher { class, key, .. }: ByTeacher,
) -> Result<(StatusCode, Json<MadeKey>), Failure> {
    let slug = class.slug.clone();
    let key = change(app, async move |classes| classes.replace_key(&slug, &key).await).await?;
    Ok((StatusCode::CREATED, Json(MadeKey::new(class.slug, key))))
}

/// The addresses of a node for apps, as `token::place` finds them for players.
fn servers(node: &Heartbeat, from: IpAddr, host: &str) -> Vec<String> {
    let public = node.public_url.as_deref().and_then(|url| url.split_once("://"));
    let public = public.and_then(|(_, rest)| super::caller::host_of(rest.split('/').next()?));
    let host = match public {
        Some(public) => public,
        None if !from.is_loopback() => SocketAddr::new(from, 0).to_string().trim_end_matches(":0").to_owned(),
        None => host.to_owned(),
    };
    let secure = node.rtmps_port.map(|port| format!("rtmps://{host}:{port}/live"));
    let plain = node.rtmp_port.map(|port| match port {
        RTMP_PORT => format!("rtmp://{host}/live"),
        port => format!("rtmp://{host}:{port}/live"),
    });
    secure.into_iter().chain(plain).collect()
}
