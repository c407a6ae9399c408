//! The limit, as a process.
use std::process::Command;

use serde_json::Value;

const LOAD: &str = env!("CARGO_BIN_EXE_lectern-load");

#[test]
fn sealing_and_sending_cost_more_than_either() {
    let folder = tempfile::TempDir::new().unwrap();
    let json = folder.path().join("limit.json");
    let mut command = Command::new(LOAD);
    command.args(["limit", "--seconds", "0.2", "--viewers", "50", "--json"]).arg(&json);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("viewers at 128/s"));
    let figures: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let cost = |name: &str| figures[name]["us_per_packet"].as_f64().unwrap();
    assert!(cost("both_unread") > cost("seal") && cost("both_unread") > cost("send_unread"), "{figures}");
}

#[test]
fn impossible_messages_are_refused() {
    for arguments in [["--segments", "65"], ["--batch", "0"], ["--payload", "40000"], ["--core", "1023"]] {
        let output = Command::new(LOAD).arg("limit").args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
    }
}
