//! `POST /api/token`, and what nodes make of the tokens.
use std::time::SystemTime;

use control::api::StreamState;
use control::{Claims, Role, TokenError, TokenVerifier};
use coordinator::{Config, Mode};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::running::{OPERATOR_SECRET, config, heartbeat, start, start_with};

const STUDENT: &str = "user_type=student&user_id=s-1";
const WAITING: &str = "user_type=student&user_id=s-1&wait=1";

/// Where a token leads, without the token.
fn endpoint(body: &serde_json::Value) -> &str {
    body["webrtc_url"].as_str().unwrap().split_once("?jwt=").unwrap().0
}

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
    assert_eq!(
        body["webrtc_url"],
        format!("http://127.0.0.1:8889/live/lesson/whep?jwt={}", body["token"].as_str().unwrap())
    );
    assert_eq!((&body["expires_in"], &body["mode"]), (&json!(3600), &json!("main")));
    let verifier = TokenVerifier::new(&running.base).unwrap();
    let (token, now) = (body["token"].as_str().unwrap(), SystemTime::now());
    assert_eq!(verifier.verify_offline(token, now), Err(TokenError::UnknownKey), "the keys are not fetched");
    let claims = verifier.verify(token).await.unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.cls.as_str(), claims.iss.as_str()),
        ("s-1", "lesson", Claims::ISSUER)
    );
    assert_eq!((claims.exp - claims.nbf, claims.role), (3600, Role::Student));
    running.stop().await;
    assert!(verifier.verify_offline(token, now).is_ok(), "nobody is asked any more");
}

#[tokio::test]
async fn requests_for_tokens_are_refused_with_the_right_status() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let status = async |query: &str| running.token(query, None).await.0;
    assert_eq!(status("user_type=principal&user_id=x").await, 400);
    assert_eq!(status("user_id=x").await, 400);
    assert_eq!(status("user_type=student").await, 400);
    assert_eq!(status("user_type=student&user_id=").await, 400);
    assert_eq!(status("user_type=student&user_id=a%20b").await, 400);
    assert_eq!(status(&format!("user_type=student&user_id={}", "a".repeat(65))).await, 400);
    assert_eq!(status("user_type=student&user_type=teacher&user_id=x").await, 400);
    assert_eq!(status(&format!("{STUDENT}&class_id=nowhere")).await, 404);
    assert_eq!(status(&format!("{STUDENT}&class_id=%27%20OR%201%3D1--")).await, 404);
    assert_eq!(status(STUDENT).await, 425);
    assert_eq!(status(WAITING).await, 503, "no node has been heard");
    running.beat(None).await;
    assert_eq!(status(WAITING).await, 200);
    let early = running.request(Method::POST, &format!("/api/token?{STUDENT}")).send().await.unwrap();
    assert_eq!(early.headers()["retry-after"], "2");
    let problem: serde_json::Value = early.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["retry_after"]), (&json!(425), &json!(2)));
}

#[tokio::test]
async fn one_address_cannot_ask_without_end() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    // What passes is refused for another reason, so that a 429 is the limit's and nothing else's.
    let mut passed = 0;
    let limited = loop {
        let response = running.request(Method::POST, &format!("/api/token?{STUDENT}")).send().await.unwrap();
        if response.status() == 429 {
            break response;
        }
        assert_eq!(response.status(), 425);
        passed += 1;
        assert!(passed < 5000, "600 at once and 60 a second are not without end");
    };
    assert!(passed >= 600, "{passed}");
    assert_eq!(limited.headers()["retry-after"], "1");
    let problem: serde_json::Value = limited.json().await.unwrap();
    assert_eq!(problem["code"], "rate_limited");
}

#[tokio::test]
async fn the_default_class_has_another_name() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(Some("stream"), &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let (_, body) = running.token(&format!("{STUDENT}&class_id=stream"), None).await;
    assert_eq!(endpoint(&body), "http://127.0.0.1:8889/live/lesson/whep");
    assert_eq!(running.get("/api/v1/streams/stream").await.status(), 200);
}

#[tokio::test]
async fn the_address_of_the_node_is_one_that_the_viewer_can_reach() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.beat(None).await;
    for (host, url) in [
        ("school.local:8000", "http://school.local:8889/live/lesson/whep"),
        ("[fd00::5]:8000", "http://[fd00::5]:8889/live/lesson/whep"),
        ("192.168.1.5", "http://192.168.1.5:8889/live/lesson/whep"),
    ] {
        assert_eq!(endpoint(&running.token(WAITING, Some(("Host", host))).await.1), url);
    }
    let nowhere = running.request(Method::POST, &format!("/api/token?{WAITING}")).header("Host", "a'b");
    let nowhere = nowhere.header("X-Class-Pin", &running.pin).send().await.unwrap();
    assert_eq!(nowhere.status(), 400, "there is no address to send it to");
    running.node_at("https://media.school.example/").heartbeat(&heartbeat(vec![])).await.unwrap();
    let (_, body) = running.token(WAITING, None).await;
    assert_eq!(endpoint(&body), "https://media.school.example/live/lesson/whep");
}

