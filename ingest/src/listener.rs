//! The RTMP ports: plain, and over TLS.
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use control::Client;
use hub::Hub;
use process::accept::{self, Accepted, Acceptor};
use process::connections::{Connections, Limits};
use process::drain::Draining;
use process::tls::Tls;
use prometheus::Registry;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection;
use crate::metrics::{Metrics, register_hub};
use crate::pool::Pool;
use crate::transcode::Redundancy;

/// How the RTMP side is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where publishers connect.
    pub listen: SocketAddr,
    /// Where publishers connect that speak TLS, when there is a certificate.
    pub tls_listen: SocketAddr,
    /// Whether publishers may come without TLS when there is a certificate.
    pub plain: bool,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one IPv4 address or IPv6 /64. A school is often behind one.
    pub connections_per_address_max: usize,
    /// Lets packets of Opus carry a copy of the one before them, against loss.
    pub opus_fec: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 1935).into(),
            tls_listen: (Ipv6Addr::UNSPECIFIED, 1936).into(),
            plain: true,
            connections_max: 1024,
            connections_per_address_max: 256,
            opus_fec: false,
        }
    }
}

/// The RTMP side with its ports held and nothing running.
#[derive(Debug)]
pub struct Bound {
    plain: Option<(TcpListener, SocketAddr)>,
    secure: Option<(TcpListener, SocketAddr, Tls)>,
    config: Config,
    metrics: Metrics,
    registry: Registry,
}

/// What the RTMP side works with.
#[derive(Debug)]
pub struct Context {
    /// Where streams go.
    pub hub: Hub,
    /// Who knows the stream keys.
    pub control: Client,
    /// The node's name.
    pub node: String,
    /// Whether it takes no new publishers.
    pub draining: Draining,
    /// Counts connections.
    pub accept: accept::Metrics,
    /// Connections that the process has descriptors for.
    pub connections_max: usize,
}

/// Takes the ports; with a certificate, that of RTMPS too.
pub fn bind(config: Config, tls: Option<Tls>, registry: &Registry) -> io::Result<Bound> {
    let plain = if config.plain || tls.is_none() { Some(accept::listen(config.listen)?) } else { None };
    let secure = match tls {
        Some(tls) => {
            let (listener, address) = accept::listen(config.tls_listen)?;
            Some((listener, address, tls))
        }
        None => None,
    };
    let metrics = Metrics::new(registry).map_err(io::Error::other)?;
    Ok(Bound { plain, secure, config, metrics, registry: registry.clone() })
}

impl Bound {
    /// Where publishers connect without TLS, if they may.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(|(_, address)| *address)
    }

    /// Where publishers connect with TLS, if there is a certificate.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(|(_, address, _)| *address)
    }

    /// Serves publishers until drained.
    pub async fn run(self, context: Context, drain: CancellationToken) -> io::Result<()> {
        let Context { hub, control, node, draining, accept, connections_max } = context;
        let redundancy = if self.config.opus_fec { Redundancy::InBandFec } else { Redundancy::None };
        let pool = Pool::start()?;
        register_hub(&self.registry, &hub).map_err(io::Error::other)?;
        let limits = rtmp::Limits::default();
        let metrics = self.metrics;
        let takeovers = Arc::default();
        let shared = connection::Context {
            hub,
            control,
            node,
            limits,
            redundancy,
            pool,
            metrics,
            takeovers,
            draining,
        };
        let connections = Connections::new(Limits {
            connections_max: self.config.connections_max.min(connections_max),
            per_network_max: self.config.connections_per_address_max,
        });
        let port = |name: &'static str, listener: TcpListener, tls: Option<Tls>| Port {
            acceptor: Acceptor::new(listener, name, connections.clone(), accept.clone()),
            tls,
        };
        let plain = self.plain.map(|(listener, _)| port("rtmp", listener, None));
        let secure = self.secure.map(|(listener, _, tls)| port("rtmps", listener, Some(tls)));
        let shared = Arc::new(shared);
        let run = async |port: Option<Port>| {
            if let Some(port) = port {
                port.run(Arc::clone(&shared), drain.clone()).await;
            }
        };
        tokio::join!(run(plain), run(secure));
        Ok(())
    }
}

/// One listening port.
struct Port {
    acceptor: Acceptor,
    tls: Option<Tls>,
}

impl Port {
    async fn run(mut self, shared: Arc<connection::Context>, drain: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.acceptor.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                () = drain.cancelled() => break,
            };
            let serve = serve(Arc::clone(&shared), self.tls.clone(), accepted, drain.clone());
            connections.spawn(serve);
        }
        drop(self.acceptor);
        while connections.join_next().await.is_some() {}
    }
}

/// Serves one connection to its end, which also comes when it does not publish and another needs its place.
async fn serve(
    shared: Arc<connection::Context>,
    tls: Option<Tls>,
    Accepted { stream, peer, seat }: Accepted,
    drain: CancellationToken,
) {
    let closed = seat.closed();
    let metrics = shared.metrics.clone();
    let converse = async move {
        match tls {
            None => connection::serve(shared, Box::new(stream), peer, seat, drain).await,
            Some(tls) => {
                let accepted = tokio::select! {
                    accepted = tls.accept_rtmp(stream) => accepted,
                    () = drain.cancelled() => return,
                };
                match accepted {
                    Ok(stream) => connection::serve(shared, Box::new(stream), peer, seat, drain).await,
                    Err(error) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                }
            }
        }
    };
    metrics.connections.inc();
    tokio::select! {
        () = converse => {}
        () = closed.cancelled() => {}
    }
    metrics.connections.dec();
}
