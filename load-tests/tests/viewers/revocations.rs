//! Tokens that are taken back and keys that change, while people watch: coordinator and nodes are processes of their own.
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Process, Server, until};

use crate::coordinators::Running;
use crate::nodes::{followers_of, read};
use crate::program::{LIVE, check, lectern, load, number};

/// Within this time whoever has a revoked token is cut off.
const CUT_OFF: Duration = Duration::from_secs(30);

/// A coordinator, a node elsewhere, and a lesson.
struct School {
    coordinator: Running,
    node: Running,
    _publisher: Process,
}

impl School {
    fn start() -> Self {
        let coordinator = Running::start(TempDir::new().unwrap(), &["coordinator"], &["--open"]);
        let secret = coordinator.secret("node-secret");
        let role = ["node", "join", &coordinator.url(), "--secret", &secret, "--name", "n1"];
        let node = Running::start(TempDir::new().unwrap(), &role, &[]);
        let _publisher = node.publish(&coordinator.secret("stream-key"));
        Self { coordinator, node, _publisher }
    }

    fn whep(&self) -> String {
        format!("http://{}/live/lesson/whep", self.node.ready["whep"].as_str().unwrap())
    }

    fn token_url(&self) -> String {
        format!("{}/api/token?user_type=student&user_id=s{{n}}&class_id=lesson", self.coordinator.url())
    }

