//! The HTTP side of a viewer: a token if one is asked for, the POST of the offer, the DELETE at the end.
//!
//! Nothing but the standard (draft-ietf-wish-whep): an offer as `application/sdp`, a Bearer token, `Location`.
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use thiserror::Error;

/// A request may take this long, to the end of its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that does not say within this time whether it has a session is gone.
const KNOWN_TIMEOUT: Duration = Duration::from_millis(1500);
/// Bytes of an answer or a token's JSON.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Connections that are kept alive between requests, for each address that requests come from.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// The longest wait that a server may ask for between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// The wait when it does not say how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// The wait when nobody answers.
const UNANSWERED_PAUSE: Duration = Duration::from_millis(500);

/// Where and how viewers ask. `{n}` in a text stands for the viewer's number.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The WHEP endpoint; not needed when the token's answer names it.
    pub(crate) whep: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_url: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    /// Further tries while nobody publishes yet, after 429 or 503, and where nobody answers.
    pub(crate) retries: u32,
}

/// Why a viewer did not get in.
#[derive(Debug, Error)]
pub(crate) enum JoinError {
    #[error("{step}: {status}")]
    Status { step: &'static str, status: StatusCode, retry_after: Option<Duration> },
    #[error("{step}: {reason}")]
    Request { step: &'static str, reason: &'static str },
    /// As our page does, the next try is for another node.
    #[error("POST: {reason}")]
    Lost { node: String, reason: &'static str },
    #[error("{step}: the answer is longer than {BODY_BYTES_MAX} bytes or not text")]
    Body { step: &'static str },
    #[error("{0} is not an address that can be asked")]
    Url(String),
    #[error("{0} is not a header")]
    Header(String),
    #[error("the token's answer has no text in `{0}`")]
    Token(&'static str),
}

/// Where a viewer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    /// As the command line says.
    Usual,
    /// To another node than this one, which it cannot reach.
    Elsewhere(&'a str),
    /// To this endpoint, with the token that it has.
    To(&'a str, Option<&'a str>),
}

/// A session as the server described it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) answer: String,
    /// Where to DELETE; a server that names none cannot be told.
    pub(crate) url: Option<Url>,
    /// Where it tells of its events, if it does.
    events: Option<Url>,
    /// Whom we asked.
    pub(crate) server: Option<SocketAddr>,
    /// From asking for a token to having it.
    pub(crate) token_time: Option<Duration>,
    /// When the POST that succeeded began, and how long it took.
    pub(crate) post_began: Instant,
    pub(crate) post_time: Duration,
    pub(crate) token: Option<String>,
}

/// Clients for each of the addresses that viewers come from.
#[derive(Debug)]
pub(crate) struct Door {
    clients: Vec<Client>,
    /// For answers that never end.
    events: Client,
    access: Access,
}

impl Door {
    pub(crate) fn new(access: Access, from: &[IpAddr]) -> reqwest::Result<Self> {
        let build = |local: Option<IpAddr>| {
            Client::builder()
                .no_proxy()
                .timeout(REQUEST_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .local_address(local)
                .build()
        };
        let clients = if from.is_empty() {
            vec![build(None)?]
        } else {
            from.iter().map(|address| build(Some(*address))).collect::<reqwest::Result<_>>()?
        };
        let events = Client::builder().no_proxy().build()?;
        Ok(Self { clients, events, access })
    }

    /// Gets viewer `number` in.
    pub(crate) async fn join(&self, number: u64, offer: &str, way: Way<'_>) -> Result<Session, JoinError> {
        let mut lost: Option<String> = None;
        for _ in 0..self.access.retries {
            let way = lost.as_deref().map_or(way, Way::Elsewhere);
            let wait = match self.try_join(number, offer, way).await {
                Err(JoinError::Status { status, retry_after, .. }) if may_change(status) => {
                    // There may be no other.
                    lost = None;
                    retry_after.unwrap_or(RETRY_AFTER_DEFAULT).min(RETRY_AFTER_MAX)
                }
                Err(JoinError::Lost { node, .. }) => {
                    lost = Some(node);
                    UNANSWERED_PAUSE
                }
                // Whoever was sent to a node may be sent to another, by the one that he is at.
                Err(JoinError::Request { .. }) if !matches!(way, Way::To(..)) => UNANSWERED_PAUSE,
                outcome => return outcome,
            };
            tokio::time::sleep(wait).await;
        }
        let way = lost.as_deref().map_or(way, Way::Elsewhere);
        self.try_join(number, offer, way).await
    }

    /// Ends a session. That a server does not answer changes nothing for us.
    pub(crate) async fn leave(&self, number: u64, session: &Session) {
        let Some(url) = session.url.clone() else { return };
        let mut request = self.client(number).delete(url);
        if let Some(token) = &session.token {
            request = request.bearer_auth(token);
        }
        let _ = request.send().await;
    }

    /// Whether the server says that it has a session.
    pub(crate) async fn is_known(&self, number: u64, session: &Session) -> bool {
        let Some(url) = session.url.clone() else { return false };
        let asked = self.client(number).head(url).timeout(KNOWN_TIMEOUT).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Waits until the server wants a session to go on elsewhere, and returns where; `None` when it will not say so.
    pub(crate) async fn reconnect(&self, number: u64, session: &Session) -> Option<String> {
        let events = session.events.clone()?;
        let subscribe = self.client(number).post(events.clone()).header("Content-Type", "application/json");
        let subscribed = subscribe.body(r#"["reconnect"]"#).send().await.ok()?;
        let location = subscribed.headers().get(LOCATION)?.to_str().ok()?;
        let stream = events.join(location).ok()?;
        let mut stream = self.events.get(stream).send().await.ok()?;
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().await.ok()? {
            text.push_str(std::str::from_utf8(&chunk).ok()?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                if let Some(url) = reconnect_in(event) {
                    return Some(url);
                }
                text = rest.to_owned();
            }
        }
        None
    }

    async fn try_join(&self, number: u64, offer: &str, way: Way<'_>) -> Result<Session, JoinError> {
        const STEP: &str = "POST";
        let fill = |text: &str| text.replace("{n}", &number.to_string());
        let headers = self.headers(number)?;
        let mut whep = self.access.whep.as_deref().map(fill);
        let mut token = self.access.token.as_deref().map(fill);
        let mut token_time = None;
        if let Way::To(endpoint, kept) = way {
            (whep, token) = (Some(endpoint.to_owned()), kept.map(str::to_owned));
        } else if let Some(url) = &self.access.token_url {
            let began = Instant::now();
            let mut url = fill(url);
            if let Way::Elsewhere(node) = way {
                url.push_str(&format!("&exclude={node}"));
            }
            let (named, given) = self.token(number, &url, headers.clone()).await?;
            token_time = Some(began.elapsed());
            token = Some(given);
            whep = whep.or(named);
        }
        let whep = whep.ok_or(JoinError::Token("webrtc_url"))?;
        let url = Url::parse(&whep).map_err(|_| JoinError::Url(whep))?;
        let post_began = Instant::now();
        let mut request = self.client(number).post(url.clone()).headers(headers);
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        let request = request.header("Content-Type", "application/sdp").body(offer.to_owned());
        let node = token.as_deref().filter(|_| !matches!(way, Way::To(..))).and_then(node_of);
        let response = request.send().await.map_err(|error| match (refused(STEP, &error), node) {
            (JoinError::Request { reason, .. }, Some(node)) => JoinError::Lost { node, reason },
            (refused, _) => refused,
        })?;
        let server = response.remote_addr();
        if response.status() != StatusCode::CREATED && response.status() != StatusCode::OK {
            return Err(status_of(STEP, &response));
        }
        // Relative to where a redirect may have led.
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let session_url = location.and_then(|location| response.url().join(location).ok());
        let links = response.headers().get_all(LINK).iter().filter_map(|link| link.to_str().ok());
        let events = links.filter_map(events_in).find_map(|path| response.url().join(path).ok());
        let answer = body(STEP, response).await?;
        let post_time = post_began.elapsed();
        Ok(Session { answer, url: session_url, events, server, token_time, post_began, post_time, token })
    }

    async fn token(
        &self,
        number: u64,
        url: &str,
        headers: HeaderMap,
    ) -> Result<(Option<String>, String), JoinError> {
        const STEP: &str = "token";
        let url = Url::parse(url).map_err(|_| JoinError::Url(url.to_owned()))?;
        let request = self.client(number).post(url).headers(headers);
        let response = request.send().await.map_err(|error| refused(STEP, &error))?;
        if !response.status().is_success() {
            return Err(status_of(STEP, &response));
        }
        let text = body(STEP, response).await?;
        let json: Value = serde_json::from_str(&text).map_err(|_| JoinError::Token("token"))?;
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        Ok((text("webrtc_url"), text("token").ok_or(JoinError::Token("token"))?))
    }

    fn headers(&self, number: u64) -> Result<HeaderMap, JoinError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.access.headers {
            let value = value.replace("{n}", &number.to_string());
            let bad = || JoinError::Header(name.clone());
            let value = HeaderValue::from_str(&value).map_err(|_| bad())?;
            headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
        }
        Ok(headers)
    }

    fn client(&self, number: u64) -> &Client {
        let count = u64::try_from(self.clients.len()).unwrap_or(1).max(1);
        let at = usize::try_from(number % count).unwrap_or(0);
        self.clients.get(at).expect("there is at least one client, and the remainder is below their number")
    }
}

/// Where a session tells of its events, in a `Link` header (WHEP's extension for server-sent events).
fn events_in(link: &str) -> Option<&str> {
    let is_events = link.contains("urn:ietf:params:whep:ext:core:server-sent-events");
    is_events.then(|| link.trim_start().strip_prefix('<')?.split_once('>').map(|(path, _)| path)).flatten()
}

/// The address in an event, if it is one of that kind.
fn reconnect_in(event: &str) -> Option<String> {
    let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    field("event:").filter(|kind| *kind == "reconnect")?;
    let data: Value = serde_json::from_str(field("data:")?).ok()?;
    data.get("url")?.as_str().map(str::to_owned)
}

/// The node that a token names.
pub(crate) fn node_of(token: &str) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    claims.get("node")?.as_str().map(str::to_owned)
}

/// Not live yet (409, 425), or too much at once (429, 503).
fn may_change(status: StatusCode) -> bool {
    let later = [
        StatusCode::CONFLICT,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    later.contains(&status)
}

fn status_of(step: &'static str, response: &Response) -> JoinError {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    JoinError::Status { step, status: response.status(), retry_after: seconds.map(Duration::from_secs) }
}

/// The kind of failure only: addresses would make every reason a different one.
fn refused(step: &'static str, error: &reqwest::Error) -> JoinError {
    let reason = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection failed"
    };
    JoinError::Request { step, reason }
}

async fn body(step: &'static str, mut response: Response) -> Result<String, JoinError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| refused(step, &error))? {
        if bytes.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(JoinError::Body { step });
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| JoinError::Body { step })
}
