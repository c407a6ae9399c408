//! Who is let in from where, and how those are answered who are not.
use control::api::{Admission, AdmitRequest, Heartbeat};
use coordinator::{BindError, Config, Mode, bind};
use prometheus::Registry;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::running::{NODE_SECRET, config, heartbeat, start, start_with};

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

/// Behind a 1:1 NAT a server has a private address and strangers come all the same.
#[tokio::test]
async fn open_mode_asks_whoever_is_not_private_for_the_pin() {
    let folder = TempDir::new().unwrap();
    let open = config(folder.path(), Mode::Open);
    let trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    let proxied = Config { trusted_proxies, ..open.clone() };
    let running = start_with(proxied.clone()).await;
    running.beat(None).await;
    let query = "user_type=student&user_id=s&wait=1";
    let from = async |ip: &str| running.token(query, Some(("X-Forwarded-For", ip))).await;
    for near in
        ["192.168.1.7", "10.1.1.1", "172.16.3.3", "169.254.1.1", "fd00::7", "fe80::1", "::ffff:10.0.0.1"]
    {
        assert_eq!(from(near).await.0, 200, "{near}");
    }
    for far in ["8.8.8.8", "100.64.0.1", "2a00::1", "::ffff:8.8.8.8", "192.168.1.7, 8.8.8.8", "unknown"] {
        let (status, problem) = from(far).await;
        assert_eq!((status, &problem["code"]), (401, &json!("pin_needed")), "{far}");
        let with_pin = running.request(Method::POST, &format!("/api/token?{query}"));
        let with_pin = with_pin.header("X-Forwarded-For", far).header("X-Class-Pin", &running.pin);
        assert_eq!(with_pin.send().await.unwrap().status(), 200, "{far} with the PIN");
        for path in ["/api/v1/streams", "/api/v1/streams/lesson"] {
            let asked =
                running.request(Method::GET, path).header("X-Forwarded-For", far).send().await.unwrap();
            assert!([401, 403].contains(&asked.status().as_u16()), "{far} {path}");
        }
    }
    assert_eq!(running.token(query, None).await.0, 401, "a proxy that does not say for whom it asks");
    running.stop().await;
    let running = start_with(Config { allow_public_open: true, ..proxied }).await;
    running.beat(None).await;
    assert_eq!(running.token(query, Some(("X-Forwarded-For", "8.8.8.8"))).await.0, 200, "it is allowed");
    running.stop().await;
    // No proxy is trusted: what such a request says of itself does not bring it nearer, and shows that it came from afar.
    let running = start_with(open).await;
    running.beat(None).await;
    assert_eq!(running.token(query, None).await.0, 200);
    assert_eq!(running.token(query, Some(("X-Forwarded-For", "192.168.1.7"))).await.0, 401);
    assert_eq!(running.token(query, Some(("Origin", "https://elsewhere.example"))).await.0, 401);
    assert_eq!(running.token(query, Some(("Origin", &running.base))).await.0, 200);
}

