//! The lab in its shortened form: parts of a cluster end, or do not hear each other, while a few people watch.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, lectern_beside};

const LOAD: &str = env!("CARGO_BIN_EXE_lectern-load");
/// How long a cluster may take until people watch, and to be gone.
const PATIENCE: Duration = Duration::from_secs(180);

/// Two labs at once would only wait for each other.
static ONE_LAB: Mutex<()> = Mutex::new(());

/// With patience for a machine that does many other things: what is late is for `make test-cluster` to judge.
fn faults(names: &str, away_s: &str) -> Command {
    let mut command = Command::new(LOAD);
    command.args(["faults", "--faults", names, "--lectern"]).arg(lectern_beside(LOAD));
    command.args(["--away", away_s, "--database-away", away_s, "--after", "3"]);
    command.args(["--viewers", "8", "--patience", "30"]);
    command
}

/// Says on the terminal, whatever becomes of the output of tests, that one was left out.
fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "{test}: {why}");
}

#[test]
fn nobody_who_watches_is_lost_and_whoever_comes_gets_in() {
    let _alone = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("rows");
    let output = faults("kill-node,database,old-node", "6").arg("--json").arg(&json).output().unwrap();
    let [said, complaints] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    if said.starts_with("skipped: ") {
        return skip("the lab", said.trim_end());
    }
    // The program itself judges what it has seen.
    assert!(output.status.success(), "{said}{complaints}");
    let rows: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let [killed, database, old] = rows.as_array().unwrap().as_slice() else { panic!("{said}") };
    assert!(killed["rejoined"].as_u64() >= killed["there"].as_u64(), "who was there went elsewhere:\n{said}");
    for row in [database, old] {
        assert_eq!(row["there"], 8, "{said}");
    }
    assert!(old["yielded_s"].is_number(), "the old publisher was sent away:\n{said}");
}

#[test]
fn whoever_stops_it_leaves_nothing_behind() {
    let _alone = ONE_LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new().unwrap();
    // PostgreSQL runs as somebody else.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut lab = Process::start(faults("mute-node", "600").env("TMPDIR", folder.path()));
    let said = lab.wait_for("", PATIENCE);
    if said.starts_with("skipped: ") {
        return skip("what the lab leaves behind", &said);
    }
    assert!(said.contains("do not hear"), "{said}");
    assert!(!users_of(folder.path()).is_empty());
    lab.interrupt();
    assert_eq!(users_of(folder.path()), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file is left");
}

/// The command lines of all processes that name this folder.
fn users_of(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
    let lines = processes
        .filter_map(|file| Some(String::from_utf8_lossy(&std::fs::read(file).ok()?).replace('\0', " ")));
    lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}
