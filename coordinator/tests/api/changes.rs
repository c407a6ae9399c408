//! Changes that fail half way, and such as nobody waits for any more: what an operator was told is what counts, now and
//! after the next start.
use std::path::Path;
use std::time::Duration;

use coordinator::store::Store;
use coordinator::{Mode, Operator};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::running::{Running, config, start};

const QUERY: &str = "user_type=student&user_id=s&wait=1";
const KEYS: &str = "/api/v1/classes/lesson/stream-keys";

/// Whether a PIN opens the default class.
async fn opens(running: &Running, pin: &str) -> bool {
    running.beat(None).await;
    running.token(QUERY, Some(("X-Class-Pin", pin))).await.0 == 200
}

async fn set_pin(running: &Running, pin: &str) -> u16 {
    let put = running.operate(Method::PUT, "/api/v1/classes/lesson/pin").json(&json!({ "pin": pin }));
    put.send().await.unwrap().status().as_u16()
}

async fn first_key_id(running: &Running) -> String {
    let keys: Value = running.operate(Method::GET, KEYS).send().await.unwrap().json().await.unwrap();
    keys[0]["id"].as_str().unwrap().to_owned()
}

/// Whoever writes the file anew finds a folder in its place, until what is returned is called.
fn obstruct(folder: &Path, file: &str) -> impl FnOnce() {
    let (file, aside) = (folder.join(file), folder.join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    move || {
        std::fs::remove_dir(&file).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    }
}

/// Lets the database refuse to write a table that it can read, or no longer so.
async fn refuse(folder: &TempDir, change: &str) {
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(change.to_owned())).execute(&database).await.unwrap();
    database.close().await;
}

#[tokio::test]
async fn a_pin_whose_file_cannot_be_written_is_not_changed() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let clear = obstruct(folder.path(), "class-pin");
    assert_eq!(set_pin(&running, "orange-77").await, 500);
    assert!(opens(&running, &running.pin).await && !opens(&running, "orange-77").await);
    clear();
    assert_eq!(set_pin(&running, "orange-77").await, 200);
    assert!(!opens(&running, &running.pin).await && opens(&running, "orange-77").await);
}

#[tokio::test]
async fn a_pin_that_the_database_does_not_take_is_not_in_the_file_either() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    refuse(&folder, "CREATE TRIGGER no BEFORE UPDATE ON classes BEGIN SELECT RAISE(ABORT, 'no'); END").await;
    assert_eq!(set_pin(&running, "orange-77").await, 503);
    refuse(&folder, "DROP TRIGGER no").await;
    assert!(opens(&running, &running.pin).await && !opens(&running, "orange-77").await);
    let old = running.pin.clone();
    running.stop().await;
    let running = start(folder.path(), Mode::Guarded).await;
    assert!(opens(&running, &old).await && !opens(&running, "orange-77").await);
}

/// A printed key is revoked together with its file, or not at all: then it can be asked for again.
#[tokio::test]
async fn a_key_whose_file_cannot_be_written_is_not_revoked() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let path = format!("{KEYS}/{}", first_key_id(&running).await);
    let revoke = async || running.operate(Method::DELETE, &path).send().await.unwrap().status().as_u16();
    let file = || std::fs::read_to_string(folder.path().join("stream-key")).unwrap();
    let clear = obstruct(folder.path(), "stream-key");
    assert_eq!(revoke().await, 500);
    assert!(running.publish(None, &running.key).await.is_ok());
    clear();
    refuse(&folder, "CREATE TRIGGER no BEFORE INSERT ON stream_keys BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await;
    assert_eq!(revoke().await, 503);
    refuse(&folder, "DROP TRIGGER no").await;
    assert_eq!(file(), running.key);
    assert!(running.publish(None, &running.key).await.is_ok());
    assert_eq!(revoke().await, 204);
    assert!(running.publish(None, &running.key).await.is_err());
    assert!(running.publish(None, &file()).await.is_ok());
}

/// The answer comes before whoever asked is told that the request took too long.
#[tokio::test]
async fn changes_that_the_database_cannot_make_now_are_refused_in_time() {
    let folder = TempDir::new().unwrap();
    let running = start(folder.path(), Mode::Guarded).await;
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let mut lock = database.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
    let add = async || running.operate(Method::POST, KEYS).send().await.unwrap().status().as_u16();
    let answers: [u16; 4] = tokio::join!(add(), add(), add(), add()).into();
    assert_eq!(answers, [503; 4]);
    sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
    let keys: Value = running.operate(Method::GET, KEYS).send().await.unwrap().json().await.unwrap();
    assert_eq!(keys.as_array().unwrap().len(), 1, "none of them was made");
}

/// The browser was closed, Ctrl-C was pressed: the database may have made the change by then.
#[tokio::test]
async fn a_change_that_nobody_waits_for_is_made_to_its_end() {
    let folder = TempDir::new().unwrap();
    start(folder.path(), Mode::Guarded).await.stop().await;
    let operator = Operator::open(config(folder.path(), Mode::Guarded)).await.unwrap();
    let call = async |method: Method, path: &str| operator.call(method, path, &Value::Null).await.unwrap();
    let (_, made) = call(Method::POST, KEYS).await;
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    let database = sqlx::AnyPool::connect(&Store::sqlite_url(folder.path())).await.unwrap();
    let mut lock = database.acquire().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *lock).await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(100), call(Method::DELETE, &path)).await;
    assert!(given_up.is_err(), "nobody writes while somebody else does");
    sqlx::query("ROLLBACK").execute(&mut *lock).await.unwrap();
    // Changes are made one after the other.
    let (_, last) = call(Method::POST, KEYS).await;
    let (_, keys) = call(Method::GET, KEYS).await;
    let ids: Vec<_> = keys.as_array().unwrap().iter().map(|key| &key["id"]).collect();
    assert!(ids.contains(&&last["id"]) && !ids.contains(&&made["id"]), "{keys}");
    let query = "SELECT COUNT(*) FROM stream_keys WHERE revoked_at IS NOT NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(query).fetch_one(&database).await.unwrap(), 1);
    operator.close().await;
}
