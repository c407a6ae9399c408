//! The database is away, and lessons go on.
use control::ClientError;
use control::api::{SessionEvent, StreamState};
use coordinator::Mode;
use coordinator::store::Store;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::running::{Running, start};

const TABLES: [&str; 3] = ["stream_keys", "stream_sessions", "classes"];

/// Takes the tables away from under a running coordinator, or brings them back.
async fn rename(folder: &TempDir, from: &str, to: &str) {
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    for table in TABLES {
        let query = format!("ALTER TABLE {from}{table} RENAME TO {to}{table}");
        sqlx::query(sqlx::AssertSqlSafe(query)).execute(&database).await.unwrap();
    }
    database.close().await;
}

async fn tokens(running: &Running) -> u16 {
    running.token("user_type=student&user_id=s&wait=1", Some(("X-Class-Pin", &running.pin))).await.0
}

#[tokio::test]
async fn a_database_outage_stops_neither_tokens_nor_phones_whose_key_is_known() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    rename(&folder, "", "hidden_").await;
    assert_eq!(tokens(&running).await, 200);
    let session = running.publish(None, &running.key).await.unwrap();
    let wrong = running.publish(None, "guess").await.unwrap_err();
    assert!(matches!(wrong, ClientError::Refused(_)), "{wrong:?}: a wrong key is still known to be wrong");
    assert_eq!(running.get("/readyz").await.status(), 200, "it takes no database to give tokens");
    let health = running.get("/health").await;
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem: Value = health.json().await.unwrap();
    assert_eq!(problem["code"], "no_database");
    assert!(!problem.to_string().contains("stream_"), "nothing of the inside is told: {problem}");
    let change = running.operate(Method::POST, "/api/v1/classes/lesson/stream-keys").send().await.unwrap();
    assert_eq!(change.status(), StatusCode::SERVICE_UNAVAILABLE, "a change that could be lost is refused");
    // Something that must be written down.
    let answer = running.node.heartbeat(&running.report(&session, StreamState::Grace)).await;
    assert!(answer.is_ok(), "{answer:?}: nodes hear of each other's streams all the same");
    assert!(running.metrics().contains("lectern_coordinator_openings_waiting 1\n"), "{}", running.metrics());

    rename(&folder, "hidden_", "").await;
    running.beat(Some((&session, StreamState::Active))).await;
    let joined = SessionEvent::ViewerJoined {
        id: "v1".to_owned(),
        node: "n1".to_owned(),
        stream_session: session,
        user_id: "s-1".to_owned(),
        user_type: "student".to_owned(),
        user_agent: "browser".to_owned(),
        ip_address: "192.0.2.9".to_owned(),
        at_ms: 10,
    };
    running.node.session_events(&[joined]).await.unwrap();
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    let counts = [("active".to_owned(), 1), ("watching".to_owned(), 1)];
    assert_eq!(store.session_counts().await.unwrap(), counts, "it is written down afterwards");
    assert!(running.metrics().contains("lectern_coordinator_openings_waiting 0\n"));
    assert_eq!(running.get("/health").await.status(), 200);
}

/// A node asks no longer than 3 s, and a phone gives up soon after.
#[tokio::test]
async fn a_locked_database_does_not_keep_a_phone_waiting() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    running.beat(None).await;
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let mut connection = database.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.unwrap();
    let first = running.publish(None, &running.key).await.unwrap();
    let second = running.publish(None, &running.key).await.unwrap();
    assert_eq!(tokens(&running).await, 200);
    sqlx::query("ROLLBACK").execute(&mut *connection).await.unwrap();
    running.beat(Some((&second, StreamState::Active))).await;
    let query = "SELECT session_id, status, end_reason FROM stream_sessions ORDER BY status";
    let rows: Vec<(String, String, Option<String>)> =
        sqlx::query_as(query).fetch_all(&database).await.unwrap();
    let row =
        |session, status: &str, reason: Option<&str>| (session, status.to_owned(), reason.map(str::to_owned));
    assert_eq!(rows, [row(second, "active", None), row(first, "stopped", Some("superseded"))]);
}

#[tokio::test]
async fn publishers_that_wait_for_the_database_are_written_down_at_the_end_or_counted_as_lost() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    rename(&folder, "", "hidden_").await;
    running.publish(None, &running.key).await.unwrap();
    rename(&folder, "hidden_", "").await;
    let metrics = running.stop().await;
    assert!(metrics.contains("lectern_coordinator_openings_dropped_total 0\n"), "{metrics}");
    let store = Store::open(&Store::sqlite_url(folder.path())).await.unwrap();
    assert_eq!(store.session_counts().await.unwrap(), [("starting".to_owned(), 1)]);
    store.close().await;
    let running = start(folder.path(), Mode::Guarded).await;
    rename(&folder, "", "hidden_").await;
    running.publish(None, &running.key).await.unwrap();
    let metrics = running.stop().await;
    assert!(metrics.contains("lectern_coordinator_openings_dropped_total 1\n"), "{metrics}");
}
