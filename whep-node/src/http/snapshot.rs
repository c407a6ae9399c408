//! A still picture of a lesson, without a session: its newest keyframe, as an MP4 that an element of a page shows.
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hub::{Keyframe, Place};

use super::endpoint::Call;
use super::reply::{self, Failure};
use super::{App, Asker, Parameters};

pub(super) const PATH: &str = "/live/{stream}/snapshot.mp4";
const METHODS: &str = "GET, HEAD, OPTIONS";
/// Whoever has one asks whether it is the newest; nobody keeps it for others, who may not watch.
const CACHING: &str = "no-cache, private";

pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Parameters>, QueryRejection>,
    Extension(Asker(client)): Extension<Asker>,
    request: Request,
) -> Response {
    let Ok(Path(stream)) = path else { return Failure::not_found().into_response() };
    let Ok(Query(parameters)) = query else { return Failure::bad_query().into_response() };
    let (method, headers) = (request.method(), request.headers());
    let call = Call { app: &app, class: app.class(&stream), parameters: &parameters, client, headers };
    match *method {
        Method::GET | Method::HEAD => show(&call).await.unwrap_or_else(Failure::into_response),
        Method::OPTIONS => reply::preflight(METHODS),
        _ => Failure::method_not_allowed(METHODS).into_response(),
    }
}

/// Whoever may watch the lesson may look at it, also where no further viewers are taken: this is none.
async fn show(call: &Call<'_>) -> Result<Response, Failure> {
    call.authorize().await?;
    let keyframe = call.app.streams.keyframe(call.class).map_err(|_| Failure::not_live())?;
    let keyframe = keyframe.ok_or_else(Failure::no_picture)?;
    let tag = tag(keyframe.place);
    let mut response = if is_known(call.headers, &tag) {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Body::from(keyframe.made(write).ok_or_else(Failure::no_picture)?));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(fmp4::CONTENT_TYPE));
        response
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHING));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// Copies the picture, once for all who ask: some milliseconds for the largest.
fn write(keyframe: &Keyframe) -> Option<Bytes> {
    let written = fmp4::snapshot(&keyframe.config, &keyframe.nals);
    written.inspect_err(|error| tracing::debug!(%error, "a keyframe cannot be shown")).ok()
}

/// A keyframe is the same at every node that has it, and no other has its place.
fn tag(Place { epoch, group, index }: Place) -> String {
    format!("\"{epoch}-{group}-{index}\"")
}

/// RFC 9110, section 13.1.2: tags are compared weakly, and there may be several.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut known = lists.flat_map(|list| list.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
