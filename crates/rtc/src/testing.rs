//! A door for scenario tests: the machines of all shards in virtual time, without sockets and threads. Not part of the
//! interface. What is around the machine is the real thing as far as it has no socket: the handle, the mailboxes, the work of
//! handshakes.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::SrtpProfile;
use mio::Waker;

use crate::batch::Path;
use crate::bell::Bell;
use crate::command::{Command, Event};
use crate::counters::Counters;
use crate::dtls::{Flight, Identity};
use crate::egress::{Clock, Egress};
use crate::handle::EngineHandle;
use crate::handshake::{Done, Job, work};
use crate::id::ViewerId;
use crate::mailbox::{Forwarded, Inbox, Mailbox, mailbox};
use crate::pass::{self, Around, TAKEN_AT_ONCE};
use crate::seats::Seats;
use crate::srtp::Srtp;
use crate::viewer::ViewerStats;

/// The wall clock at the beginning, as NTP writes it: a day in 2026.
const NTP_ORIGIN: u64 = 3_990_000_000 << 32;
/// Bytes of keys and salts that [`Node::admit`] takes.
pub const KEYING_LEN: usize = 2 * (16 + 12);

/// The egress of one process.
pub struct Node {
    /// What the process says to its shards.
    pub handle: EngineHandle,
    shards: Vec<ShardInTest>,
    identity: Arc<Identity>,
    began: Instant,
    /// How long a handshake is worked on.
    pub handshake_time: Duration,
    /// Handshakes that may wait; further ones are refused.
    pub handshakes_max: usize,
    /// Events of viewers since they were taken last.
    pub events: Vec<Event>,
    /// Packets to be sent since they were taken last: where to, and what.
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Messages that the sockets take before they are full.
    pub socket_room: usize,
    /// Packets that were dropped because too much waited for a full socket.
    pub send_dropped: u64,
}

struct ShardInTest {
    egress: Egress,
    inbox: Inbox,
    jobs: VecDeque<(Instant, Job)>,
    is_busy: bool,
    _poll: mio::Poll,
}

impl Node {
    /// With this many shards, whose media port is `address`. Everything random that matters comes from `seed`.
    pub fn new(now: Instant, shards: usize, address: SocketAddr, seed: u64) -> Self {
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let (counters, seats) = (Arc::<Counters>::default(), Seats::new(shards));
        let mut mailboxes: Vec<Mailbox> = Vec::new();
        let shards = (0..shards).map(|index| {
            let poll = mio::Poll::new().expect("a poll");
            let bell = Bell::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
            let (mailbox, inbox) = mailbox(bell);
            mailboxes.push(mailbox);
            let mut seeds = [0; 32];
            let of_shard = seed.wrapping_add(index as u64).to_be_bytes();
            seeds.iter_mut().zip(of_shard).for_each(|(seed, byte)| *seed = byte);
            let egress = Egress::new((index, shards), Arc::clone(&counters), 32, seeds);
            ShardInTest { egress, inbox, jobs: VecDeque::new(), is_busy: false, _poll: poll }
        });
        let shards = shards.collect();
        let announced = (address, vec![address.ip()]);
        let handle =
            EngineHandle::new(mailboxes, (Arc::clone(&identity), counters), announced, (seats, 1 << 20));
        Self {
            handle,
            shards,
            identity,
            began: now,
            handshake_time: Duration::ZERO,
            handshakes_max: 4_096,
            events: Vec::new(),
            sent: Vec::new(),
            socket_room: usize::MAX,
            send_dropped: 0,
        }
    }

    /// A datagram reaches the socket of a shard.
    pub fn datagram(&mut self, now: Instant, shard: usize, from: SocketAddr, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let Some(at) = self.shards.get_mut(shard) else { return };
        if let Some(owner) = at.egress.on_datagram(now, path(from), from, &mut bytes) {
            self.forward(owner, from, bytes);
        }
    }

    /// What a shard passes on to another. There are two ends, so that floods can be made.
    pub fn forward(&mut self, owner: usize, from: SocketAddr, bytes: Vec<u8>) {
        let is_taken =
            self.handle.mailboxes().get(owner).is_some_and(|mailbox| {
                mailbox.forward(Forwarded::Datagram { path: path(from), from, bytes })
            });
        let counters = self.handle.counters();
        if is_taken { counters.forwarded.add(1) } else { counters.forwards_dropped.add(1) }
    }

    /// Lets a viewer be connected with these keys, as if its handshake were over: client key, server key and both salts of
    /// AES-128-GCM.
    pub fn admit(&mut self, now: Instant, viewer: ViewerId, keying: &[u8; KEYING_LEN]) {
        let srtp = Srtp::new(SrtpProfile::AEAD_AES_128_GCM, keying).expect("the lengths of the profile");
        let (flight, dtls, path) = (Flight::new(), None, None);
        let clock = self.clock(now);
        if let Some(shard) = self.shards.get_mut(viewer.shard) {
            shard.egress.on_handshake(clock, Done { viewer, dtls, outcome: Ok(Some(srtp)), flight, path });
        }
    }

