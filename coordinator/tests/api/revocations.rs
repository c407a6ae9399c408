//! Tokens and stream keys that are taken back: what nodes hear of it, and what becomes of who has them.
use std::time::SystemTime;

use control::api::{Heartbeat, HeartbeatAnswer, PublishRequest, StreamState};
use control::{Claims, Revocation, Revoked, TokenError, TokenVerifier};
use coordinator::Mode;
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, heartbeat, start};

const PATH: &str = "/api/v1/revocations";
const KEYS: &str = "/api/v1/classes/lesson/stream-keys";

async fn revoke(running: &Running, body: Value) -> (StatusCode, Value) {
    let answer = running.operate(Method::POST, PATH).json(&body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// A token of this user, who has the PIN.
async fn token(running: &Running, user: &str) -> String {
    let query = format!("user_type=student&user_id={user}&wait=1");
    let (status, body) = running.token(&query, Some(("X-Class-Pin", &running.pin))).await;
    assert_eq!(status, 200, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

/// What a node hears that has this version.
async fn hear(running: &Running, revocations: u64) -> HeartbeatAnswer {
    running.node.heartbeat(&Heartbeat { revocations, ..heartbeat(Vec::new()) }).await.unwrap()
}

/// A node that knows the keys, and what it makes of a token.
struct Node(TokenVerifier);

impl Node {
    async fn new(running: &Running) -> Self {
        let verifier = TokenVerifier::new(&running.base).unwrap();
        assert!(verifier.refresh().await);
        Self(verifier)
    }

    async fn hear(&self, running: &Running) {
        let list = hear(running, 0).await.revocations.unwrap_or_default();
        self.0.revoke(&list, SystemTime::now());
    }

    fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.0.verify_offline(token, SystemTime::now())
    }
}

#[tokio::test]
async fn a_node_hears_what_is_revoked_once_and_refuses_it_from_then_on() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let (ada, bob) = (token(&running, "ada").await, token(&running, "bob").await);
    let node = Node::new(&running).await;
    let jti = node.verify(&ada).unwrap().jti;
    let before = hear(&running, 0).await;
    assert_eq!((before.revocations_version, before.revocations), (0, None));

    let (status, body) = revoke(&running, json!({ "token": jti })).await;
    assert_eq!((status, &body["token"]), (StatusCode::CREATED, &json!(jti)));
    let HeartbeatAnswer { revocations_version: version, revocations, .. } = hear(&running, 0).await;
    let list = revocations.unwrap();
    let [Revocation { of: Revoked::Token { token }, good_until, .. }] = &list[..] else { panic!("{list:?}") };
    assert_eq!((token, &json!(good_until)), (&jti, &body["good_until"]));
    assert_eq!(hear(&running, version).await.revocations, None, "the usual answer is short");
    node.hear(&running).await;
    assert_eq!(node.verify(&ada), Err(TokenError::Revoked));
    assert!(node.verify(&bob).is_ok(), "of the same class");
    let listed: Value = running.operate(Method::GET, PATH).send().await.unwrap().json().await.unwrap();
    assert_eq!(listed, json!([body]));

    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    let again = hear(&running, version).await;
    assert_eq!((again.revocations_version, again.revocations), (version, None), "a restart changes nothing");
    assert_eq!(hear(&running, 0).await.revocations, Some(list));
}

#[tokio::test]
async fn the_coordinator_itself_takes_no_revoked_token() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let token = token(&running, "ada").await;
    let look = async || {
        let request = running.request(Method::GET, "/api/v1/streams/lesson").bearer_auth(&token);
        request.send().await.unwrap().status().as_u16()
    };
    let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let offer = async || {
        let request = http.post(format!("{}/live/lesson/whep", running.base)).bearer_auth(&token);
        let answer = request.body("an offer").send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default()["code"].clone())
    };
    assert_eq!(look().await, 200);
    assert_eq!(offer().await.0, 307);
    assert_eq!(
        revoke(&running, json!({ "user": "ada", "class": "stream" })).await.0,
        201,
        "by its other name"
    );
    assert_eq!(look().await, 401);
    assert_eq!(offer().await, (401, json!("token_revoked")));
}

#[tokio::test]
async fn of_a_class_and_of_a_user_the_tokens_given_until_then_are_void_and_the_next_one_is_good() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let node = Node::new(&running).await;
    let mut ada = token(&running, "ada").await;
    for (what, is_bobs_void) in
        [(json!({ "user": "ada", "class": "lesson" }), false), (json!({ "class": "lesson" }), true)]
    {
        let bob = token(&running, "bob").await;
        assert_eq!(revoke(&running, what.clone()).await.0, StatusCode::CREATED);
        let next = token(&running, "ada").await;
        node.hear(&running).await;
        assert_eq!(node.verify(&ada), Err(TokenError::Revoked), "{what}");
        assert_eq!(node.verify(&bob).is_err(), is_bobs_void, "{what}");
        assert!(node.verify(&next).is_ok(), "{what}: given a moment later");
        ada = next;
    }
    let (_, elsewhere) = revoke(&running, json!({ "class": "removed-long-ago" })).await;
    assert_eq!(elsewhere["class"], "removed-long-ago", "a class that is gone still has tokens");
    node.hear(&running).await;
    assert!(node.verify(&ada).is_ok());
}

