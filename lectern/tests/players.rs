//! Players that are not ours, and the program's own beginning and end.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#[path = "aiortc/watch.rs"]
mod aiortc;
#[path = "lesson/admission.rs"]
mod lesson;

use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Row, SqlitePool};
use testkit::{Server, until};

use self::lesson::{LIVE, admission};

/// Who watches.
const USER: &str = "user_type=monitor&user_id=aiortc";

const OFFER: &str = include_str!("offer.sdp");

/// How many sessions of publishers and of viewers the database holds, and how many of them are not over.
#[derive(Debug, PartialEq)]
struct Record {
    streams: i64,
    streams_open: i64,
    viewers: i64,
    viewers_open: i64,
}

async fn record(server: &Server) -> Record {
    let database = server.data_dir().join("lectern.db");
    let pool = SqlitePool::connect(&format!("sqlite:{}", database.display())).await.unwrap();
    let query = "SELECT (SELECT COUNT(*) FROM stream_sessions),
        (SELECT COUNT(*) FROM stream_sessions WHERE ended_at IS NULL OR status <> 'stopped'),
        (SELECT COUNT(*) FROM viewer_sessions),
        (SELECT COUNT(*) FROM viewer_sessions WHERE disconnected_at IS NULL OR reason IS NULL)";
    let row = sqlx::query(query).fetch_one(&pool).await.unwrap();
    pool.close().await;
    Record { streams: row.get(0), streams_open: row.get(1), viewers: row.get(2), viewers_open: row.get(3) }
}

async fn watch_with_aiortc(extra: &[&str]) -> Value {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    let (url, token) = admission(&server, USER).await;
    aiortc::watch(&url, &token, extra)
}

fn assert_watched(result: &Value) {
    assert_eq!((&result["width"], &result["height"]), (&Value::from(960), &Value::from(540)), "{result}");
    assert!(result["contrast"].as_u64().unwrap() > 100, "the picture shows something: {result}");
    assert!(result["peak"].as_u64().unwrap() > 1000, "the sound can be heard: {result}");
    assert_eq!(result["steps"], Value::from(vec![960]), "{result}");
}

#[tokio::test]
async fn aiortc_sees_and_hears_the_lesson() {
    assert_watched(&watch_with_aiortc(&[]).await);
}

#[tokio::test]
async fn a_client_that_knows_only_sha1_80_sees_and_hears_it_too() {
    assert_watched(&watch_with_aiortc(&["sha1"]).await);
}

/// As GStreamer has it, whose DTLS is the same library.
#[tokio::test]
async fn a_client_with_an_rsa_certificate_sees_and_hears_it_too() {
    assert_watched(&watch_with_aiortc(&["rsa"]).await);
}

#[tokio::test]
async fn ctrl_c_ends_everything_in_two_seconds_and_the_record_is_closed() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    let (url, token) = admission(&server, USER).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let offer = http.post(&url).bearer_auth(token).header("Content-Type", "application/sdp").body(OFFER);
    assert_eq!(offer.send().await.unwrap().status(), StatusCode::CREATED);
    let open = Record { streams: 1, streams_open: 1, viewers: 1, viewers_open: 1 };
    until("both sessions on record", LIVE, async || match record(&server).await {
        found if found == open => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
    let took = server.process.interrupt();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(record(&server).await, Record { streams_open: 0, viewers_open: 0, ..open });
}

#[test]
fn errors_are_readable() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lectern")).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    let (ok, text) =
        run(&["up", "--bind", "127.0.0.1", "--data-dir", data, "--http-port", "0", "--rtmp-port", &port]);
    assert!(!ok && text.contains("cannot listen for RTMP on 127.0.0.1") && text.contains(&port), "{text}");
    let (ok, text) = run(&["up", "--open", "--bind", "8.8.8.8", "--data-dir", data]);
    assert!(!ok && text.contains("refused on the public address 8.8.8.8"), "{text}");
    let (ok, text) = run(&["demo", "http://example/live/key"]);
    assert!(!ok && text.contains("must begin with rtmp://"), "{text}");
    let (ok, text) = run(&["up", "--data-dir", "/proc/nowhere"]);
    assert!(!ok && text.contains("/proc/nowhere"), "{text}");
}
