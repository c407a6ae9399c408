//! The program, the server, and what the one says of the other.
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, Server};

/// From the publisher's start to the first viewer.
pub(crate) const LIVE: Duration = Duration::from_secs(20);

/// The server's program.
pub(crate) fn lectern() -> &'static str {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| testkit::lectern_beside(env!("CARGO_BIN_EXE_lectern-load"))).to_str().unwrap()
}

pub(crate) fn lesson() -> (Server, Process) {
    let server = Server::start(lectern(), &["--open"]);
    let publisher = server.publish_demo();
    // The publisher is let in before the server's directory says so.
    let url = token_url(&server);
    let deadline = Instant::now() + LIVE;
    loop {
        let (figures, text) = load(&["watch", "--token-url", &url, "--viewers", "1", "--duration", "0s"]);
        if number(&figures, "/viewers/connected") == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
    }
    (server, publisher)
}

pub(crate) fn token_url(server: &Server) -> String {
    let (http, class) = (server.addresses.http, &server.addresses.class);
    format!("http://{http}/api/token?user_type=student&user_id=s{{n}}&class_id={class}")
}

/// Runs the program and returns its JSON and its table.
pub(crate) fn load(arguments: &[&str]) -> (Value, String) {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("figures.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern-load"));
    let output = command.args(arguments).arg("--json").arg(&json).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    let figures = std::fs::read(&json).unwrap_or_else(|_| panic!("no figures; it said:\n{text}"));
    (serde_json::from_slice(&figures).unwrap(), text)
}

#[track_caller]
pub(crate) fn check(figures: &Value, is_right: impl Fn(&Value) -> bool, what: &str) {
    assert!(is_right(figures), "{what}: {figures:#}");
}

pub(crate) fn number(figures: &Value, path: &str) -> u64 {
    figures.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {figures:#}"))
}
