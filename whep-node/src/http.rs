//! The WHEP server: draft-ietf-wish-whep, with what RFC 9725 says of sessions.
mod endpoint;
mod events;
mod ice_server;
mod playback;
mod reply;
mod session;
mod snapshot;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use control::{DEFAULT_CLASS_ALIAS, TokenVerifier};
use process::address::{Client, Scheme};
use process::drain::Draining;
use process::limiter::Limiter;
use rtc::EngineHandle;
use rtc::sdp::SDP_BYTES_MAX;
use serde::Deserialize;
use tokio::sync::Semaphore;

pub use self::ice_server::IceServer;
pub(crate) use self::ice_server::Links;
use self::reply::Failure;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::server::Config;
use crate::sessions::Sessions;
use crate::stream::Streams;

/// From a request's head to its answer: the coordinator may be asked for its keys (3 s), and a phone sends 7 kB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What every request may need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) engine: EngineHandle,
    pub(crate) streams: Streams,
    pub(crate) sessions: Sessions,
    pub(crate) control: control::Client,
    /// How many viewers without a token the coordinator may be asked about at a time.
    pub(crate) guests: Semaphore,
    pub(crate) verifier: TokenVerifier,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    pub(crate) node: String,
    /// Whether viewers are to go to other nodes.
    pub(crate) draining: Draining,
    pub(crate) default_class: String,
    pub(crate) config: Config,
    pub(crate) links: Links,
    pub(crate) limiter: Limiter,
}

impl App {
    /// The class that a URL means.
    fn class<'a>(&'a self, name: &'a str) -> &'a str {
        if name == DEFAULT_CLASS_ALIAS { &self.default_class } else { name }
    }
}

/// Who asks: the peer, or whom a trusted proxy asks for. An extension of every request.
#[derive(Clone, Copy, Debug)]
struct Asker(Client);

/// Parameters in the URL.
#[derive(Default, Deserialize)]
struct Parameters {
    /// The token, for players that cannot set a header.
    jwt: Option<String>,
    /// `low`: show at once, whatever that does to lip sync.
    latency: Option<String>,
    /// `DELETE`, for `navigator.sendBeacon`, which can only POST.
    #[serde(rename = "_method")]
    method: Option<String>,
}

/// The routes.
pub(crate) fn router(app: App) -> Router {
    let app = Arc::new(app);
    Router::new()
        .route("/live/{stream}/whep", any(endpoint::serve))
        .route("/live/{stream}/whep/{session}", any(session::serve))
        .route("/live/{stream}/whep/{session}/sse", any(events::serve))
        .route(playback::PATH, any(playback::serve))
        .route(snapshot::PATH, any(snapshot::serve))
        .fallback(async || Failure::not_found().into_response())
        .layer(DefaultBodyLimit::max(SDP_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), admit))
        .with_state(app)
}

/// What concerns every request: the rate limit, the time limit, CORS, and the count.
async fn admit(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let mut client = app.config.trusted_proxies.client(peer.ip(), request.headers());
    client.scheme = client.scheme.or(request.extensions().get::<Scheme>().map(|Scheme(scheme)| *scheme));
    let mut response = if is_costly(&request) && !app.limiter.take(client.ip, Instant::now()) {
        app.metrics.rate_limited.inc();
        Failure::too_many_requests().into_response()
    } else {
        request.extensions_mut().insert(Asker(client));
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
        answer.unwrap_or_else(|_| {
            app.metrics.request_timeouts.inc();
            Failure::timeout().into_response()
        })
    };
    reply::allow_other_origins(&mut response);
    let status = response.status();
    app.metrics.requests.with_label_values(&[reply::method_label(&method), status.as_str()]).inc();
    response
}

/// Whether a request makes us verify, parse or tell a shard something.
fn is_costly(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    match *request.method() {
        // Each player of a school says every ten seconds how it goes.
        Method::POST if path == Some(playback::PATH) => false,
        Method::POST | Method::PATCH | Method::DELETE => true,
        Method::OPTIONS => {
            // With a token, which is verified; it may be in any query.
            let headers = request.headers();
            let may_have_token = headers.contains_key(AUTHORIZATION) || request.uri().query().is_some();
            may_have_token && !is_preflight(headers)
        }
        // A look at the lesson asks for a token as an offer does.
        Method::GET | Method::HEAD => path == Some(snapshot::PATH),
        _ => false,
    }
}

/// Whether a browser asks on its own account (Fetch, section 3.3.2). No page sees the answer, so a token in the URL of
/// such a request is not looked at.
fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
