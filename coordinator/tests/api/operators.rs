//! What operators do, and that nobody else does.
use coordinator::store::Store;
use coordinator::{Mode, Operator, bind};
use prometheus::Registry;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::running::{NODE_SECRET, OPERATOR_SECRET, Running, config, start};

const KEYS: &str = "/api/v1/classes/lesson/stream-keys";

async fn status(running: &Running, method: Method, path: &str) -> StatusCode {
    running.operate(method, path).send().await.unwrap().status()
}

/// The first key of a class that the list shows.
async fn key_id(running: &Running) -> String {
    let keys: Value = running.operate(Method::GET, KEYS).send().await.unwrap().json().await.unwrap();
    keys[0]["id"].as_str().unwrap().to_owned()
}

/// nginx's bare `proxy_pass`, stunnel and `ssh -R` all look like a program at the machine itself.
#[tokio::test]
async fn no_position_in_the_network_makes_an_operator() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let forwarder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outside = format!("http://{}", forwarder.local_addr().unwrap());
    let inside = running.base.trim_start_matches("http://").to_owned();
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut client, _) = forwarder.accept().await.unwrap();
            let mut server = TcpStream::connect(&inside).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for base in [&outside, &running.base] {
        for host in ["localhost", "127.0.0.1:8000", "[::1]:8000"] {
            let response = http.post(format!("{base}{KEYS}")).header("Host", host).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{base} {host}");
        }
    }
    forwarding.abort();
}

#[tokio::test]
async fn each_secret_opens_its_own_door_only() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let ask = async |path: &str, secret: &str| {
        let request = running.request(Method::POST, path).bearer_auth(secret).json(&json!([]));
        request.send().await.unwrap().status()
    };
    assert_eq!(ask(KEYS, OPERATOR_SECRET).await, StatusCode::CREATED);
    assert_eq!(ask(KEYS, NODE_SECRET).await, StatusCode::FORBIDDEN);
    assert_eq!(ask(KEYS, "a guess").await, StatusCode::FORBIDDEN);
    assert_eq!(ask("/internal/v1/sessions", &running.credential).await, StatusCode::OK);
    assert_eq!(
        ask("/internal/v1/sessions", NODE_SECRET).await,
        StatusCode::UNAUTHORIZED,
        "it is for joining"
    );
    assert_eq!(ask("/internal/v1/join", &running.credential).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/internal/v1/sessions", OPERATOR_SECRET).await, StatusCode::UNAUTHORIZED);
    let streams = running.operate(Method::GET, "/api/v1/streams").send().await.unwrap();
    assert_eq!(streams.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_socket_in_the_data_folder_makes_an_operator_and_no_header_does() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let operator = Operator::open(config(folder.path(), Mode::Guarded)).await.unwrap();
    let (status, made) =
        operator.call(Method::POST, "/api/v1/classes", &json!({ "slug": "room" })).await.unwrap();
    assert_eq!(status, 201);
    let key = made["stream_key"].as_str().unwrap();
    assert!(running.publish(Some("room"), key).await.is_ok(), "the running server knows it at once");
    let (status, _) = operator.call(Method::POST, "/internal/v1/sessions", &json!([])).await.unwrap();
    assert_eq!(status, 401, "an operator is not a node");
    for header in ["OperatorSocket", "X-Operator-Socket", "X-Forwarded-For"] {
        let request = running.request(Method::POST, KEYS).header(header, "127.0.0.1");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{header}");
    }
}

#[tokio::test]
async fn the_data_folder_alone_is_enough_when_no_server_runs() {
    let folder = TempDir::new().unwrap();
    // A path that is too long for the address of a socket.
    let data = folder.path().join("a".repeat(60)).join("b".repeat(60));
    start(&data, Mode::Guarded).await.stop().await;
    let operator = Operator::open(config(&data, Mode::Guarded)).await.unwrap();
    let new = json!({ "slug": "room", "pin": "orange-7" });
    let (status, made) = operator.call(Method::POST, "/api/v1/classes", &new).await.unwrap();
    assert_eq!(status, 201);
    operator.close().await;
    let running = start(&data, Mode::Guarded).await;
    assert!(running.publish(Some("room"), made["stream_key"].as_str().unwrap()).await.is_ok());
    let operator = Operator::open(config(&data, Mode::Guarded)).await.unwrap();
    let (_, classes) = operator.call(Method::GET, "/api/v1/classes", &Value::Null).await.unwrap();
    assert_eq!((&classes[0]["slug"], &classes[1]["slug"]), (&json!("lesson"), &json!("room")));
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_stays_so() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let made: Value = running.operate(Method::POST, KEYS).send().await.unwrap().json().await.unwrap();
    let (id, key) = (made["id"].as_str().unwrap(), made["stream_key"].as_str().unwrap());
    let session = running.publish(None, key).await.unwrap();
    running.beat(Some((&session, control::api::StreamState::Active))).await;
    let path = format!("{KEYS}/{id}");
    assert_eq!(status(&running, Method::DELETE, &path).await, StatusCode::NO_CONTENT);
    assert_eq!(status(&running, Method::DELETE, &path).await, StatusCode::NOT_FOUND);
    assert_eq!(running.operate(Method::GET, "/api/v1/streams/lesson").send().await.unwrap().status(), 200);
    assert!(running.publish(None, key).await.is_err());
    assert!(running.publish(None, &running.key).await.is_ok(), "the other key is not concerned");
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let query = "SELECT COUNT(*) FROM stream_keys WHERE revoked_at > 1700000000000";
    assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&database).await.unwrap(), 1);
    running.stop().await;
    let key = key.to_owned();
    assert!(start(folder.path(), Mode::Guarded).await.publish(None, &key).await.is_err());
}

