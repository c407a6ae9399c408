//! The RTMP port.
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::Client;
use hub::Hub;
use prometheus::Registry;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Context};
use crate::metrics::{Metrics, register_hub};
use crate::pool::Pool;
use crate::transcode::Redundancy;

/// How the RTMP side is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where publishers connect.
    pub listen: SocketAddr,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address. A school is often behind one.
    pub connections_per_address_max: usize,
    /// Lets packets of Opus carry a copy of the one before them, against loss.
    pub opus_fec: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 1935).into(),
            connections_max: 1024,
            connections_per_address_max: 256,
            opus_fec: false,
        }
    }
}

/// The RTMP side with its port held and nothing running.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    metrics: Metrics,
    registry: Registry,
}

/// Takes the port.
pub async fn bind(config: Config, registry: &Registry) -> io::Result<Bound> {
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let metrics = Metrics::new(registry).map_err(io::Error::other)?;
    Ok(Bound { listener, address, config, metrics, registry: registry.clone() })
}

impl Bound {
    /// Where publishers connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves publishers until drained.
    pub async fn run(self, hub: Hub, control: Client, node: String, drain: CancellationToken) {
        let limits = rtmp::Limits::default();
        let redundancy = if self.config.opus_fec { Redundancy::InBandFec } else { Redundancy::None };
        let pool = match Pool::start() {
            Ok(pool) => pool,
            Err(error) => return tracing::error!(%error, "audio threads cannot be started"),
        };
        if let Err(error) = register_hub(&self.registry, &hub) {
            tracing::warn!(%error, "the hub's metrics cannot be registered");
        }
        let metrics = self.metrics;
        let context = Arc::new(Context { hub, control, node, limits, redundancy, pool, metrics });
        let mut connections = JoinSet::new();
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    release(&mut by_address, ended);
                    continue;
                }
                () = drain.cancelled() => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the peer has gone: others end, and then it goes on.
                    tracing::warn!(%error, "a publisher cannot be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            };
            let ip = peer.ip().to_canonical();
            let from_here = by_address.get(&ip).copied().unwrap_or(0);
            if connections.len() >= self.config.connections_max
                || from_here >= self.config.connections_per_address_max
            {
                context.metrics.connections_refused.inc();
                continue;
            }
            by_address.insert(ip, from_here + 1);
            let serve = connection::serve(Arc::clone(&context), socket, peer, drain.clone());
            connections.spawn(async move {
                serve.await;
                ip
            });
        }
        while let Some(ended) = connections.join_next().await {
            release(&mut by_address, ended);
        }
    }
}

fn release(by_address: &mut HashMap<IpAddr, usize>, ended: Result<IpAddr, tokio::task::JoinError>) {
    let Ok(ip) = ended else { return };
    if let Some(count) = by_address.get_mut(&ip) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            by_address.remove(&ip);
        }
    }
}
