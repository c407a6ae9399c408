//! The WHEP port and the media port of a node.
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::api::Playback;
use control::{Client, TokenVerifier};
use hub::{Hub, Source};
use process::accept;
use process::address::TrustedProxies;
use process::drain::Draining;
use process::limiter::Limiter;
use process::serve::{Front, PlainHttp, Server};
use prometheus::Registry;
use rtc::{Counters, Engine, EngineHandle, Event};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::http::{self, App, IceServer, Links};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::stream::Streams;
use crate::{delivery, journal, moving, revoking};

/// For the last reports when the engine has ended: the coordinator of one machine answers in milliseconds, and the end of
/// the process waits for no other.
const LAST_REPORTS_MAX: Duration = Duration::from_millis(500);
/// Viewers without a token that the coordinator is asked about at a time: a quarter of its connections for nodes.
const GUESTS_ASKED_ABOUT: usize = 16;

/// How the WHEP side is set up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where players POST their offers.
    pub listen: SocketAddr,
    /// Where media comes from, UDP and TCP.
    pub media_listen: SocketAddr,
    /// The addresses that players are told for media. Empty: those of this machine.
    pub announce: Vec<IpAddr>,
    /// Threads that send. 0: one for each core.
    pub shards: usize,
    /// Viewers at once.
    pub viewers_max: usize,
    /// Connections for media over TCP at once, strangers' included.
    pub media_connections_max: usize,
    /// How many times faster than its stream a viewer may be sent the group of pictures that it starts from, and a
    /// large keyframe: enough to be live at once, and not so much that the queue of a home's router overflows.
    pub burst_multiple: u32,
    /// Requests of one address at once: a school's computers are one address and open the lesson together.
    pub requests_at_once: u32,
    /// Requests of one address a second after that.
    pub requests_per_second: u32,
    /// The proxies whose `X-Forwarded-For` or `Forwarded` names the client. None by default: anybody could write one.
    pub trusted_proxies: TrustedProxies,
    /// Servers that players may use to reach us. None by default: the node has its own addresses.
    pub ice_servers: Vec<IceServer>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv6Addr::UNSPECIFIED, 8889).into(),
            media_listen: (Ipv6Addr::UNSPECIFIED, 8189).into(),
            announce: Vec::new(),
            shards: 0,
            viewers_max: 20_000,
            media_connections_max: 8192,
            burst_multiple: 32,
            requests_at_once: 600,
            requests_per_second: 60,
            trusted_proxies: TrustedProxies::default(),
            ice_servers: Vec::new(),
        }
    }
}

/// The WHEP side with its ports held and nothing running.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    engine: Engine,
    events: UnboundedReceiver<Event>,
    config: Config,
    metrics: Metrics,
    sessions: Sessions,
    #[cfg(debug_assertions)]
    feed_fault: CancellationToken,
}

/// Says how many watch; clones say the same.
#[derive(Clone, Debug)]
pub struct Audience(Sessions, EngineHandle);

impl Audience {
    /// How many watch on this node.
    pub fn all(&self) -> usize {
        self.0.all()
    }

    /// How many watch a class on this node.
    pub fn viewers(&self, class: &str) -> u32 {
        u32::try_from(self.0.count(class)).unwrap_or(u32::MAX)
    }

    /// What players say of what is seen and heard, by class.
    pub fn playbacks(&self) -> HashMap<String, Playback> {
        self.0.playbacks(Instant::now())
    }

    /// How many have joined that this life of a coordinator sent.
    pub fn joins_by(&self, coordinator: &str) -> u64 {
        self.0.joins_by(coordinator)
    }

    /// What was sent.
    pub fn counters(&self) -> &Counters {
        self.1.counters()
    }
}

/// What the WHEP side works with.
#[derive(Debug)]
pub struct Context {
    /// Where streams are.
    pub hub: Hub,
    /// Where those come from that are at other nodes, if there are any.
    pub source: Option<Arc<dyn Source>>,
    /// Who is told of viewers.
    pub control: Client,
    /// Who knows which tokens are good.
    pub verifier: TokenVerifier,
    /// The node's name.
    pub node: String,
    /// Whether its viewers are to go to other nodes.
    pub draining: Draining,
    /// The class that `/live/stream/whep` means.
    pub default_class: String,
    /// What the public ports have in common.
    pub front: Front,
}

/// Takes the ports.
pub fn bind(config: Config, registry: &Registry) -> io::Result<Bound> {
    let (listener, address) = accept::listen(config.listen)?;
    let (engine, events) = Engine::bind(&rtc::Config {
        listen: config.media_listen,
        announce: config.announce.clone(),
        shards: config.shards,
        viewers_max: config.viewers_max,
        connections_max: config.media_connections_max,
        burst_multiple: config.burst_multiple,
    })?;
    let metrics = Metrics::new(registry, engine.handle()).map_err(io::Error::other)?;
    Ok(Bound {
        listener,
        address,
        engine,
        events,
        config,
        metrics,
        sessions: Sessions::default(),
        #[cfg(debug_assertions)]
        feed_fault: CancellationToken::new(),
    })
}

