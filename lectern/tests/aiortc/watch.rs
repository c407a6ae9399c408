//! Watching with aiortc, an implementation of WebRTC that shares nothing with ours.
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::Process;

/// aiortc starts slowly, and decodes 75 pictures.
const WATCHED: Duration = Duration::from_secs(60);
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
