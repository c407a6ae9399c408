//! Comparing two servers that are none.
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use testkit::Process;

const LOAD: &str = env!("CARGO_BIN_EXE_lectern-load");
const STARTED: Duration = Duration::from_secs(20);

/// A server that says it is ready, and another that uses the processor as well.
fn compare(folder: &TempDir, work: &str) -> Command {
    let ready = folder.path().join("ready");
    let quiet = format!("echo > {}; exec sleep 600", ready.display());
    let busy = format!("echo > {}; while :; do :; done", ready.display());
    let mut command = Command::new(LOAD);
    command.args(["compare", "--a", &quiet, "--b", &busy, "--work", work, "--rounds", "1"]);
    command.args(["--ready", &format!("file:{}", ready.display())]);
    command
}

#[test]
fn the_busier_server_costs_more() {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("out.json");
    let work = "for i in 1 2 3 4 5; do head -c 3000000 /dev/zero | md5sum; done > /dev/null; sleep 0.3; \
                echo '{\"packets\": 100, \"delay\": {\"p50_ms\": 5}}' > {json}";
    let output = compare(&folder, work).args(["--json", json.to_str().unwrap()]).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("server cpu µs per packet") && table.contains("delay.p50_ms"), "{table}");
    let summary: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let cpu = &summary["medians"]["server cpu s"];
    assert!(cpu["b"].as_f64().unwrap() > cpu["a"].as_f64().unwrap() + 0.1, "{summary}");
    assert_eq!(summary["medians"]["delay.p50_ms"]["b_to_a"], Value::from(1.0));
}

#[test]
fn work_that_fails_is_told_and_fails_the_whole() {
    let folder = TempDir::new().unwrap();
    let output = compare(&folder, "exit 3").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("the work failed") && said.contains("no run of a went through"), "{said}");
}

#[test]
fn an_interrupt_ends_what_was_started() {
    let folder = TempDir::new().unwrap();
    let pid = folder.path().join("pid");
    let mut command =
        compare(&folder, &format!("echo {{pid}} > {}; echo at work >&2; sleep 600", pid.display()));
    let logs = folder.path().join("logs");
    let mut process = Process::start(command.arg("--logs").arg(&logs));
    process.wait_for("round 1", STARTED);
    let deadline = std::time::Instant::now() + STARTED;
    let server: u32 = loop {
        assert!(std::time::Instant::now() < deadline, "the work has not begun");
        let text = std::fs::read_to_string(&pid).unwrap_or_default();
        if let Ok(server) = text.trim().parse() {
            break server;
        }
        std::thread::yield_now();
    };
    let took = process.interrupt();
    assert!(took < Duration::from_secs(4), "{took:?}");
    assert!(!std::path::Path::new(&format!("/proc/{server}")).exists(), "the server still runs");
    assert_eq!(std::fs::read_to_string(logs.join("1-a-work.log")).unwrap(), "at work\n");
}
