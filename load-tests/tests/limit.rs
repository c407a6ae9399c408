//! The limit, as a process.
use std::process::Command;

use serde_json::Value;

const LOAD: &str = env!("CARGO_BIN_EXE_lectern-load");

#[test]
fn every_line_is_measured_and_what_is_sent_arrives() {
    let folder = tempfile::TempDir::new().unwrap();
    let json = folder.path().join("limit.json");
    let mut command = Command::new(LOAD);
    command.args(["limit", "--seconds", "0.2", "--viewers", "50", "--json"]).arg(&json);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("viewers at 128/s"));
    let figures: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    for (name, is_read) in [
        ("seal", false),
        ("send_unread", false),
        ("send_read", true),
        ("both_unread", false),
        ("both_read", true),
    ] {
        let line = &figures[name];
        if line.is_null() {
            assert!(is_read && figures["reader_core"].is_null(), "only what needs a second core is left out");
            continue;
        }
        assert!(line["us_per_packet"].as_f64().unwrap() > 0.0, "{name}: {figures}");
        assert_eq!(
            line["read_share"].as_f64().is_some_and(|share| share > 0.0),
            is_read,
            "{name}: {figures}"
        );
    }
}

#[test]
fn impossible_messages_are_refused() {
    for arguments in [["--segments", "65"], ["--batch", "0"], ["--payload", "40000"], ["--core", "1023"]] {
        let output = Command::new(LOAD).arg("limit").args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
    }
}
