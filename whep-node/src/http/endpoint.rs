//! The endpoint of one class: an offer comes in, a session begins.
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN, USER_AGENT};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use control::api::{Admission, AdmitRequest, SessionEvent};
use control::{Marks, Right, Role, TokenError};
use media::Tracks;
use process::address::Client;
use process::clock::now_ms;
use rtc::sdp::{Local, Offer, SDP_BYTES_MAX};

use super::reply::{self, Failure, SDP};
use super::{App, Asker, Parameters, is_preflight};
use crate::sessions::{NewSession, Origin, random_text};

/// How long a viewer without a token waits until the coordinator may be asked about it.
const GUEST_WAIT: Duration = Duration::from_secs(2);
const METHODS: &str = "POST, GET, HEAD, OPTIONS";
/// Characters of a browser's name that are kept.
const USER_AGENT_MAX: usize = 256;
/// Characters of a host's name (RFC 1035, section 2.3.4) and a port.
const HOST_MAX: usize = 261;
/// Random characters of the name under which a viewer is reported.
const REPORT_ID_LEN: usize = 24;
/// Random characters in the name of a viewer without a token.
const GUEST_LEN: usize = 20;

pub(super) async fn serve(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Parameters>, QueryRejection>,
    Extension(Asker(client)): Extension<Asker>,
    request: Request,
) -> Response {
    let Ok(Path(stream)) = path else { return Failure::not_found().into_response() };
    let Ok(Query(parameters)) = query else { return Failure::bad_query().into_response() };
    let (head, body) = request.into_parts();
    let class = app.class(&stream);
    let call = Call { app: &app, class, parameters: &parameters, client, headers: &head.headers };
    match head.method {
        Method::POST => {
            let path = head.uri.path().trim_end_matches('/');
            call.join(path, body).await.unwrap_or_else(Failure::into_response)
        }
        Method::GET => reply::empty(StatusCode::NO_CONTENT),
        Method::HEAD => reply::head(),
        Method::OPTIONS => {
            let is_known =
                call.token().is_some() && !is_preflight(&head.headers) && call.authorize().await.is_ok();
            let links = if is_known { &app.links.all } else { &app.links.public };
            reply::options(METHODS, "accept-post", SDP, links)
        }
        _ => Failure::method_not_allowed(METHODS).into_response(),
    }
}

/// Who may watch.
pub(super) struct Viewer {
    user_id: String,
    role: Role,
    /// The number of the token; sessions of one displace each other.
    token: String,
    /// The life of the coordinator that issued it.
    by: Option<String>,
    /// The key that signed it; none, if there is no token.
    kid: String,
    /// When it was issued, or its bearer was let in without one, in seconds since 1970.
    issued_at: u64,
}

impl Viewer {
    /// By what revocations know it in a class.
    fn marks<'a>(&'a self, class: &'a str) -> Marks<'a> {
        Marks { token: &self.token, kid: &self.kid, class, user: &self.user_id, issued_at: self.issued_at }
    }
}

/// One request to the endpoint, or for a picture of the lesson that is behind it.
pub(super) struct Call<'a> {
    pub(super) app: &'a App,
    pub(super) class: &'a str,
    pub(super) parameters: &'a Parameters,
    pub(super) client: Client,
    pub(super) headers: &'a HeaderMap,
}

