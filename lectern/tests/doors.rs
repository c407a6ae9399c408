//! Strangers who hold sockets open keep neither phones nor students out, also where few files may be open.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{Process, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Files that the server may open: with 1,024, the usual limit of a login shell, the test would need more than it may.
const DESCRIPTORS: u32 = 256;
/// Sockets of each kind to each port: together many times what the server may open.
const SOCKETS: usize = 400;
/// From the start of ffmpeg to a stream that can be watched.
const LIVE: Duration = Duration::from_secs(20);

/// The program under a limit of open files, as `limit.sh` in the folder.
fn limited(folder: &Path) -> PathBuf {
    let script = folder.join("limit.sh");
    let program = env!("CARGO_BIN_EXE_lectern");
    std::fs::write(&script, format!("#!/bin/sh\nulimit -n {DESCRIPTORS}\nexec '{program}' \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    script
}

/// Opens many connections, from another address than everybody else's, and says the beginning of something on each.
async fn crowd(port: SocketAddr, said: &'static [u8]) -> Vec<TcpStream> {
    let mut opening = JoinSet::new();
    for _ in 0..SOCKETS {
        opening.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut stream = socket.connect(port).await.unwrap();
            // Who has been closed on by now cannot speak.
            let _ = stream.write_all(said).await;
            stream
        });
    }
    opening.join_all().await
}

fn publish(server: &Server) -> Process {
    let lesson = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/lesson.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i"]).arg(lesson);
    let url = format!("{}/{}", server.addresses.rtmp_url, server.addresses.key);
    Process::start(ffmpeg.args(["-c", "copy", "-f", "flv", &url]))
}

/// A token and an offer, over new connections; how it ended.
async fn join(server: &Server) -> Option<StatusCode> {
    let http = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/token?user_type=student&user_id=s1", server.addresses.http);
    let token = http.post(url).send().await.ok()?;
    if token.status() != StatusCode::OK {
        return Some(token.status());
    }
    let token: Value = token.json().await.ok()?;
    let offer = http.post(format!("http://{}/live/lesson/whep", server.addresses.whep));
    let offer = offer.bearer_auth(token["token"].as_str()?).header("content-type", "application/sdp");
    Some(offer.body(include_str!("offer.sdp")).send().await.ok()?.status())
}

/// The value of a metric, all its labels together.
async fn metric(server: &Server, name: &str) -> f64 {
    let url = format!("http://{}/metrics", server.addresses.admin);
    let http = Client::builder().no_proxy().build().unwrap();
    let text = http.get(url).send().await.unwrap().text().await.unwrap();
    let values =
        text.lines().filter(|line| line.starts_with(name)).map(|line| line.rsplit(' ').next().unwrap());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn idle_and_slow_sockets_on_every_port_keep_neither_phones_nor_students_out() {
    let folder = TempDir::new().unwrap();
    let server = Server::start(limited(folder.path()).to_str().unwrap(), &["--open"]);
    let addresses = &server.addresses;
    let slow = b"POST /api/token HTTP/1.1\r\nHost: lesson\r\nContent-Length: 100\r\n\r\nabc";
    let mut crowds = Vec::new();
    for (port, said) in [
        (addresses.http, &b""[..]),
        (addresses.http, slow),
        (addresses.whep, b""),
        (addresses.whep, slow),
        (addresses.whep, b"GET / HTTP/1.1\r\nHost: le"),
        (addresses.media, b""),
        (addresses.media, b"\x01\x00half of a frame (RFC 4571)"),
        (addresses.rtmp, b""),
        (addresses.rtmp, b"\x03half of a handshake"),
    ] {
        crowds.push(crowd(port, said).await);
    }
    let mut publisher = publish(&server);
    let deadline = tokio::time::Instant::now() + LIVE;
    while join(&server).await != Some(StatusCode::CREATED) {
        assert!(tokio::time::Instant::now() < deadline, "nobody can join: {:?}", join(&server).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // All the while more of them come.
    for said in [&b""[..], slow] {
        crowds.push(crowd(addresses.http, said).await);
        crowds.push(crowd(addresses.whep, said).await);
        crowds.push(crowd(addresses.media, said).await);
        assert_eq!(join(&server).await, Some(StatusCode::CREATED));
    }
    assert!(publisher.is_running());
    assert!(metric(&server, "lectern_connections_closed_total").await > 0.0, "the limit was reached");
    assert!(
        metric(&server, "lectern_rtc_connections_refused_total").await > 0.0,
        "so was the limit of media over TCP"
    );
    assert!(metric(&server, "lectern_connections{").await < f64::from(DESCRIPTORS) * 0.6);
    assert!(metric(&server, "lectern_ingest_publishers_total").await > 0.0);
}
