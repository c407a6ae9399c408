//! A node with one class, a coordinator that writes down what it is told, and a player's half of HTTP.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use control::api::{Admission, MovingViewer, Places, PlacesRequest, SessionEvent};
use control::{Claims, Client, Right, Role, TokenVerifier};
use hub::{Hub, Limits, Publisher, Source};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use media::{Tracks, VideoConfig};
use process::drain::Draining;
use process::serve::Front;
use prometheus::Registry;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use whep_node::{Config, Context};

pub(crate) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The class that is taught.
pub(crate) const CLASS: &str = "room101";
/// The publisher's session.
pub(crate) const STREAM_SESSION: &str = "stream-session-1";

/// Reports are gathered for a second, and the machine may be busy.
const TOLD: Duration = Duration::from_secs(20);

/// Sound and picture, as a small player would write it.
pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n\
    a=fingerprint:sha-256 4E:AD:1F:0D:53:C3:6B:2F:1D:3B:9E:7C:5A:00:12:34:56:78:9A:BC:DE:F0:11:22:33:44:55:66:77:88:99:AA\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\na=rtcp-fb:96 nack\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n";

pub(crate) struct Room {
    pub(crate) hub: Hub,
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    /// Who holds it to write keeps the coordinator from answering about viewers without a token, and how many it was asked about.
    pub(crate) admitting: Arc<RwLock<()>>,
    pub(crate) asked: Arc<AtomicUsize>,
    pub(crate) audience: whep_node::Audience,
    /// What operators let begin.
    pub(crate) draining: Draining,
    /// What coordinators revoke it is told.
    pub(crate) verifier: TokenVerifier,
    registry: Registry,
    events: UnboundedReceiver<SessionEvent>,
    key: EncodingKey,
    running: JoinHandle<io::Result<()>>,
    harm: HashMap<Part, Box<dyn FnOnce() + Send>>,
    _drain: DropGuard,
}

/// What can be made to panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Feed,
    Shard,
}

/// A coordinator that knows one key, asks guests for tokens, and sends whoever has to move elsewhere.
fn coordinator(
    pair: &Ed25519KeyPair,
    events_in: UnboundedSender<SessionEvent>,
    (door, asking): (Arc<RwLock<()>>, Arc<AtomicUsize>),
) -> Router {
    let jwks = json!({ "keys": [{
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
    }] });
    let admit = async move || {
        asking.fetch_add(1, Ordering::Relaxed);
        let _open = door.read().await;
        Json(Admission::TokenNeeded)
    };
    Router::new()
        .route("/.well-known/jwks.json", get(async move || Json(jwks)))
        .route("/internal/v1/admit", post(admit))
        .route(
            "/internal/v1/places",
            post(async move |Json(asked): Json<PlacesRequest>| {
                let place = |viewer: &MovingViewer| Some(format!("http://other/{}", viewer.user_id));
                Json(Places { urls: asked.viewers.iter().map(place).collect() })
            }),
        )
        .route(
            "/internal/v1/sessions",
            post(async move |Json(told): Json<Vec<SessionEvent>>| {
                told.into_iter().for_each(|event| drop(events_in.send(event)));
                Json(json!({}))
            }),
        )
}

