//! `GET /api/v1/events`: what a page is told while it is open.
use std::time::{Duration, Instant};

use control::api::{StreamProblem, StreamState};
use coordinator::Mode;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, heartbeat, start};

/// Wide: the machine may be busy. The product's own is two seconds.
const SOON: Duration = Duration::from_secs(20);

/// A page that listens.
struct Page {
    response: Response,
    rest: String,
}

impl Page {
    async fn open(running: &Running, query: &str, header: Option<(&str, &str)>) -> Result<Self, Response> {
        let mut request = running.request(Method::GET, &format!("/api/v1/events{query}"));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response);
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Ok(Self { response, rest: String::new() })
    }

    /// The next event: its name and its data. Nothing at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        tokio::time::timeout(SOON, self.read()).await.expect("an event comes soon")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).map(str::to_owned)
                };
                let found = field("event:").zip(field("data:"));
                self.rest = rest.to_owned();
                match found {
                    Some((name, data)) => return Some((name, serde_json::from_str(&data).unwrap())),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn status(&mut self) -> Value {
        let (name, data) = self.next().await.expect("the stream has not ended");
        assert_eq!(name, "status");
        data
    }

    /// Waits for a state, whatever is told before.
    async fn until(&mut self, state: &str) -> Value {
        loop {
            let told = self.status().await;
            if told["state"] == state {
                return told;
            }
        }
    }
}

fn refused(page: Result<Page, Response>) -> StatusCode {
    page.err().expect("it is refused").status()
}

#[tokio::test]
async fn a_page_is_told_of_every_state_of_its_lesson() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let pin = running.pin.clone();
    let mut page = Page::open(&running, "?class=lesson", Some(("x-class-pin", &pin))).await.unwrap();
    let first = page.status().await;
    assert_eq!((&first["class"], &first["state"]), (&json!("lesson"), &json!("offline")));
    assert!(!first["name"].as_str().unwrap().is_empty());

    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Starting))).await;
    assert_eq!(page.status().await["state"], "starting");
    let began = Instant::now();
    running.beat(Some((&session, StreamState::Active))).await;
    let live = page.status().await;
    println!("told after {:?}", began.elapsed());
    assert_eq!(
        (&live["state"], &live["viewers"], &live["has_video"]),
        (&json!("live"), &json!(3), &json!(true))
    );
    let age_ms = live["now_ms"].as_i64().unwrap() - live["since_ms"].as_i64().unwrap();
    assert!((0..10_000).contains(&age_ms), "live for {age_ms} ms");

    let mut report = running.report(&session, StreamState::Active);
    let problem = StreamProblem { code: "keyframes_rare".to_owned(), text: "Set it to 2 s.".to_owned() };
    report.streams[0].problems.push(problem);
    running.node.heartbeat(&report).await.unwrap();
    assert_eq!(
        page.status().await["problems"],
        json!([{ "code": "keyframes_rare", "text": "Set it to 2 s." }])
    );

    running.beat(Some((&session, StreamState::Grace))).await;
    assert_eq!(page.status().await["state"], "reconnecting");
    let mut report = running.report(&session, StreamState::Grace);
    report.streams[0].is_ended = true;
    running.node.heartbeat(&report).await.unwrap();
    assert_eq!(page.status().await["state"], "ended");
    running.beat(None).await;
    assert_eq!(page.until("offline").await["viewers"], 0);
    running.stop().await;
}

#[tokio::test]
async fn who_may_not_watch_is_not_told() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let (pin, secret) = (running.pin.clone(), format!("Bearer {}", crate::running::OPERATOR_SECRET));
    let open = async |query: &str, header| Page::open(&running, query, header).await;
    assert_eq!(refused(open("?class=lesson", None).await), StatusCode::UNAUTHORIZED);
    assert_eq!(
        refused(open("?class=lesson", Some(("x-class-pin", "wrong-pin"))).await),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        refused(open("?class=lesson", Some(("authorization", "Bearer x"))).await),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(refused(open("", Some(("x-class-pin", &pin))).await), StatusCode::FORBIDDEN);
    assert_eq!(
        refused(open("?topics=secrets&class=lesson", Some(("x-class-pin", &pin))).await),
        StatusCode::BAD_REQUEST
    );
    let (status, answer) =
        running.token("user_type=student&user_id=s&wait=1", Some(("x-class-pin", &pin))).await;
    assert_eq!(status, 200);
    let token = format!("Bearer {}", answer["token"].as_str().unwrap());
    assert_eq!(
        open("?class=lesson", Some(("authorization", &token))).await.unwrap().status().await["state"],
        "offline"
    );
    assert_eq!(
        refused(open("?class=other", Some(("authorization", &token))).await),
        StatusCode::UNAUTHORIZED
    );
    let mut of_all = open("", Some(("authorization", &secret))).await.unwrap();
    assert_eq!(of_all.status().await["state"], "offline", "an operator is told of every class");
    assert_eq!(of_all.next().await.unwrap().0, "complete");
    running.stop().await;
}

#[tokio::test]
async fn all_lessons_are_told_of_as_they_come_and_go() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let session = running.publish(None, &running.key).await.unwrap();
    running.beat(Some((&session, StreamState::Active))).await;
    let mut page = Page::open(&running, "", None).await.unwrap();
    let told = page.status().await;
    assert_eq!((&told["class"], &told["state"]), (&json!("lesson"), &json!("live")));
    assert_eq!(page.next().await.unwrap().0, "complete");
    running.beat(Some((&session, StreamState::Grace))).await;
    page.until("reconnecting").await;
    running.beat(None).await;
    page.until("offline").await;
    running.stop().await;
}

#[tokio::test]
async fn a_page_of_a_class_that_is_removed_is_told_and_let_go() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.beat(None).await;
    let made =
        running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "7b", "name": "Class 7B" }));
    assert_eq!(made.send().await.unwrap().status(), StatusCode::CREATED);
    let mut page = Page::open(&running, "?class=7b", None).await.unwrap();
    assert_eq!(page.status().await["name"], "Class 7B");
    let removed = running.operate(Method::DELETE, "/api/v1/classes/7b").send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    assert_eq!(page.status().await["state"], "removed");
    assert!(page.next().await.is_none(), "the stream ends");
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_is_about_to_end_lets_its_pages_go() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.node.heartbeat(&heartbeat(Vec::new())).await.unwrap();
    let mut page = Page::open(&running, "?class=lesson", None).await.unwrap();
    page.status().await;
    running.leaving.cancel();
    assert!(page.next().await.is_none());
    running.stop().await;
}
