//! What a teacher may do with a stream key of the class.
use coordinator::{Config, Mode};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, config, heartbeat, start, start_with};

const KEY: &str = "x-stream-key";
const INFO: &str = "/api/v1/classes/lesson/publish-info";

async fn ask(running: &Running, method: Method, path: &str, key: &str) -> Response {
    running.request(method, path).header(KEY, key).send().await.unwrap()
}

async fn body(response: Response) -> Value {
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_stream_key_shows_its_teacher_where_to_publish_and_what_arrives() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let mut beat = heartbeat(Vec::new());
    (beat.rtmp_port, beat.rtmps_port) = (Some(1935), Some(1936));
    running.node.heartbeat(&beat).await.unwrap();
    let info = ask(&running, Method::GET, INFO, &running.key).await;
    assert_eq!(info.status(), StatusCode::OK);
    let info = body(info).await;
    assert_eq!(info["servers"], json!(["rtmps://127.0.0.1:1936/live", "rtmp://127.0.0.1/live"]));
    assert_eq!(info["class"], "lesson");
    // Without the PIN, in guarded mode.
    let (status, _) = running.token("user_type=teacher&user_id=t&wait=1", Some((KEY, &running.key))).await;
    assert_eq!(status, 200);
    let stream = ask(&running, Method::GET, "/api/v1/streams/lesson", &running.key).await;
    assert_eq!(body(stream).await["code"], "no_stream");
    let events = ask(&running, Method::GET, "/api/v1/events?class=lesson", &running.key).await;
    assert_eq!(events.status(), StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn the_address_is_that_of_the_node_as_the_world_knows_it() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let mut beat = heartbeat(Vec::new());
    beat.rtmp_port = Some(2935);
    running.node_at("https://node1.school.example:8443/x").heartbeat(&beat).await.unwrap();
    let info = body(ask(&running, Method::GET, INFO, &running.key).await).await;
    assert_eq!(info["servers"], json!(["rtmp://node1.school.example:2935/live"]));
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_key_and_another_class_are_refused_and_not_without_end() {
    let folder = TempDir::new().unwrap();
    let limits = Config { tokens_at_once: 40, tokens_per_second: 1, ..config(folder.path(), Mode::Guarded) };
    let running = start_with(limits).await;
    running.beat(None).await;
    let made = running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "7b", "name": "7B" }));
    let other = body(made.send().await.unwrap()).await["stream_key"].as_str().unwrap().to_owned();
    for path in [INFO, "/api/v1/streams/lesson", "/api/v1/events?class=lesson"] {
        for key in ["guess", &other] {
            let refused = ask(&running, Method::GET, path, key).await;
            assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
            assert_eq!(body(refused).await["code"], "stream_key_invalid");
        }
    }
    let none = running.get(INFO).await;
    assert_eq!(
        (none.status(), body(none).await["code"].clone()),
        (StatusCode::FORBIDDEN, json!("stream_key_invalid"))
    );
    let (status, _) = running.token("user_type=teacher&user_id=t&wait=1", Some((KEY, &other))).await;
    assert_eq!(status, 403, "the key of another class is no PIN");
    let mut tries = 0;
    while ask(&running, Method::GET, INFO, "guess").await.status() != StatusCode::TOO_MANY_REQUESTS {
        tries += 1;
        assert!(tries <= 60, "nobody counts");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_key_is_replaced_and_the_former_one_is_void() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let made = running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "7b", "name": "7B" }));
    let made = body(made.send().await.unwrap()).await["stream_key"].as_str().unwrap().to_owned();
    // The one that stands in a file, and one that does not.
    for (class, mut key) in [("lesson", running.key.clone()), ("7b", made)] {
        for _ in 0..2 {
            let path = format!("/api/v1/classes/{class}/stream-key/rotate");
            let answer = ask(&running, Method::POST, &path, &key).await;
            assert_eq!(answer.status(), StatusCode::CREATED);
            let new = body(answer).await["stream_key"].as_str().unwrap().to_owned();
            assert_ne!(new, key);
            assert!(running.publish(Some(class), &key).await.is_err(), "the former one is void");
            running.publish(Some(class), &new).await.unwrap();
            let again = ask(&running, Method::POST, &path, &key).await;
            assert_eq!(again.status(), StatusCode::FORBIDDEN);
            key = new;
        }
    }
    running.stop().await;
}
