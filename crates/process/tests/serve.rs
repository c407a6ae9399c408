//! The HTTP server against clients that idle, dawdle and crowd.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::{get, post};
use process::address::Scheme;
use process::connections::Limits;
use process::serve::{Front, Local, PlainHttp, Server, run_local};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: lesson\r\n\r\n";
/// Longer than anything that is waited for, and short where the clock is the test's.
const EVER: Duration = Duration::from_secs(60);

/// RFC 6298, section 2: a lost SYN is repeated after a second.
const RETRANSMISSION: Duration = Duration::from_secs(1);

struct Running {
    address: SocketAddr,
    drain: CancellationToken,
    task: JoinHandle<()>,
}

fn start(limits: Limits, router: Router) -> Running {
    let (listener, address) = process::accept::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let drain = CancellationToken::new();
    let server =
        Server { port: "http", router, front: Front::unregistered(limits), plain: PlainHttp::Redirect };
    Running { address, drain: drain.clone(), task: tokio::spawn(server.run(listener, drain)) }
}

fn hello() -> Router {
    Router::new()
        .route("/", get(async |Extension(Scheme(scheme)): Extension<Scheme>| scheme))
        .route("/upload", post(async |body: axum::body::Bytes| body.len().to_string()))
}

async fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

/// Sends a request and reads as much as is there of the answer.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    stream.write_all(GET).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// Whether the server has closed the connection; what it said before is read over.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(EVER, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_an_idle_connection() {
    let running = start(Limits { connections_max: 3, per_network_max: 3 }, hello());
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(connect(&running).await);
    }
    // The first has asked for something since: it is the second that has waited longest.
    assert!(ask(&mut idle[0]).await.starts_with("HTTP/1.1 200"));
    let mut newcomer = connect(&running).await;
    assert!(ask(&mut newcomer).await.ends_with("http"));
    assert!(is_closed(&mut idle[1]).await);
    assert!(ask(&mut idle[0]).await.starts_with("HTTP/1.1 200"), "it kept its place");
}

#[tokio::test]
async fn connections_at_work_are_kept_and_newcomers_refused() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, end) = (Arc::clone(&entered), Arc::clone(&leave));
    let router = Router::new().route(
        "/",
        get(async move || {
            begun.notify_one();
            end.notified().await;
        }),
    );
    let running = start(Limits { connections_max: 1, per_network_max: 1 }, router);
    let mut busy = connect(&running).await;
    busy.write_all(GET).await.unwrap();
    entered.notified().await;
    assert!(is_closed(&mut connect(&running).await).await);
    leave.notify_one();
    let mut answer = [0; 12];
    busy.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

/// The server does not run while the clients connect: a runtime of one thread, which is theirs.
#[tokio::test]
async fn a_school_that_connects_at_once_is_not_kept_waiting_by_the_kernel() {
    let running = start(Limits::default(), hello());
    let mut ready = connect(&running).await;
    assert!(ask(&mut ready).await.starts_with("HTTP/1.1 200"), "it listens");
    let begun = std::time::Instant::now();
    let school: Vec<_> = (0..600).map(|_| std::net::TcpStream::connect(running.address).unwrap()).collect();
    assert!(begun.elapsed() < RETRANSMISSION, "{:?}", begun.elapsed());
    drop((ready, school));
}

/// The clock of these tests jumps whenever everybody waits, so a minute takes no time.
#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_or_half_a_head_is_closed_on() {
    let running = start(Limits::default(), hello());
    for said in [&b""[..], b"GET / HTTP/1.1\r\nHost: le"] {
        let mut stream = connect(&running).await;
        stream.write_all(said).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(is_closed(&mut stream).await, "{said:?}");
        assert!(begun.elapsed() < EVER / 2, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_dawdles_is_not_waited_for() {
    let running = start(Limits::default(), hello());
    let mut stream = connect(&running).await;
    stream.write_all(b"POST /upload HTTP/1.1\r\nHost: lesson\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_connection_whose_body_is_on_its_way_can_make_room() {
    let running = start(Limits { connections_max: 1, per_network_max: 1 }, hello());
    let mut slow = connect(&running).await;
    slow.write_all(b"POST /upload HTTP/1.1\r\nHost: lesson\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let mut newcomer = connect(&running).await;
    assert!(ask(&mut newcomer).await.starts_with("HTTP/1.1 200"));
    assert!(is_closed(&mut slow).await);
}

#[tokio::test]
async fn a_request_that_is_being_served_is_finished_in_the_drain() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, end) = (Arc::clone(&entered), Arc::clone(&leave));
    let router = Router::new().route(
        "/",
        get(async move || {
            begun.notify_one();
            end.notified().await;
            "finished"
        }),
    );
    let running = start(Limits::default(), router);
    let (mut stream, mut idle) = (connect(&running).await, connect(&running).await);
    stream.write_all(GET).await.unwrap();
    entered.notified().await;
    running.drain.cancel();
    assert!(is_closed(&mut idle).await);
    leave.notify_one();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("finished"), "{answer}");
    running.task.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn requests_over_a_socket_in_the_file_system_are_marked() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("operator.sock");
    let router =
        Router::new().route("/", get(async |local: Option<Extension<Local>>| local.is_some().to_string()));
    let drain = CancellationToken::new();
    let local = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(run_local(local, router.clone(), drain.clone()));
    assert!(ask(&mut UnixStream::connect(&path).await.unwrap()).await.ends_with("true"));
    let running = start(Limits::default(), router);
    assert!(ask(&mut connect(&running).await).await.ends_with("false"), "not over TCP");
    drain.cancel();
    task.await.unwrap();
}
