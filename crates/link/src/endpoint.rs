//! The UDP port on which a node speaks to others, and the connections to them.
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use hub::Hub;
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::peer::Peer;
use crate::serve;
use crate::stats::Stats;
use crate::window::Window;

/// Bytes that the system keeps for us when many streams have keyframes at once: with its default 4 % were lost on loopback.
const SOCKET_BYTES: usize = 16 << 20;
/// A node that is silent for this long is gone: its streams are looked for elsewhere.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// What keeps a connection from being silent.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Streams that one node pulls from another.
const SUBSCRIPTIONS_MAX: u32 = 4096;
/// Groups under way at once: each stream has two, and a few that are late.
const GROUPS_MAX: u32 = 4 * SUBSCRIPTIONS_MAX;
/// Bytes of one group, and of all, that a node has not read yet.
const STREAM_WINDOW: u32 = 6 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Packets that must overtake one until it counts as lost at once; else it is lost by its time. With the usual 3, a network that
/// reorders by 2 ms makes QUIC send a burst of pictures twice (in `crates/link/tests/wire`, 20 streams: 73 ms instead of 34
/// for one frame in a hundred).
const PACKET_THRESHOLD: u32 = 128;
/// Handshakes at once: each is a signature. With half of them under way, whoever comes must first show that he is where he says.
const HANDSHAKES_MAX: usize = 256;
/// Until a handshake is over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node cannot speak to another.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Its port is taken.
    #[error("cannot listen for other nodes on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The other node has no name that a certificate could bear.
    #[error("{0:?} cannot be a node's name")]
    Name(String),
    /// It cannot be reached, or is not who it should be.
    #[error("cannot connect to the node {node} at {address}: {reason}")]
    Connect {
        /// Which node.
        node: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Connections by node and address. Each has a lock of its own, so that one that does not answer holds up no other.
type Peers = std::sync::Mutex<HashMap<(String, SocketAddr), Arc<Mutex<Option<Peer>>>>>;

/// A node's end of all its links; clones share it.
#[derive(Clone, Debug)]
pub struct Link {
    endpoint: Endpoint,
    identity: Identity,
    hub: Hub,
    peers: Arc<Peers>,
    stats: Stats,
}

impl Link {
    /// Takes the port. What the hub has can be pulled once [`Self::run`] runs.
    pub fn bind(listen: SocketAddr, identity: Identity, hub: Hub) -> Result<Self, LinkError> {
        let bound = socket(listen).and_then(|socket| {
            let mut server = quinn::ServerConfig::with_crypto(identity.server());
            server.transport_config(Arc::new(transport(&Window::default())));
            Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))
        });
        let endpoint = bound.map_err(|error| LinkError::Bind(listen, error))?;
        Ok(Self { endpoint, identity, hub, peers: Arc::default(), stats: Stats::default() })
    }

    /// The port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        self.identity.node()
    }

    /// Where the streams are.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What its links carry.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Serves the nodes that pull from this one until drained.
    pub async fn run(&self, drain: CancellationToken) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                () = drain.cancelled() => break,
            };
            let Some(incoming) = incoming else { break };
            let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
                incoming.ignore();
                continue;
            };
            if handshakes.available_permits() < HANDSHAKES_MAX / 2 && !incoming.remote_address_validated() {
                // Whoever does not get the answer does not come again. One that cannot be told so has been told before.
                let _ = incoming.retry();
                continue;
            }
            let window = Window::default();
            let mut config = quinn::ServerConfig::with_crypto(self.identity.server());
            let mut transport = transport(&window);
            // Who pulls asks, and sends nothing else.
            transport.max_concurrent_uni_streams(VarInt::from_u32(0));
            config.transport_config(Arc::new(transport));
            let Ok(connecting) = incoming.accept_with(Arc::new(config)) else { continue };
            let (hub, node, stats) = (self.hub.clone(), self.node().to_owned(), self.stats.clone());
            let offer = serve::Offer { hub, node, stats };
            tokio::spawn(async move {
                let connected = connecting.await;
                drop(handshake);
                match connected {
                    Ok(connection) => serve::serve(connection, offer, window).await,
                    Err(error) => tracing::warn!(%error, "a node was refused"),
                }
            });
        }
        self.endpoint.close(VarInt::from_u32(0), b"drained");
    }

    /// The connection to a node: the one that there is, or a new one.
    pub(crate) async fn peer(&self, node: &str, address: SocketAddr) -> Result<Peer, LinkError> {
        // The wait for another stream that connects to the same node is part of it: all of them give up at the same time.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(node, address)).await;
        let no_answer =
            || LinkError::Connect { node: node.to_owned(), address, reason: "no answer".to_owned() };
        connected.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn connect(&self, node: &str, address: SocketAddr) -> Result<Peer, LinkError> {
        let slot = self.slot(node, address);
        // Held while it connects: two streams from one node need one connection.
        let mut slot = slot.lock().await;
        if let Some(peer) = slot.as_ref().filter(|peer| peer.is_open()) {
            return Ok(peer.clone());
        }
        let name = control::certificate_name(node).ok_or_else(|| LinkError::Name(node.to_owned()))?;
        let refused = |reason: String| LinkError::Connect { node: node.to_owned(), address, reason };
        let mut config = quinn::ClientConfig::new(self.identity.client());
        config.transport_config(Arc::new(transport(&Window::default())));
        let connecting =
            self.endpoint.connect_with(config, address, &name).map_err(|error| refused(error.to_string()))?;
        let peer = Peer::new(connecting.await.map_err(|error| refused(error.to_string()))?);
        *slot = Some(peer.clone());
        Ok(peer)
    }

    fn slot(&self, node: &str, address: SocketAddr) -> Arc<Mutex<Option<Peer>>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has those that are not being used or connected.
        peers.retain(|_, slot| {
            let is_dead = slot.try_lock().is_ok_and(|peer| !peer.as_ref().is_some_and(Peer::is_open));
            !is_dead || Arc::strong_count(slot) > 1
        });
        Arc::clone(peers.entry((node.to_owned(), address)).or_default())
    }
}

/// How QUIC is to carry live media: bounded, and not slowed down by every loss.
pub fn transport(window: &Window) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(SUBSCRIPTIONS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(GROUPS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .packet_threshold(PACKET_THRESHOLD)
        .congestion_controller_factory(Arc::new(window.clone()));
    config
}

fn socket(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Where the system allows less, it gives what it allows.
    socket.set_recv_buffer_size(SOCKET_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
