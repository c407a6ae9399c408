//! Classes, stream keys, and what is left in the data folder.
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use control::{Client, ClientError, Outage};
use coordinator::{Config, Mode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, config, heartbeat, start, start_with};

async fn make(running: &Running, class: &Value) -> (StatusCode, Value) {
    let response = running.operate(Method::POST, "/api/v1/classes").json(class).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn stream_keys_open_their_own_class_only() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    for name in [None, Some("lesson"), Some("stream"), Some(&*running.key.clone())] {
        assert!(running.publish(name, &running.key).await.is_ok(), "{name:?}");
    }
    assert!(matches!(running.publish(Some("other"), &running.key).await, Err(ClientError::Refused(_))));
    assert!(matches!(running.publish(None, "guess").await, Err(ClientError::Refused(_))));
    let (status, made) = make(&running, &json!({ "slug": "room101" })).await;
    assert_eq!(status, StatusCode::CREATED);
    let key = made["stream_key"].as_str().unwrap();
    assert!(running.publish(Some("room101"), key).await.is_ok());
    assert!(running.publish(Some("lesson"), key).await.is_err());
    let second = running.operate(Method::POST, "/api/v1/classes/room101/stream-keys").send().await.unwrap();
    assert_eq!(second.status(), StatusCode::CREATED);
    let second: Value = second.json().await.unwrap();
    assert!(running.publish(Some("room101"), second["stream_key"].as_str().unwrap()).await.is_ok());
    assert!(running.publish(Some("room101"), key).await.is_ok(), "the first is still good");
    let nowhere = running.operate(Method::POST, "/api/v1/classes/nowhere/stream-keys").send().await.unwrap();
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn classes_that_cannot_be_are_refused() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let long = "x".repeat(201);
    for class in [
        json!({ "slug": "" }),
        json!({ "slug": "stream" }),
        json!({ "slug": "../etc" }),
        json!({ "slug": "Room" }),
        json!({ "slug": "a".repeat(65) }),
        json!({ "slug": "room", "name": long }),
        json!({ "slug": "room", "pin": "12345" }),
        json!({ "slug": "room", "pin": "12 34" }),
        json!({ "slug": "room", "pin": "" }),
    ] {
        assert_eq!(make(&running, &class).await.0, StatusCode::BAD_REQUEST, "{class}");
    }
    assert_eq!(make(&running, &json!({ "name": "no slug" })).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        make(&running, &json!({ "slug": "room", "pim": "1234" })).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(make(&running, &json!({ "slug": "room" })).await.0, StatusCode::CREATED);
    assert_eq!(make(&running, &json!({ "slug": "room" })).await.0, StatusCode::CONFLICT);
    let classes: Value =
        running.operate(Method::GET, "/api/v1/classes").send().await.unwrap().json().await.unwrap();
    let slugs: Vec<_> = classes.as_array().unwrap().iter().map(|class| class["slug"].clone()).collect();
    assert_eq!(slugs, ["lesson", "room"]);
}

#[tokio::test]
async fn a_class_without_a_pin_of_its_own_is_given_one() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let (_, chosen) = make(&running, &json!({ "slug": "a", "pin": "orange-7" })).await;
    let (_, given) = make(&running, &json!({ "slug": "b" })).await;
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    for (slug, made) in [("a", &chosen), ("b", &given)] {
        let pin = made["pin"].as_str().unwrap();
        let query = format!("user_type=student&user_id=s&wait=1&class_id={slug}");
        assert_eq!(running.token(&query, Some(("X-Class-Pin", pin))).await.0, 200, "{slug}");
        assert_eq!(running.token(&query, Some(("X-Class-Pin", &running.pin))).await.0, 401, "{slug}");
    }
    assert_eq!(chosen["pin"], "orange-7");
}

#[tokio::test]
async fn a_node_with_a_wrong_secret_is_told_nothing_about_keys() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let stranger = Client::new(&running.base, "a guess").unwrap();
    let error = stranger.heartbeat(&heartbeat(vec![])).await.unwrap_err();
    let is_outage = matches!(error, ClientError::Unreachable(Outage::Status(StatusCode::UNAUTHORIZED)));
    assert!(is_outage, "{error:?}: it is no verdict on what was asked");
}

#[tokio::test]
async fn another_default_class_takes_the_printed_key_and_pin_with_it() {
    let folder = TempDir::new().unwrap();
    let first = start(folder.path(), Mode::Guarded).await;
    let key = first.key.clone();
    first.stop().await;
    let moved = Config { default_class: "room7".to_owned(), ..config(folder.path(), Mode::Guarded) };
    let running = start_with(moved).await;
    running.beat(None).await;
    assert_eq!(running.key, key);
    assert!(running.publish(Some("room7"), &key).await.is_ok());
    assert!(running.publish(Some("lesson"), &key).await.is_err());
    let query = "user_type=student&user_id=s&wait=1";
    assert_eq!(running.token(query, Some(("X-Class-Pin", &running.pin))).await.0, 200);
}

#[tokio::test]
async fn what_is_in_the_data_folder_is_its_owners_alone() {
    let folder = TempDir::new().unwrap();
    // A name that means something in a URL.
    let data = folder.path().join("my lessons? 100%").join("#1");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let unset =
        Config { node_secret: String::new(), operator_secret: String::new(), ..config(&data, Mode::Open) };
    let running = start_with(unset.clone()).await;
    running.beat(None).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in [
        "signing-keys.json",
        "stream-key",
        "class-pin",
        "node-secret",
        "operator-secret",
        "pin-secret",
        "operator.sock",
    ] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    assert!(data.join("lectern.db").exists());
    // The secret that was made is the same in the next life, so that nodes elsewhere stay in.
    let secret = running.secret.clone();
    running.stop().await;
    assert_eq!(start_with(unset).await.secret, secret);
}
