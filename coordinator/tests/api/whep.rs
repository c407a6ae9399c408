//! WHEP at the coordinator: where players are sent, and how those are answered who are not.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response as Answer};
use control::Client;
use control::api::{Heartbeat, JoinRequest, StreamState};
use coordinator::{Config, Mode};
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};

use crate::nodes::{claims, join, request};
use crate::running::{Running, config, heartbeat, start, start_with};

const PATH: &str = "/live/lesson/whep";

/// A request of a player that follows no redirect.
fn ask(running: &Running, method: Method, path: &str) -> RequestBuilder {
    let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    http.request(method, format!("{}{path}", running.base)).header("Content-Type", "application/sdp")
}

async fn offer(running: &Running, path: &str) -> Response {
    ask(running, Method::POST, path).body("v=0").send().await.unwrap()
}

async fn offer_with(running: &Running, path: &str, token: &str) -> Response {
    ask(running, Method::POST, path).bearer_auth(token).body("v=0").send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn code(response: Response) -> (u16, String) {
    let (status, problem) = (response.status().as_u16(), response.json::<Value>().await.unwrap());
    (status, problem["code"].as_str().unwrap().to_owned())
}

/// A coordinator with a lesson at the node `n1`, whose WHEP server has this port.
async fn lesson(config: Config, whep_port: u16) -> Running {
    let running = start_with(config).await;
    let session = running.publish(None, &running.key).await.unwrap();
    let beat = Heartbeat { whep_port, ..running.report(&session, StreamState::Active) };
    running.node.heartbeat(&beat).await.unwrap();
    running
}

async fn token(running: &Running, more: &str) -> String {
    let query = format!("user_type=student&user_id=ada&class_id=lesson{more}");
    let (status, answer) = running.token(&query, Some(("X-Class-Pin", &running.pin))).await;
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_offer_is_sent_on_with_its_query_and_its_token() {
    let folder = TempDir::new().unwrap();
    let running = lesson(config(folder.path(), Mode::Open), 8889).await;
    let endpoint = format!("http://127.0.0.1:8889{PATH}");
    let location = async |path: &str, token: Option<&str>| {
        let response = match token {
            Some(token) => offer_with(&running, path, token).await,
            None => offer(&running, path).await,
        };
        assert_eq!(response.status(), 307, "{path}");
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert!(header(&response, "access-control-expose-headers").contains("Location"));
        header(&response, "location").to_owned()
    };
    assert_eq!(location(PATH, None).await, endpoint, "who is near needs no token");
    assert_eq!(location("/live/stream/whep?latency=low", None).await, format!("{endpoint}?latency=low"));
    let page =
        ask(&running, Method::POST, PATH).header("Origin", "http://127.0.0.1:5173").body("v=0").send().await;
    let page = header(&page.unwrap(), "location").to_owned();
    let vouched = claims(page.strip_prefix(&format!("{endpoint}?jwt=")).unwrap());
    assert_eq!(vouched["cls"], json!("lesson"), "at the node its origin would be `null`");
    let token = &*token(&running, "").await;
    let in_query = format!("{endpoint}?jwt={token}");
    assert_eq!(location(PATH, Some(token)).await, in_query, "headers stay behind at another origin");
    assert_eq!(location(&format!("{PATH}?jwt={token}"), None).await, in_query);
    let both = location(&format!("{PATH}?latency=low&redirect=1&jwt=bad"), Some(token)).await;
    assert_eq!(both, format!("{endpoint}?latency=low&jwt={token}"));
}

#[tokio::test]
async fn a_viewer_is_sent_to_the_node_that_its_token_names() {
    let folder = TempDir::new().unwrap();
    let running = lesson(config(folder.path(), Mode::Open), 8889).await;
    let here = JoinRequest { public_url: Some("https://node-2.example/".to_owned()), ..request("node-2") };
    let second = Client::new(&running.base, &join(&running, &here).await.unwrap().credential).unwrap();
    second.heartbeat(&Heartbeat { node: "node-2".to_owned(), ..heartbeat(Vec::new()) }).await.unwrap();
    for (excluded, expected) in [
        ("n1", "https://node-2.example/live/lesson/whep?jwt="),
        ("node-2", "http://127.0.0.1:8889/live/lesson/whep?jwt="),
    ] {
        let token = token(&running, &format!("&exclude={excluded}")).await;
        let response = offer_with(&running, PATH, &token).await;
        assert!(header(&response, "location").starts_with(expected), "{response:?}");
    }
}

#[tokio::test]
async fn who_may_not_watch_is_told_why_as_by_a_node() {
    let folder = TempDir::new().unwrap();
    let running = lesson(config(folder.path(), Mode::Guarded), 8889).await;
    let missing = offer(&running, PATH).await;
    assert_eq!(header(&missing, "www-authenticate"), "Bearer");
    assert_eq!(header(&missing, "access-control-allow-origin"), "*", "pages may read why");
    assert_eq!(code(missing).await, (401, "token_missing".to_owned()));
    assert_eq!(code(offer(&running, "/live/nowhere/whep").await).await.0, 401, "names cannot be tried");
    assert_eq!(code(offer_with(&running, PATH, "a.b.c").await).await, (401, "token_invalid".to_owned()));
    let token = token(&running, "").await;
    for other in ["/live/nowhere/whep", "/live/other/whep"] {
        running
            .operate(Method::POST, "/api/v1/classes")
            .json(&json!({ "slug": "other", "name": "" }))
            .send()
            .await
            .unwrap();
        assert_eq!(
            code(offer_with(&running, other, &token).await).await,
            (403, "forbidden".to_owned()),
            "{other}"
        );
    }
    let long = ask(&running, Method::POST, PATH).bearer_auth(&token).body(vec![b'a'; (64 << 10) + 1]);
    assert_eq!(code(long.send().await.unwrap()).await, (422, "offer_unusable".to_owned()));
    let duplicate = offer(&running, &format!("{PATH}?jwt=a&jwt=b")).await;
    assert_eq!(header(&duplicate, "access-control-allow-origin"), "*");
    assert_eq!(code(duplicate).await, (400, "bad_request".to_owned()));
    running.stop().await;

    let running = start(folder.path(), Mode::Open).await;
    assert_eq!(code(offer(&running, "/live/nowhere/whep").await).await, (404, "no_class".to_owned()));
    let early = offer(&running, PATH).await;
    assert_eq!(header(&early, "retry-after"), "2");
    assert_eq!(code(early).await, (409, "not_live".to_owned()));
    assert_eq!(
        offer_with(&running, PATH, &token).await.status(),
        409,
        "the token of the life before is good"
    );
    let foreign =
        ask(&running, Method::POST, PATH).header("Origin", "https://elsewhere.example").send().await;
    assert_eq!(code(foreign.unwrap()).await, (401, "token_missing".to_owned()));
}

#[tokio::test]
async fn offers_count_for_the_limit_of_tokens() {
    let folder = TempDir::new().unwrap();
    let few = Config { tokens_at_once: 2, tokens_per_second: 0, ..config(folder.path(), Mode::Open) };
    let running = lesson(few, 8889).await;
    assert_eq!([offer(&running, PATH).await.status(), offer(&running, PATH).await.status()], [307, 307]);
    let refused = offer(&running, PATH).await;
    assert_eq!(header(&refused, "access-control-allow-origin"), "*");
    assert_eq!(code(refused).await, (429, "rate_limited".to_owned()));
    assert_eq!(running.token("user_type=student&user_id=s", None).await.0, 429);
}

#[tokio::test]
async fn other_methods_are_answered_as_nodes_answer_them() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let ask = async |method: Method| ask(&running, method, PATH).send().await.unwrap();
    assert_eq!(ask(Method::GET).await.status(), 204);
    let head = ask(Method::HEAD).await;
    assert_eq!((head.status().as_u16(), header(&head, "content-type")), (200, "application/sdp"));
    let options = ask(Method::OPTIONS).await;
    assert_eq!(options.status(), 204);
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "POST, GET, HEAD, OPTIONS"),
        ("access-control-allow-headers", "Authorization, Content-Type, If-Match"),
        ("accept-post", "application/sdp"),
        ("allow", "POST, GET, HEAD, OPTIONS"),
    ] {
        assert_eq!(header(&options, name), value, "{name}");
    }
    assert_eq!(code(ask(Method::DELETE).await).await, (405, "method_not_allowed".to_owned()));
}

