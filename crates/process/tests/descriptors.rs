//! A server that runs out of descriptors, in a process of its own.
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use process::connections::Limits;
use process::serve::{Front, PlainHttp, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Files that the server may open; its table of connections would take thousands.
const DESCRIPTORS: u64 = 40;
/// Less than the 10 s after which idle connections would have ended by themselves.
const ANSWERED: Duration = Duration::from_secs(8);

/// Not a test but the process of one.
#[tokio::test]
#[ignore = "no test: the one below starts it, in `cargo test`"]
async fn a_server_with_few_descriptors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum }).unwrap();
    println!("\nport {}", listener.local_addr().unwrap());
    let router = Router::new().route("/", get(async || "served"));
    let front = Front::unregistered(Limits::default());
    let server = Server { port: "http", router, front, plain: PlainHttp::Redirect };
    server.run(listener, CancellationToken::new()).await;
}

#[tokio::test]
async fn who_runs_out_of_descriptors_closes_idle_connections_and_goes_on() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_with_few_descriptors", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port =
        lines.map(Result::unwrap).find_map(|line| line.strip_prefix("port ").map(str::to_owned)).unwrap();
    let mut idle = Vec::new();
    for _ in 0..DESCRIPTORS * 2 {
        idle.push(TcpStream::connect(&port).await.unwrap());
    }
    let served = async {
        let mut stream = TcpStream::connect(&port).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let served = tokio::time::timeout(ANSWERED, served).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(served.unwrap().ends_with("served"));
    drop(idle);
}
