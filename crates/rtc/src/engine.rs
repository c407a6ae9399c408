//! The door to the shards: seats for viewers, frames for streams, and what the shards report.
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;
use rand::Rng;
use rtp::Packets;
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::batch::Path;
use crate::counters::Counters;
use crate::dtls::Identity;
use crate::handshake::{Handshaker, JOBS_MAX};
use crate::interfaces::Interfaces;
use crate::sdp::{Candidate, Credentials, Fingerprint, Ssrcs, Terms, Transport};
use crate::shard::Shard;
use crate::sockets::Sockets;
use crate::viewer::ViewerStats;

/// Shards at most: the first character of a user name fragment says which one a viewer lives on.
const SHARDS_MAX: usize = SHARD_NAMES.len();
const SHARD_NAMES: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Control commands that may wait for one shard.
const COMMANDS_MAX: usize = 4096;
/// Frames that may wait for one shard: a second of 20 streams. A shard this far behind must skip, not queue.
const FRAMES_MAX: usize = 2048;
/// Characters of credentials after the shard's: RFC 8839, section 5.4 asks for 24 and 128 bits of randomness.
const UFRAG_RANDOM_LEN: usize = 11;
const PWD_LEN: usize = 24;

/// How the engine is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The media port's address, UDP and TCP. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The addresses that viewers are told, without port. Empty: `listen`, or every address of this machine.
    pub announce: Vec<std::net::IpAddr>,
    /// Threads that send. 0: one for each core.
    pub shards: usize,
    /// Viewers at most.
    pub viewers_max: usize,
    /// How many times faster than its stream a viewer may be sent what it starts from.
    pub burst_multiple: u32,
}

/// One viewer of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewerId {
    pub(crate) shard: usize,
    pub(crate) number: u64,
}

/// One stream of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub(crate) u64);

/// What a viewer is given before it is there: a place on a shard and the values that its answer names.
#[derive(Debug)]
pub struct Seat {
    /// Who it will be.
    pub viewer: ViewerId,
    /// Our half of the ICE credentials.
    pub credentials: Credentials,
    /// Our sources.
    pub ssrcs: Ssrcs,
    claim: Claim,
}

/// Counts a viewer of a shard for as long as it lives.
#[derive(Debug)]
pub(crate) struct Claim {
    seated: Arc<[AtomicUsize]>,
    shard: usize,
}

impl Claim {
    /// On the shard that has the fewest viewers.
    pub(crate) fn new(seated: &Arc<[AtomicUsize]>) -> Self {
        let counts = seated.iter().enumerate();
        let emptiest = counts.min_by_key(|(_, count)| count.load(Ordering::Relaxed));
        let shard = emptiest.map_or(0, |(shard, _)| shard);
        seated[shard].fetch_add(1, Ordering::Relaxed);
        Self { seated: Arc::clone(seated), shard }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.seated[self.shard].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The node carries as many viewers as it may, or a shard cannot keep up.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no room for another viewer")]
pub struct Full;

/// The viewer is no more.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the viewer is gone")]
pub struct Gone;

/// What the shards report.
#[derive(Debug)]
pub enum Event {
    /// Keys are agreed and media flows.
    Connected {
        /// Who.
        viewer: ViewerId,
        /// The protection profile, as RFC 5764 and RFC 7714 name it.
        profile: &'static str,
        /// From the answer to this moment.
        took: Duration,
    },
    /// A viewer is gone and everything it had is freed.
    Closed {
        /// Who.
        viewer: ViewerId,
        /// Why.
        reason: CloseReason,
        /// What it was sent.
        stats: ViewerStats,
    },
}

/// Why a viewer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was removed: DELETE, or an operator.
    Removed,
    /// It said goodbye.
    Left,
    /// Nothing was heard from it for the consent period of RFC 7675.
    Lost,
    /// It never came, or its handshake failed.
    NeverConnected,
    /// The stream is over.
    StreamEnded,
    /// The node is shutting down.
    Drained,
}

impl CloseReason {
    /// One word for logs and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Left => "left",
            Self::Lost => "lost",
            Self::NeverConnected => "never_connected",
            Self::StreamEnded => "stream_ended",
            Self::Drained => "drained",
        }
    }
}