/// What a node was asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>);

fn answer_of(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    response.headers_mut().remove("content-type");
    headers.iter().for_each(|(name, value)| _ = response.headers_mut().append(*name, value.parse().unwrap()));
    response
}

/// A node that answers every offer, or finds no seat for `full`.
async fn node(asked: Asked) -> SocketAddr {
    let answer = async move |request: Request| {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let is_full = body == "full";
        asked.0.lock().unwrap().push((head.uri.to_string(), head.headers, body));
        if is_full {
            let headers = [("content-type", "application/problem+json"), ("retry-after", "5")];
            return answer_of(503, &headers, r#"{"status":503,"code":"node_full","title":"Node full"}"#);
        }
        let headers = [
            ("content-type", "application/sdp"),
            ("location", "/live/lesson/whep/s1"),
            ("etag", "\"1\""),
            ("accept-patch", "application/trickle-ice-sdpfrag"),
            ("link", "<stun:a.example>; rel=\"ice-server\""),
            ("link", "</live/lesson/whep/s1/sse>; rel=\"events\""),
        ];
        answer_of(201, &headers, "the answer")
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
    address
}

#[tokio::test]
async fn a_player_that_follows_no_redirect_has_its_offer_passed_on() {
    let folder = TempDir::new().unwrap();
    let asked = Asked::default();
    let address = node(asked.clone()).await;
    let running = lesson(config(folder.path(), Mode::Open), address.port()).await;
    let path = format!("{PATH}?latency=low&redirect=0");
    let token = token(&running, "").await;
    // The host is what the player says; the coordinator goes where the node is.
    let request = ask(&running, Method::POST, &path).header("Host", "school.local:8000").bearer_auth(&token);
    let response = request.header("User-Agent", "a player").body("v=0").send().await.unwrap();
    assert_eq!(response.status(), 201);
    let session = format!("http://school.local:{}/live/lesson/whep/s1", address.port());
    for (name, value) in [
        ("location", &*session),
        ("etag", "\"1\""),
        ("content-type", "application/sdp"),
        ("accept-patch", "application/trickle-ice-sdpfrag"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(header(&response, name), value, "{name}");
    }
    let links: Vec<_> =
        response.headers().get_all("link").iter().map(|link| link.to_str().unwrap()).collect();
    assert_eq!(links, ["<stun:a.example>; rel=\"ice-server\"", &format!("<{session}/sse>; rel=\"events\"")]);
    assert_eq!(response.text().await.unwrap(), "the answer");
    let (uri, headers, body) = asked.0.lock().unwrap().pop().unwrap();
    assert_eq!((&*uri, &*body), ("/live/lesson/whep?latency=low", &b"v=0"[..]));
    let heard = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(heard("authorization"), format!("Bearer {token}"));
    assert_eq!((heard("content-type"), heard("user-agent")), ("application/sdp", "a player"));
    assert_eq!(heard("x-forwarded-for"), "127.0.0.1");

    // The coordinator vouches for who needs no token.
    assert_eq!(offer(&running, &path).await.status(), 201);
    let (_, headers, _) = asked.0.lock().unwrap().pop().unwrap();
    let vouched = claims(headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap());
    assert_eq!(
        (&vouched["cls"], &vouched["node"], &vouched["role"]),
        (&json!("lesson"), &json!("n1"), &json!("student"))
    );
    assert!(vouched["sub"].as_str().unwrap().starts_with("127.0.0.1-"), "{vouched}");

    // What the node refuses is refused in its words.
    let refused = ask(&running, Method::POST, &path).body("full").send().await.unwrap();
    assert_eq!(header(&refused, "retry-after"), "5");
    assert_eq!(code(refused).await, (503, "node_full".to_owned()));
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_said_to_be_gone() {
    let folder = TempDir::new().unwrap();
    // A port that is held, and that nobody listens on.
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = held.local_addr().unwrap().port();
    let running = lesson(config(folder.path(), Mode::Open), port).await;
    let gone = offer(&running, &format!("{PATH}?redirect=0")).await;
    assert_eq!(header(&gone, "retry-after"), "2");
    assert_eq!(code(gone).await, (503, "node_unreachable".to_owned()));
}