impl Room {
    /// A node that nobody publishes to.
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_source(None, change).await
    }

    /// The same, which may have streams of other nodes come here.
    pub(crate) async fn with_source(
        source: Option<Arc<dyn Source>>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let (events_in, events) = unbounded_channel();
        let (admitting, asked) = (Arc::new(RwLock::new(())), Arc::new(AtomicUsize::new(0)));
        let coordinator = coordinator(&pair, events_in, (Arc::clone(&admitting), Arc::clone(&asked)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinator_base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, coordinator).await });

        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            media_listen: ([127, 0, 0, 1], 0).into(),
            shards: 1,
            ..Config::default()
        };
        change(&mut config);
        let registry = Registry::new();
        let bound = whep_node::bind(config, &registry).unwrap();
        let (base, audience) = (format!("http://{}", bound.local_addr()), bound.audience());
        let hub = Hub::new(Limits::default());
        let drain = CancellationToken::new();
        let client = Client::new(&coordinator_base, "secret").unwrap();
        let verifier = TokenVerifier::new(&coordinator_base).unwrap();
        let (node, front) = ("node1".to_owned(), Front::default());
        let default_class = CLASS.to_owned();
        let draining = Draining::new(Duration::from_secs(30));
        let context = Context {
            hub: hub.clone(),
            source,
            control: client,
            verifier: verifier.clone(),
            node,
            draining: draining.clone(),
            default_class,
            front,
        };
        let harm = HashMap::from([
            (Part::Feed, Box::new(bound.feed_panic()) as Box<dyn FnOnce() + Send>),
            (Part::Shard, Box::new(bound.shard_panic())),
        ]);
        let running = tokio::spawn(bound.run(context, drain.clone()));
        Self {
            hub,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base,
            admitting,
            asked,
            audience,
            draining,
            verifier,
            registry,
            events,
            key: EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            running,
            harm,
            _drain: drain.drop_guard(),
        }
    }

    /// A node with a lesson of picture and sound.
    pub(crate) async fn with_lesson() -> (Self, Publisher) {
        let room = Self::new(|_| {}).await;
        let publisher = room.publish(true, true);
        (room, publisher)
    }

    pub(crate) fn publish(&self, video: bool, audio: bool) -> Publisher {
        let epoch = self.hub.status(CLASS).map_or(1, |before| before.epoch + 1);
        let publisher = self.hub.publish(CLASS, STREAM_SESSION, epoch).unwrap();
        publisher.set_tracks(&tracks(video, audio)).unwrap();
        publisher
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}/live/{CLASS}/whep", self.base)
    }

    /// A token with everything right, but for `change`.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Claims)) -> String {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = since.as_secs();
        let mut claims = Claims {
            iss: Claims::ISSUER.to_owned(),
            aud: Claims::AUDIENCE.to_owned(),
            sub: "s1".to_owned(),
            role: Role::Student,
            rights: vec![Right::View],
            cls: CLASS.to_owned(),
            exp: now + 3600,
            nbf: now,
            iat: now,
            jti: since.as_nanos().to_string(),
            by: None,
            node: None,
            kid: String::new(),
        };
        change(&mut claims);
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("k1".to_owned());
        encode(&header, &claims, &self.key).unwrap()
    }

    pub(crate) fn post(&self, token: &str, offer: impl Into<String>) -> RequestBuilder {
        let request = self.http.post(self.endpoint()).bearer_auth(token);
        request.header("Content-Type", "application/sdp").body(offer.into())
    }

    /// Joins with the token; the session's URL.
    pub(crate) async fn join(&self, token: &str) -> String {
        let response = self.post(token, OFFER).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        format!("{}{}", self.base, header(&response, "location"))
    }

    pub(crate) fn patch(&self, session: &str, fragment: impl Into<String>) -> RequestBuilder {
        let request = self.http.patch(session).header("Content-Type", FRAGMENT).header("If-Match", "*");
        request.body(fragment.into())
    }

    /// The sum of a counter over its labels.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect(name);
        family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
    }

    /// Lets a part panic, as a bug would, and waits for the end. Returns how it ended.
    pub(crate) async fn fail(&mut self, part: Part) -> String {
        self.harm.remove(&part).unwrap()();
        let ended = tokio::time::timeout(TOLD, &mut self.running).await.expect("the node ends");
        ended.unwrap().unwrap_err().to_string()
    }

    /// What the coordinator is told next.
    pub(crate) async fn event(&mut self) -> SessionEvent {
        let event = tokio::time::timeout(TOLD, self.events.recv()).await.expect("the coordinator is told");
        event.expect("the coordinator lives as long as the room")
    }

    /// The name under which the coordinator hears of the viewer that has just joined.
    pub(crate) async fn joined(&mut self) -> String {
        match self.event().await {
            SessionEvent::ViewerJoined { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    /// Who the coordinator hears has left, and why.
    pub(crate) async fn left(&mut self) -> (String, String) {
        match self.event().await {
            SessionEvent::ViewerLeft { id, reason, .. } => (id, reason),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn tracks(video: bool, audio: bool) -> Tracks {
    let config = VideoConfig {
        sps: Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1f]),
        pps: vec![Bytes::from_static(&[0x68, 0xce])],
        profile_level_id: [0x42, 0xc0, 0x1f],
        width: 640,
        height: 360,
    };
    Tracks { video: video.then(|| Arc::new(config)), audio }
}

pub(crate) fn header(response: &Response, name: &str) -> String {
    let values: Vec<_> =
        response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    values.join(", ")
}

/// An error is a problem (RFC 9457) that says its own status, and that a page of another origin may read. Returns what
/// it says.
pub(crate) async fn problem(response: Response, status: u16) -> String {
    assert_eq!(response.status().as_u16(), status, "{}", response.url());
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    body["detail"].as_str().unwrap_or("").to_owned()
}