#[tokio::test]
async fn the_printed_key_is_replaced_in_its_file_when_it_is_revoked() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let leaked = running.key.clone();
    let path = format!("{KEYS}/{}", key_id(&running).await);
    assert_eq!(status(&running, Method::DELETE, &path).await, StatusCode::NO_CONTENT);
    let new = std::fs::read_to_string(folder.path().join("stream-key")).unwrap();
    assert!(running.publish(None, &leaked).await.is_err());
    assert!(running.publish(None, &new).await.is_ok());
    running.stop().await;
    // Somebody restores an old copy of the folder's file: the leaked key stays dead.
    std::fs::write(folder.path().join("stream-key"), &leaked).unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    assert!(running.publish(None, &leaked).await.is_err());
    assert_ne!(running.key, leaked);
    assert!(running.publish(None, &running.key).await.is_ok());
}

#[tokio::test]
async fn another_key_and_pin_in_the_files_end_the_old_ones() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let (old_key, old_pin) = (running.key.clone(), running.pin.clone());
    running.stop().await;
    std::fs::write(folder.path().join("stream-key"), "another-key-of-this-class\n").unwrap();
    std::fs::write(folder.path().join("class-pin"), "orange-77\n").unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    assert!(running.publish(None, &old_key).await.is_err());
    assert!(running.publish(None, "another-key-of-this-class").await.is_ok());
    let query = "user_type=student&user_id=s&wait=1";
    assert_eq!(running.token(query, Some(("X-Class-Pin", &old_pin))).await.0, 401);
    assert_eq!(running.token(query, Some(("X-Class-Pin", "orange-77"))).await.0, 200);
}

/// Of a key only a plain hash is kept, because it is long.
#[tokio::test]
async fn a_stream_key_that_could_be_guessed_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    start(folder.path(), Mode::Guarded).await.stop().await;
    let file = folder.path().join("stream-key");
    std::fs::write(&file, "fifteen-letters\n").unwrap();
    let Err(error) = bind(config(folder.path(), Mode::Guarded), &Registry::new()).await else {
        panic!("a short key is taken")
    };
    let text = format!("the stream key in {} must have at least 16 characters", file.display());
    assert!(error.to_string().starts_with(&text), "{error}");
    std::fs::write(&file, "sixteen--letters\n").unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    assert!(running.publish(None, "sixteen--letters").await.is_ok());
}

#[tokio::test]
async fn a_changed_pin_outlives_a_restart() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let old = running.pin.clone();
    let put = running.operate(Method::PUT, "/api/v1/classes/lesson/pin");
    assert_eq!(put.json(&json!({ "pin": "orange-77" })).send().await.unwrap().status(), 200);
    let query = "user_type=student&user_id=s&wait=1";
    let check = async |running: &Running| {
        running.beat(None).await;
        assert_eq!(running.token(query, Some(("X-Class-Pin", &old))).await.0, 401);
        assert_eq!(running.token(query, Some(("X-Class-Pin", "orange-77"))).await.0, 200);
    };
    check(&running).await;
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    check(&running).await;
    let random = running.operate(Method::PUT, "/api/v1/classes/lesson/pin").json(&json!({}));
    let random: Value = random.send().await.unwrap().json().await.unwrap();
    assert_eq!(random["pin"].as_str().unwrap().len(), 6);
}

#[tokio::test]
async fn a_removed_class_is_gone_and_its_record_is_not() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let add = || running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "room" }));
    let made: Value = add().send().await.unwrap().json().await.unwrap();
    let key = made["stream_key"].as_str().unwrap();
    running.publish(Some("room"), key).await.unwrap();
    assert_eq!(status(&running, Method::DELETE, "/api/v1/classes/lesson").await, StatusCode::CONFLICT);
    assert_eq!(status(&running, Method::DELETE, "/api/v1/classes/room").await, StatusCode::NO_CONTENT);
    assert!(running.publish(Some("room"), key).await.is_err());
    assert_eq!(running.token("user_type=student&user_id=s&wait=1&class_id=room", None).await.0, 404);
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), [("starting".to_owned(), 1)]);
    assert_eq!(add().send().await.unwrap().status(), StatusCode::CREATED, "the name is free again");
    assert!(running.publish(Some("room"), key).await.is_err(), "its keys do not come back with it");
}

/// A class without a key would be one that nobody can publish to, and whose name is taken.
#[tokio::test]
async fn a_class_is_added_with_its_key_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Open).await;
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    sqlx::query("ALTER TABLE stream_keys RENAME TO hidden").execute(&database).await.unwrap();
    let add = || running.operate(Method::POST, "/api/v1/classes").json(&json!({ "slug": "room" }));
    assert_eq!(add().send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    sqlx::query("ALTER TABLE hidden RENAME TO stream_keys").execute(&database).await.unwrap();
    assert_eq!(add().send().await.unwrap().status(), StatusCode::CREATED);
}
