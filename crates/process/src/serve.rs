//! HTTP for strangers: every wait for a client has an end, and so has the number of clients.
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept::{Accepted, Acceptor, Metrics};
use crate::address::Scheme;
use crate::connections::{Connections, Limits, Seat};
use crate::stall::Stall;
use crate::tls::{self, Tls};

/// From the first byte of a connection, or from the answer before, to the whole head of a request: also how long a
/// connection may idle. A phone on a bad network needs two seconds.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From a request's head to its answer's, its body included: an offer has 7 kB, and a heartbeat 1 MB at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take nothing of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests that are being served may take after the drain began. They take milliseconds, and what comes after
/// them in the drain must not wait for a client that dawdles.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);
/// Bytes of a request's head: a token in the URL has 500, a browser's headers 2,000.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// After a connection to a socket in the file system could not be accepted: descriptors become free meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections to a socket in the file system: programs of the operator, one call each.
const LOCAL_MAX: usize = 64;

/// The request came over a socket in the file system, whose mode says who may connect: as an extension of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local;

/// What the public ports of a process have in common; clones share it.
#[derive(Clone, Debug)]
pub struct Front {
    /// Who is connected to them.
    pub connections: Connections,
    /// What is counted of it.
    pub metrics: Metrics,
    /// The certificate, if they speak TLS.
    pub tls: Option<Tls>,
}

impl Front {
    /// Without TLS, with metrics that nobody reads: for tests.
    pub fn unregistered(limits: Limits) -> Self {
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("an empty registry takes every name");
        Self { connections: Connections::new(limits), metrics, tls: None }
    }
}

impl Default for Front {
    fn default() -> Self {
        Self::unregistered(Limits::default())
    }
}

/// What a port that speaks TLS does with plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Sends browsers to the same address under https, unless they send more than an address.
    Redirect,
    /// Says what is wrong: a client that has sent a token in the clear must not do so again unnoticed.
    Refuse,
}

/// One port's half of HTTP.
#[derive(Clone, Debug)]
pub struct Server {
    /// What metrics call the port.
    pub port: &'static str,
    /// What it answers.
    pub router: Router,
    /// What it shares with other ports.
    pub front: Front,
    /// What happens to plain HTTP when it speaks TLS.
    pub plain: PlainHttp,
}

impl Server {
    /// Serves until drained; requests that are being served then are finished.
    pub async fn run(self, listener: TcpListener, drain: CancellationToken) {
        let Front { connections, metrics, .. } = self.front.clone();
        let mut acceptor = Acceptor::new(listener, self.port, connections, metrics);
        let shared = Arc::new(self);
        let mut tasks = JoinSet::new();
        loop {
            let Accepted { stream, peer, seat } = tokio::select! {
                accepted = acceptor.accept() => accepted,
                // A panic in a request has been logged by the panic hook.
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                () = drain.cancelled() => break,
            };
            let (shared, drain) = (Arc::clone(&shared), drain.clone());
            tasks.spawn(async move {
                let (closed, seat) = (seat.closed(), Arc::new(seat));
                tokio::select! {
                    () = shared.converse(stream, peer, seat, drain) => {}
                    () = closed.cancelled() => {}
                }
            });
        }
        drop(acceptor);
        finish(tasks).await;
    }

    async fn converse(&self, stream: TcpStream, peer: SocketAddr, seat: Arc<Seat>, drain: CancellationToken) {
        let timeouts = Some(self.front.metrics.timeouts(self.port));
        let connection = Connection { seat, peer: Some(peer), scheme: "http", timeouts, drain };
        let Some(tls) = &self.front.tls else {
            return connection.serve(Stall::new(stream, STALL_TIMEOUT), self.router.clone()).await;
        };
        let is_tls = tokio::time::timeout(HEAD_TIMEOUT, tls::is_client_hello(&stream));
        let stream = match is_tls.await {
            Ok(Ok(true)) => Stall::new(stream, STALL_TIMEOUT),
            Ok(Ok(false)) => {
                let router = tls::plain_http(self.plain);
                return connection.serve(Stall::new(stream, STALL_TIMEOUT), router).await;
            }
            Ok(Err(_)) | Err(_) => return,
        };
        match tls.accept_http(stream).await {
            Ok(stream) => {
                let connection = Connection { scheme: "https", ..connection };
                connection.serve(stream, self.router.clone()).await;
            }
            Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        }
    }
}

/// Serves a socket in the file system until drained. Every request carries [`Local`].
pub async fn run_local(listener: UnixListener, router: Router, drain: CancellationToken) {
    let connections = Connections::new(Limits { connections_max: LOCAL_MAX, per_network_max: LOCAL_MAX });
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            () = drain.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the operator's socket cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok((seat, _)) = connections.admit(Ipv4Addr::LOCALHOST.into()) else { continue };
        let closed = seat.closed();
        let connection = Connection {
            seat: Arc::new(seat),
            peer: None,
            scheme: "http",
            timeouts: None,
            drain: drain.clone(),
        };
        let serve = connection.serve(Stall::new(stream, STALL_TIMEOUT), router.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = serve => {}
                () = closed.cancelled() => {}
            }
        });
    }
    finish(tasks).await;
}

/// Waits for the connections, each of which ends with the request that it serves; the rest is aborted.
async fn finish(mut tasks: JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, all).await;
}

/// One connection, whatever it runs over.
struct Connection {
    seat: Arc<Seat>,
    /// None for a socket in the file system.
    peer: Option<SocketAddr>,
    scheme: &'static str,
    timeouts: Option<IntCounter>,
    drain: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
        let Self { seat, peer, scheme, timeouts, drain } = self;
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(Scheme(scheme));
            if peer.is_none() {
                extensions.insert(Local);
            }
            extensions.insert(ConnectInfo(peer.unwrap_or((Ipv4Addr::LOCALHOST, 0).into())));
            if request.body().is_end_stream() {
                seat.work();
            }
            let request = request.map(|body| Body::new(Arriving { body, seat: Arc::clone(&seat) }));
            let (router, seat, timeouts) = (router.clone(), Arc::clone(&seat), timeouts.clone());
            async move {
                let answer = answer(router, request, timeouts.as_ref()).await;
                // Who is told of things as they happen is served for as long as it listens.
                if !is_told_events(&answer) {
                    seat.wait();
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = drain.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(?peer, %error, "HTTP connection ended");
        }
    }
}

fn is_told_events(answer: &Response) -> bool {
    answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

async fn answer(
    router: TowerToHyperService<Router>,
    request: Request,
    timeouts: Option<&IntCounter>,
) -> Response {
    let answer = hyper::service::Service::call(&router, request);
    match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(_) => {
            if let Some(timeouts) = timeouts {
                timeouts.inc();
            }
            let close = [(CONNECTION, HeaderValue::from_static("close"))];
            (StatusCode::REQUEST_TIMEOUT, close, "the request took too long\n").into_response()
        }
    }
}

/// A request's body. While it comes, the client is waited for; from its end on, something is done for it.
struct Arriving {
    body: Incoming,
    seat: Arc<Seat>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.seat.work();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