impl Bound {
    /// Where players POST their offers.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The media port.
    pub fn media_addr(&self) -> SocketAddr {
        self.engine.local_addr()
    }

    /// What lets the first shard panic, as a bug would.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn shard_panic(&self) -> impl FnOnce() + Send + use<> {
        let engine = self.engine.handle();
        move || engine.panic_shard(0)
    }

    /// What lets every task that feeds a stream panic, as a bug would.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn feed_panic(&self) -> impl FnOnce() + Send + use<> {
        let fault = self.feed_fault.clone();
        move || fault.cancel()
    }

    /// Who watches, for reports.
    pub fn audience(&self) -> Audience {
        Audience(self.sessions.clone(), self.engine.handle())
    }

    /// Serves viewers until drained, then says goodbye to each. An engine or a task of its own that ends before is an error.
    pub async fn run(self, context: Context, drain: CancellationToken) -> io::Result<()> {
        let Context { hub, source, control, verifier, node, draining, default_class, front } = context;
        let engine = self.engine.handle();
        let sessions = self.sessions;
        let (journal, waiting) = Journal::new(self.metrics.clone());
        let streams = Streams::new(hub, engine.clone(), sessions.clone(), source);
        #[cfg(debug_assertions)]
        let streams = streams.with_fault(self.feed_fault);
        let feeding_failed = streams.failed();
        let first_fetch = verifier.clone();
        let revoking =
            revoking::run(sessions.clone(), engine.clone(), verifier.clone(), self.metrics.clone());
        let app = App {
            streams,
            engine: engine.clone(),
            sessions: sessions.clone(),
            control: control.clone(),
            guests: Semaphore::new(GUESTS_ASKED_ABOUT),
            verifier,
            journal: journal.clone(),
            metrics: self.metrics.clone(),
            node: node.clone(),
            draining: draining.clone(),
            default_class,
            links: Links::new(&self.config.ice_servers),
            limiter: Limiter::new(self.config.requests_at_once, self.config.requests_per_second),
            config: self.config,
        };
        let (ended, followed) = (CancellationToken::new(), CancellationToken::new());
        let moving = moving::run(sessions.clone(), control.clone(), node, draining);
        let mut deliver = tokio::spawn(delivery::deliver(waiting, control, self.metrics, followed.clone()));
        let mut follow = tokio::spawn(journal::follow(self.events, sessions, journal, ended.clone()));
        let mut shards = tokio::spawn(self.engine.run());
        // Whoever comes first does not wait for the keys. It ends by its timeout.
        tokio::spawn(async move { first_fetch.refresh().await });
        let server = Server { port: "whep", router: http::router(app), front, plain: PlainHttp::Refuse };
        let failure = tokio::select! {
            // Requests that are being served when the drain begins are finished.
            () = server.run(self.listener, drain.clone()) => None,
            never = moving => match never {},
            never = revoking => match never {},
            () = feeding_failed.cancelled() => Some(io::Error::other("a task that feeds a stream panicked")),
            ended = &mut shards => Some(early("the egress engine", ended.unwrap_or_else(|error| Err(error.into())))),
            ended = &mut follow => Some(early("the task that follows viewers", ended.map_err(Into::into))),
            ended = &mut deliver => Some(early("the task that reports viewers", ended.map_err(Into::into))),
        };
        // Whatever has failed: the viewers of the shards that live hear goodbye, and the coordinator of them.
        engine.drain();
        let outcome = match failure {
            None => shards.await.unwrap_or_else(|error| Err(error.into())),
            Some(failure) => Err(failure),
        };
        if outcome.is_ok() {
            ended.cancel();
        }
        // Otherwise nobody knows when the shards that live have ended, but the queue of events ends with the last of them.
        let last_reports = async {
            if !follow.is_finished() {
                let _ = follow.await;
            }
            // Requests that are still being served hold senders, so this queue does not end by itself.
            followed.cancel();
            if !deliver.is_finished() {
                let _ = deliver.await;
            }
        };
        if tokio::time::timeout(LAST_REPORTS_MAX, last_reports).await.is_err() {
            tracing::warn!("shutdown timed out while the last session events were reported");
        }
        outcome
    }
}

/// Why the WHEP side cannot go on: one of its parts has ended.
fn early(part: &str, ended: io::Result<()>) -> io::Error {
    let reason =
        ended.err().map_or_else(|| "unexpectedly".to_owned(), |error| format!("by an error: {error}"));
    io::Error::other(format!("{part} ended {reason}"))
}
