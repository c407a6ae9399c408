//! The stream directory.
use axum::Json;
use axum::extract::{Path, State};
use control::api::{StreamProblem, StreamState};
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::{Failure, Shared};
use crate::registry::Located;

/// A stream as its viewers may know it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stream {
    class: String,
    node: String,
    session: String,
    state: &'static str,
    /// In `grace`: the app has said that the lesson is over.
    is_ended: bool,
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
            is_ended: report.is_ended,
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

/// The streams of all nodes; for operators, and in open mode for whoever is not asked for a PIN: it names classes.
#[utoipa::path(get, path = "/api/v1/streams", responses((status = 200, body = [Stream]), (status = 403)))]
pub(super) async fn list(State(app): Shared, caller: Caller) -> Result<Json<Vec<Stream>>, Failure> {
    if !caller.may_monitor(&app) {
        return Err(Failure::not_operator());
    }
    Ok(Json(app.registry().streams().into_iter().map(Stream::from).collect()))
}

/// The stream of one class, for whoever may watch it.
#[utoipa::path(get, path = "/api/v1/streams/{class}", params(("class" = String, Path)), responses(
    (status = 200, body = Stream), (status = 401, description = "a PIN is needed"),
    (status = 404, description = "nobody publishes in this class"), (status = 429),
))]
pub(super) async fn show(
    State(app): Shared,
    caller: Caller,
    Path(class): Path<String>,
) -> Result<Json<Stream>, Failure> {
    let class = caller.look(&app, &class)?;
    let found = app.registry().stream(&class.slug);
    found.map(|found| Json(found.into())).ok_or_else(Failure::no_stream)
}
