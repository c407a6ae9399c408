//! The API.
mod around;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod assign;
mod caller;
mod classes;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod events;
mod internal;
mod join;
mod keys;
mod probes;
mod problem;
mod revocations;
mod signing_keys;
mod snapshot;
mod streams;
mod teaching;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod token;
#[expect(unused_qualifications, reason = "utoipa's macro writes paths out")]
mod whep;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::routing::{any, get, options, post};
use axum::{Json, Router, middleware};
use tower_http::cors::{Any, CorsLayer};
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::problem::Failure;
use crate::app::App;
use crate::classes::{ChangeError, Classes};
use crate::web;

/// Bytes of a request's body: the name of a class and its PIN have 300.
const BODY_MAX: usize = 16 << 10;
/// The same of a node's: heartbeats of a full one are the largest.
const NODE_BODY_MAX: usize = 1 << 20;
/// For how long a browser remembers what other origins may do.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

pub(crate) type Shared = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(title = "Lectern", description = "Classes, tokens and streams. Errors are RFC 9457 problems with a stable `code`."),
    modifiers(&Proofs)
)]
struct Api;

/// What routes with `security(("operator" = []))` and `(("teacher" = []))` ask for.
struct Proofs;

impl utoipa::Modify for Proofs {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let secret = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let key = ApiKey::Header(ApiKeyValue::new(teaching::STREAM_KEY.as_str()));
        let components = api.components.get_or_insert_default();
        components.add_security_scheme("operator", SecurityScheme::Http(secret));
        components.add_security_scheme("teacher", SecurityScheme::ApiKey(key));
    }
}

/// The routes. What is described is what is served: both are written by the same line.
pub(crate) fn router(app: Arc<App>) -> Router {
    // What pages of other origins may ask: a school's own site with a player in it. What lets somebody in travels in
    // headers that such a page must know, never in cookies that the browser would add by itself. Everything else, what
    // operators do above all, is not for them.
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, caller::PIN])
        .expose_headers([RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE);
    let (for_other_origins, mut api) = OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(token::issue))
        .routes(routes!(streams::list))
        .routes(routes!(streams::show))
        .routes(routes!(events::follow))
        .routes(routes!(probes::jwks))
        .split_for_parts();
    let for_other_origins = for_other_origins
        // Before the layer, which would not see a browser's question otherwise.
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(cors);
    let (router, others) = OpenApiRouter::new()
        .routes(routes!(classes::list, classes::add))
        .routes(routes!(classes::remove))
        .routes(routes!(classes::set_pin))
        .routes(routes!(keys::list, keys::add))
        .routes(routes!(keys::revoke))
        .routes(routes!(teaching::publish_info))
        .routes(routes!(teaching::rotate))
        .routes(routes!(revocations::list, revocations::add))
        .routes(routes!(signing_keys::list))
        .routes(routes!(signing_keys::rotate))
        .routes(routes!(assign::explain))
        .routes(routes!(probes::health))
        .routes(routes!(probes::ready))
        .routes(routes!(probes::live))
        .split_for_parts();
    api.merge(others);
    let (whep, others) =
        OpenApiRouter::new().routes(routes!(whep::offer)).routes(routes!(snapshot::find)).split_for_parts();
    api.merge(others);
    let whep = whep
        .route("/live/{class}/whep", get(whep::get).head(whep::head).options(whep::options))
        .route("/live/{class}/snapshot.mp4", options(snapshot::preflight))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(middleware::map_response(whep::allow_other_origins));
    let internal = Router::new()
        .route("/publish/authorize", post(internal::authorize))
        .route("/admit", post(internal::admit))
        .route("/source", post(internal::source))
        .route("/places", post(internal::places))
        .route("/heartbeat", post(internal::heartbeat))
        .route("/sessions", post(internal::sessions))
        .fallback(missing)
        .layer(DefaultBodyLimit::max(NODE_BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), internal::only_nodes))
        // Who is no node yet.
        .route("/join", post(join::join));
    router
        .merge(for_other_origins)
        .merge(whep)
        .nest("/internal/v1", internal)
        .route("/api/openapi.json", get(async move || Json(api)).layer(CorsLayer::new().allow_origin(Any)))
        .route("/api/{*rest}", any(missing))
        .fallback(get(web::serve))
        .method_not_allowed_fallback(async || Failure::method_not_allowed())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around::around))
        .with_state(app)
}

/// Makes a change to its end, also when whoever asked for it is gone: the database may have it by then, and what is kept in
/// memory must be the same.
async fn change<T, F>(app: Arc<App>, change: impl FnOnce(Arc<Classes>) -> F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ChangeError>> + Send + 'static,
{
    let change = change(Arc::clone(&app.classes));
    complete(&app, change).await
}

/// The same of a change of anything.
async fn complete<T: Send + 'static>(
    app: &App,
    change: impl Future<Output = Result<T, ChangeError>> + Send + 'static,
) -> Result<T, Failure> {
    let changed = tokio::spawn(change).await;
    // A panic has been logged by the panic hook.
    changed.map_err(|_| Failure::internal())?.map_err(|error| Failure::change(app, error))
}

async fn missing() -> Failure {
    Failure::not_found("there is no such resource")
}
