//! Streams and classes.
use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use control::api::{StreamProblem, StreamState};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{App, Failure, Peer, Shared, now_ms};
use crate::registry::Located;
use crate::secret;
use crate::server::Mode;
use crate::store::StoreError;

/// Characters of a class's name in addresses, and for people.
const SLUG_MAX: usize = 64;
const NAME_MAX: usize = 200;

/// A stream as anybody may know it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stream {
    class: String,
    node: String,
    session: String,
    state: &'static str,
    viewers: u32,
    has_video: bool,
    has_audio: bool,
    width: u32,
    height: u32,
    bitrate_bps: u64,
    problems: Vec<Problem>,
}

/// What is wrong with a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    code: String,
    text: String,
}

impl From<Located> for Stream {
    fn from(Located { report, node }: Located) -> Self {
        Self {
            class: report.class,
            node,
            session: report.session,
            state: match report.state {
                StreamState::Starting => "starting",
                StreamState::Active => "active",
                StreamState::Grace => "grace",
            },
            viewers: report.viewers,
            has_video: report.has_video,
            has_audio: report.has_audio,
            width: report.width,
            height: report.height,
            bitrate_bps: report.bitrate_bps,
            problems: report
                .problems
                .into_iter()
                .map(|StreamProblem { code, text }| Problem { code, text })
                .collect(),
        }
    }
}

/// The streams of all nodes.
#[utoipa::path(get, path = "/api/v1/streams", responses((status = 200, body = [Stream])))]
pub(super) async fn list(State(app): Shared) -> Json<Vec<Stream>> {
    Json(app.registry().streams().into_iter().map(Stream::from).collect())
}

/// The stream of one class.
#[utoipa::path(get, path = "/api/v1/streams/{class}", params(("class" = String, Path)), responses(
    (status = 200, body = Stream), (status = 404, description = "nobody publishes in this class"),
))]
pub(super) async fn show(State(app): Shared, Path(class): Path<String>) -> Result<Json<Stream>, Failure> {
    let found = app.registry().streams().into_iter().find(|found| found.report.class == class);
    found.map(|found| Json(found.into())).ok_or_else(|| Failure::not_found("nobody publishes in this class"))
}

/// The classes.
#[utoipa::path(get, path = "/api/v1/classes", responses((status = 200), (status = 403)))]
pub(super) async fn classes(
    State(app): Shared,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
) -> Result<Json<Value>, Failure> {
    only_operators(&app, peer.ip(), &headers)?;
    let classes = app.store.classes().await.map_err(|error| Failure::database(&app, &error))?;
    let classes =
        classes.into_iter().map(|class| json!({ "id": class.id, "slug": class.slug, "name": class.name }));
    Ok(Json(classes.collect()))
}

/// A new class.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewClass {
    /// Its name in addresses: lower-case letters, digits and hyphens.
    slug: String,
    /// Its name for people; the slug if left out.
    name: Option<String>,
    /// A PIN, which guarded mode asks for.
    pin: Option<String>,
}

/// Adds a class with a stream key, whose secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/classes", request_body = NewClass, responses(
    (status = 201), (status = 400), (status = 403), (status = 409, description = "the slug is taken"),
))]
pub(super) async fn add_class(
    State(app): Shared,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
    Json(new): Json<NewClass>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    only_operators(&app, peer.ip(), &headers)?;
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=SLUG_MAX).contains(&new.slug.len()) || !new.slug.bytes().all(is_allowed) || new.slug == "stream"
    {
        return Err(Failure::bad_request(
            "slug must be 1 to 64 lower-case letters, digits or hyphens, not 'stream'",
        ));
    }
    let name = new.name.unwrap_or_else(|| new.slug.clone());
    if name.chars().count() > NAME_MAX {
        return Err(Failure::bad_request("name must have 200 characters at most"));
    }
    let added = app.store.add_class(&new.slug, &name, new.pin.as_deref(), now_ms()).await;
    let class = added.map_err(|error| match error {
        StoreError::Exists => Failure::conflict("there is already a class with this slug"),
        error => Failure::database(&app, &error),
    })?;
    let key =
        app.store.add_stream_key(&class, now_ms()).await.map_err(|error| Failure::database(&app, &error))?;
    Ok((StatusCode::CREATED, Json(json!({ "id": class.id, "slug": class.slug, "stream_key": key }))))
}

/// Adds a stream key to a class. The secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/classes/{class}/stream-keys", params(("class" = String, Path)), responses(
    (status = 201), (status = 403), (status = 404),
))]
pub(super) async fn add_key(
    State(app): Shared,
    ConnectInfo(peer): Peer,
    headers: HeaderMap,
    Path(slug): Path<String>,
) -> Result<(StatusCode, Json<Value>), Failure> {
    only_operators(&app, peer.ip(), &headers)?;
    let class = app.store.class(&slug).await.map_err(|error| Failure::database(&app, &error))?;
    let class = class.ok_or_else(|| Failure::not_found("there is no such class"))?;
    let key =
        app.store.add_stream_key(&class, now_ms()).await.map_err(|error| Failure::database(&app, &error))?;
    Ok((StatusCode::CREATED, Json(json!({ "class": class.slug, "stream_key": key }))))
}

/// Until there are accounts: whoever knows the nodes' secret, and in open mode whoever sits at the machine itself.
fn only_operators(app: &App, ip: std::net::IpAddr, headers: &HeaderMap) -> Result<(), Failure> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    let is_here = app.mode == Mode::Open && ip.to_canonical().is_loopback();
    if is_here || secret::is_equal(secret, &app.node_secret) {
        return Ok(());
    }
    Err(Failure::forbidden("classes are managed from the machine itself or with the operator's secret"))
}
