//! The egress of one shard as a machine: datagrams, frames, commands, handshakes and time go in, a batch of packets comes out.
//! It has no socket, no thread and no clock; the shard around it reads and writes, and decides nothing.
//!
//! Whatever takes long is done in turns: [`Egress::work`] sends to some viewers and returns, so that the shard can flush and
//! let audio that has come meanwhile go first.
mod foreign;
mod peer;
mod table;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use media::{MediaTime, Track};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::foreign::Foreign;
pub(crate) use self::peer::Clock;
use self::peer::{Peer, Verdict};
use self::table::Table;
use self::turns::{NOBODY, Stream, Turn};
use crate::batch::{Batch, Path};
use crate::command::{CloseReason, Command, Event, NewViewer};
use crate::counters::Counters;
use crate::handshake::{Done, Job};
use crate::ice;
use crate::id::{StreamId, ViewerId, shard_of};
use crate::ring::Ring;
use crate::viewer::{Crowd, ViewerStats};

/// Timers that are run before packets are flushed.
const TIMER_TURN: usize = 64;

/// What comes out beside packets.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Packets that are to be sent.
    pub(crate) batch: Batch,
    /// Handshakes that are to be worked on.
    pub(crate) jobs: Vec<Job>,
    /// What has happened to viewers.
    pub(crate) events: Vec<Event>,
    /// Connections that are to be closed after the batch was written.
    pub(crate) hang_ups: Vec<usize>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Egress {
    index: usize,
    shards: usize,
    counters: Arc<Counters>,
    burst_multiple: u32,
    rng: StdRng,
    streams: HashMap<StreamId, Stream>,
    table: Table,
    foreign: Foreign,
    audio: VecDeque<Turn>,
    /// One for each stream at most: viewers find what they have missed in the ring.
    video: VecDeque<Turn>,
    /// Frames that every viewer has, up to the next flush: their tracks, and when they arrived.
    finished: Vec<(Track, Instant)>,
    is_blocked: bool,
    is_draining: bool,
    pub(crate) out: Output,
}

impl Egress {
    /// For shard `index` of `shards`. Everything random comes from `seed`.
    pub(crate) fn new(
        (index, shards): (usize, usize),
        counters: Arc<Counters>,
        burst_multiple: u32,
        seed: [u8; 32],
    ) -> Self {
        Self {
            index,
            shards,
            counters,
            burst_multiple,
            rng: StdRng::from_seed(seed),
            streams: HashMap::new(),
            table: Table::default(),
            foreign: Foreign::default(),
            audio: VecDeque::new(),
            video: VecDeque::new(),
            finished: Vec::new(),
            is_blocked: false,
            is_draining: false,
            out: Output::default(),
        }
    }

