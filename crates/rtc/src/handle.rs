//! The door to the shards: seats for viewers, frames for streams.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use rtp::Packets;
use thiserror::Error;

use crate::command::{Command, NewViewer};
use crate::counters::Counters;
use crate::dtls::Identity;
use crate::id::{StreamId, ViewerId, credentials};
use crate::interfaces::Interfaces;
use crate::mailbox::Mailbox;
use crate::sdp::{Candidate, Credentials, Fingerprint, Ssrcs, Terms, Transport};
use crate::seats::{Claim, Seats};

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

/// The node carries as many viewers as it may, or a shard cannot keep up or has ended.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("no room for another viewer")]
pub struct Full;

/// Shared by everything that speaks to the shards.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mailboxes: Vec<Mailbox>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counters: Arc<Counters>,
    /// The media port, and what viewers are told of it.
    listen: SocketAddr,
    announce: Vec<IpAddr>,
    interfaces: Interfaces,
    pub(crate) seats: Seats,
    pub(crate) viewers_max: usize,
    next_viewer: AtomicU64,
    next_stream: AtomicU64,
    next_ssrc: AtomicU32,
}

/// Speaks to a running engine; cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle(Arc<Shared>);

impl EngineHandle {
    pub(crate) fn new(
        mailboxes: Vec<Mailbox>,
        (identity, counters): (Arc<Identity>, Arc<Counters>),
        (listen, announce): (SocketAddr, Vec<IpAddr>),
        (seats, viewers_max): (Seats, usize),
    ) -> Self {
        Self(Arc::new(Shared {
            mailboxes,
            identity,
            counters,
            listen,
            announce,
            interfaces: Interfaces::new(listen.is_ipv6()),
            seats,
            viewers_max,
            next_viewer: AtomicU64::new(0),
            next_stream: AtomicU64::new(0),
            next_ssrc: AtomicU32::new(rand::random()),
        }))
    }

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
        self.0.seats.taken()
    }

    /// Finds a seat on the living shard that has the fewest viewers. Dropping the seat gives it back.
    pub fn reserve(&self) -> Result<Seat, Full> {
        let shared = &self.0;
        let claim = shared.seats.claim().ok_or(Full)?;
        if self.viewers() > shared.viewers_max {
            return Err(Full);
        }
        let number = shared.next_viewer.fetch_add(1, Ordering::Relaxed);
        let shard = claim.shard();
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
        self.mailbox(viewer)?.request(Command::Add(Box::new(new)))
    }

    /// Begins an ICE restart with the viewer's new credentials and new ones of ours. The old path goes on until the viewer
    /// uses the new ones.
    pub fn restart(&self, viewer: ViewerId, remote: Credentials) -> Result<Credentials, Full> {
        let local = credentials(viewer.shard);
        self.mailbox(viewer)?.request(Command::Restart { viewer, local: local.clone(), remote })?;
        Ok(local)
    }

    /// Ends a viewer's session.
    pub fn remove(&self, viewer: ViewerId) {
        // A shard that has ended has no viewers.
        let _ = self.mailbox(viewer).and_then(|mailbox| mailbox.tell(Command::Remove { viewer }));
    }

    /// Makes a stream known to every shard. `origin` is the instant at which its media time is zero.
    pub fn open_stream(&self, origin: Instant) -> StreamId {
        let stream = StreamId(self.0.next_stream.fetch_add(1, Ordering::Relaxed));
        self.tell_all(|| Command::OpenStream { stream, origin });
        stream
    }

    /// Ends a stream and the session of everybody who watches it.
    pub fn close_stream(&self, stream: StreamId) {
        self.tell_all(|| Command::CloseStream { stream });
    }

    /// Gives one frame to every shard. A shard that is too far behind does not get it: its viewers go on at the next
    /// keyframe.
    pub fn send(&self, stream: StreamId, frame: &Arc<Packets>) {
        for mailbox in &self.0.mailboxes {
            if !mailbox.frame(stream, frame) {
                self.0.counters.frames_dropped.add(1);
            }
        }
    }

    /// Ends every session and then the shards.
    pub fn drain(&self) {
        self.tell_all(|| Command::Drain);
    }

    /// Lets one shard panic, as a bug would.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn panic_shard(&self, shard: usize) {
        if let Some(mailbox) = self.0.mailboxes.get(shard) {
            let _ = mailbox.tell(Command::Panic);
        }
    }

    #[cfg(feature = "testing")]
    pub(crate) fn mailboxes(&self) -> &[Mailbox] {
        &self.0.mailboxes
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for mailbox in &self.0.mailboxes {
            // A shard that has ended needs no telling.
            let _ = mailbox.tell(command());
        }
    }

    fn mailbox(&self, viewer: ViewerId) -> Result<&Mailbox, Full> {
        self.0.mailboxes.get(viewer.shard).ok_or(Full)
    }
}
