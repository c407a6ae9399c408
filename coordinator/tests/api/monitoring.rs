//! Who may look at every class: the secret of monitors, which opens nothing else.
use control::api::StreamState;
use coordinator::Mode;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, start};

fn secret(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("monitor-secret")).unwrap().trim().to_owned()
}

async fn status(running: &Running, method: Method, path: &str, secret: &str) -> StatusCode {
    running.request(method, path).bearer_auth(secret).send().await.unwrap().status()
}

#[tokio::test]
async fn monitors_look_at_every_class_and_change_none() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let secret = secret(&folder);
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    for path in ["/api/v1/streams", "/api/v1/streams/lesson", "/api/v1/events", "/api/v1/events?class=lesson"]
    {
        assert_eq!(status(&running, Method::GET, path, &secret).await, StatusCode::OK, "{path}");
        assert_ne!(status(&running, Method::GET, path, "a guess").await, StatusCode::OK, "{path}");
    }
    let bearer = format!("Bearer {secret}");
    let token = async |role: &str| {
        let query = format!("user_type={role}&user_id=m&class_id=lesson");
        running.token(&query, Some(("authorization", &bearer))).await
    };
    let (given, body) = token("monitor").await;
    assert_eq!((given, &body["user_type"]), (200, &json!("monitor")));
    assert_eq!((token("student").await.0, token("teacher").await.0), (401, 401), "it makes monitors only");
    let operators = [
        (Method::GET, "/api/v1/classes"),
        (Method::POST, "/api/v1/classes"),
        (Method::DELETE, "/api/v1/classes/lesson"),
        (Method::PUT, "/api/v1/classes/lesson/pin"),
        (Method::GET, "/api/v1/classes/lesson/stream-keys"),
        (Method::GET, "/api/v1/classes/lesson/publish-info"),
        (Method::GET, "/api/v1/revocations"),
    ];
    for (method, path) in operators {
        assert_eq!(status(&running, method, path, &secret).await, StatusCode::FORBIDDEN, "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn monitors_are_told_of_classes_without_a_lesson_and_others_are_not() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.beat(None).await;
    let first = async |bearer: Option<&str>| {
        let request = running.request(Method::GET, "/api/v1/events");
        let request = bearer.into_iter().fold(request, |request, secret| request.bearer_auth(secret));
        let mut response = request.send().await.unwrap();
        let chunk = response.chunk().await.unwrap().unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    };
    let told = first(Some(&secret(&folder))).await;
    assert!(told.contains("\"state\":\"offline\"") && told.contains("\"class\":\"lesson\""), "{told}");
    let told = first(None).await;
    assert!(told.starts_with("event: complete"), "{told}");
    running.stop().await;
}

#[tokio::test]
async fn a_picture_of_a_lesson_is_at_the_node_that_its_app_speaks_to() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let ask = async |bearer: &str| {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let url = format!("{}/live/lesson/snapshot.mp4", running.base);
        http.build().unwrap().get(url).bearer_auth(bearer).send().await.unwrap()
    };
    let secret = secret(&folder);
    running.beat(None).await;
    assert_eq!(ask(&secret).await.status(), StatusCode::CONFLICT, "there is no lesson");
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let found = ask(&secret).await;
    assert_eq!(found.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(found.headers()["access-control-allow-origin"], "*");
    let location = found.headers()["location"].to_str().unwrap();
    let (url, token) = location.split_once("?jwt=").unwrap();
    assert_eq!(url, "http://127.0.0.1:8889/live/lesson/snapshot.mp4");
    // The token is for the class, and a monitor's.
    let again = ask(token).await;
    assert_eq!(again.status(), StatusCode::TEMPORARY_REDIRECT);
    let refused = ask("x").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "token_invalid");
    running.stop().await;
}
