//! The coordinator through its port, with a node's and a student's hands.
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use control::api::{Heartbeat, PublishRequest, SessionEvent, StreamReport, StreamState};
use control::{Claims, Client, ClientError, TokenError, TokenVerifier};
use coordinator::store::Store;
use coordinator::{BindError, Config, Mode, bind};
use prometheus::Registry;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Running {
    base: String,
    key: String,
    pin: String,
    node: Client,
    http: reqwest::Client,
    end: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn config(folder: &Path, mode: Mode) -> Config {
    Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: folder.to_owned(),
        mode,
        node_secret: "the nodes' secret".to_owned(),
        ..Config::default()
    }
}

async fn start(folder: &Path, mode: Mode) -> Running {
    let bound = bind(config(folder, mode), &Registry::new()).await.unwrap();
    let base = format!("http://{}", bound.local_addr());
    let class = bound.default_class().clone();
    let end = CancellationToken::new();
    Running {
        node: Client::new(&base, "the nodes' secret").unwrap(),
        base,
        key: class.stream_key,
        pin: class.pin,
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        task: tokio::spawn(bound.run(end.clone())),
        end,
    }
}

impl Running {
    async fn stop(self) {
        self.end.cancel();
        self.task.await.unwrap().unwrap();
    }

    async fn beat(&self, state: Option<(&str, StreamState)>) {
        let streams = state.map(|(session, state)| StreamReport {
            class: "lesson".to_owned(),
            session: session.to_owned(),
            state,
            viewers: 3,
            has_video: true,
            has_audio: true,
            width: 1280,
            height: 720,
            bitrate_bps: 2_000_000,
            problems: Vec::new(),
        });
        let heartbeat = Heartbeat {
            node: "n1".to_owned(),
            started_at_ms: 1,
            public_url: None,
            whep_port: 8889,
            streams: streams.into_iter().collect(),
        };
        self.node.heartbeat(&heartbeat).await.unwrap();
    }

    async fn publish(&self, name: Option<&str>, key: &str) -> Result<String, ClientError> {
        let request = PublishRequest {
            node: "n1".to_owned(),
            name: name.map(str::to_owned),
            key: key.to_owned(),
            peer_ip: "192.0.2.7".to_owned(),
            encoder: "phone".to_owned(),
        };
        self.node.authorize_publish(&request).await.map(|grant| grant.session)
    }

    async fn token(&self, query: &str, pin: Option<&str>) -> (u16, Value) {
        let mut request = self.http.post(format!("{}/api/token?{query}", self.base));
        if let Some(pin) = pin {
            request = request.header("X-Class-Pin", pin);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

const STUDENT: &str = "user_type=student&user_id=s-1";

#[tokio::test]
async fn a_token_has_exactly_the_six_fields_and_is_verified_offline() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let (status, body) = running.token(STUDENT, None).await;
    assert_eq!(status, 200);
    let mut fields: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(fields, ["expires_in", "mode", "token", "user_id", "user_type", "webrtc_url"]);
    assert_eq!(body["webrtc_url"], "http://127.0.0.1:8889/live/lesson/whep");
    assert_eq!((&body["expires_in"], &body["mode"]), (&json!(3600), &json!("main")));
    let verifier = TokenVerifier::new(&running.base).unwrap();
    let token = body["token"].as_str().unwrap();
    assert_eq!(verifier.verify_offline(token), Err(TokenError::UnknownKey), "the keys have not been fetched");
    let claims = verifier.verify(token).await.unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.cls.as_str(), claims.iss.as_str()),
        ("s-1", "lesson", Claims::ISSUER)
    );
    running.stop().await;
    assert!(verifier.verify_offline(token).is_ok(), "nobody is asked any more");
}

#[tokio::test]
async fn requests_for_tokens_are_refused_with_the_right_status() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let status = async |query: &str| running.token(query, None).await.0;
    assert_eq!(status("user_type=principal&user_id=x").await, 400);
    assert_eq!(status("user_type=student").await, 400);
    assert_eq!(status("user_type=student&user_id=a%20b").await, 400);
    assert_eq!(status(&format!("{STUDENT}&class_id=nowhere")).await, 404);
    assert_eq!(status(STUDENT).await, 425);
    assert_eq!(status(&format!("{STUDENT}&wait=1")).await, 503, "no node has been heard");
    running.beat(None).await;
    assert_eq!(status(&format!("{STUDENT}&wait=1")).await, 200);
    let (_, problem) = running.token(STUDENT, None).await;
    assert_eq!((&problem["status"], &problem["retry_after"]), (&json!(425), &json!(2)));
    let wrong_method = running.http.get(format!("{}/api/token", running.base)).send().await.unwrap();
    assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut limited = 0;
    for _ in 0..700 {
        limited += u32::from(status(&format!("{STUDENT}&wait=1")).await == 429);
    }
    assert!(limited > 0);
}

#[tokio::test]
async fn guarded_mode_asks_for_the_pin_and_hides_which_classes_there_are() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let waiting = format!("{STUDENT}&wait=1");
    assert_eq!(running.token(&waiting, None).await.0, 401);
    let wrong = running.token(&waiting, Some("0")).await;
    let unknown = running.token(&format!("{waiting}&class_id=nowhere"), Some("0")).await;
    assert_eq!(wrong, unknown);
    assert_eq!(running.token(&waiting, Some(&running.pin)).await.0, 200);
    let mut statuses = Vec::new();
    for _ in 0..150 {
        statuses.push(running.token(&waiting, Some("0")).await.0);
    }
    assert!(statuses.contains(&429), "guessing is slowed down");
}

