//! A role that fails takes the process with it, in order, and says so.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

/// For a debug build on a busy machine to hold its ports.
const READY: Duration = Duration::from_secs(20);
/// From the signal to the first answer of the probe.
const SEEN: Duration = Duration::from_secs(5);

/// How a process ended in which something panicked.
struct Failed {
    status: ExitStatus,
    /// From the signal to the first answer of the probe that says so, and to the end.
    seen: Duration,
    ended: Duration,
    log: String,
}

/// Runs the program with a fault, and triggers it.
async fn fail(fault: &str) -> Failed {
    let folder = TempDir::new().unwrap();
    let (ready, log) = (folder.path().join("ready.json"), folder.path().join("log"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lectern"));
    command.args(["up", "--bind", "127.0.0.1", "--data-dir"]).arg(folder.path().join("data"));
    for port in ["--http-port", "--rtmp-port", "--whep-port", "--media-port", "--admin-port"] {
        command.args([port, "0"]);
    }
    command.arg("--ready-file").arg(&ready).current_dir(folder.path());
    // A reporter that hangs keeps the process in its drain, so that the probe can be asked.
    command.env("LECTERN_FAULT", format!("{fault},hang:reporter"));
    let stderr = std::fs::File::create(&log).unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();

    let addresses = until(READY, async || std::fs::read(&ready).ok()).await;
    let addresses: Value = serde_json::from_slice(&addresses).unwrap();
    let livez = format!("http://{}/livez", addresses["admin"].as_str().unwrap());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let probe = async || Some(http.get(&livez).send().await.ok()?.status());
    until(READY, async || probe().await.filter(|status| *status == StatusCode::OK)).await;

    // The roles run, but the one that panics may not watch its signal yet; the default action would end the process.
    until(READY, async || watches_signal(child.id()).then_some(())).await;
    let (pid, begun) = (child.id().to_string(), Instant::now());
    assert!(Command::new("kill").args(["-USR2", &pid]).status().unwrap().success());
    until(SEEN, async || probe().await.filter(|status| *status == StatusCode::SERVICE_UNAVAILABLE)).await;
    let seen = begun.elapsed();

    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    let (ended, log) = (begun.elapsed(), std::fs::read_to_string(&log).unwrap());
    Failed { status, seen, ended, log }
}

#[tokio::test]
async fn a_role_that_panics_is_seen_by_the_probe_and_ends_the_process() {
    let Failed { status, log, .. } = fail("panic:ingest").await;
    assert_eq!((status.code(), status.signal()), (Some(1), None));
    for line in ["thread panicked", "role panicked", "shutdown timed out", "the ingest role panicked"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let left_behind = log.lines().find(|line| line.contains("shutdown timed out")).unwrap();
    assert!(left_behind.contains("reporter") && !left_behind.contains("whep"), "{left_behind}");
}

#[tokio::test]
async fn a_shard_that_panics_is_named_and_ends_the_process() {
    let Failed { status, seen, ended, log } = fail("panic:shard").await;
    println!("/livez said so after {seen:?}, and the process had ended after {ended:?}");
    assert_eq!((status.code(), status.signal()), (Some(1), None));
    for line in ["thread panicked", "shard-0", "the whep role failed", "shard 0 panicked"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

/// Whether a process has a handler for SIGUSR2, as the kernel tells it: a mask of signals, of which it is the twelfth.
fn watches_signal(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() & (1 << 11) != 0
}

/// Looks again and again until there is something.
async fn until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, found).await.expect("in time")
}
