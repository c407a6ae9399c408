//! Accepting TCP connections: whatever goes wrong, it goes on.
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::address::canonical;
use crate::connections::{Connections, Refused, Seat};

/// Connections that the kernel completes before they are accepted. The standard library asks for 128, and a school that
/// opens the lesson at once is more: beyond it a handshake is dropped, and repeated a second later.
const BACKLOG: i32 = 4096;
/// After an error: descriptors become free within a moment, because connections that wait are closed.
const PAUSE: Duration = Duration::from_millis(20);
/// What is sent to a peer and not acknowledged for this long ends its connection.
const GONE_TIMEOUT: Duration = Duration::from_secs(25);
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
                "TCP connections that waited and were closed in favour of others",
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

/// Takes a port. `[::]` takes IPv4 as well, and becomes `0.0.0.0` on a machine without IPv6.
pub fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = or_v4(address, hold)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

fn or_v4<T>(address: SocketAddr, hold: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let has_no_v6 = |error: &io::Error| {
        let errno = error.raw_os_error().map(Errno::from_raw);
        matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
    };
    match hold(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && has_no_v6(&error) => {
            tracing::info!(port = address.port(), "this machine has no IPv6; the port is IPv4 only");
            hold((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        outcome => outcome,
    }
}

fn hold(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted server takes its port while connections of the one before are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Where it comes from, an IPv4 client by its IPv4 address.
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
    /// For a port that [`listen`] took and metrics call `port`.
    pub fn new(
        listener: TcpListener,
        port: &'static str,
        connections: Connections,
        metrics: Metrics,
    ) -> Self {
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
                    let peer = canonical(peer);
                    if let Some(seat) = self.admit(peer) {
                        // An answer is one write, which must not wait for the acknowledgement of the one before.
                        let _ = stream.set_nodelay(true);
                        // A peer that is gone without a word takes nothing, and is not waited for as long as TCP would.
                        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(GONE_TIMEOUT));
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
        if self.connections.close_one() {
            self.metrics.closed.with_label_values(&[self.port]).inc();
        }
        self.resume_at = Some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acceptor(listener: TcpListener) -> Acceptor {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        Acceptor::new(listener, "http", Connections::new(crate::connections::Limits::default()), metrics)
    }

    #[tokio::test]
    async fn one_port_takes_both_families_and_names_ipv4_clients_by_their_ipv4_address() {
        let (listener, bound) = listen("[::]:0".parse().unwrap()).unwrap();
        let mut acceptor = acceptor(listener);
        for loopback in ["127.0.0.1", "::1"] {
            let to = SocketAddr::new(loopback.parse().unwrap(), bound.port());
            let stream = TcpStream::connect(to).await.unwrap();
            let accepted = acceptor.accept().await;
            assert_eq!(accepted.peer, stream.local_addr().unwrap());
        }
    }

    #[tokio::test]
    async fn a_connection_closed_for_its_descriptor_is_counted() {
        let (listener, bound) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut acceptor = acceptor(listener);
        let out_of_descriptors = Errno::EMFILE.into();
        acceptor.on_error(&out_of_descriptors);
        let closed = acceptor.metrics.closed.with_label_values(&["http"]);
        assert_eq!(closed.get(), 0, "there is nobody to close");
        let _client = TcpStream::connect(bound).await.unwrap();
        let accepted = acceptor.accept().await;
        acceptor.on_error(&out_of_descriptors);
        assert!(accepted.seat.closed().is_cancelled());
        assert_eq!(closed.get(), 1);
    }

    #[test]
    fn a_machine_without_ipv6_is_served_over_ipv4_and_other_errors_stay_errors() {
        for errno in [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL, Errno::EADDRINUSE] {
            let hold = |address: SocketAddr| if address.is_ipv4() { Ok(address) } else { Err(errno.into()) };
            let bound = or_v4("[::]:8000".parse().unwrap(), hold).ok();
            let expected = (errno != Errno::EADDRINUSE).then(|| "0.0.0.0:8000".parse().unwrap());
            assert_eq!(bound, expected, "{errno}");
            assert!(
                or_v4("[2001:db8::1]:8000".parse().unwrap(), hold).is_err(),
                "another address is meant as it is"
            );
        }
    }
}