#[tokio::test]
async fn guarded_mode_asks_for_the_pin_and_hides_which_classes_there_are() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let with_pin = async |query: &str, pin: &str| running.token(query, Some(("X-Class-Pin", pin))).await;
    assert_eq!(running.token(WAITING, None).await.0, 401);
    let wrong = with_pin(WAITING, "0").await;
    let unknown = with_pin(&format!("{WAITING}&class_id=nowhere"), "0").await;
    assert_eq!(wrong.0, 401);
    assert_eq!(wrong, unknown);
    assert_eq!(with_pin(WAITING, &running.pin).await.0, 200);
    for path in ["/api/v1/streams", "/api/v1/classes"] {
        assert_eq!(running.get(path).await.status(), 403, "{path} names classes");
    }
    assert_eq!(running.get("/api/v1/streams/lesson").await.status(), 401);
}

/// Pages that watch look at their stream with the token they have: neither a new PIN nor their number may keep others out.
#[tokio::test]
async fn who_has_a_token_looks_at_the_stream_with_it() {
    let folder = TempDir::new().unwrap();
    let few = Config { tokens_at_once: 30, tokens_per_second: 0, ..config(folder.path(), Mode::Guarded) };
    let running = start_with(few).await;
    let session = running.publish(Some("lesson"), &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let (status, body) = running.token(WAITING, Some(("X-Class-Pin", &running.pin))).await;
    assert_eq!(status, 200);
    let token = body["token"].as_str().unwrap().to_owned();
    let look = async |class: &str, token: &str| {
        let request = running.request(Method::GET, &format!("/api/v1/streams/{class}")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let path = "/api/v1/classes/lesson/pin";
    let changed =
        running.operate(Method::PUT, path).json(&json!({ "pin": "another-1" })).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    let mut statuses = Vec::new();
    for _ in 0..31 {
        statuses.push(look("lesson", &token).await);
    }
    assert_eq!(statuses, [vec![200; 30], vec![429]].concat());
    assert_eq!(running.token(WAITING, Some(("X-Class-Pin", "another-1"))).await.0, 200, "others still join");
}

#[tokio::test]
async fn a_token_shows_only_its_own_class() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let made =
        running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "other", "name": "Other" }));
    assert_eq!(made.send().await.unwrap().status(), 201);
    let (_, body) = running.token(WAITING, Some(("X-Class-Pin", &running.pin))).await;
    for (class, token, expected) in [
        ("lesson", body["token"].as_str().unwrap(), 404),
        ("other", body["token"].as_str().unwrap(), 401),
        ("nowhere", body["token"].as_str().unwrap(), 401),
        ("lesson", "no.real.token", 401),
    ] {
        let request = running.request(Method::GET, &format!("/api/v1/streams/{class}")).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().status(), expected, "{class}");
    }
}

#[tokio::test]
async fn the_pin_makes_a_student_and_the_operators_secret_whatever_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let teacher = "user_type=teacher&user_id=t-1&wait=1";
    assert_eq!(running.token(teacher, Some(("X-Class-Pin", &running.pin))).await.0, 403);
    assert_eq!(running.token(teacher, Some(("X-Class-Pin", "0"))).await.0, 401, "the PIN is looked at first");
    let (status, body) =
        running.token(teacher, Some(("Authorization", &format!("bearer {OPERATOR_SECRET}")))).await;
    assert_eq!(status, 200);
    let claims =
        TokenVerifier::new(&running.base).unwrap().verify(body["token"].as_str().unwrap()).await.unwrap();
    assert_eq!((claims.role, claims.sub.as_str()), (Role::Teacher, "t-1"));
    assert_eq!(running.token(teacher, Some(("Authorization", "Bearer guess"))).await.0, 401);
}

#[tokio::test]
async fn keys_survive_a_restart_and_another_coordinators_tokens_are_nothing_here() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let running = start(ours.path(), Mode::Open).await;
    running.beat(None).await;
    let before = running.token(WAITING, None).await.1;
    let verifier = TokenVerifier::new(&running.base).unwrap();
    verifier.verify(before["token"].as_str().unwrap()).await.unwrap();
    running.stop().await;
    let running = start(ours.path(), Mode::Open).await;
    running.beat(None).await;
    let after = running.token(WAITING, None).await.1;
    assert!(verifier.verify_offline(after["token"].as_str().unwrap(), SystemTime::now()).is_ok());
    let strangers = start(theirs.path(), Mode::Open).await;
    strangers.beat(None).await;
    let foreign = strangers.token(WAITING, None).await.1;
    let verifier = TokenVerifier::new(&running.base).unwrap();
    assert_eq!(verifier.verify(foreign["token"].as_str().unwrap()).await, Err(TokenError::UnknownKey));
}

#[tokio::test]
async fn tokens_with_unknown_keys_do_not_make_a_node_ask_again_and_again() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (running, strangers) = (start(ours.path(), Mode::Open).await, start(theirs.path(), Mode::Open).await);
    strangers.beat(None).await;
    let foreign = strangers.token(WAITING, None).await.1["token"].as_str().unwrap().to_owned();
    let verifier = TokenVerifier::new(&running.base).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (verifier, foreign) = (verifier.clone(), foreign.clone());
        asking.spawn(async move { verifier.verify(&foreign).await });
    }
    for outcome in asking.join_all().await {
        assert_eq!(outcome, Err(TokenError::UnknownKey));
    }
    let metrics = running.metrics();
    let fetched = "lectern_coordinator_requests_total{route=\"/.well-known/jwks.json\",status=\"200\"} 1\n";
    assert!(metrics.contains(fetched), "{metrics}");
}
