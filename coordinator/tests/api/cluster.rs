//! Several coordinators with one PostgreSQL database.
use std::path::Path;
use std::time::Duration;

use control::api::{JoinRequest, PublishRequest, StreamState};
use control::{Client, ClientError, TokenVerifier};
use coordinator::{Config, Mode, bind};
use prometheus::Registry;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Postgres, until};

use crate::running::{Running, config, start_with};

/// Within a second, the bus says; a machine that does other things besides takes longer.
const HEARD: Duration = Duration::from_secs(10);
/// Until it is back in force after an outage.
const BACK: Duration = Duration::from_secs(30);

struct Cluster {
    url: String,
    a: Running,
    b: Running,
    folder: TempDir,
}

/// A coordinator with a data folder and secrets of its own, as far as it is not told others.
fn member(folder: &Path, name: &str, url: &str) -> Config {
    let set = config(&folder.join(name), Mode::Guarded);
    let database_url = Some(url.to_owned());
    Config { database_url, seal_key_file: Some(folder.join("seal-key")), node_secret: String::new(), ..set }
}

impl Cluster {
    async fn start(url: String) -> Self {
        let folder = TempDir::new().unwrap();
        let a = start_with(member(folder.path(), "a", &url)).await;
        let b = start_with(member(folder.path(), "b", &url)).await;
        for running in [&a, &b] {
            running.beat(None).await;
        }
        Self { url, a, b, folder }
    }

    fn both(&self) -> [&Running; 2] {
        [&self.a, &self.b]
    }

    fn file(&self, coordinator: &str, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(coordinator).join(name)).unwrap()
    }
}