#[tokio::test]
async fn stream_keys_open_their_own_class_only() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    assert!(running.publish(None, &running.key).await.is_ok());
    assert!(running.publish(Some("lesson"), &running.key).await.is_ok());
    assert!(running.publish(Some("stream"), &running.key).await.is_ok());
    assert!(matches!(running.publish(Some("other"), &running.key).await, Err(ClientError::Refused(_))));
    assert!(matches!(running.publish(None, "guess").await, Err(ClientError::Refused(_))));
    let made =
        running.http.post(format!("{}/api/v1/classes", running.base)).json(&json!({ "slug": "room101" }));
    let made = made.send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let key = made.json::<Value>().await.unwrap()["stream_key"].as_str().unwrap().to_owned();
    assert!(running.publish(Some("room101"), &key).await.is_ok());
    assert!(running.publish(Some("lesson"), &key).await.is_err());
    let again =
        running.http.post(format!("{}/api/v1/classes", running.base)).json(&json!({ "slug": "room101" }));
    assert_eq!(again.send().await.unwrap().status(), StatusCode::CONFLICT);
    let stranger = Client::new(&running.base, "a guess").unwrap();
    let heartbeat =
        Heartbeat { node: "x".to_owned(), started_at_ms: 1, public_url: None, whep_port: 1, streams: vec![] };
    assert!(matches!(stranger.heartbeat(&heartbeat).await, Err(ClientError::Refused(_))));
}

#[tokio::test]
async fn sessions_are_recorded_as_they_happen_and_survive() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    let count = |name: &str, count: i64| (name.to_owned(), count);
    let first = running.publish(None, &running.key).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), [count("starting", 1)]);
    running.beat(Some((&first, StreamState::Active))).await;
    assert_eq!(store.session_counts().await.unwrap(), [count("active", 1)]);
    let joined = SessionEvent::ViewerJoined {
        id: "v1".to_owned(),
        node: "n1".to_owned(),
        stream_session: first.clone(),
        user_id: "s-1".to_owned(),
        user_type: "student".to_owned(),
        user_agent: "browser".to_owned(),
        ip_address: "192.0.2.9".to_owned(),
        at_ms: 10,
    };
    running.node.session_events(&[joined]).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), [count("active", 1), count("watching", 1)]);
    running.beat(Some((&first, StreamState::Grace))).await;
    assert_eq!(store.session_counts().await.unwrap(), [count("stopping", 1), count("watching", 1)]);
    let second = running.publish(None, &running.key).await.unwrap();
    assert_ne!(first, second, "a publisher that comes again has a session of its own");
    let left = SessionEvent::ViewerLeft {
        id: "v1".to_owned(),
        at_ms: 20,
        reason: "left".to_owned(),
        bytes: 1,
        packets: 1,
        lost: 0,
    };
    running.node.session_events(&[left]).await.unwrap();
    let expected = [count("left", 1), count("starting", 1), count("stopped", 1)];
    assert_eq!(store.session_counts().await.unwrap(), expected);
    let (key, base) = (running.key.clone(), running.base.clone());
    running.stop().await;
    // A new process: keys, classes and the record are as they were.
    let running = start(folder.path(), Mode::Open).await;
    assert_eq!((running.key == key, running.base == base), (true, false));
    assert_eq!(store.session_counts().await.unwrap(), expected);
    assert!(running.publish(None, &key).await.is_ok());
}

#[tokio::test]
async fn open_mode_refuses_public_addresses() {
    let folder = TempDir::new().unwrap();
    for (address, is_public) in [("203.0.113.1:0", true), ("[2001:db8::1]:0", true), ("127.0.0.1:0", false)] {
        let config = Config { listen: address.parse().unwrap(), ..config(folder.path(), Mode::Open) };
        let outcome = bind(config, &Registry::new()).await;
        assert_eq!(matches!(outcome, Err(BindError::PublicOpen(_))), is_public, "{address}");
    }
}

#[tokio::test]
async fn probes_metrics_and_the_description_answer() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.token(STUDENT, None).await;
    let get = async |path: &str| {
        let response = running.http.get(format!("{}{path}", running.base)).timeout(Duration::from_secs(5));
        let response = response.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(get(path).await.0, 200, "{path}");
    }
    let (_, metrics) = get("/metrics").await;
    assert!(
        metrics.contains("lectern_coordinator_requests_total{route=\"/api/token\",status=\"425\"} 1"),
        "{metrics}"
    );
    let (_, description) = get("/api/openapi.json").await;
    let description: Value = serde_json::from_str(&description).unwrap();
    assert!(description["paths"]["/api/token"]["post"].is_object());
    let (_, keys) = get("/.well-known/jwks.json").await;
    let keys: Value = serde_json::from_str(&keys).unwrap();
    assert_eq!(
        (&keys["keys"][0]["alg"], keys["keys"][0].get("d")),
        (&json!("EdDSA"), None),
        "never the private half"
    );
    assert_eq!(get("/api/v1/nothing").await.0, 404);
    assert_eq!(get("/watch/lesson").await.0, 200);
}
