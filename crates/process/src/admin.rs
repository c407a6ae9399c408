//! The port for operators: metrics and probes.
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The port, held.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

/// Takes the port.
pub async fn bind(address: SocketAddr) -> io::Result<Bound> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok(Bound { listener, address })
}

impl Bound {
    /// Where it is.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `drain` is cancelled; from the moment that `leaving` is, the node says it is not ready.
    pub async fn run(
        self,
        registry: Registry,
        leaving: CancellationToken,
        drain: CancellationToken,
    ) -> io::Result<()> {
        let ready = move || async move {
            if leaving.is_cancelled() {
                (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            } else {
                (StatusCode::OK, "ok\n")
            }
        };
        let router = Router::new()
            .route("/metrics", get(async move || metrics(&registry)))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready));
        tokio::select! {
            outcome = axum::serve(self.listener, router) => outcome,
            () = drain.cancelled() => Ok(()),
        }
    }
}

fn metrics(registry: &Registry) -> Response {
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
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: operators\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_node_is_ready_until_it_leaves_and_alive_until_it_ends() {
        let registry = Registry::new();
        let counter = IntCounter::new("lessons_total", "Lessons").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        let (leaving, drain) = (CancellationToken::new(), CancellationToken::new());
        let bound = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = bound.local_addr();
        let running = tokio::spawn(bound.run(registry, leaving.clone(), drain.clone()));

        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        counter.inc_by(3);
        assert!(get(address, "/metrics").await.contains("\nlessons_total 3\n"));

        leaving.cancel();
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"), "{answer}");
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"), "it still has viewers to serve");

        drain.cancel();
        running.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error_before_anything_runs() {
        let first = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = bind(first.local_addr()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