async fn operate(running: &Running, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let answer = running.operate(method, path).json(&body).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

/// Waits until this coordinator answers a PIN so, which it has answered otherwise if it was right: wrong ones are counted.
async fn answers(running: &Running, class: &str, pin: &str, expected: u16) {
    let query = format!("user_type=student&user_id=s&wait=1&class_id={class}");
    until(&format!("{expected} for {class}"), HEARD, async || {
        let (status, body) = running.token(&query, Some(("X-Class-Pin", pin))).await;
        if status == expected { Ok(()) } else { Err(format!("{status}: {body}")) }
    })
    .await;
}

async fn knows(running: &Running, class: &str) {
    until("the class is known", HEARD, async || {
        let (_, known) = operate(running, Method::GET, "/api/v1/classes", Value::Null).await;
        let is_known = known.as_array().unwrap().iter().any(|known| known["slug"] == class);
        if is_known { Ok(()) } else { Err(known) }
    })
    .await;
}

async fn is_refused(running: &Running, key: &str) {
    until("the key is refused", HEARD, async || match running.publish(None, key).await {
        Err(ClientError::Refused(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn epoch(running: &Running) -> u64 {
    let [node, key, peer_ip, encoder] = ["n1", &*running.key, "192.0.2.7", "phone"].map(str::to_owned);
    let request = PublishRequest { node, name: None, key, peer_ip, encoder };
    running.node.authorize_publish(&request).await.unwrap().epoch
}

#[tokio::test]
async fn what_one_coordinator_changes_the_other_knows() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let Cluster { a, b, .. } = &cluster;
    let (status, room) =
        operate(a, Method::POST, "/api/v1/classes", json!({ "slug": "room", "pin": "orange-77" })).await;
    assert_eq!(status, StatusCode::CREATED);
    knows(b, "room").await;
    answers(b, "room", "orange-77", 200).await;
    let key = room["stream_key"].as_str().unwrap();
    b.publish(Some("room"), key).await.unwrap();

    operate(b, Method::PUT, "/api/v1/classes/room/pin", json!({ "pin": "yellow-88" })).await;
    answers(a, "room", "orange-77", 401).await;
    answers(a, "room", "yellow-88", 200).await;

    let path = format!("/api/v1/classes/room/stream-keys/{}", room["key_id"].as_str().unwrap());
    assert_eq!(operate(a, Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    is_refused(b, key).await;
    assert_eq!(
        operate(b, Method::DELETE, "/api/v1/classes/room", Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    answers(a, "room", "yellow-88", 401).await;
}

/// People are told the same key and PIN wherever they ask.
#[tokio::test]
async fn the_printed_key_and_pin_are_those_of_every_coordinator() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let Cluster { a, b, .. } = &cluster;
    assert_eq!((&a.key, &a.pin), (&b.key, &b.pin));
    let keys = "/api/v1/classes/lesson/stream-keys";
    let (_, known) = operate(a, Method::GET, keys, Value::Null).await;
    let path = format!("{keys}/{}", known[0]["id"].as_str().unwrap());
    operate(a, Method::DELETE, &path, Value::Null).await;
    operate(a, Method::PUT, "/api/v1/classes/lesson/pin", json!({ "pin": "orange-77" })).await;
    is_refused(b, &b.key).await;
    answers(b, "lesson", &b.pin, 401).await;
    answers(b, "lesson", "orange-77", 200).await;
    until("the files are the same", HEARD, async || {
        let files =
            ["stream-key", "class-pin"].map(|name| (cluster.file("a", name), cluster.file("b", name)));
        if files.iter().all(|(a, b)| a == b) { Ok(()) } else { Err(format!("{files:?}")) }
    })
    .await;
    b.publish(None, &cluster.file("b", "stream-key")).await.unwrap();
    let Cluster { url, b, folder, .. } = cluster;
    b.stop().await;
    let b = start_with(member(folder.path(), "b", &url)).await;
    assert_eq!(b.pin, "orange-77");
}

#[tokio::test]
async fn tokens_and_nodes_of_one_coordinator_are_those_of_the_other() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    for (signer, other) in [(&cluster.a, &cluster.b), (&cluster.b, &cluster.a)] {
        let query = "user_type=student&user_id=s&wait=1";
        let (_, body) = signer.token(query, Some(("X-Class-Pin", &signer.pin))).await;
        let verifier = TokenVerifier::new(&other.base).unwrap();
        verifier.verify(body["token"].as_str().unwrap()).await.unwrap();
    }
    let mut joined = Vec::new();
    for (running, name) in cluster.both().into_iter().zip(["east", "west"]) {
        let params = CertificateParams::new(vec!["whatever.example".to_owned()]).unwrap();
        let certificate_request =
            params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = JoinRequest { name: name.to_owned(), public_url: None, certificate_request };
        joined.push(Client::new(&running.base, &running.secret).unwrap().join(&request).await.unwrap());
    }
    assert_eq!(joined[0].authority, joined[1].authority);
    assert_eq!(cluster.a.secret, cluster.b.secret);
}

/// The ids of the keys that nodes are told, and what tokens are signed with.
async fn signing_keys(running: &Running) -> Vec<(String, String)> {
    let (_, listed) = operate(running, Method::GET, "/api/v1/signing-keys", Value::Null).await;
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(|key| (text(key, "kid"), text(key, "state"))).collect()
}

/// Waits until both have the same keys, so many.
async fn have_keys(cluster: &Cluster, count: usize) -> Vec<(String, String)> {
    until("the same keys", HEARD, async || {
        let (a, b) = (signing_keys(&cluster.a).await, signing_keys(&cluster.b).await);
        if a == b && a.len() == count { Ok(a) } else { Err(format!("{a:?} and {b:?}")) }
    })
    .await
}

#[tokio::test]
async fn what_one_revokes_nodes_hear_of_the_other() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let Cluster { a, b, url, folder } = cluster;
    let revoked = operate(&a, Method::POST, "/api/v1/revocations", json!({ "class": "lesson" })).await;
    assert_eq!(revoked.0, StatusCode::CREATED);
    let list = until("it is heard", HEARD, async || {
        let answer = b.node.heartbeat(&crate::running::heartbeat(Vec::new())).await.unwrap();
        answer.revocations.ok_or("nothing")
    })
    .await;
    assert_eq!(list.len(), 1, "{list:?}");
    b.stop().await;
    let b = start_with(member(folder.path(), "b", &url)).await;
    let answer = b.node.heartbeat(&crate::running::heartbeat(Vec::new())).await.unwrap();
    assert_eq!(answer.revocations, Some(list), "whoever begins later knows it too");
}

#[tokio::test]
async fn signing_keys_are_changed_by_one_coordinator_at_a_time_and_known_to_all() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let first = have_keys(&cluster, 1).await;
    let path = "/api/v1/signing-keys/rotate";
    let (at_a, at_b) = tokio::join!(
        operate(&cluster.a, Method::POST, path, Value::Null),
        operate(&cluster.b, Method::POST, path, Value::Null),
    );
    let mut statuses = [at_a.0.as_u16(), at_b.0.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{at_a:?} {at_b:?}");
    let both = have_keys(&cluster, 2).await;
    assert_eq!(both[0], first[0]);
    assert_eq!(both[1].1, "next");
    until("the files are the same", HEARD, async || {
        let files = ["a", "b"].map(|coordinator| cluster.file(coordinator, "signing-keys.json"));
        if files[0] == files[1] { Ok(()) } else { Err("they are not") }
    })
    .await;

    // A stolen key: the next one signs at once, wherever tokens are given.
    let stolen = json!({ "kid": first[0].0 });
    let revoked = operate(&cluster.b, Method::POST, "/api/v1/revocations", stolen).await;
    assert_eq!(revoked.0, StatusCode::CREATED);
    let left = have_keys(&cluster, 1).await;
    assert_eq!(left, [(both[1].0.clone(), "signing".to_owned())]);
    let verifier = TokenVerifier::new(&cluster.b.base).unwrap();
    let query = "user_type=student&user_id=s&wait=1";
    let (_, body) = cluster.a.token(query, Some(("X-Class-Pin", &cluster.a.pin))).await;
    assert_eq!(verifier.verify(body["token"].as_str().unwrap()).await.unwrap().kid, left[0].0);
    let Cluster { a, b, url, folder } = cluster;
    a.stop().await;
    let a = start_with(member(folder.path(), "a", &url)).await;
    assert_eq!((signing_keys(&a).await, signing_keys(&b).await), (left.clone(), left));
}

#[tokio::test]
async fn epochs_never_come_twice_and_only_rise_whoever_gives_them() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let mut last = 0;
    for running in cluster.both().into_iter().cycle().take(10) {
        let next = epoch(running).await;
        assert!(next > last, "{next} after {last}");
        last = next;
    }
    // More at once, and a slow machine takes the second after which the database counts as away; the store's own test has forty.
    for _ in 0..10 {
        let (one, other) = tokio::join!(epoch(&cluster.a), epoch(&cluster.b));
        assert!(one != other && one.min(other) > last, "{one} and {other} after {last}");
        last = one.max(other);
    }
}

#[tokio::test]
async fn the_database_alone_tells_no_secret() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let database = sqlx::AnyPool::connect(&cluster.url).await.unwrap();
    let query = "SELECT name, sealed FROM secrets ORDER BY name";
    let sealed: Vec<(String, String)> = sqlx::query_as(query).fetch_all(&database).await.unwrap();
    let names: Vec<_> = sealed.iter().map(|(name, _)| name.as_str()).collect();
    // That of operators was set.
    let expected = [
        "class-pin",
        "link/ca-key.pem",
        "link/ca.pem",
        "monitor-secret",
        "node-secret",
        "pin-secret",
        "signing-keys.json",
        "stream-key",
    ];
    assert_eq!(names, expected);
    // Whoever has another key can do nothing with them.
    let folder = TempDir::new().unwrap();
    let stranger = bind(member(folder.path(), "c", &cluster.url), &Registry::new()).await;
    let error = stranger.err().unwrap().to_string();
    assert!(error.contains("another key"), "{error}");
    // A coordinator that was one of its own keeps what it has.
    std::fs::copy(cluster.folder.path().join("seal-key"), folder.path().join("seal-key")).unwrap();
    let own = folder.path().join("c").join("pin-secret");
    std::fs::write(&own, "a secret of its own").unwrap();
    let stranger = bind(member(folder.path(), "c", &cluster.url), &Registry::new()).await;
    let error = stranger.err().unwrap().to_string();
    assert!(error.contains("pin-secret is not the one of the cluster"), "{error}");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "a secret of its own");
}

#[tokio::test]
async fn what_was_missed_while_nobody_listened_is_read_afterwards() {
    let cluster = Cluster::start(Postgres::shared().create_database()).await;
    let database = sqlx::AnyPool::connect(&cluster.url).await.unwrap();
    let execute = async |query: &'static str| sqlx::query(query).execute(&database).await.unwrap();
    // A notice of the start may still be on its way: it is done again until neither has read it.
    until("neither has read it", HEARD, async || {
        // Nobody is told of it.
        execute("UPDATE stream_keys SET revoked_at = 1").await;
        for running in cluster.both() {
            if running.publish(None, &running.key).await.is_err() {
                execute("UPDATE stream_keys SET revoked_at = NULL").await;
                execute("NOTIFY lectern_classes").await;
                return Err("one has read it");
            }
        }
        Ok(())
    })
    .await;
    let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    execute(query).await;
    for running in cluster.both() {
        is_refused(running, &running.key).await;
    }
}

#[tokio::test]
async fn the_server_is_killed_and_lessons_go_on() {
    let mut server = Postgres::start();
    let cluster = Cluster::start(server.create_database()).await;
    let Cluster { a, b, url, .. } = &cluster;
    let before = epoch(a).await;
    for running in cluster.both() {
        // Its node tells both of them.
        let mut report = running.report("session", StreamState::Active);
        report.streams[0].epoch = before;
        running.node.heartbeat(&report).await.unwrap();
    }
    server.kill();
    for running in cluster.both() {
        answers(running, "lesson", &running.pin, 200).await;
        assert!(epoch(running).await > before);
        let wrong = running.publish(None, "guess").await;
        assert!(matches!(wrong, Err(ClientError::Refused(_))), "{wrong:?}");
        assert_eq!(running.get("/readyz").await.status(), 200);
        assert_eq!(running.get("/health").await.status(), 503);
        let change = operate(running, Method::POST, "/api/v1/classes", json!({ "slug": "room" })).await;
        assert_eq!(change.0, StatusCode::SERVICE_UNAVAILABLE);
        assert!(running.metrics().contains("lectern_coordinator_openings_waiting 1\n"));
    }
    let during = epoch(b).await;
    server.start_again();
    for running in cluster.both() {
        until("the database is back", BACK, async || {
            let (health, metrics) = (running.get("/health").await.status(), running.metrics());
            let is_back =
                health == StatusCode::OK && metrics.contains("lectern_coordinator_openings_waiting 0\n");
            if is_back { Ok(()) } else { Err(format!("{health}")) }
        })
        .await;
    }
    let (next, last) = (epoch(a).await, epoch(b).await);
    assert!(next > during && last > next, "{before}, {during}, {next}, {last}");
    let database = sqlx::AnyPool::connect(url).await.unwrap();
    let query = "SELECT COUNT(*) FROM stream_sessions";
    let recorded: i64 = sqlx::query_scalar(query).fetch_one(&database).await.unwrap();
    assert_eq!(recorded, 6, "one before, three meanwhile, two after");
    operate(a, Method::POST, "/api/v1/classes", json!({ "slug": "room", "pin": "orange-77" })).await;
    knows(b, "room").await;
}
