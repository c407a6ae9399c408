//! The keys that sign tokens, one after the other.
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::{KEYS_AGE_MAX, TokenVerifier};
use coordinator::{Config, Mode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::until;

use crate::running::{Running, config, start, start_with};

const FILE: &str = "signing-keys.json";
const DAY_MS: i64 = 86_400_000;

async fn rotate(running: &Running) -> (StatusCode, Value) {
    let answer = running.operate(Method::POST, "/api/v1/signing-keys/rotate").send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// The published keys and what they do, in their order.
async fn keys(running: &Running) -> Vec<(String, String)> {
    let answer = running.operate(Method::GET, "/api/v1/signing-keys").send().await.unwrap();
    let listed: Value = answer.json().await.unwrap();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(|key| (text(key, "kid"), text(key, "state"))).collect()
}

fn states(keys: &[(String, String)]) -> Vec<&str> {
    keys.iter().map(|(_, state)| state.as_str()).collect()
}

/// The ids of the set that nodes fetch.
async fn published(running: &Running) -> Vec<String> {
    let set: Value = running.get("/.well-known/jwks.json").await.json().await.unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn token(running: &Running) -> String {
    running.beat(None).await;
    let (status, body) = running.token("user_type=student&user_id=s&wait=1", None).await;
    assert_eq!(status, 200, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

/// Lets so much time pass for the keys of a coordinator that does not run.
fn age(folder: &Path, by_ms: i64) {
    let path = folder.join(FILE);
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for key in file["keys"].as_array_mut().unwrap() {
        key["signs_from_ms"] = json!(key["signs_from_ms"].as_i64().unwrap() - by_ms);
    }
    std::fs::write(&path, file.to_string()).unwrap();
}

#[tokio::test]
async fn the_next_key_is_published_before_it_signs_and_the_former_until_its_last_token_has_expired() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let before = token(&running).await;
    let answer = running.get("/.well-known/jwks.json").await;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    let (status, listed) = rotate(&running).await;
    assert_eq!(status, StatusCode::CREATED);
    let from_ms = listed[1]["signs_from_ms"].as_i64().unwrap();
    let first = keys(&running).await;
    assert_eq!((states(&first), published(&running).await.len()), (vec!["signing", "next"], 2));
    let (old, new) = (first[0].0.clone(), first[1].0.clone());
    let now_ms = i64::try_from(process::clock::now_ms()).unwrap();
    let lead_ms = 2 * i64::try_from(KEYS_AGE_MAX.as_millis()).unwrap();
    assert!((lead_ms - 60_000..=lead_ms).contains(&(from_ms - now_ms)), "{}", from_ms - now_ms);
    let (status, problem) = rotate(&running).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("rotation_under_way")));
    // A node that fetched the set in time asks for nothing when the key changes.
    let node = TokenVerifier::new(&running.base).unwrap();
    assert_eq!(node.verify(&before).await.unwrap().kid, old);
    assert_eq!(node.verify(&token(&running).await).await.unwrap().kid, old, "the next one does not sign yet");

    running.stop().await;
    age(folder.path(), lead_ms);
    let running = start(folder.path(), Mode::Open).await;
    assert_eq!(states(&keys(&running).await), ["retiring", "signing"]);
    let after = token(&running).await;
    assert_eq!(node.verify(&after).await.unwrap().kid, new);
    assert_eq!(node.verify(&before).await.unwrap().kid, old, "its tokens are as good as before");
    assert_eq!(published(&running).await, [old, new.clone()]);

    running.stop().await;
    age(folder.path(), DAY_MS + 60_000);
    let running = start(folder.path(), Mode::Open).await;
    assert_eq!(published(&running).await, [new], "no token that the other one signed is good any longer");
}

#[tokio::test]
async fn a_key_that_has_signed_for_long_is_followed_by_another_unless_that_is_not_wanted() {
    let folder = TempDir::new().unwrap();
    start(folder.path(), Mode::Open).await.stop().await;
    age(folder.path(), 29 * DAY_MS);
    let running = start(folder.path(), Mode::Open).await;
    assert_eq!(states(&keys(&running).await), ["signing"], "it may sign for 30 days");
    running.stop().await;
    age(folder.path(), DAY_MS);
    let never = Config { signing_key_days: 0, ..config(folder.path(), Mode::Open) };
    let running = start_with(never).await;
    assert_eq!(states(&keys(&running).await), ["signing"]);
    running.stop().await;
    let running = start(folder.path(), Mode::Open).await;
    until("the next key", Duration::from_secs(20), async || {
        let keys = keys(&running).await;
        if states(&keys) == ["signing", "next"] { Ok(()) } else { Err(format!("{keys:?}")) }
    })
    .await;
    let waiting = keys(&running).await;
    running.kill().await;
    let running = start(folder.path(), Mode::Open).await;
    assert_eq!(keys(&running).await, waiting, "also when it was killed then, and there is one");
}

#[tokio::test]
async fn the_key_of_the_time_before_is_the_first_of_the_set() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let token = token(&running).await;
    running.stop().await;
    let path = folder.path().join(FILE);
    let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let pkcs8 = STANDARD.decode(file["keys"][0]["pkcs8"].as_str().unwrap());
    std::fs::remove_file(&path).unwrap();
    let former = folder.path().join("signing-key.pkcs8");
    std::fs::write(&former, pkcs8.unwrap()).unwrap();
    let running = start(folder.path(), Mode::Open).await;
    TokenVerifier::new(&running.base).unwrap().verify(&token).await.unwrap();
    assert!(!former.exists(), "a key that is withdrawn one day must not come back with it");
}

#[tokio::test]
async fn a_rotation_whose_file_cannot_be_written_does_not_take_place() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let (path, aside) = (folder.path().join(FILE), folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let before = keys(&running).await;
    assert_eq!(rotate(&running).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let revocation = json!({ "kid": before[0].0 });
    let revoked =
        running.operate(Method::POST, "/api/v1/revocations").json(&revocation).send().await.unwrap();
    assert_eq!(revoked.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(keys(&running).await, before);
    let listed = running.operate(Method::GET, "/api/v1/revocations").send().await.unwrap();
    assert_eq!(listed.json::<Value>().await.unwrap(), json!([]));
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(rotate(&running).await.0, StatusCode::CREATED);
}