    /// One pass of every shard, in which no time passes.
    pub fn pass(&mut self, now: Instant) {
        let clock = self.clock(now);
        for index in 0..self.shards.len() {
            self.shard(index).is_busy = false;
            pass::take_commands(&mut At { node: self, clock, index }, now);
            let is_blocked = self.socket_room == 0;
            self.shard(index).egress.set_blocked(is_blocked);
            pass::send_frames(&mut At { node: self, clock, index }, now);
            for taken in 0..=TAKEN_AT_ONCE {
                let shard = self.shard(index);
                shard.is_busy |= taken == TAKEN_AT_ONCE;
                let Some(Forwarded::Datagram { path, from, mut bytes }) =
                    (taken < TAKEN_AT_ONCE).then(|| shard.inbox.forwarded()).flatten()
                else {
                    break;
                };
                if let Some(owner) = shard.egress.on_datagram(now, path, from, &mut bytes) {
                    self.forward(owner, from, bytes);
                }
            }
            self.flush(now, index);
            while self.work_on_handshake(clock, index) {
                self.flush(now, index);
            }
            pass::run_timers(&mut At { node: self, clock, index }, clock);
            self.flush(now, index);
        }
    }

    /// When the next pass is to be made at the latest.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let due = self.shards.iter().flat_map(|shard| {
            let job = shard.jobs.front().map(|(due, _)| *due);
            [shard.egress.next_timeout(), job, shard.is_busy.then_some(now)]
        });
        due.flatten().min()
    }

    /// What a viewer was sent so far.
    pub fn stats(&self, viewer: ViewerId) -> Option<ViewerStats> {
        self.shards.get(viewer.shard)?.egress.stats(viewer)
    }

    /// Bytes that are written and not sent.
    pub fn backlog_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.egress.out.batch.arena.len()).sum()
    }

    /// The shard that a viewer lives on.
    pub fn shard_of(viewer: ViewerId) -> usize {
        viewer.shard
    }

    /// The wall clock, as NTP writes it.
    pub fn ntp(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        NTP_ORIGIN + (since.as_secs() << 32) + fraction
    }

    fn clock(&self, now: Instant) -> Clock {
        Clock { now, ntp: self.ntp(now) }
    }

    fn shard(&mut self, index: usize) -> &mut ShardInTest {
        self.shards.get_mut(index).expect("one of ours")
    }

    fn work_on_handshake(&mut self, clock: Clock, index: usize) -> bool {
        let identity = Arc::clone(&self.identity);
        let shard = self.shard(index);
        let is_due = shard.jobs.front().is_some_and(|(due, _)| *due <= clock.now);
        let Some((_, job)) = is_due.then(|| shard.jobs.pop_front()).flatten() else { return false };
        shard.egress.on_handshake(clock, work(&identity, clock.now, job));
        true
    }

    fn flush(&mut self, now: Instant, index: usize) {
        let (due, most) = (now + self.handshake_time, self.handshakes_max);
        let Self { shards, events, sent, socket_room, send_dropped, .. } = self;
        let Some(shard) = shards.get_mut(index) else { return };
        for job in shard.egress.take_jobs() {
            if shard.jobs.len() < most {
                shard.jobs.push_back((due, job));
            } else {
                shard.egress.on_refused(now, job);
            }
        }
        let out = &mut shard.egress.out;
        events.append(&mut out.events);
        let (arena, messages) = out.batch.unsent();
        let taken = messages.len().min(*socket_room);
        *socket_room -= if *socket_room == usize::MAX { 0 } else { taken };
        for message in messages.iter().take(taken) {
            let bytes = arena.get(message.start..message.start + message.len).unwrap_or(&[]);
            for packet in bytes.chunks(usize::from(message.segment.max(1))) {
                sent.push((message.to, packet.to_vec()));
            }
        }
        out.batch.drop_front(taken);
        *send_dropped += out.batch.carry();
        out.hang_ups.clear();
        shard.egress.set_blocked(*socket_room == 0);
        shard.egress.on_flushed(|| now);
    }
}

/// One shard of a node, at a moment.
struct At<'a> {
    node: &'a mut Node,
    clock: Clock,
    index: usize,
}

impl Around for At<'_> {
    fn egress(&mut self) -> &mut Egress {
        &mut self.node.shard(self.index).egress
    }

    fn next_command(&mut self) -> Option<Command> {
        self.node.shard(self.index).inbox.command()
    }

    fn flush(&mut self) {
        self.node.flush(self.clock.now, self.index);
    }

    fn give_way(&mut self) -> Clock {
        self.clock
    }

    fn set_busy(&mut self) {
        self.node.shard(self.index).is_busy = true;
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}

fn path(from: SocketAddr) -> Path {
    Path::Udp { peer: from, local: None }
}
