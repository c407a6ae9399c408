//! The API.
mod around;
mod caller;
mod classes;
mod internal;
mod problem;
mod streams;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod token;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use process::limiter::Limiter;
use prometheus::{Encoder, Registry as Prometheus, TextEncoder};
use serde_json::{Value, json};
use utoipa::OpenApi;

pub(crate) use self::problem::Failure;
use crate::config::Mode;
use crate::keys::SigningKey;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::{Class, Store};
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

    /// The name under which a class is stored.
    pub(crate) fn canonical<'a>(&'a self, name: &'a str) -> &'a str {
        if name == Class::DEFAULT_ALIAS { &self.default_class } else { name }
    }

    /// The class of this name, or of this other name.
    pub(crate) async fn class(&self, name: &str) -> Result<Option<Class>, Failure> {
        self.store.class(self.canonical(name)).await.map_err(|error| Failure::database(self, &error))
    }
}

pub(crate) type Shared = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(title = "Lectern", description = "Classes, tokens and streams. Errors are RFC 9457 problems."),
    paths(token::issue, streams::list, streams::show, classes::list, classes::add, classes::add_key)
)]
struct Api;

/// The routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let internal = Router::new()
        .route("/publish/authorize", post(internal::authorize))
        .route("/heartbeat", post(internal::heartbeat))
        .route("/sessions", post(internal::sessions))
        .fallback(missing)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), internal::only_nodes));
    Router::new()
        .nest("/internal/v1", internal)
        .route("/api/token", post(token::issue))
        .route("/api/v1/streams", get(streams::list))
        .route("/api/v1/streams/{class}", get(streams::show))
        .route("/api/v1/classes", get(classes::list).post(classes::add))
        .route("/api/v1/classes/{class}/stream-keys", post(classes::add_key))
        .route("/api/openapi.json", get(async || Json(Api::openapi())))
        .route("/api/{*rest}", any(missing))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/health", get(ready))
        .route("/readyz", get(ready))
        .route("/livez", get(async || Json(json!({ "status": "ok" }))))
        .route("/metrics", get(metrics))
        .fallback(get(web::serve))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around::around))
        .with_state(app)
}

async fn missing() -> Failure {
    Failure::not_found("there is no such resource")
}

async fn jwks(State(app): Shared) -> Json<Value> {
    Json(app.key.jwks())
}

async fn ready(State(app): Shared) -> Result<Json<Value>, Failure> {
    app.store.check().await.map_err(|error| {
        app.metrics.database_errors.inc();
        tracing::warn!(%error, "not ready");
        Failure::no_database()
    })?;
    Ok(Json(json!({ "status": "ok", "nodes": app.registry().nodes().len() })))
}

async fn metrics(State(app): Shared) -> Result<Response, Failure> {
    {
        let registry = app.registry();
        app.metrics.nodes.set(i64::try_from(registry.nodes().len()).unwrap_or(i64::MAX));
        app.metrics.streams.set(i64::try_from(registry.streams().len()).unwrap_or(i64::MAX));
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&app.prometheus.gather(), &mut text).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        Failure::internal()
    })?;
    Ok(([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

/// The wall clock in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