impl Call<'_> {
    async fn join(&self, path: &str, body: Body) -> Result<Response, Failure> {
        let app = self.app;
        if app.draining.is_on() {
            return Err(Failure::draining());
        }
        // First of all: nobody else's offer is kept.
        let who = self.authorize().await?;
        reply::check_content_type(self.headers.get(CONTENT_TYPE), SDP)?;
        if self.headers.get(ACCEPT).is_some_and(|accept| !reply::accepts(accept, SDP)) {
            // Players read a 406 as "retry without sound", so the answer comes all the same.
            tracing::debug!("a player does not list application/sdp among what it accepts");
        }
        let body = axum::body::to_bytes(body, SDP_BYTES_MAX)
            .await
            .map_err(|_| Failure::bad_offer("the offer is too large or was cut off"))?;
        let text = std::str::from_utf8(&body).map_err(|_| Failure::bad_offer("the body is not text"))?;
        let offer = Offer::parse(text).map_err(|error| Failure::bad_offer(&error.to_string()))?;
        let open = app.streams.open(self.class).await.map_err(|_| Failure::not_live())?;
        let seat = app.engine.reserve().map_err(|_| {
            app.metrics.joins_refused_full.inc();
            Failure::full()
        })?;
        let Tracks { video, audio } = &open.tracks;
        let answer = offer
            .answer(&Local {
                credentials: &seat.credentials,
                fingerprint: app.engine.fingerprint(),
                candidates: &app.engine.candidates(),
                video: video.as_ref().map(|video| video.profile_level_id),
                audio: *audio,
                low_latency: self.parameters.latency.as_deref() == Some("low"),
                ssrcs: seat.ssrcs,
                session_id: now_ms(),
                cname: rtc::CNAME,
            })
            .map_err(|error| Failure::bad_offer(&error.to_string()))?;
        let (id, viewer) = (open.id, seat.viewer);
        // The session's id is the permission to end it, so reports and tables know the viewer by another name.
        let report_id = random_text(REPORT_ID_LEN);
        let joined = self.joined(&report_id, &open.session, &who);
        let new = NewSession {
            viewer,
            class: self.class,
            token: &who.token,
            kid: &who.kid,
            issued_at: who.issued_at,
            remote: answer.terms.remote.clone(),
            report_id,
            stream_session: open.session,
            by: who.by.as_deref(),
            origin: Origin {
                user_id: who.user_id.clone(),
                scheme: self.client.scheme.unwrap_or("http"),
                host: self.text(HOST).map(|host| host.chars().take(HOST_MAX).collect()),
            },
        };
        let opened = app.sessions.open(new, || {
            // Heard since it was verified: what is heard from now on finds the session.
            if app.verifier.revocations().cover(&who.marks(self.class)) {
                return Err(Failure::revoked_token());
            }
            app.engine.add(seat, id, answer.terms).map_err(|_| {
                app.metrics.joins_refused_busy.inc();
                Failure::busy()
            })?;
            app.journal.report(joined);
            Ok(())
        })?;
        if let Some(displaced) = opened.displaced {
            app.metrics.sessions_displaced.inc();
            app.engine.remove(displaced);
        }
        tracing::debug!(class = self.class, "viewer answered");
        let location = format!("{path}/{}", opened.id.as_str());
        Ok(reply::created(&location, opened.etag, answer.sdp, &app.links.all))
    }

    /// The token must be good, allow watching, and be for this class. In open mode whoever is near needs none.
    pub(super) async fn authorize(&self) -> Result<Viewer, Failure> {
        let Some(token) = self.token() else { return self.admit().await };
        let claims = self.app.verifier.verify(token).await.map_err(|error| match error {
            TokenError::Expired => Failure::expired_token(),
            TokenError::Revoked => Failure::revoked_token(),
            TokenError::NoKeys => Failure::no_keys(),
            TokenError::Invalid | TokenError::Foreign | TokenError::UnknownKey => Failure::bad_token(),
        })?;
        if claims.cls != self.class || !claims.rights.contains(&Right::View) {
            return Err(Failure::forbidden());
        }
        Ok(Viewer {
            user_id: claims.sub,
            role: claims.role,
            token: claims.jti,
            by: claims.by,
            kid: claims.kid,
            issued_at: claims.iat,
        })
    }

    fn token(&self) -> Option<&str> {
        self.text(AUTHORIZATION).and_then(control::bearer).or(self
            .parameters
            .jwt
            .as_deref()
            .filter(|jwt| !jwt.is_empty()))
    }

    /// The coordinator knows who may watch without a token.
    async fn admit(&self) -> Result<Viewer, Failure> {
        // Strangers may ask as often as they like; the coordinator's connections are also the publishers'.
        let asking = tokio::time::timeout(GUEST_WAIT, self.app.guests.acquire());
        let Ok(Ok(_asking)) = asking.await else { return Err(Failure::busy()) };
        let request = AdmitRequest {
            class: self.class.to_owned(),
            client_ip: self.client.ip,
            is_direct: self.client.is_direct,
            scheme: self.client.scheme.unwrap_or("http").to_owned(),
            host: self.text(HOST).map(str::to_owned),
            origin: self.headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null").to_owned()),
        };
        match self.app.control.admit(&request).await {
            Ok(Admission::Open) => {
                let name = random_text(GUEST_LEN);
                let (user_id, revocations) = (format!("guest-{name}"), self.app.verifier.revocations());
                let issued_at = revocations.issued_at(now_ms() / 1000, self.class, &user_id);
                let (role, by, kid) = (Role::Student, None, String::new());
                Ok(Viewer { user_id, role, token: name, by, kid, issued_at })
            }
            Ok(Admission::NoClass) => Err(Failure::no_class()),
            Ok(Admission::TokenNeeded) => Err(Failure::no_token()),
            Err(error) => {
                tracing::warn!(%error, "the coordinator cannot be asked about a viewer without a token");
                Err(Failure::no_coordinator())
            }
        }
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn joined(&self, id: &str, stream_session: &str, viewer: &Viewer) -> SessionEvent {
        let user_agent = self.text(USER_AGENT).unwrap_or("");
        SessionEvent::ViewerJoined {
            id: id.to_owned(),
            node: self.app.node.clone(),
            stream_session: stream_session.to_owned(),
            user_id: viewer.user_id.clone(),
            user_type: viewer.role.as_str().to_owned(),
            user_agent: user_agent.chars().take(USER_AGENT_MAX).collect(),
            ip_address: self.client.ip.to_string(),
            at_ms: now_ms(),
        }
    }
}
