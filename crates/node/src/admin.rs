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