    /// Takes one command. Frames wait for [`Self::work`].
    pub(crate) fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Add(new) => self.add(now, *new),
            Command::Restart { viewer, local, remote } => self.table.restart(viewer, local, remote),
            Command::Remove { viewer } => {
                if let Some(slot) = self.table.slot_of(viewer) {
                    self.close(now, slot, CloseReason::Removed);
                }
            }
            Command::OpenStream { stream, origin } => {
                let (ring, crowd) = (Ring::default(), Crowd::new(now));
                self.streams.insert(stream, Stream { origin, ring, viewers: Vec::new(), turns: 0, crowd });
            }
            Command::Frame { stream, frame, room } => self.on_frame(stream, frame, room),
            Command::CloseStream { stream } => {
                let viewers = self.streams.remove(&stream).map(|stream| stream.viewers);
                for slot in viewers.unwrap_or_default() {
                    self.close(now, slot, CloseReason::StreamEnded);
                }
            }
            Command::Drain => {
                self.is_draining = true;
                for slot in self.table.slots() {
                    self.close(now, slot, CloseReason::Drained);
                }
            }
            #[cfg(debug_assertions)]
            Command::Panic => panic!("a shard was told to panic"),
        }
    }

    /// Whether the shard is to end once what has come out is written.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    fn add(&mut self, now: Instant, new: NewViewer) {
        let stream = new.stream;
        let slot = self.table.insert(Peer::new(now, new, self.burst_multiple, &mut self.rng));
        match self.streams.get_mut(&stream) {
            Some(stream) => stream.viewers.push(slot),
            None => self.close(now, slot, CloseReason::StreamEnded),
        }
    }

    /// A datagram from the media socket. Returns the other shard that it belongs to, if it does.
    pub(crate) fn on_datagram(
        &mut self,
        now: Instant,
        path: Path,
        from: SocketAddr,
        bytes: &mut [u8],
    ) -> Option<usize> {
        if let Some(shard) = self.owner_of(now, path, bytes) {
            return Some(shard);
        }
        self.on_packet(now, path, from, bytes);
        None
    }

    /// The other shard that a datagram belongs to. A connectivity check says so by itself; whatever comes later from
    /// the same address follows it, unless a viewer of this shard has it in use: checks can be forged.
    fn owner_of(&mut self, now: Instant, path: Path, bytes: &[u8]) -> Option<usize> {
        if bytes.first().is_none_or(|first| *first >= 4) || ice::is_answer(bytes) {
            return self.foreign.get(path).filter(|_| !self.table.is_in_use(now, path));
        }
        let shard = shard_of(ice::local_ufrag(bytes)?)?;
        if shard == self.index || shard >= self.shards {
            self.foreign.remove(path);
            return None;
        }
        self.counters.foreign_forgotten.add(self.foreign.insert(path, shard));
        Some(shard)
    }

    /// One packet, told apart by its first byte (RFC 7983). Returns whether it is of a viewer of this shard, as far as that can
    /// be told here: handshakes cannot be judged yet.
    pub(crate) fn on_packet(&mut self, now: Instant, path: Path, from: SocketAddr, bytes: &mut [u8]) -> bool {
        match bytes.first() {
            Some(0..=3) if ice::is_answer(bytes) => {
                if let Some(slot) = self.table.slot_at(path) {
                    self.table.drive(slot, |peer| {
                        peer.agent.on_answer(now, path, bytes);
                    });
                    return true;
                }
            }
            Some(0..=3) => {
                let slot = ice::local_ufrag(bytes).and_then(|ufrag| self.table.slot_with(ufrag));
                if let Some(slot) = slot
                    && let Some(answer) =
                        self.table.on_check(now, slot, path, from, bytes, &mut self.out.batch)
                {
                    if let Some(Path::Tcp(connection)) = answer.forgotten {
                        self.out.hang_ups.push(connection);
                    }
                    return true;
                }
            }
            Some(20..=63) => {
                if let Some(slot) = self.table.slot_at(path) {
                    let jobs = &mut self.out.jobs;
                    self.table.drive(slot, |peer| peer.on_dtls(bytes, path, jobs));
                    return true;
                }
            }
            Some(128..=191) => {
                if let Some(slot) = self.table.slot_at(path) {
                    return self.on_feedback(now, slot, path, bytes);
                }
            }
            _ => {}
        }
        self.counters.strays.add(1);
        false
    }

    /// Returns whether it could be opened.
    fn on_feedback(&mut self, now: Instant, slot: usize, path: Path, bytes: &mut [u8]) -> bool {
        let Self { table, streams, rng, out, .. } = self;
        let mut is_authentic = false;
        table.drive(slot, |peer| {
            let Some(stream) = streams.get_mut(&peer.stream) else { return };
            let crowd = (&mut stream.crowd, rng);
            is_authentic = peer.on_feedback(now, path, bytes, &stream.ring, crowd, &mut out.batch).is_some();
        });
        is_authentic
    }

    /// A connection is gone, and with it a way to a viewer.
    pub(crate) fn on_disconnect(&mut self, path: Path) {
        self.table.forget_path(path);
    }

    /// A connection takes less than it is sent: its viewer goes on at the next keyframe, instead of watching the past, and that
    /// keyframe is sent no faster than the connection takes it.
    pub(crate) fn on_congestion(&mut self, now: Instant, path: Path) {
        let Self { table, streams, .. } = self;
        let Some(peer) = table.slot_at(path).and_then(|slot| table.peer_mut(slot)) else { return };
        if let Some(stream) = streams.get(&peer.stream) {
            peer.skip(now, &stream.ring);
        }
    }

    /// A handshake was worked on.
    pub(crate) fn on_handshake(&mut self, clock: Clock, done: Done) {
        // Whoever is gone meanwhile has no slot.
        let Some(slot) = self.table.slot_of(done.viewer) else { return };
        let mut verdict = Verdict::Stay;
        let Self { table, out, .. } = self;
        table.drive(slot, |peer| verdict = peer.on_handshake(clock.now, done, &mut out.jobs, &mut out.batch));
        self.settle(clock, slot, verdict);
    }

    /// A handshake cannot be worked on now.
    pub(crate) fn on_refused(&mut self, now: Instant, job: Job) {
        self.counters.handshakes_refused.add(1);
        if let Some(slot) = self.table.slot_of(job.viewer) {
            self.table.drive(slot, |peer| peer.on_refused(now, job));
        }
    }

    /// When [`Self::on_timeout`] is to be called. May be early, never late.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.table.next_wake()
    }

    /// Runs timers that are due. Returns whether there are more; the batch is to be flushed in between.
    pub(crate) fn on_timeout(&mut self, clock: Clock) -> bool {
        for _ in 0..TIMER_TURN {
            let Some(slot) = self.table.next_due(clock.now) else { return false };
            let mut verdict = Verdict::Stay;
            let Self { table, streams, out, counters, is_blocked, .. } = self;
            table.drive(slot, |peer| {
                let Some(stream) = streams.get(&peer.stream) else { return };
                let time = media_time(stream.origin, clock.now);
                if *is_blocked {
                    peer.put_off(clock.now);
                }
                verdict = peer.on_timer(clock, time, &stream.ring, &mut out.jobs, &mut out.batch);
                peer.account(counters);
            });
            self.settle(clock, slot, verdict);
            if self.out.batch.is_full() {
                return true;
            }
        }
        true
    }

    fn settle(&mut self, clock: Clock, slot: usize, verdict: Verdict) {
        match verdict {
            Verdict::Stay => {}
            Verdict::Close(reason) => self.close(clock.now, slot, reason),
            Verdict::Connected => self.on_connected(clock, slot),
            Verdict::Restart => {
                let Self { table, streams, out, .. } = self;
                table.drive(slot, |peer| {
                    let Some(stream) = streams.get(&peer.stream) else { return };
                    peer.restart(clock.now, &stream.ring, &mut out.batch);
                });
            }
        }
    }

    /// The first report goes before the first frame, so that the player can line up audio and video at once.
    fn on_connected(&mut self, clock: Clock, slot: usize) {
        let Self { table, streams, out, .. } = self;
        table.drive(slot, |peer| {
            let Some(stream) = streams.get(&peer.stream) else { return };
            let time = media_time(stream.origin, clock.now);
            let _ = peer.on_timer(clock, time, &stream.ring, &mut out.jobs, &mut out.batch);
            peer.send_video(clock.now, &stream.ring, &mut out.batch);
            out.events.push(Event::Connected {
                viewer: peer.id,
                profile: peer.profile(),
                took: clock.now.saturating_duration_since(peer.created),
            });
        });
    }

    fn close(&mut self, now: Instant, slot: usize, reason: CloseReason) {
        let Some(mut peer) = self.table.remove(slot) else { return };
        peer.say_goodbye(&mut self.out.batch);
        if let Some(stream) = self.streams.get_mut(&peer.stream)
            && let Some(place) = stream.viewers.iter().position(|viewer| *viewer == slot)
        {
            if stream.turns == 0 {
                stream.viewers.swap_remove(place);
            } else if let Some(viewer) = stream.viewers.get_mut(place) {
                *viewer = NOBODY;
            }
        }
        if !peer.is_connected() {
            self.counters.handshakes_failed.add(1);
        }
        self.out.hang_ups.extend(peer.paths().filter_map(|path| match path {
            Path::Tcp(connection) => Some(connection),
            Path::Udp { .. } => None,
        }));
        tracing::debug!(
            reason = reason.as_str(),
            lived_ms = now.saturating_duration_since(peer.created).as_millis(),
            "viewer closed"
        );
        let stats = peer.account(&self.counters);
        self.out.events.push(Event::Closed { viewer: peer.id, reason, stats });
    }

    /// Takes the handshakes that are to be worked on.
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.out.jobs)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What a viewer was sent so far.
    #[cfg_attr(
        not(any(test, feature = "testing")),
        expect(dead_code, reason = "asked for by scenario tests")
    )]
    pub(crate) fn stats(&self, viewer: ViewerId) -> Option<ViewerStats> {
        let slot = self.table.slot_of(viewer)?;
        self.table.peer(slot).map(Peer::stats)
    }
}

fn media_time(origin: Instant, now: Instant) -> MediaTime {
    let since = now.saturating_duration_since(origin);
    MediaTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