#[tokio::test]
async fn a_node_that_asks_about_a_viewer_without_a_token_is_told_by_the_same_rule() {
    let folder = TempDir::new().unwrap();
    let near = AdmitRequest {
        class: "lesson".to_owned(),
        client_ip: "192.168.1.7".parse().unwrap(),
        is_direct: true,
        scheme: "http".to_owned(),
        host: Some("192.168.1.5:8889".to_owned()),
        origin: None,
    };
    let far = AdmitRequest { client_ip: "8.8.8.8".parse().unwrap(), ..near.clone() };
    let open = config(folder.path(), Mode::Open);
    let running = start_with(open.clone()).await;
    let ask = async |request: &AdmitRequest| running.node.admit(request).await.unwrap();
    assert_eq!(ask(&near).await, Admission::Open);
    assert_eq!(ask(&AdmitRequest { class: "nowhere".to_owned(), ..near.clone() }).await, Admission::NoClass);
    let text = |text: &str| Some(text.to_owned());
    for stranger in [
        far.clone(),
        AdmitRequest { is_direct: false, ..near.clone() },
        AdmitRequest { host: None, ..near.clone() },
        AdmitRequest { host: text("evil.example:8889"), ..near.clone() },
        AdmitRequest { host: text("\n"), ..near.clone() },
        AdmitRequest { origin: text("https://elsewhere.example"), ..near.clone() },
        AdmitRequest { class: "nowhere".to_owned(), ..far.clone() },
    ] {
        assert_eq!(ask(&stranger).await, Admission::TokenNeeded, "{stranger:?}");
    }
    running.stop().await;
    let running = start_with(Config { allow_public_open: true, ..open }).await;
    assert_eq!(running.node.admit(&far).await.unwrap(), Admission::Open);
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    assert_eq!(running.node.admit(&near).await.unwrap(), Admission::TokenNeeded);
}

/// DNS rebinding: a page of a stranger's name, which now leads to this server, is its own host and its own origin.
#[tokio::test]
async fn a_page_under_a_name_that_a_stranger_could_have_is_asked_for_the_pin() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.beat(None).await;
    let ask = async |host: &str, pin: &str| {
        let request = running.request(Method::POST, "/api/token?user_type=student&user_id=s&wait=1");
        let request = request.header("Host", host).header("Origin", format!("http://{host}"));
        request.header("X-Class-Pin", pin).send().await.unwrap().status().as_u16()
    };
    for local in ["127.0.0.1:8000", "[::1]:8000", "localhost", "lectern:8000", "lectern.local", "192.168.1.5"]
    {
        assert_eq!(ask(local, "000-000").await, 200, "{local}");
    }
    assert_eq!(ask("evil.example:8000", "000-000").await, 401);
    assert_eq!(ask("evil.example:8000", &running.pin).await, 200, "the PIN counts under every name");
    let list = running.request(Method::GET, "/api/v1/streams").header("Host", "evil.example:8000");
    assert_eq!(list.send().await.unwrap().status(), 403, "a page asks for what is its own without an origin");
    let node = running.node_at("https://media.school.example:8889/");
    node.heartbeat(&heartbeat(vec![])).await.unwrap();
    assert_eq!(ask("media.school.example", "000-000").await, 200, "the node's own name");
    assert_eq!(ask("school.example", "000-000").await, 401);
}

/// Nothing of a stranger's is kept before it is known to be one.
#[tokio::test]
async fn the_body_of_a_stranger_is_not_waited_for() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    for request in ["POST /api/v1/classes", "PUT /api/v1/classes/lesson/pin", "POST /internal/v1/heartbeat"] {
        let mut stream = TcpStream::connect(running.base.trim_start_matches("http://")).await.unwrap();
        let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
        stream.write_all(format!("{request} HTTP/1.1\r\n{head}").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        let status = String::from_utf8_lossy(&status);
        assert!(["HTTP/1.1 403", "HTTP/1.1 401"].contains(&&*status), "{request}: {status}");
    }
}

#[tokio::test]
async fn a_body_has_room_for_what_is_asked_and_no_more() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let class = |length| json!({ "slug": "room", "name": "x".repeat(length) });
    for (length, status) in [(16_000, StatusCode::BAD_REQUEST), (17_000, StatusCode::PAYLOAD_TOO_LARGE)] {
        let asked = running.operate(Method::POST, "/api/v1/classes").json(&class(length));
        assert_eq!(asked.send().await.unwrap().status(), status, "{length}");
    }
    let public_url = Some("x".repeat(1_000_000));
    running.node.heartbeat(&Heartbeat { public_url, ..heartbeat(vec![]) }).await.unwrap();
}

