//! Watching with aiortc, an implementation of WebRTC that shares nothing with ours.
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Process, Server, until};

/// aiortc starts slowly, and decodes 75 pictures.
const WATCHED: Duration = Duration::from_secs(60);
/// From the first message of a publisher to a stream that can be watched.
pub(crate) const LIVE: Duration = Duration::from_secs(30);

/// The address of the live lesson's WHEP endpoint, and a token for it.
pub(crate) async fn admission(server: &Server) -> (String, String) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/token?user_type=monitor&user_id=aiortc", server.addresses.http);
    let body: Value = until("a token", LIVE, async || {
        let response = http.post(&url).send().await.unwrap();
        match response.status() {
            StatusCode::OK => Ok(response.json().await.unwrap()),
            status => Err(status),
        }
    })
    .await;
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("webrtc_url"), text("token"))
}

/// Watches, and says what was seen and heard; blocks until then.
pub(crate) fn watch(url: &str, token: &str, extra: &[&str]) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = folder.join("../.venv/bin/python");
    assert!(python.exists(), "aiortc is not installed: run scripts/setup.sh test");
    let script = folder.join("tests/aiortc/viewer.py");
    let mut viewer = Process::start(Command::new(python).arg(script).args([url, token]).args(extra));
    let line = viewer.wait_for("RESULT ", WATCHED);
    serde_json::from_str(line.trim_start_matches("RESULT ")).unwrap()
}
