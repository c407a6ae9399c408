//! Players that are not ours, and the program's own beginning and end.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Process, Server};

/// aiortc starts slowly, and decodes 75 pictures.
const WATCHED: Duration = Duration::from_secs(45);
/// From the first message of a publisher to a stream that can be watched.
const LIVE: Duration = Duration::from_secs(10);

/// The address of the live lesson's WHEP endpoint, and a token for it.
async fn admission(server: &Server) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/token?user_type=monitor&user_id=aiortc", server.addresses.http);
    let deadline = Instant::now() + LIVE;
    loop {
        let response = http.post(&url).send().await.unwrap();
        if response.status() == StatusCode::OK {
            let body: Value = response.json().await.unwrap();
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            return (text("webrtc_url"), text("token"));
        }
        assert!(Instant::now() < deadline, "{}", response.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn watch_with_aiortc(extra: &[&str]) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(python.exists(), "aiortc is not installed: run scripts/setup.sh test");
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    let (url, token) = admission(&server).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aiortc_viewer.py");
    let mut viewer = Process::start(Command::new(python).arg(script).args([&url, &token]).args(extra));
    let line = viewer.wait_for("RESULT ", WATCHED);
    serde_json::from_str(line.trim_start_matches("RESULT ")).unwrap()
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

#[tokio::test]
async fn ctrl_c_ends_everything_in_two_seconds_and_the_record_is_closed() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = server.publish_demo();
    admission(&server).await;
    let took = server.process.interrupt();
    assert!(took < Duration::from_secs(2), "{took:?}");
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
