//! Accepting TCP connections: whatever goes wrong, it goes on.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::connections::{Connections, Refused, Seat};

/// Connections that the kernel completes before they are accepted. The standard library asks for 128, and a school that
/// opens the lesson at once is more: beyond it a handshake is dropped, and repeated a second later.
const BACKLOG: i32 = 4096;
/// After an error: descriptors become free within a moment, because connections that wait are closed.
const PAUSE: Duration = Duration::from_millis(20);
/// Errors come in crowds, and one line says it.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Why a connection is refused, as the metrics say it.
const FULL: &str = "full";
const NETWORK_FULL: &str = "network";

/// What is counted of connections, by port; clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    open: IntGaugeVec,
    refused: IntCounterVec,
    closed: IntCounterVec,
    errors: IntCounterVec,
    timeouts: IntCounterVec,
}

impl Metrics {
    /// Registered with `registry`.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(format!("lectern_{name}"), help), labels)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let open = IntGaugeVec::new(Opts::new("lectern_connections", "TCP connections open now"), &["port"])?;
        registry.register(Box::new(open.clone()))?;
        Ok(Self {
            open,
            refused: counter(
                "connections_refused_total",
                "TCP connections refused: too many, and all of them at work",
                &["port", "reason"],
            )?,
            closed: counter(
                "connections_closed_total",
                "TCP connections accepted by closing another that waited",
                &["port"],
            )?,
            timeouts: counter("http_timeouts_total", "HTTP requests that took too long", &["port"])?,
            errors: counter("accept_errors_total", "TCP connections that could not be accepted", &["port"])?,
        })
    }
}

impl Metrics {
    /// Shows the counters of a port before they count: an alert cannot tell a rise from nothing.
    fn show(&self, port: &str) {
        self.open.with_label_values(&[port]);
        self.closed.with_label_values(&[port]);
        self.errors.with_label_values(&[port]);
        for reason in [FULL, NETWORK_FULL] {
            self.refused.with_label_values(&[port, reason]);
        }
    }

    /// Requests to a port that took too long.
    pub(crate) fn timeouts(&self, port: &str) -> IntCounter {
        self.timeouts.with_label_values(&[port])
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Its place.
    pub seat: Seat,
}

/// A listening port with its share of the connections.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    port: &'static str,
    connections: Connections,
    metrics: Metrics,
    resume_at: Option<Instant>,
    complained_at: Option<Instant>,
}

impl Acceptor {
    /// For a port that metrics call `port`.
    pub fn new(
        listener: TcpListener,
        port: &'static str,
        connections: Connections,
        metrics: Metrics,
    ) -> Self {
        // listen(2) again only changes the backlog.
        if let Err(error) = SockRef::from(&listener).listen(BACKLOG) {
            tracing::warn!(%error, port, "the backlog cannot be made longer");
        }
        metrics.show(port);
        Self { listener, port, connections, metrics, resume_at: None, complained_at: None }
    }

    /// The next connection that there is room for. Nothing is lost when this is cancelled.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            if let Some(at) = self.resume_at {
                tokio::time::sleep_until(at).await;
                self.resume_at = None;
            }
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(seat) = self.admit(peer) {
                        // An answer is one write, which must not wait for the acknowledgement of the one before.
                        let _ = stream.set_nodelay(true);
                        return Accepted { stream, peer, seat };
                    }
                }
                Err(error) => self.on_error(&error),
            }
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<Seat> {
        match self.connections.admit(peer.ip()) {
            Ok((seat, is_in_favour)) => {
                if is_in_favour {
                    self.metrics.closed.with_label_values(&[self.port]).inc();
                }
                Some(seat.counted_by(self.metrics.open.with_label_values(&[self.port])))
            }
            Err(refused) => {
                let reason = match refused {
                    Refused::Full => FULL,
                    Refused::NetworkFull => NETWORK_FULL,
                };
                self.metrics.refused.with_label_values(&[self.port, reason]).inc();
                None
            }
        }
    }

    /// Out of descriptors, most likely; or the peer has gone, which is no trouble at all.
    fn on_error(&mut self, error: &io::Error) {
        self.metrics.errors.with_label_values(&[self.port]).inc();
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        let now = Instant::now();
        if self.complained_at.is_none_or(|at| now - at >= COMPLAINT_INTERVAL) {
            self.complained_at = Some(now);
            tracing::warn!(%error, port = self.port, "connections cannot be accepted");
        }
        self.connections.close_one();
        self.resume_at = Some(now + PAUSE);
    }
}