pub(crate) enum Command {
    Add(Box<NewViewer>),
    Restart {
        viewer: ViewerId,
        local: Credentials,
        remote: Credentials,
    },
    Remove {
        viewer: ViewerId,
    },
    OpenStream {
        stream: StreamId,
        origin: Instant,
    },
    CloseStream {
        stream: StreamId,
    },
    /// A datagram that reached another shard.
    Datagram {
        path: Path,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A connection that reached another shard.
    Connection {
        stream: std::net::TcpStream,
        peer: SocketAddr,
        bytes: Vec<u8>,
    },
    Drain,
}

pub(crate) struct NewViewer {
    pub(crate) id: ViewerId,
    pub(crate) stream: StreamId,
    pub(crate) local: Credentials,
    pub(crate) terms: Terms,
    pub(crate) claim: Claim,
}

/// The way to one shard.
#[derive(Clone, Debug)]
pub(crate) struct Neighbour {
    pub(crate) commands: SyncSender<Command>,
    pub(crate) frames: SyncSender<(StreamId, Arc<Packets>)>,
    pub(crate) waker: Arc<Waker>,
}

impl Neighbour {
    pub(crate) fn tell(&self, command: Command) -> Result<(), Full> {
        self.commands.try_send(command).map_err(|_| Full)?;
        let _ = self.waker.wake();
        Ok(())
    }
}

/// Shared by everything that speaks to the shards.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) identity: Identity,
    pub(crate) counters: Counters,
    pub(crate) events: UnboundedSender<Event>,
    /// Viewers that live, so that a restart of one that is gone can be refused at once.
    pub(crate) living: Mutex<HashSet<ViewerId>>,
    /// The media port, and what viewers are told of it.
    listen: SocketAddr,
    announce: Vec<std::net::IpAddr>,
    interfaces: Interfaces,
    /// Viewers of each shard.
    seated: Arc<[AtomicUsize]>,
    viewers_max: usize,
    pub(crate) burst_multiple: u32,
    next_viewer: AtomicU64,
    next_stream: AtomicU64,
    next_ssrc: AtomicU32,
}

/// The engine with its sockets held and nothing running.
#[derive(Debug)]
pub struct Engine {
    shards: Vec<(Shard, Handshaker)>,
    handle: EngineHandle,
    address: SocketAddr,
}

/// Speaks to a running engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle(Arc<Shared>);

