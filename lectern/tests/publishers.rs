//! Publishers that are not ours: what they are told, and what their viewers get of tracks that come and go.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#[path = "aiortc/watch.rs"]
mod aiortc;
#[path = "lesson/admission.rs"]
mod lesson;

use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use sqlx::SqlitePool;
use testkit::{Process, Server, until};

use self::lesson::{LIVE, admission};

/// Who watches.
const USER: &str = "user_type=monitor&user_id=aiortc";

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

/// How the publishers on record ended, in their order.
async fn ends(server: &Server) -> Vec<String> {
    let database = server.data_dir().join("lectern.db");
    let pool = SqlitePool::connect(&format!("sqlite:{}", database.display())).await.unwrap();
    let query = "SELECT COALESCE(end_reason, 'open') FROM stream_sessions ORDER BY created_at";
    let found = sqlx::query_scalar(query).fetch_all(&pool).await.unwrap();
    pool.close().await;
    found
}

async fn until_live(server: &Server) {
    let url = format!("http://{}/api/v1/streams/lesson", server.addresses.http);
    until("a lesson that is live", LIVE, async || {
        let stream = get(&url).await;
        if stream["state"] == "active" { Ok(()) } else { Err(stream) }
    })
    .await;
}

/// Watches with aiortc, and says what it saw and heard.
async fn watch(server: &Server, extra: &[&str]) -> Value {
    let (url, token) = admission(server, USER).await;
    aiortc::watch(&url, &token, extra)
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
    wrong_key.wait_for("The stream key is not valid.", LIVE);
    let mut wrong_codec = publish(&server, &key, &[&PICTURE], &["-c:v", "flv"]);
    wrong_codec.wait_for("choose H.264", LIVE);
    let mut first = publish(&server, &key, &[&PICTURE], &H264);
    until_live(&server).await;
    let mut second = publish(&server, &key, &[&PICTURE], &H264);
    first.wait_for("Another app publishes this class now.", LIVE);
    server.process.interrupt();
    second.wait_for("The server is being shut down; publish again.", LIVE);
}

/// Whoever has found the key of a class is sent away within the second, and the teacher goes on with another one.
#[tokio::test]
async fn a_publisher_whose_key_is_revoked_is_sent_away_and_another_takes_the_class_on() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let secret = std::fs::read_to_string(server.data_dir().join("operator-secret")).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let keys = format!("http://{}/api/v1/classes/lesson/stream-keys", server.addresses.http);
    let operate = |request: reqwest::RequestBuilder| request.bearer_auth(secret.trim()).send();
    let known: Value = operate(http.get(&keys)).await.unwrap().json().await.unwrap();
    let leaked = format!("{keys}/{}", known[0]["id"].as_str().unwrap());
    let made: Value = operate(http.post(&keys)).await.unwrap().json().await.unwrap();
    let mut intruder = publish(&server, &server.addresses.key, &[&PICTURE], &H264);
    until_live(&server).await;
    let asked = Instant::now();
    assert_eq!(operate(http.delete(&leaked)).await.unwrap().status(), 204);
    intruder.wait_for("The stream key was revoked.", LIVE);
    println!("sent away {} ms after the key was revoked", asked.elapsed().as_millis());
    let mut again = publish(&server, &server.addresses.key, &[&PICTURE], &H264);
    again.wait_for("The stream key is not valid.", LIVE);
    let _teacher = publish(&server, made["stream_key"].as_str().unwrap(), &[&PICTURE], &H264);
    until_live(&server).await;
    until("the record", LIVE, async || match ends(&server).await {
        found if found == ["superseded", "open"] => Ok(()),
        found => Err(found.join(", ")),
    })
    .await;
}

/// OBS reconnects by itself, two seconds after it was told to go: the phone that has taken over would be told next.
#[tokio::test]
async fn an_app_that_was_displaced_does_not_take_the_class_back_by_itself() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    a_displaced_laptop_waits(&server, || server.publish_demo()).await;
}

#[tokio::test]
async fn an_app_that_was_displaced_at_another_node_does_not_take_the_class_back_by_itself() {
    let server = Server::start_cluster(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let second = server.start_node("second");
    a_displaced_laptop_waits(&server, || server.publish_demo_to(&second.addresses)).await;
}

async fn a_displaced_laptop_waits(server: &Server, publish_by_phone: impl FnOnce() -> Process) {
    let key = server.addresses.key.clone();
    let mut laptop = publish(server, &key, &[&PICTURE], &H264);
    until_live(server).await;
    let phone = publish_by_phone();
    laptop.wait_for("Another app publishes this class now.", LIVE);
    let mut again = publish(server, &key, &[&PICTURE], &H264);
    again.wait_for("Another app has taken over this class.", LIVE);
    let url = format!("http://{}/api/v1/streams/lesson", server.addresses.http);
    let is = async |state: &str, width: u32| {
        until("the picture", LIVE, async || {
            let stream = get(&url).await;
            if stream["state"] == state && stream["width"] == width { Ok(()) } else { Err(stream) }
        })
        .await;
    };
    is("active", 960).await;
    // Who was refused leaves the record alone.
    until("the record", LIVE, async || match ends(server).await {
        found if found == ["superseded", "open"] => Ok(()),
        found => Err(found.join(", ")),
    })
    .await;
    drop(phone);
    is("grace", 960).await;
    let _back = publish(server, &key, &[&PICTURE], &H264);
    is("active", 640).await;
}

/// Its connection stays open, as that of a phone in the background does.
#[tokio::test]
async fn a_publisher_that_stands_still_is_told_and_then_cut_off_in_words() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let app = publish(&server, &server.addresses.key, &[&PICTURE, &TONE], &H264);
    until_live(&server).await;
    app.signal("STOP");
    let url = format!("http://{}/api/v1/streams/lesson", server.addresses.http);
    for (code, state) in [("nothing_comes", "active"), ("cut_off", "grace")] {
        until(code, LIVE, async || {
            let stream = get(&url).await;
            let codes: Vec<_> =
                stream["problems"].as_array().into_iter().flatten().map(|found| &found["code"]).collect();
            if codes == [code] && stream["state"] == state && stream["bitrate_bps"] == 0 {
                Ok(())
            } else {
                Err(stream)
            }
        })
        .await;
    }
    app.signal("CONT");
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
        until("a viewer", LIVE, async || {
            let found = get(&stream).await;
            if found["viewers"] == 1 { Ok(()) } else { Err(found) }
        })
        .await;
        publish(&server, &server.addresses.key, &[&PICTURE, &TONE], &[&H264[..], &["-c:a", "aac"]].concat())
    };
    let watching = tokio::task::spawn_blocking({
        let (url, token) = admission(&server, USER).await;
        move || aiortc::watch(&url, &token, &[])
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