    async fn operate(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let secret = self.coordinator.secret("operator-secret");
        let url = format!("{}{path}", self.coordinator.url());
        let answer = client().request(method, url).bearer_auth(secret).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn revoke(&self, what: Value) -> Instant {
        let asked = Instant::now();
        let (status, body) = self.operate(Method::POST, "/api/v1/revocations", what).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        asked
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A token for the live lesson.
async fn token(coordinator: &str, user: &str) -> String {
    let url = format!("{coordinator}/api/token?user_type=student&user_id={user}&class_id=lesson");
    let body: Value = until("a token", LIVE, async || {
        let answer = client().post(&url).send().await.unwrap();
        if answer.status().is_success() { Ok(answer.json().await.unwrap()) } else { Err(answer.status()) }
    })
    .await;
    body["token"].as_str().unwrap().to_owned()
}

/// What one of its first two parts says.
fn said(token: &str, part: usize, name: &str) -> String {
    let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(part).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&part).unwrap()[name].as_str().unwrap().to_owned()
}

/// One viewer with this token, who watches for as long as he may.
struct Watching {
    process: Process,
    folder: TempDir,
}

impl Watching {
    fn start(whep: &str, token: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lectern-load"));
        command.args(["watch", "--whep", whep, "--token", token, "--viewers", "1", "--duration", "10m"]);
        let mut process = Process::start(command.arg("--json").arg(folder.path().join("figures")));
        process.wait_for("connected 1", LIVE);
        Self { process, folder }
    }

    /// Waits until he sees nothing any more, and says how long that took.
    fn is_cut_off(&mut self, asked: Instant) -> Duration {
        self.process.wait_for("connected 0", CUT_OFF);
        asked.elapsed()
    }

    fn figures(mut self) -> Value {
        self.process.interrupt();
        serde_json::from_slice(&std::fs::read(self.folder.path().join("figures")).unwrap()).unwrap()
    }
}

/// How often a token was let in and how often it was refused as such, of one try.
fn try_in(whep: &str, token: &str) -> (u64, u64) {
    let arguments = ["watch", "--retries", "5", "--whep", whep, "--token", token, "--viewers", "1"];
    let (figures, _) = load(&[&arguments[..], &["--duration", "0s"]].concat());
    let refused = figures.pointer("/viewers/failures/POST: 401 Unauthorized");
    (number(&figures, "/viewers/connected"), refused.and_then(Value::as_u64).unwrap_or(0))
}

#[tokio::test]
async fn whoever_has_a_revoked_token_is_cut_off_and_stays_out_also_without_a_coordinator() {
    let mut school = School::start();
    let (url, whep) = (school.coordinator.url(), school.whep());
    let (ada, bob, eve) = (token(&url, "ada").await, token(&url, "bob").await, token(&url, "eve").await);
    let [mut adas, bobs, mut eves] = [&ada, &bob, &eve].map(|token| Watching::start(&whep, token));
    let asked = school.revoke(json!({ "token": said(&ada, 1, "jti") })).await;
    println!("a token: cut off after {:?}", adas.is_cut_off(asked));
    let asked = school.revoke(json!({ "user": "eve", "class": "lesson" })).await;
    println!("a user: cut off after {:?}", eves.is_cut_off(asked));
    assert_eq!((try_in(&whep, &ada), try_in(&whep, &eve)), ((0, 1), (0, 1)));
    school.coordinator.process.kill();
    assert_eq!((try_in(&whep, &ada), try_in(&whep, &eve)), ((0, 1), (0, 1)), "the node knows it by itself");
    assert_eq!(try_in(&whep, &bob), (1, 0), "who may watch comes in");
    let figures = bobs.figures();
    check(
        &figures,
        |f| f["viewers"]["ended_early"].as_object().unwrap().is_empty(),
        "nobody else was cut off",
    );
    for figures in [adas.figures(), eves.figures()] {
        check(
            &figures,
            |f| f["viewers"]["ended_early"].as_object().unwrap().len() == 1,
            "told, and not just silent",
        );
    }
}

/// People whose page asks for another token. In open mode, or with the PIN, they are given one.
#[tokio::test]
async fn when_a_class_or_a_key_is_revoked_whoever_may_have_another_token_comes_back_with_that() {
    let school = School::start();
    token(&school.coordinator.url(), "anybody").await;
    let mut followers = followers_of(&school.token_url(), 3, "10m");
    let (_, keys) = school.operate(Method::GET, "/api/v1/signing-keys", Value::Null).await;
    for what in [json!({ "class": "lesson" }), json!({ "kid": keys[0]["kid"] })] {
        let asked = school.revoke(what.clone()).await;
        followers.0.wait_for("connected 0", CUT_OFF);
        println!("{what}: cut off after {:?}", asked.elapsed());
        followers.0.wait_for("connected 3", LIVE);
    }
    followers.0.interrupt();
    let figures = read(followers);
    assert_eq!(number(&figures, "/viewers/rejoined"), 6, "{figures:#}");
    assert_eq!(number(&figures, "/viewers/not_back"), 0, "{figures:#}");
}

#[tokio::test]
async fn while_the_next_key_signs_a_token_of_the_former_one_still_opens_a_session() {
    let mut server = Server::start(lectern(), &["--open"]);
    let url = |server: &Server| format!("http://{}", server.addresses.http);
    let publisher = server.publish_demo();
    let old = token(&url(&server), "ada").await;
    let secret = std::fs::read_to_string(server.data_dir().join("operator-secret")).unwrap();
    let rotate = client().post(format!("{}/api/v1/signing-keys/rotate", url(&server)));
    assert_eq!(rotate.bearer_auth(secret.trim()).send().await.unwrap().status(), StatusCode::CREATED);
    drop(publisher);
    server.process.kill();
    // Ten minutes later.
    let file = server.data_dir().join("signing-keys.json");
    let mut keys: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        key["signs_from_ms"] = json!(key["signs_from_ms"].as_i64().unwrap() - 600_000);
    }
    std::fs::write(&file, keys.to_string()).unwrap();
    server.start_again(&["--open"]);
    let _publisher = server.publish_demo();
    let new = token(&url(&server), "bob").await;
    assert_ne!(said(&old, 0, "kid"), said(&new, 0, "kid"));
    let whep = format!("http://{}/live/lesson/whep", server.addresses.whep);
    assert_eq!((try_in(&whep, &old), try_in(&whep, &new)), ((1, 0), (1, 0)));
}