#[tokio::test]
async fn the_scheme_of_the_media_address_is_the_one_that_a_trusted_proxy_names() {
    let folder = TempDir::new().unwrap();
    let open = config(folder.path(), Mode::Open);
    let trusted_proxies = vec!["127.0.0.0/8".to_owned()].try_into().unwrap();
    for (config, scheme) in [(open.clone(), "http"), (Config { trusted_proxies, ..open }, "https")] {
        let running = start_with(config).await;
        running.beat(None).await;
        let request = running.request(Method::POST, "/api/token?user_type=student&user_id=s&wait=1");
        let request = request.header("X-Forwarded-For", "10.0.0.9").header("X-Forwarded-Proto", "https");
        let body: Value =
            request.header("X-Class-Pin", &running.pin).send().await.unwrap().json().await.unwrap();
        let url = body["webrtc_url"].as_str().unwrap();
        assert!(url.starts_with(&format!("{scheme}://127.0.0.1:8889/live/lesson/whep?jwt=")), "{url}");
        running.stop().await;
    }
}

#[tokio::test]
async fn one_process_has_the_data_folder() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let second = bind(config(folder.path(), Mode::Guarded), &Registry::new()).await;
    assert!(matches!(second, Err(BindError::Locked(_))));
    running.stop().await;
    start(folder.path(), Mode::Guarded).await;
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
        (Method::PUT, "/api/v1/classes/lesson/pin", "{\"pin\":\"1\"}", 400),
        (Method::DELETE, "/api/v1/classes/nowhere", "", 404),
        (Method::DELETE, "/api/v1/classes/lesson/stream-keys/nothing", "", 404),
        (Method::GET, "/api/v1/streams/%ff", "", 400),
    ] {
        let request = running.operate(method.clone(), path).header("Content-Type", "application/json");
        let response = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}");
        assert_eq!(header(&response, "content-type"), PROBLEM, "{method} {path}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["status"], status, "{method} {path}");
        assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()), "{method} {path}: {problem}");
    }
    let typeless = running.operate(Method::POST, "/api/v1/classes").body("{}").send().await.unwrap();
    assert_eq!((typeless.status().as_u16(), header(&typeless, "content-type")), (415, PROBLEM));
    assert_eq!(header(&running.get("/api/token").await, "allow"), "POST");
    let nowhere = running.request(Method::GET, "/internal/v1/nothing").bearer_auth(&running.credential);
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
    assert_eq!((asked.status().as_u16(), header(&asked, "access-control-allow-origin")), (200, "*"));
    assert!(header(&asked, "access-control-allow-headers").contains("x-class-pin"));
    let keys = running.request(Method::OPTIONS, "/api/v1/classes/lesson/stream-keys");
    let keys =
        keys.header("Origin", "https://school.example").header("Access-Control-Request-Method", "POST");
    assert_eq!(header(&keys.send().await.unwrap(), "access-control-allow-origin"), "");
    let token = running.request(Method::POST, "/api/token").header("Origin", "https://school.example");
    let token = token.send().await.unwrap();
    assert_eq!(header(&token, "access-control-allow-origin"), "*", "errors can be read as well");
    assert_eq!(header(&token, "access-control-expose-headers"), "retry-after");
    assert_eq!(header(&token, "cache-control"), "no-store");
}

#[tokio::test]
async fn probes_and_keys_answer_and_metrics_are_not_for_everybody() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    running.token("user_type=student&user_id=s-1", None).await;
    for path in ["/health", "/livez"] {
        assert_eq!(running.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(running.get("/metrics").await.status(), 404);
    let counted = "lectern_coordinator_requests_total{route=\"/api/token\",status=\"425\"} 1";
    assert!(running.metrics().contains(counted), "{}", running.metrics());
    let keys: Value = running.get("/.well-known/jwks.json").await.json().await.unwrap();
    let key = &keys["keys"][0];
    assert_eq!((&key["alg"], key.get("d")), (&json!("EdDSA"), None), "never the private half");
}

#[tokio::test]
async fn it_is_ready_while_there_is_a_node_and_it_does_not_leave() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let ready = async || {
        let answer = running.get("/readyz").await;
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap()["code"].clone())
    };
    assert_eq!(ready().await, (503, json!("no_node")));
    running.beat(None).await;
    assert_eq!(ready().await, (200, Value::Null));
    running.leaving.cancel();
    assert_eq!(ready().await, (503, json!("leaving")));
    assert_eq!(running.get("/livez").await.status(), 200);
}