#[tokio::test]
async fn a_revoked_key_signs_no_more_and_another_one_does_at_once() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let node = Node::new(&running).await;
    let before = token(&running, "ada").await;
    let kid = node.verify(&before).unwrap().kid;
    assert_eq!(revoke(&running, json!({ "kid": kid })).await.0, StatusCode::CREATED);
    node.hear(&running).await;
    assert_eq!(node.0.verify(&before).await, Err(TokenError::Revoked));
    let after = token(&running, "ada").await;
    let claims = TokenVerifier::new(&running.base).unwrap().verify(&after).await.unwrap();
    assert_ne!(claims.kid, kid);
    let published = running.get("/.well-known/jwks.json").await.text().await.unwrap();
    assert!(published.contains(&claims.kid) && !published.contains(&kid), "{published}");
    let again = revoke(&running, json!({ "kid": kid })).await.0;
    assert_eq!(again, StatusCode::CREATED, "whoever did not get the answer may ask again");
    let (status, problem) = revoke(&running, json!({ "kid": "unknown" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("no_signing_key")));
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let later = token(&running, "ada").await;
    let next = TokenVerifier::new(&running.base).unwrap().verify(&later).await.unwrap();
    assert_eq!(next.kid, claims.kid, "also after a restart");
}

#[tokio::test]
async fn only_operators_revoke_and_only_what_can_be() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    for (method, path) in [
        (Method::POST, PATH),
        (Method::GET, PATH),
        (Method::GET, "/api/v1/signing-keys"),
        (Method::POST, "/api/v1/signing-keys/rotate"),
    ] {
        let request = running.request(method, path).json(&json!({ "class": "lesson" }));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{path}");
    }
    for body in [
        json!({}),
        json!({ "user": "ada" }),
        json!({ "token": "t", "class": "lesson" }),
        json!({ "token": "t", "kid": "k" }),
        json!({ "user": "ada", "class": "lesson", "kid": "k" }),
        json!({ "token": "" }),
        json!({ "token": "a b" }),
        json!({ "token": "t".repeat(129) }),
        json!({ "user": "\u{e4}", "class": "lesson" }),
        json!({ "class": "No Class" }),
    ] {
        let (status, problem) = revoke(&running, body.clone()).await;
        assert_eq!((status.as_u16(), &problem["code"]), (400, &json!("bad_request")), "{body}");
    }
    let typo = revoke(&running, json!({ "clas": "lesson" })).await;
    assert_eq!(typo.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(hear(&running, 0).await.revocations, None, "nothing was revoked");
}

/// A node reports by which key its publisher was let in, and hears that it was revoked; of a key that is merely unknown it does not,
/// for another coordinator may just have made it.
#[tokio::test]
async fn the_publisher_who_has_a_revoked_stream_key_is_named_and_no_other() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let made: Value = running.operate(Method::POST, KEYS).send().await.unwrap().json().await.unwrap();
    let (id, secret) = (made["id"].as_str().unwrap().to_owned(), made["stream_key"].as_str().unwrap());
    let [node, key, peer_ip, encoder] = ["n1", secret, "192.0.2.7", "phone"].map(str::to_owned);
    let request = PublishRequest { node, name: None, key, peer_ip, encoder };
    let grant = running.node.authorize_publish(&request).await.unwrap();
    assert_eq!(grant.key, id);
    let report = async |running: &Running, key: &str, is_relayed: bool| {
        let mut beat = running.report(&grant.session, StreamState::Active);
        beat.streams[0].key = key.to_owned();
        beat.streams[0].is_relayed = is_relayed;
        running.node.heartbeat(&beat).await.unwrap().revoked_keys
    };
    assert_eq!(report(&running, &id, false).await, [""; 0]);
    let path = format!("{KEYS}/{id}");
    let deleted = running.operate(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(report(&running, &id, false).await, [&*id]);
    assert_eq!(report(&running, &id, true).await, [""; 0], "it is another node's publisher");
    assert_eq!(report(&running, "made-elsewhere", false).await, [""; 0]);
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    assert_eq!(report(&running, &id, false).await, [&*id], "after a restart too");

    let room = running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "room" }));
    let room: Value = room.send().await.unwrap().json().await.unwrap();
    let of_room = room["key_id"].as_str().unwrap();
    assert_eq!(report(&running, of_room, false).await, [""; 0]);
    running.operate(Method::DELETE, "/api/v1/classes/room").send().await.unwrap();
    assert_eq!(report(&running, of_room, false).await, [of_room], "a removed class has no valid keys");
}
