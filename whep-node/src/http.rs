//! The WHEP server: draft-ietf-wish-whep, with what RFC 9725 says of sessions.
mod reply;
mod session;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use control::api::SessionEvent;
use control::{Claims, Right, Role, TokenError, TokenVerifier};
use media::Tracks;
use process::limiter::Limiter;
use rtc::EngineHandle;
use rtc::sdp::{Local, Offer, SDP_BYTES_MAX};
use serde::Deserialize;

use self::reply::{Failure, SDP};
use crate::metrics::Metrics;
use crate::server::Config;
use crate::sessions::{Sessions, random_text};
use crate::stream::Streams;
use crate::viewer::{Journal, now_ms};

/// The name in the URLs of the oldest players for the only class there is.
pub(crate) const DEFAULT_ALIAS: &str = "stream";
/// Characters of a browser's name that are kept.
const USER_AGENT_MAX: usize = 256;
/// Random characters of the name under which a viewer is reported.
const REPORT_ID_LEN: usize = 24;
/// From a request's head to its answer: the coordinator may be asked for its keys (3 s), and a phone sends 7 kB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Binds a viewer's sources together in its answer.
const CNAME: &str = "lectern";

/// A STUN or TURN server that players are told of.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServer {
    /// `turn:host:3478?transport=udp`.
    pub url: String,
    /// For TURN.
    pub username: Option<String>,
    /// For TURN.
    pub credential: Option<String>,
}

impl fmt::Debug for IceServer {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What every request may need.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) engine: EngineHandle,
    pub(crate) streams: Streams,
    pub(crate) sessions: Sessions,
    pub(crate) verifier: TokenVerifier,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    pub(crate) node: String,
    pub(crate) config: Config,
    pub(crate) limiter: Limiter,
}

type Shared = State<Arc<App>>;