/// The description and the routes are written by the same line; here that whatever it says is for operators is.
#[tokio::test]
async fn every_route_is_described_and_those_of_operators_refuse_everybody_else() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let description: Value = running.get("/api/openapi.json").await.json().await.unwrap();
    let mut open = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            if operation.get("security").is_none() {
                open.push(format!("{method} {path}"));
                continue;
            }
            let is_teachers = operation["security"][0].get("teacher").is_some();
            let code = if is_teachers { "stream_key_invalid" } else { "operator_only" };
            let real = path.replace("{class}", "lesson").replace("{id}", "x");
            let method: Method = method.to_uppercase().parse().unwrap();
            for request in [
                running.request(method.clone(), &real),
                running.request(method.clone(), &real).bearer_auth(NODE_SECRET),
                running.request(method.clone(), &real).bearer_auth(&running.credential),
                running.request(method.clone(), &real).header("X-Class-Pin", &running.pin),
            ] {
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {path}");
                assert_eq!(response.json::<Value>().await.unwrap()["code"], code, "{method} {path}");
            }
            if is_teachers {
                continue;
            }
            let allowed = running.operate(method.clone(), &real).send().await.unwrap();
            assert_ne!(allowed.status(), StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    open.sort();
    let expected = [
        "get /.well-known/jwks.json",
        "get /api/v1/events",
        "get /api/v1/streams",
        "get /api/v1/streams/{class}",
        "get /health",
        "get /live/{class}/snapshot.mp4",
        "get /livez",
        "get /readyz",
        "post /api/token",
        "post /live/{class}/whep",
    ];
    assert_eq!(open, expected);
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
        assert!(header(&page, "permissions-policy").contains("camera=()"));
        assert_eq!(header(&page, "x-content-type-options"), "nosniff");
        assert_eq!(header(&page, "cache-control"), "no-cache");
    }
    assert_eq!(header(&running.get("/readyz").await, "x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn files_are_compressed_for_whoever_takes_it_and_sent_once() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let page = || running.request(Method::GET, "/");
    let plain = page().send().await.unwrap();
    assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), ("", "Accept-Encoding"));
    let etag = header(&plain, "etag").to_owned();
    let plain = plain.bytes().await.unwrap();
    let packed = page().header("Accept-Encoding", "br;q=0, gzip;q=0.8").send().await.unwrap();
    assert_eq!((header(&packed, "content-encoding"), header(&packed, "etag")), ("gzip", &*etag));
    let packed = packed.bytes().await.unwrap();
    assert!(packed.len() < plain.len() && packed.starts_with(&[0x1f, 0x8b]));
    let smallest = page().header("Accept-Encoding", "gzip, deflate, br").send().await.unwrap();
    assert_eq!((header(&smallest, "content-encoding"), header(&smallest, "etag")), ("br", &*etag));
    assert!(smallest.bytes().await.unwrap().len() < packed.len());
    let refused = page().header("Accept-Encoding", "gzip;q=0").send().await.unwrap();
    assert_eq!(header(&refused, "content-encoding"), "");
    let again = page().header("If-None-Match", format!("\"other\", {etag}")).send().await.unwrap();
    assert_eq!((again.status().as_u16(), again.bytes().await.unwrap().len()), (304, 0));
    let changed = page().header("If-None-Match", "\"other\"").send().await.unwrap();
    assert_eq!(changed.status(), 200);
}
