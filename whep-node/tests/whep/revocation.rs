//! Tokens that are taken back while their bearers watch, and before they come.
use std::time::SystemTime;

use control::{Revocation, Revoked};
use reqwest::StatusCode;
use serde_json::Value;

use crate::room::{CLASS, OFFER, Room, header, problem};

fn revoke(room: &Room, of: Revoked, issued_until: u64) {
    let revocation = Revocation { of, issued_until, good_until: u64::MAX };
    room.verifier.revoke(&[revocation], SystemTime::now());
}

/// The code of a refusal.
async fn refusal(room: &Room, token: &str) -> (u16, Value) {
    let answer = room.post(token, OFFER).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json::<Value>().await.unwrap_or_default()["code"].clone())
}

#[tokio::test]
async fn a_session_ends_when_its_token_is_revoked_and_the_token_opens_no_other() {
    let (mut room, _publisher) = Room::with_lesson().await;
    let (ada, bob) = (room.token(|claims| claims.jti = "ada's".to_owned()), room.token(|_| {}));
    let session = room.join(&ada).await;
    let id = room.joined().await;
    let other = room.join(&bob).await;
    room.joined().await;
    revoke(&room, Revoked::Token { token: "ada's".to_owned() }, 0);
    assert_eq!(room.left().await, (id, "revoked".to_owned()));
    problem(room.http.get(&session).send().await.unwrap(), 404).await;
    assert_eq!(
        room.http.get(&other).send().await.unwrap().status(),
        StatusCode::NO_CONTENT,
        "of the same class"
    );
    assert_eq!(room.counted("lectern_whep_sessions_revoked_total"), 1.0);
    let refused = room.post(&ada, OFFER).send().await.unwrap();
    assert!(header(&refused, "www-authenticate").contains("invalid_token"));
    assert_eq!(problem(refused, 401).await, "the token was revoked");
    assert_eq!(refusal(&room, &ada).await, (401, Value::from("token_revoked")));
    room.join(&bob).await;
    let goodbye = room.http.delete(&session).send().await.unwrap();
    assert_eq!(goodbye.status(), StatusCode::OK, "its player has noticed by itself");
}

#[tokio::test]
async fn of_a_class_the_tokens_given_until_then_are_void_and_of_a_key_all() {
    let (mut room, _publisher) = Room::with_lesson().await;
    let early = room.token(|claims| (claims.iat, claims.jti) = (claims.iat - 10, "early".to_owned()));
    let late = room.token(|_| {});
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    room.join(&early).await;
    let first = room.joined().await;
    room.join(&late).await;
    let second = room.joined().await;
    revoke(&room, Revoked::Class { class: CLASS.to_owned() }, now - 5);
    assert_eq!(room.left().await, (first, "revoked".to_owned()));
    assert_eq!(refusal(&room, &early).await.1, "token_revoked");
    room.join(&late).await;
    let third = room.joined().await;
    revoke(&room, Revoked::Key { kid: "k1".to_owned() }, 0);
    let mut left = [room.left().await, room.left().await];
    let mut expected = [second, third].map(|id| (id, "revoked".to_owned()));
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(refusal(&room, &late).await.1, "token_revoked");
}
