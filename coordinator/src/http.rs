//! The API.
mod internal;
pub(crate) use internal::apply;
mod problem;
mod streams;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod token;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use node::limiter::Limiter;
use prometheus::{Encoder, Registry as Prometheus, TextEncoder};
use serde_json::{Value, json};
use utoipa::OpenApi;

pub(crate) use self::problem::Failure;
use crate::keys::SigningKey;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::server::Mode;
use crate::store::Store;
use crate::web;

/// Bytes of a request: heartbeats of a full node are the largest.
const BODY_MAX: usize = 1 << 20;

/// What every request may need.
pub(crate) struct App {
    pub(crate) store: Store,
    pub(crate) key: SigningKey,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) metrics: Metrics,
    pub(crate) prometheus: Prometheus,
    pub(crate) mode: Mode,
    pub(crate) token_ttl: Duration,
    pub(crate) node_secret: String,
    pub(crate) default_class: String,
    pub(crate) tokens: Limiter,
    pub(crate) guesses: Limiter,
}

impl App {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) type Shared = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(title = "Lectern", description = "Classes, tokens and streams. Errors are RFC 9457 problems."),
    paths(
        token::issue,
        streams::list,
        streams::show,
        streams::classes,
        streams::add_class,
        streams::add_key
    )
)]
struct Api;

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let internal = Router::new()
        .route("/publish/authorize", post(internal::authorize))
        .route("/heartbeat", post(internal::heartbeat))
        .route("/sessions", post(internal::sessions))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), internal::only_nodes));
    Router::new()
        .nest("/internal/v1", internal)
        .route("/api/token", post(token::issue))
        .route("/api/v1/streams", get(streams::list))
        .route("/api/v1/streams/{class}", get(streams::show))
        .route("/api/v1/classes", get(streams::classes).post(streams::add_class))
        .route("/api/v1/classes/{class}/stream-keys", post(streams::add_key))
        .route("/api/openapi.json", get(async || Json(Api::openapi())))
        .route("/api/{*rest}", get(async || Failure::not_found("there is no such resource")))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/health", get(ready))
        .route("/readyz", get(ready))
        .route("/livez", get(async || Json(json!({ "status": "ok" }))))
        .route("/metrics", get(metrics))
        .fallback(get(web::serve))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .with_state(app)
}

/// Counts requests, and lets pages of other origins ask: tokens travel in bodies and headers, never in cookies.
async fn count(State(app): Shared, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("web", MatchedPath::as_str).to_owned();
    let mut response = next.run(request).await;
    app.metrics.requests.with_label_values(&[route.as_str(), response.status().as_str()]).inc();
    if route.starts_with("/api") || route.starts_with("/.well-known") {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    response
}

async fn jwks(State(app): Shared) -> Json<Value> {
    Json(app.key.jwks())
}

async fn ready(State(app): Shared) -> Response {
    match app.store.check().await {
        Ok(()) => Json(json!({ "status": "ok", "nodes": app.registry().nodes() })).into_response(),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "no database" }))).into_response()
        }
    }
}

async fn metrics(State(app): Shared) -> Response {
    {
        let registry = app.registry();
        app.metrics.nodes.set(i64::try_from(registry.nodes()).unwrap_or(i64::MAX));
        app.metrics.streams.set(i64::try_from(registry.streams().len()).unwrap_or(i64::MAX));
    }
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    if encoder.encode(&app.prometheus.gather(), &mut text).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let content_type = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    ([(CONTENT_TYPE, content_type)], text).into_response()
}

/// The wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The address of whoever asks.
pub(crate) type Peer = axum::extract::ConnectInfo<SocketAddr>;