impl Engine {
    /// Takes the media port, once for each shard. The events end when the engine does; they are two for each viewer, so
    /// their queue is bounded by the viewers.
    pub fn bind(config: &Config) -> io::Result<(Self, UnboundedReceiver<Event>)> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = if config.shards == 0 { cores } else { config.shards }.clamp(1, SHARDS_MAX);
        let identity =
            Identity::generate().ok_or_else(|| io::Error::other("no DTLS certificate could be made"))?;
        let mut listen = config.listen;
        let mut bounds = Vec::new();
        let mut neighbours = Vec::new();
        for _ in 0..count {
            let sockets = Sockets::new(listen)?;
            listen = sockets.address();
            let (commands, commands_in) = sync_channel(COMMANDS_MAX);
            let (frames, frames_in) = sync_channel(FRAMES_MAX);
            neighbours.push(Neighbour { commands, frames, waker: sockets.waker() });
            bounds.push((sockets, commands_in, frames_in));
        }
        if let Some((sockets, ..)) = bounds.first() {
            sockets.warn_of_small_buffer();
        }
        let (events, events_in) = unbounded_channel();
        let shared = Arc::new(Shared {
            neighbours,
            identity,
            counters: Counters::default(),
            events,
            living: Mutex::default(),
            listen,
            announce: config.announce.clone(),
            interfaces: Interfaces::new(listen.is_ipv6()),
            seated: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            viewers_max: config.viewers_max,
            burst_multiple: config.burst_multiple,
            next_viewer: AtomicU64::new(0),
            next_stream: AtomicU64::new(0),
            next_ssrc: AtomicU32::new(rand::random()),
        });
        let shards = bounds
            .into_iter()
            .enumerate()
            .map(|(index, (sockets, commands, frames))| {
                let (jobs, jobs_in) = sync_channel(JOBS_MAX);
                let (done, done_in) = sync_channel(JOBS_MAX);
                let waker = sockets.waker();
                let handshaker = Handshaker { jobs: jobs_in, done, waker, shared: Arc::clone(&shared) };
                let beside = (jobs, done_in);
                (Shard::new(index, sockets, commands, frames, beside, Arc::clone(&shared)), handshaker)
            })
            .collect();
        Ok((Self { shards, handle: EngineHandle(shared), address: listen }, events_in))
    }

    /// The media port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Runs the shards on threads of their own until [`EngineHandle::drain`]; returns when all have ended.
    pub async fn run(self) -> io::Result<()> {
        let Self { shards, handle, .. } = self;
        drop(handle);
        let mut threads = Vec::new();
        for (shard, handshaker) in shards {
            let beside = thread::Builder::new().name(format!("handshake-{}", shard.index()));
            // It ends when its shard does.
            beside.spawn(move || handshaker.run())?;
            let thread = thread::Builder::new().name(format!("shard-{}", shard.index()));
            let (done, ended) = tokio::sync::oneshot::channel();
            thread.spawn(move || {
                shard.run();
                let _ = done.send(());
            })?;
            threads.push(ended);
        }
        for ended in threads {
            if ended.await.is_err() {
                return Err(io::Error::other("a shard ended by a panic"));
            }
        }
        Ok(())
    }
}