/// Parameters in the URL.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
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
        .route("/live/{stream}/whep", any(endpoint))
        .route("/live/{stream}/whep/{session}", any(session::serve))
        .fallback(async || Failure::not_found().into_response())
        .layer(DefaultBodyLimit::max(SDP_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// What concerns every request: the rate limit, the time limit, CORS, and the count.
async fn around(
    State(app): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let is_costly = matches!(method, Method::POST | Method::PATCH | Method::DELETE);
    let may_pass = !is_costly || app.limiter.take(peer.ip(), Instant::now());
    let mut response = if may_pass {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
        answer.unwrap_or_else(|_| Failure::timeout().into_response())
    } else {
        Failure::too_many_requests().into_response()
    };
    reply::allow_other_origins(&mut response);
    let status = response.status();
    app.metrics.requests.with_label_values(&[reply::method_label(&method), status.as_str()]).inc();
    response
}

/// The endpoint of one class.
async fn endpoint(
    State(app): Shared,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Parameters>, QueryRejection>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Ok(Path(stream)) = path else { return Failure::not_found().into_response() };
    let Ok(Query(parameters)) = query else { return Failure::bad_query().into_response() };
    let (head, body) = request.into_parts();
    match head.method {
        Method::POST => {
            let Ok(body) = axum::body::to_bytes(body, SDP_BYTES_MAX).await else {
                return Failure::bad_offer("the offer is too large or was cut off").into_response();
            };
            let call =
                Call { app: &app, stream: &stream, parameters: &parameters, peer, headers: &head.headers };
            let path = head.uri.path().trim_end_matches('/');
            call.join(path, &body).await.unwrap_or_else(Failure::into_response)
        }
        Method::GET => reply::empty(StatusCode::NO_CONTENT),
        Method::HEAD => reply::head(),
        Method::OPTIONS => {
            reply::options("POST, GET, HEAD, OPTIONS", "Accept-Post", SDP, &app.config.ice_servers)
        }
        _ => Failure::method_not_allowed("POST, GET, HEAD, OPTIONS").into_response(),
    }
}

/// One POST of an offer.
struct Call<'a> {
    app: &'a App,
    stream: &'a str,
    parameters: &'a Parameters,
    peer: SocketAddr,
    headers: &'a HeaderMap,
}

impl Call<'_> {
    async fn join(&self, path: &str, body: &[u8]) -> Result<Response, Failure> {
        let app = self.app;
        let class = if self.stream == DEFAULT_ALIAS { &app.config.default_class } else { self.stream };
        let claims = self.authorize(class).await?;
        reply::check_content_type(self.headers.get(CONTENT_TYPE), SDP)?;
        if self.headers.get(ACCEPT).is_some_and(|accept| !reply::accepts(accept, SDP)) {
            // Players read a 406 as "retry without sound", so the answer comes all the same.
            tracing::debug!("a player does not list application/sdp among what it accepts");
        }
        let text = std::str::from_utf8(body).map_err(|_| Failure::bad_offer("the body is not text"))?;
        let offer = Offer::parse(text).map_err(|error| Failure::bad_offer(&error.to_string()))?;
        let open = app.streams.open(class).map_err(|_| Failure::not_live())?;
        let seat = app.engine.reserve().map_err(|_| Failure::overloaded())?;
        let Tracks { video, audio } = &open.tracks;
        let answer = offer
            .answer(&Local {
                credentials: &seat.credentials,
                fingerprint: app.engine.fingerprint(),
                candidates: app.engine.candidates(),
                video: video.as_ref().map(|video| video.profile_level_id),
                audio: *audio,
                low_latency: self.parameters.latency.as_deref() == Some("low"),
                ssrcs: seat.ssrcs,
                session_id: now_ms(),
                cname: CNAME,
            })
            .map_err(|error| Failure::bad_offer(&error.to_string()))?;
        let viewer = seat.viewer;
        let remote = answer.terms.remote.clone();
        let (id, etag, displaced) = app.sessions.insert(viewer, self.stream, &claims.jti, remote);
        displaced.into_iter().for_each(|viewer| app.engine.remove(viewer));
        // The session's id is the permission to end it, so reports and tables know the viewer by another name.
        let report_id = random_text(REPORT_ID_LEN);
        app.journal.on_joined(viewer, &report_id, self.joined(&report_id, &open.session, &claims));
        if app.engine.add(seat, open.id, answer.terms).is_err() {
            app.sessions.remove_viewer(viewer);
            return Err(Failure::overloaded());
        }
        tracing::info!(class, "viewer answered");
        Ok(reply::created(&format!("{path}/{id}"), &etag, answer.sdp, &app.config.ice_servers))
    }

    /// The token must be good, allow watching, and be for this class.
    async fn authorize(&self, class: &str) -> Result<Claims, Failure> {
        let bearer = self.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let token = bearer.or(self.parameters.jwt.as_deref()).ok_or_else(Failure::no_token)?;
        let claims = self.app.verifier.verify(token).await.map_err(|error| match error {
            TokenError::Expired => Failure::bad_token("the token has expired"),
            TokenError::Invalid | TokenError::Foreign | TokenError::UnknownKey => {
                Failure::bad_token("the token is not valid")
            }
        })?;
        if claims.cls != class || !claims.rights.contains(&Right::View) {
            return Err(Failure::forbidden());
        }
        Ok(claims)
    }

    fn joined(&self, id: &str, stream_session: &str, claims: &Claims) -> SessionEvent {
        let user_agent = self.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("");
        SessionEvent::ViewerJoined {
            id: id.to_owned(),
            node: self.app.node.clone(),
            stream_session: stream_session.to_owned(),
            user_id: claims.sub.clone(),
            user_type: role_name(claims.role).to_owned(),
            user_agent: user_agent.chars().take(USER_AGENT_MAX).collect(),
            ip_address: self.peer.ip().to_canonical().to_string(),
            at_ms: now_ms(),
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Student => "student",
        Role::Teacher => "teacher",
        Role::Monitor => "monitor",
        Role::Service => "service",
    }
}
