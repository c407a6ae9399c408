//! Publishing into the real server, as a process.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Process, Server};

const LOAD: &str = env!("CARGO_BIN_EXE_lectern-load");
/// From the first message of a publisher to what the server reports about it.
const REPORTED: Duration = Duration::from_secs(20);

/// The server that was built beside this program.
fn server() -> Server {
    let program = Path::new(LOAD).with_file_name("lectern");
    assert!(program.exists(), "build it first: cargo build -p lectern");
    Server::start(program.to_str().unwrap(), &["--open"])
}

fn publish(server: &Server, arguments: &[&str]) -> Command {
    let url = format!("{}/{}", server.addresses.rtmp_url, server.addresses.key);
    let mut command = Command::new(LOAD);
    command.args(["publish", "--rtmp", &url]).args(arguments);
    command
}

/// The stream as the server reports it, once that is as wanted.
async fn stream_when(server: &Server, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/v1/streams", server.addresses.http);
    let deadline = Instant::now() + REPORTED;
    loop {
        let streams: Value = http.get(&url).send().await.unwrap().json().await.unwrap();
        if is_wanted(&streams[0]) {
            return streams[0].clone();
        }
        assert!(Instant::now() < deadline, "{streams}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn has_bitrate(stream: &Value, bps: u64) -> bool {
    stream["bitrate_bps"].as_u64().is_some_and(|found| found.abs_diff(bps) < bps / 4)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn lesson() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../lectern/assets/lesson.flv")
}

#[tokio::test]
async fn a_made_up_stream_is_a_stream_like_any_other() {
    let server = server();
    let mut publisher = Process::start(&mut publish(&server, &["--bitrate", "2M", "--chunk-size", "128"]));
    let stream =
        stream_when(&server, |stream| stream["state"] == "active" && has_bitrate(stream, 2_000_000)).await;
    assert_eq!((&stream["width"], &stream["height"]), (&Value::from(1280), &Value::from(720)));
    assert_eq!((&stream["has_video"], &stream["has_audio"]), (&Value::from(true), &Value::from(true)));
    assert_eq!(stream["problems"], Value::Array(Vec::new()), "{stream}");
    let took = publisher.interrupt();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_file_in_bursts_is_a_stream_too() {
    let server = server();
    let file = lesson();
    let arguments = ["--file", file.to_str().unwrap(), "--pacing", "bursty", "--stamp", "sei"];
    let _publisher = Process::start(&mut publish(&server, &arguments));
    let stream = stream_when(&server, |stream| stream["state"] == "active" && stream["width"] == 960).await;
    assert_eq!(stream["height"], Value::from(540), "{stream}");
}

#[test]
fn the_figures_are_written_at_the_end() {
    let server = server();
    let folder = tempfile::TempDir::new().unwrap();
    let json = folder.path().join("figures.json");
    let arguments = ["--duration", "1s", "--audio", "none", "--json", json.to_str().unwrap()];
    let output = publish(&server, &arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let figures: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!((&figures["admitted"], &figures["failed"]), (&Value::from(1), &Value::from(0)));
    let video = figures["video_messages"].as_u64().unwrap();
    // 30 a second, and the configuration.
    assert!((25..=35).contains(&video) && figures["audio_messages"] == 0, "{figures}");
}

#[test]
fn refusals_are_counted_and_worded() {
    let server = server();
    let url = format!("{}/not-the-key-{{n}}", server.addresses.rtmp_url);
    let output = Command::new(LOAD).args(["publish", "--rtmp", &url, "--count", "3"]).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("the server let nobody in"), "{said}");
    assert!(said.contains("publishers let in") && said.contains("0 of 3"), "{said}");
    assert!(said.contains("NetStream.Publish") || said.contains("refuses"), "{said}");
}

#[test]
fn wrong_wishes_are_refused_before_anything_is_sent() {
    for (arguments, reason) in [
        (&["--count", "2"][..], "{n}"),
        (&["--file", "Cargo.toml"], "no FLV file"),
        (&["--packets-per-second", "5"], "smaller or fewer"),
        (&["--bitrate", "1M", "--packets-per-second", "128"], "cannot be used with"),
        (&["--rtmp", "http://127.0.0.1/live/x"], "cannot be used multiple times"),
    ] {
        let output = Command::new(LOAD)
            .args(["publish", "--rtmp", "rtmp://127.0.0.1:1/live/x"])
            .args(arguments)
            .output();
        let output = output.unwrap();
        assert!(!output.status.success() && said(&output).contains(reason), "{}", said(&output));
    }
}
