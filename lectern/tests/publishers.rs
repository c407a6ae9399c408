//! Publishers that are not ours: what they are told, and what their viewers get of tracks that come and go.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{Process, Server, until};

/// From the start of ffmpeg to what it is told or shows.
const TOLD: Duration = Duration::from_secs(30);
/// aiortc starts slowly, and decodes 75 pictures.
const WATCHED: Duration = Duration::from_secs(60);

const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"];
const TONE: [&str; 4] = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"];
const H264: [&str; 10] =
    ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p", "-g", "30"];

/// ffmpeg in real time, to this server with this key.
fn publish(server: &Server, key: &str, inputs: &[&[&str]], outputs: &[&str]) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error"]);
    inputs.iter().for_each(|input| _ = ffmpeg.arg("-re").args(*input));
    let url = format!("{}/{key}", server.addresses.rtmp_url);
    Process::start(ffmpeg.args(outputs).args(["-f", "flv", &url]))
}

async fn get(url: &str) -> Value {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap()
}

async fn until_live(server: &Server) {
    let url = format!("http://{}/api/v1/streams/lesson", server.addresses.http);
    until("a lesson that is live", TOLD, async || {
        let stream = get(&url).await;
        if stream["state"] == "active" { Ok(()) } else { Err(stream) }
    })
    .await;
}

/// Where the lesson is watched, and a token for it.
async fn admission(server: &Server) -> (String, String) {
    let url = format!("http://{}/api/token?user_type=student&user_id=aiortc", server.addresses.http);
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().post(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.unwrap();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    (text("webrtc_url"), text("token"))
}

/// Watches with aiortc, and says what it saw and heard.
async fn watch(server: &Server, extra: &[&str]) -> Value {
    let (url, token) = admission(server).await;
    watch_at(&url, &token, extra)
}

fn watch_at(url: &str, token: &str, extra: &[&str]) -> Value {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(python.exists(), "aiortc is not installed: run scripts/setup.sh test");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aiortc_viewer.py");
    let mut viewer = Process::start(Command::new(python).arg(script).args([url, token]).args(extra));
    let line = viewer.wait_for("RESULT ", WATCHED);
    serde_json::from_str(line.trim_start_matches("RESULT ")).unwrap()
}

fn assert_seen(result: &Value) {
    assert_eq!((&result["width"], &result["height"]), (&Value::from(640), &Value::from(360)), "{result}");
    assert!(result["contrast"].as_u64().unwrap() > 100, "the picture shows something: {result}");
}

#[tokio::test]
async fn publishers_that_must_go_read_why() {
    let mut server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let key = server.addresses.key.clone();
    let mut wrong_key = publish(&server, "nobodys-key", &[&PICTURE], &H264);
    wrong_key.wait_for("The stream key is not valid.", TOLD);
    let mut wrong_codec = publish(&server, &key, &[&PICTURE], &["-c:v", "flv"]);
    wrong_codec.wait_for("choose H.264", TOLD);
    let mut first = publish(&server, &key, &[&PICTURE], &H264);
    until_live(&server).await;
    let mut second = publish(&server, &key, &[&PICTURE], &H264);
    first.wait_for("Another app publishes this class now.", TOLD);
    server.process.interrupt();
    second.wait_for("The server is being shut down; publish again.", TOLD);
}

#[tokio::test]
async fn a_lesson_without_sound_plays_in_a_player_that_wants_both() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = publish(&server, &server.addresses.key, &[&PICTURE], &H264);
    until_live(&server).await;
    assert_seen(&watch(&server, &["mute"]).await);
}

#[tokio::test]
async fn sound_that_comes_late_is_heard_in_the_session_that_is_there() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _silent = publish(&server, &server.addresses.key, &[&PICTURE], &H264);
    until_live(&server).await;
    let stream = format!("http://{}/api/v1/streams/lesson", server.addresses.http);
    assert_eq!(get(&stream).await["has_audio"], false);
    let with_sound = async {
        until("a viewer", TOLD, async || {
            let found = get(&stream).await;
            if found["viewers"] == 1 { Ok(()) } else { Err(found) }
        })
        .await;
        publish(&server, &server.addresses.key, &[&PICTURE, &TONE], &[&H264[..], &["-c:a", "aac"]].concat())
    };
    let watching = tokio::task::spawn_blocking({
        let (url, token) = admission(&server).await;
        move || watch_at(&url, &token, &[])
    });
    let _loud = with_sound.await;
    let result = watching.await.unwrap();
    assert_seen(&result);
    assert!(result["peak"].as_u64().unwrap() > 1000, "the sound can be heard: {result}");
}

#[tokio::test]
async fn codecs_of_old_are_heard() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    for sound in [
        &["-c:a", "libmp3lame"][..],
        &["-c:a", "pcm_alaw", "-ar", "8000"],
        &["-c:a", "pcm_mulaw", "-ar", "8000"],
        &["-c:a", "pcm_s16le"],
    ] {
        let outputs = [&H264[..], sound].concat();
        let _publisher = publish(&server, &server.addresses.key, &[&PICTURE, &TONE], &outputs);
        until_live(&server).await;
        let result = watch(&server, &[]).await;
        assert_seen(&result);
        assert!(result["peak"].as_u64().unwrap() > 1000, "{sound:?} can be heard: {result}");
    }
}

#[tokio::test]
async fn sound_that_cannot_be_played_is_told_and_the_picture_plays() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let outputs = [&H264[..], &["-c:a", "nellymoser", "-ac", "1"]].concat();
    let _publisher = publish(&server, &server.addresses.key, &[&PICTURE, &TONE], &outputs);
    until_live(&server).await;
    assert_seen(&watch(&server, &["mute"]).await);
    let stream = get(&format!("http://{}/api/v1/streams/lesson", server.addresses.http)).await;
    let problems = stream["problems"].as_array().unwrap();
    let told = problems.iter().any(|problem| {
        problem["code"] == "sound_unsupported" && problem["text"].as_str().unwrap().contains("Nellymoser")
    });
    assert!(told, "{stream}");
}
