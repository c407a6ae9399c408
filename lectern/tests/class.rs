//! `lectern class` beside a server that runs, and without one.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use testkit::Server;

/// What the command prints, as JSON, or what it complains of.
fn class(folder: &Path, arguments: &[&str]) -> Result<Value, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
    let command = command.arg("class").args(arguments).arg("--json").arg("--data-dir").arg(folder);
    let output = command.env("LECTERN_LOG", "error").output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn classes_are_managed_without_a_server() {
    let folder = TempDir::new().unwrap();
    let room = class(folder.path(), &["add", "room101", "--pin", "orange-7"]).unwrap();
    assert_eq!((&room["slug"], &room["pin"]), (&Value::from("room101"), &Value::from("orange-7")));
    let replaced =
        class(folder.path(), &["key", "room101", "--new", "--revoke", room["key_id"].as_str().unwrap()])
            .unwrap();
    assert_ne!(replaced["stream_key"], room["stream_key"]);
    let keys = class(folder.path(), &["key", "room101"]).unwrap();
    assert_eq!((keys.as_array().unwrap().len(), &keys[0]["id"]), (1, &replaced["id"]));
    assert!(class(folder.path(), &["key", "room101", "--new", "--revoke", "nothing"]).is_err());
    assert_eq!(class(folder.path(), &["key", "room101"]).unwrap(), keys, "nothing was made in vain");
    assert!(class(folder.path(), &["pin", "room101", "12345"]).unwrap_err().contains("6 to 64"));
    class(folder.path(), &["remove", "room101"]).unwrap();
    let classes = class(folder.path(), &["list"]).unwrap();
    assert_eq!(classes.as_array().unwrap().len(), 1, "the default class is left");
    let nowhere = folder.path().join("nowhere");
    assert!(class(&nowhere, &["list"]).is_err());
    assert!(!nowhere.exists(), "a folder that was misspelt is not made");
}

#[test]
fn a_server_that_runs_knows_of_a_change_at_once() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &[]);
    let folder = server.data_dir();
    let room = class(&folder, &["add", "room101"]).unwrap();
    assert_eq!(class(&folder, &["list"]).unwrap()[1]["slug"], "room101");
    let pin = class(&folder, &["pin", "room101"]).unwrap();
    assert_ne!(pin["pin"], room["pin"]);
    let leaked = class(&folder, &["key", "lesson"]).unwrap();
    class(&folder, &["key", "lesson", "--revoke", leaked[0]["id"].as_str().unwrap()]).unwrap();
    let shown = std::fs::read_to_string(folder.join("stream-key")).unwrap();
    assert_ne!(shown, server.addresses.key);
}
