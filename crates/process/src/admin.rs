//! The port for operators: metrics and probes.
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::address::canonical;
use crate::connections::{Connections, Limits};
use crate::drain::Draining;
use crate::serve::{Front, PlainHttp, Server};

/// Connections of operators: a browser, a collector, the probes of an orchestrator.
const CONNECTIONS_MAX: usize = 64;

/// The port, held.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// What it tells of.
#[derive(Debug)]
pub struct Context {
    /// The metrics.
    pub registry: Registry,
    /// Counts its own connections.
    pub metrics: accept::Metrics,
    /// Cancelled when the process begins to drain: it is not ready then.
    pub leaving: CancellationToken,
    /// Cancelled when a role has ended that should not have: the process is not alive then.
    pub failed: CancellationToken,
    /// What operators let begin and undo.
    pub draining: Draining,
}

/// Takes the port.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let (listener, address) = accept::listen(address)?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Where it is.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until drained.
    pub async fn run(self, context: Context, drain: CancellationToken) -> io::Result<()> {
        let Context { registry, metrics, leaving, failed, draining } = context;
        let probe = |fault: Option<&'static str>| match fault {
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
            None => (StatusCode::OK, "ok\n"),
        };
        let standing = draining.clone();
        let is_leaving = move || leaving.is_cancelled() || standing.is_on();
        let router = Router::new()
            .route("/metrics", get(async move || text(&registry)))
            .route("/livez", get(async move || probe(failed.is_cancelled().then_some("a role has failed\n"))))
            .route("/readyz", get(async move || probe(is_leaving().then_some("draining\n"))))
            .route("/drain", get(show_drain).post(begin_drain).delete(undo_drain))
            .layer(middleware::from_fn(only_here))
            .with_state(draining);
        // A table of its own: whatever strangers do, operators get in.
        let limits = Limits { connections_max: CONNECTIONS_MAX, per_network_max: CONNECTIONS_MAX };
        let front = Front { connections: Connections::new(limits), metrics, tls: None };
        let server = Server { port: "admin", router, front, plain: PlainHttp::Refuse };
        server.run(self.listener, drain).await;
        Ok(())
    }
}

/// For how long.
#[derive(Debug, Deserialize)]
struct DrainFor {
    seconds: Option<u32>,
}

async fn show_drain(State(draining): State<Draining>) -> String {
    match draining.deadline() {
        Some(deadline) => {
            format!(
                "draining, for {} s at most\n",
                deadline.saturating_duration_since(Instant::now()).as_secs()
            )
        }
        None => "not draining\n".to_owned(),
    }
}

/// Only this machine may let the process drain, and no page in a browser of it: pages name their origin with such requests.
async fn only_here(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_here = canonical(peer).ip().is_loopback() && !request.headers().contains_key(ORIGIN);
    if is_change && !is_here {
        return (StatusCode::FORBIDDEN, "this is for programs of the same machine\n").into_response();
    }
    next.run(request).await
}

async fn begin_drain(
    State(draining): State<Draining>,
    Query(DrainFor { seconds }): Query<DrainFor>,
) -> String {
    tracing::info!("an operator lets this process drain");
    draining.begin(seconds.map(|seconds| Duration::from_secs(seconds.into())));
    show_drain(State(draining)).await
}

async fn undo_drain(State(draining): State<Draining>) -> String {
    tracing::info!("an operator lets this process go on");
    draining.undo();
    show_drain(State(draining)).await
}

fn text(registry: &Registry) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// The whole answer, head and body.
    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path}")).await
    }

    async fn ask(address: SocketAddr, what: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{what} HTTP/1.1\r\nHost: operators\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_process_is_ready_until_it_leaves_and_alive_until_a_role_fails() {
        let registry = Registry::new();
        let counter = IntCounter::new("lessons_total", "Lessons").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let [leaving, failed, drain] = std::array::from_fn(|_| CancellationToken::new());
        let bound = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = bound.local_addr();
        let metrics = accept::Metrics::new(&registry).unwrap();
        let draining = Draining::new(Duration::from_secs(30));
        let context = Context {
            registry,
            metrics,
            leaving: leaving.clone(),
            failed: failed.clone(),
            draining: draining.clone(),
        };
        let running = tokio::spawn(bound.run(context, drain.clone()));

        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        counter.inc_by(3);
        assert!(get(address, "/metrics").await.contains("\nlessons_total 3\n"));

        assert!(ask(address, "POST /drain?seconds=120").await.contains("draining, for 1"));
        assert!(draining.is_on() && get(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        let by_page = ask(address, "POST /drain?seconds=0 HTTP/1.1\r\nOrigin: null\r\nX-Rest:").await;
        assert!(by_page.starts_with("HTTP/1.1 403"), "{by_page}");
        assert!(ask(address, "DELETE /drain").await.ends_with("not draining\n"));
        assert!(!draining.is_on() && get(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        leaving.cancel();
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"), "{answer}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"), "it still has viewers to serve");

        failed.cancel();
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 503"));

        drain.cancel();
        running.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_before_anything_runs() {
        let first = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let error = bind(first.local_addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
