//! Still pictures of a lesson, from the app that publishes to what a decoder shows of them.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#[path = "lesson/admission.rs"]
mod lesson;

use std::io::Write;
use std::process::Command;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::NamedTempFile;
use testkit::{Process, Server, until};

use self::lesson::{LIVE, admission};

const SIZE: (usize, usize) = (640, 360);
/// A picture that stays as it is, and another one.
const BARS: &str = "smptebars=size=640x360:rate=30";
const BLUE: &str = "color=c=blue:size=640x360:rate=30";
/// What a coder may change of a pixel on the average, of 255.
const LOSS_MAX: f64 = 3.0;
const OFFER: &str = include_str!("offer.sdp");

/// ffmpeg in real time, with a keyframe a second.
fn publish(server: &Server, inputs: &[&str], outputs: &[&str]) -> Process {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error"]);
    inputs.iter().for_each(|input| _ = ffmpeg.args(["-re", "-f", "lavfi", "-i", input]));
    let url = format!("{}/{}", server.addresses.rtmp_url, server.addresses.key);
    Process::start(ffmpeg.args(outputs).args(["-f", "flv", &url]))
}

fn publish_picture(server: &Server, picture: &str) -> Process {
    let coder = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
    publish(server, &[picture], &[&coder[..], &["-pix_fmt", "yuv420p", "-g", "30"]].concat())
}

/// Every pixel of every picture that ffmpeg finds, as red, green and blue.
fn pixels(input: &[&str]) -> Vec<u8> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-nostdin", "-loglevel", "error"]).args(input);
    let output = ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// How far the one picture of a file is from what was published.
fn distance(file: &[u8], picture: &str) -> f64 {
    let mut on_disk = NamedTempFile::with_suffix(".mp4").unwrap();
    on_disk.write_all(file).unwrap();
    let shown = pixels(&["-i", on_disk.path().to_str().unwrap()]);
    assert_eq!(shown.len(), SIZE.0 * SIZE.1 * 3, "one picture");
    let sent = pixels(&["-f", "lavfi", "-i", picture, "-frames:v", "1"]);
    let sum: u64 = shown.iter().zip(&sent).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    f64::from(u32::try_from(sum).unwrap()) / f64::from(u32::try_from(sent.len()).unwrap())
}

fn http() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

fn url(whep: impl std::fmt::Display) -> String {
    format!("http://{whep}/live/lesson/snapshot.mp4")
}

fn tag(response: &Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

async fn code(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json::<Value>().await.unwrap()["code"].clone())
}

/// What is answered once it is this.
async fn until_status(request: &RequestBuilder, status: u16) -> Response {
    until("an answer", LIVE, async || {
        let response = request.try_clone().unwrap().send().await.unwrap();
        if response.status() == status { Ok(response) } else { Err(response.status()) }
    })
    .await
}

#[tokio::test]
async fn a_snapshot_shows_what_is_taught_and_follows_it() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let request = http().get(url(server.addresses.whep));
    let before = until_status(&request, 409).await;
    assert_eq!(code(before).await, (409, "not_live".into()));
    let first = publish_picture(&server, BARS);
    let response = until_status(&request, 200).await;
    let known = tag(&response);
    let file = response.bytes().await.unwrap();
    let (same, other) = (distance(&file, BARS), distance(&file, BLUE));
    println!("{} bytes, {same:.2} from what was published, {other:.2} from something else", file.len());
    assert!(same < LOSS_MAX && other > 30.0, "{same} {other}");

    let again = http().get(url(server.addresses.whep)).header("If-None-Match", &known);
    let newer = until_status(&again, 200).await;
    assert_ne!(tag(&newer), known, "a keyframe has come since");
    let known = tag(&newer);
    drop(first);
    let _second = publish_picture(&server, BLUE);
    let again = http().get(url(server.addresses.whep)).header("If-None-Match", &known);
    let last = until("the next lesson", LIVE, async || {
        let response = again.try_clone().unwrap().send().await.unwrap();
        let is_next = response.status() == 200 && tag(&response).split('-').next() != known.split('-').next();
        if is_next { Ok(response) } else { Err(response.status()) }
    })
    .await;
    let last = distance(&last.bytes().await.unwrap(), BLUE);
    assert!(last < LOSS_MAX, "{last}");
}

#[tokio::test]
async fn where_a_pin_is_needed_a_look_needs_a_token() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &[]);
    let _publisher = publish_picture(&server, BARS);
    let bare = http().get(url(server.addresses.whep));
    assert_eq!(code(until_status(&bare, 401).await).await, (401, "token_missing".into()));
    let pin = server.addresses.pin.clone().unwrap();
    let token = http()
        .post(format!("http://{}/api/token?user_type=student&user_id=ada", server.addresses.http))
        .header("X-Class-Pin", pin);
    let token: Value = until_status(&token, 200).await.json().await.unwrap();
    let bearing = http().get(url(server.addresses.whep)).bearer_auth(token["token"].as_str().unwrap());
    let file = until_status(&bearing, 200).await.bytes().await.unwrap();
    assert!(distance(&file, BARS) < LOSS_MAX);
}

#[tokio::test]
async fn of_a_lesson_without_a_picture_there_is_none() {
    let server = Server::start(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let _publisher = publish(&server, &["sine=frequency=440:sample_rate=44100"], &["-c:a", "aac"]);
    let found = until_status(&http().get(url(server.addresses.whep)), 404).await;
    assert_eq!(code(found).await, (404, "no_picture".into()));
}

/// The wall asks the node that has the lesson. Where viewers have brought it, it is the same picture.
#[tokio::test]
async fn a_node_shows_what_it_has_and_fetches_nothing_for_it() {
    let server = Server::start_cluster(env!("CARGO_BIN_EXE_lectern"), &["--open"]);
    let second = server.start_node("second");
    let _publisher = publish_picture(&server, BARS);
    let [here, there] = [url(server.addresses.whep), url(second.addresses.whep)];
    let (_, token) = admission(&server, "user_type=monitor&user_id=wall").await;
    until_status(&http().get(&here).bearer_auth(&token), 200).await;
    let elsewhere = http().get(&there).bearer_auth(&token);
    for _ in 0..3 {
        assert_eq!(code(until_status(&elsewhere, 409).await).await, (409, "not_live".into()));
    }
    let offer = http()
        .post(format!("http://{}/live/lesson/whep", second.addresses.whep))
        .bearer_auth(&token)
        .header("Content-Type", "application/sdp")
        .body(OFFER.replace('\n', "\r\n"));
    until_status(&offer, 201).await;
    until("the same picture at both", LIVE, async || {
        let [a, b] = [&here, &there].map(|url| http().get(url).bearer_auth(&token).send());
        let (a, b) = (a.await.unwrap(), b.await.unwrap());
        let statuses = (a.status(), b.status());
        if statuses != (reqwest::StatusCode::OK, reqwest::StatusCode::OK) || tag(&a) != tag(&b) {
            return Err(format!("{statuses:?}"));
        }
        assert_eq!(a.bytes().await.unwrap(), b.bytes().await.unwrap());
        Ok(())
    })
    .await;
}
