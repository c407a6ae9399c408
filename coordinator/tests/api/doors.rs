//! Who is let in from where, and how those are answered who are not.
use coordinator::{BindError, Config, Mode, bind};
use prometheus::Registry;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{NODE_SECRET, config, start};

const PROBLEM: &str = "application/problem+json";

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn open_mode_refuses_public_addresses() {
    let folder = TempDir::new().unwrap();
    for (address, is_public) in [("8.8.8.8:0", true), ("[2a00::1]:0", true), ("127.0.0.1:0", false)] {
        let config = Config { listen: address.parse().unwrap(), ..config(folder.path(), Mode::Open) };
        let outcome = bind(config.clone(), &Registry::new()).await;
        assert_eq!(matches!(outcome, Err(BindError::PublicOpen(_))), is_public, "{address}");
        // Such an address is nobody's, so whoever is not refused cannot listen on it.
        for allowed in
            [Config { mode: Mode::Guarded, ..config.clone() }, Config { allow_public_open: true, ..config }]
        {
            let outcome = bind(allowed, &Registry::new()).await;
            assert_eq!(matches!(outcome, Err(BindError::Listen { .. })), is_public, "{address}");
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_be_leave_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let config = Config { token_ttl_seconds: 0, ..config(&data, Mode::Open) };
    assert!(matches!(bind(config, &Registry::new()).await, Err(BindError::Config(_))));
    assert!(!data.exists());
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let large = "x".repeat(2 << 20);
    for (method, path, body, status) in [
        (Method::GET, "/api/nothing", "", 404),
        (Method::POST, "/api/v1/nothing", "", 404),
        (Method::DELETE, "/api/nothing", "", 404),
        (Method::GET, "/assets/older.js", "", 404),
        (Method::GET, "/wp-login.php", "", 404),
        (Method::GET, "/api/token", "", 405),
        (Method::POST, "/watch/lesson", "", 405),
        (Method::POST, "/internal/v1/heartbeat", "{}", 401),
        (Method::POST, "/internal/v1/nothing", "{}", 401),
        (Method::POST, "/api/v1/classes", "{", 400),
        (Method::POST, "/api/v1/classes", "[]", 422),
        (Method::POST, "/api/v1/classes", large.as_str(), 413),
        (Method::GET, "/api/v1/streams/%ff", "", 400),
    ] {
        let request = running.request(method.clone(), path).header("Content-Type", "application/json");
        let response = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(header(&response, "content-type"), PROBLEM, "{method} {path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status, "{method} {path}");
    }
    let typeless = running.request(Method::POST, "/api/v1/classes").body("{}").send().await.unwrap();
    assert_eq!((typeless.status().as_u16(), header(&typeless, "content-type")), (415, PROBLEM));
    assert_eq!(header(&running.get("/api/token").await, "allow"), "POST");
    let nowhere = running.request(Method::GET, "/internal/v1/nothing").bearer_auth(NODE_SECRET);
    assert_eq!(nowhere.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_of_other_sites_may_ask_for_tokens() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let asked = running
        .request(Method::OPTIONS, "/api/token")
        .header("Origin", "https://school.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "x-class-pin");
    let asked = asked.send().await.unwrap();
    assert_eq!((asked.status().as_u16(), header(&asked, "access-control-allow-origin")), (204, "*"));
    assert!(header(&asked, "access-control-allow-headers").contains("X-Class-Pin"));
    let token = running.request(Method::POST, "/api/token").header("Origin", "https://school.example");
    let token = token.send().await.unwrap();
    assert_eq!(header(&token, "access-control-allow-origin"), "*", "errors can be read as well");
    assert_eq!(header(&token, "access-control-expose-headers"), "Retry-After");
    assert_eq!(header(&token, "cache-control"), "no-store");
}

/// Any page that the teacher opens can send requests to loopback; a key in its hands would let it publish.
#[tokio::test]
async fn pages_of_other_sites_cannot_do_what_operators_do() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let port = running.base.rsplit(':').next().unwrap();
    let rebound = format!("rebound.example:{port}");
    let keys = "/api/v1/classes/lesson/stream-keys";
    for (name, value) in [
        ("Origin", "https://elsewhere.example"),
        ("Origin", "null"),
        ("Host", rebound.as_str()),
        ("X-Forwarded-For", "203.0.113.9"),
    ] {
        let response = running.request(Method::POST, keys).header(name, value).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}: {value}");
        assert_eq!(header(&response, "access-control-allow-origin"), "");
    }
    let asked = running.request(Method::OPTIONS, keys).header("Origin", "https://elsewhere.example");
    assert_eq!(header(&asked.send().await.unwrap(), "access-control-allow-origin"), "");
    let own = running.request(Method::POST, keys).header("Origin", &running.base).send().await.unwrap();
    assert_eq!(own.status(), StatusCode::CREATED);
    let with_secret = running.request(Method::POST, keys).header("Host", &rebound).bearer_auth(NODE_SECRET);
    assert_eq!(with_secret.send().await.unwrap().status(), StatusCode::CREATED);
}

#[tokio::test]
async fn guarded_mode_takes_nobody_for_an_operator_without_the_secret() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let add = || running.request(Method::POST, "/api/v1/classes").json(&json!({ "slug": "room" }));
    assert_eq!(add().send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(add().bearer_auth("a guess").send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(add().bearer_auth(NODE_SECRET).send().await.unwrap().status(), StatusCode::CREATED);
    let streams = running.request(Method::GET, "/api/v1/streams").bearer_auth(NODE_SECRET);
    assert_eq!(streams.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn probes_metrics_and_the_description_answer() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.token("user_type=student&user_id=s-1", None).await;
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(running.get(path).await.status(), 200, "{path}");
    }
    let metrics = running.get("/metrics").await.text().await.unwrap();
    let counted = "lectern_coordinator_requests_total{route=\"/api/token\",status=\"425\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let description: Value = running.get("/api/openapi.json").await.json().await.unwrap();
    let paths = description["paths"].as_object().unwrap();
    for path in ["/api/token", "/api/v1/streams", "/api/v1/classes", "/api/v1/classes/{class}/stream-keys"] {
        assert!(paths.contains_key(path), "{path}");
    }
    let keys: Value = running.get("/.well-known/jwks.json").await.json().await.unwrap();
    let key = &keys["keys"][0];
    assert_eq!((&key["alg"], key.get("d")), (&json!("EdDSA"), None), "never the private half");
}

#[tokio::test]
async fn pages_are_served_with_a_policy_that_lets_nothing_else_in() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    for path in ["/", "/watch/lesson"] {
        let page = running.get(path).await;
        assert_eq!(
            (page.status().as_u16(), header(&page, "content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(header(&page, "content-security-policy").starts_with("default-src 'self';"));
        assert_eq!(header(&page, "x-content-type-options"), "nosniff");
        assert_eq!(header(&page, "cache-control"), "no-cache");
    }
}