impl EngineHandle {
    /// The fingerprint of our certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.identity.fingerprint
    }

    /// Where viewers reach us at this moment: UDP first for every address, then TCP.
    pub fn candidates(&self) -> Vec<Candidate> {
        let Shared { listen, announce, interfaces, .. } = &*self.0;
        let addresses = match &**announce {
            [] if listen.ip().is_unspecified() => interfaces.addresses(Instant::now()),
            [] => [listen.ip()].into(),
            announced => announced.into(),
        };
        let all = |transport: Transport| {
            addresses.iter().map(move |ip| Candidate { addr: SocketAddr::new(*ip, listen.port()), transport })
        };
        all(Transport::Udp).chain(all(Transport::TcpPassive)).collect()
    }

    /// What the shards have counted.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Viewers that have a seat.
    pub fn viewers(&self) -> usize {
        self.viewers_of_shards().sum()
    }

    /// Viewers that have a seat on the first shard, on the second, and so on.
    pub fn viewers_of_shards(&self) -> impl Iterator<Item = usize> {
        self.0.seated.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// Finds a seat on the shard that has the fewest viewers. Dropping the seat gives it back.
    pub fn reserve(&self) -> Result<Seat, Full> {
        let shared = &self.0;
        let claim = Claim::new(&shared.seated);
        if self.viewers() > shared.viewers_max {
            return Err(Full);
        }
        let number = shared.next_viewer.fetch_add(1, Ordering::Relaxed);
        let shard = claim.shard;
        // An odd step visits every value before one comes twice, and neighbours look unlike each other.
        let ssrc = || shared.next_ssrc.fetch_add(0x9e37_79b1, Ordering::Relaxed).max(1);
        Ok(Seat {
            viewer: ViewerId { shard, number },
            credentials: credentials(shard),
            ssrcs: Ssrcs { video: ssrc(), video_rtx: ssrc(), audio: ssrc() },
            claim,
        })
    }

    /// Puts a viewer on its seat; from now on its shard answers it.
    pub fn add(&self, seat: Seat, stream: StreamId, terms: Terms) -> Result<(), Full> {
        let viewer = seat.viewer;
        let new = NewViewer { id: viewer, stream, local: seat.credentials, terms, claim: seat.claim };
        self.living().insert(viewer);
        self.tell(viewer.shard, Command::Add(Box::new(new))).inspect_err(|_| {
            self.living().remove(&viewer);
        })
    }

    /// Begins an ICE restart with the viewer's new credentials and new ones of ours. The old path goes on until the viewer
    /// uses the new ones.
    pub fn restart(&self, viewer: ViewerId, remote: Credentials) -> Result<Credentials, Gone> {
        if !self.living().contains(&viewer) {
            return Err(Gone);
        }
        let local = credentials(viewer.shard);
        self.tell(viewer.shard, Command::Restart { viewer, local: local.clone(), remote })
            .map_err(|_| Gone)?;
        Ok(local)
    }

    /// Ends a viewer's session.
    pub fn remove(&self, viewer: ViewerId) {
        // A full queue means a shard that hangs; the viewer then ends with its consent.
        let _ = self.tell(viewer.shard, Command::Remove { viewer });
    }

    /// Makes a stream known to every shard. `origin` is the instant at which its media time is zero.
    pub fn open_stream(&self, origin: Instant) -> StreamId {
        let stream = StreamId(self.0.next_stream.fetch_add(1, Ordering::Relaxed));
        for shard in 0..self.0.neighbours.len() {
            let _ = self.tell(shard, Command::OpenStream { stream, origin });
        }
        stream
    }

    /// Ends a stream and the session of everybody who watches it.
    pub fn close_stream(&self, stream: StreamId) {
        for shard in 0..self.0.neighbours.len() {
            let _ = self.tell(shard, Command::CloseStream { stream });
        }
    }

    /// Gives one frame to every shard. A shard that is too far behind does not get it: its viewers go on at the next
    /// keyframe.
    pub fn send(&self, stream: StreamId, frame: &Arc<Packets>) {
        for neighbour in &self.0.neighbours {
            match neighbour.frames.try_send((stream, Arc::clone(frame))) {
                Ok(()) => drop(neighbour.waker.wake()),
                Err(TrySendError::Full(_)) => self.0.counters.frames_dropped.add(1),
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Ends every session and then the shards.
    pub fn drain(&self) {
        for shard in 0..self.0.neighbours.len() {
            let _ = self.tell(shard, Command::Drain);
        }
    }

    fn tell(&self, shard: usize, command: Command) -> Result<(), Full> {
        self.0.neighbours.get(shard).ok_or(Full)?.tell(command)
    }

    fn living(&self) -> std::sync::MutexGuard<'_, HashSet<ViewerId>> {
        self.0.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard that handed out this user name fragment.
pub(crate) fn shard_of(ufrag: &str) -> Option<usize> {
    let name = ufrag.as_bytes().first()?;
    SHARD_NAMES.iter().position(|candidate| candidate == name)
}

fn credentials(shard: usize) -> Credentials {
    let mut rng = rand::rng();
    let mut random = |len: usize| -> String {
        (0..len).map(|_| char::from(SHARD_NAMES[rng.random_range(0..SHARD_NAMES.len())])).collect()
    };
    let name = char::from(SHARD_NAMES[shard % SHARDS_MAX]);
    Credentials { ufrag: format!("{name}{}", random(UFRAG_RANDOM_LEN)), pwd: random(PWD_LEN) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_given_where_the_fewest_sit_and_no_more_than_there_are() {
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            announce: vec![],
            shards: 3,
            viewers_max: 7,
            burst_multiple: 1,
        };
        let (engine, _events) = Engine::bind(&config).unwrap();
        let handle = engine.handle();
        let mut seats: Vec<Seat> = (0..6).map(|_| handle.reserve().unwrap()).collect();
        assert_eq!(handle.viewers_of_shards().collect::<Vec<_>>(), [2, 2, 2]);
        seats.retain(|seat| seat.viewer.shard != 1);
        assert_eq!(handle.reserve().unwrap().viewer.shard, 1);
        seats.extend((0..3).map(|_| handle.reserve().unwrap()));
        assert_eq!(handle.viewers(), 7);
        assert_eq!(handle.reserve().err(), Some(Full));
        assert_eq!(handle.viewers(), 7, "a refusal takes no seat");
        drop(seats);
        assert_eq!(handle.viewers(), 0);
    }
}
