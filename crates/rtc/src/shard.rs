//! One thread of the egress engine: its own sockets, its own viewers, its own timers.
//!
//! A pass takes what has come in, in the order of its urgency - control, sound, pictures, feedback, handshakes, timers -
//! and ends with one flush.
mod session;
mod table;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use media::{MediaTime, Track};
use rtp::Packets;

use self::session::{Clock, Session, Verdict};
use self::table::Table;
use crate::batch::{Batch, Path};
use crate::engine::{CloseReason, Command, Event, NewViewer, Shared, StreamId, shard_of};
use crate::handshake::{Done, Job};
use crate::ice;
use crate::ring::Ring;
use crate::sockets::{Ready, Sockets};
use crate::tcp::Connection;
use crate::udp::Received;
use crate::viewer::Crowd;

/// Commands, and frames, taken in one pass.
const TAKEN_PER_PASS: usize = 256;
/// Viewers that get a picture before sound that has come meanwhile goes first: a millisecond's worth of a keyframe.
const VIEWERS_AT_ONCE: usize = 64;
/// Calls of `recvmmsg` in one pass.
const RECEIVES_PER_PASS: usize = 16;
/// Connections of one shard at most, viewers' and strangers' together.
const CONNECTIONS_MAX: usize = 4096;
/// How often connections are looked through for those that belong to nobody.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses remembered as belonging to other shards.
const FOREIGN_MAX: usize = 65_536;
/// The longest sleep; timers usually end it sooner.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A stream as one shard sees it.
#[derive(Debug)]
struct Stream {
    origin: Instant,
    ring: Ring,
    viewers: Vec<usize>,
    crowd: Crowd,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    sockets: Sockets,
    commands: Receiver<Command>,
    frames: Receiver<(StreamId, Arc<Packets>)>,
    shared: Arc<Shared>,
    streams: HashMap<StreamId, Stream>,
    table: Table,
    connections: HashMap<usize, Connection>,
    next_connection: usize,
    next_sweep: Instant,
    foreign: HashMap<Path, usize>,
    /// To and from the thread beside this one.
    jobs: SyncSender<Job>,
    done: Receiver<Done>,
    batch: Batch,
    received: Received,
    /// What has been taken from `frames` and waits for its turn.
    sounds: VecDeque<(StreamId, Arc<Packets>)>,
    pictures: VecDeque<(StreamId, Arc<Packets>)>,
    /// Something was left for the next pass.
    is_busy: bool,
    is_draining: bool,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        sockets: Sockets,
        commands: Receiver<Command>,
        frames: Receiver<(StreamId, Arc<Packets>)>,
        (jobs, done): (SyncSender<Job>, Receiver<Done>),
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            index,
            sockets,
            commands,
            frames,
            shared,
            streams: HashMap::new(),
            table: Table::default(),
            connections: HashMap::new(),
            next_connection: 0,
            next_sweep: Instant::now(),
            foreign: HashMap::new(),
            jobs,
            done,
            batch: Batch::default(),
            received: Received::default(),
            sounds: VecDeque::new(),
            pictures: VecDeque::new(),
            is_busy: false,
            is_draining: false,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Runs until drained.
    pub(crate) fn run(mut self) {
        while !self.is_draining {
            let ready = self.wait();
            let now = Instant::now();
            self.is_busy = false;
            self.take_commands(now);
            self.take_frames(now);
            if ready.udp {
                self.take_datagrams(now);
            }
            if ready.listener {
                self.accept(now);
            }
            for connection in ready.connections {
                self.serve(now, connection);
            }
            self.take_handshakes(now);
            self.run_timers(now);
            self.flush();
            self.shared.counters.pass_time.observe(now.elapsed());
        }
        let now = Instant::now();
        for slot in self.table.slots() {
            self.close(now, slot, CloseReason::Drained);
        }
        self.flush();
    }

    fn wait(&mut self) -> Ready {
        let timeout = if self.is_busy {
            Duration::ZERO
        } else {
            let wake = self.table.next_wake();
            wake.map_or(SLEEP_MAX, |wake| wake.saturating_duration_since(Instant::now())).min(SLEEP_MAX)
        };
        self.sockets.wait(timeout)
    }

    fn take_commands(&mut self, now: Instant) {
        for taken in 0..=TAKEN_PER_PASS {
            self.is_busy |= taken == TAKEN_PER_PASS;
            let Ok(command) = self.commands.try_recv() else { return };
            match command {
                Command::Add(new) => self.add(now, *new),
                Command::Restart { viewer, local, remote } => self.table.restart(viewer, local, remote),
                Command::Remove { viewer } => {
                    if let Some(slot) = self.table.slot_of(viewer) {
                        self.close(now, slot, CloseReason::Removed);
                    }
                }
                Command::OpenStream { stream, origin } => {
                    self.streams.insert(
                        stream,
                        Stream { origin, ring: Ring::default(), viewers: Vec::new(), crowd: Crowd::new(now) },
                    );
                }
                Command::CloseStream { stream } => {
                    let viewers = self.streams.remove(&stream).map(|stream| stream.viewers);
                    for slot in viewers.unwrap_or_default() {
                        self.close(now, slot, CloseReason::StreamEnded);
                    }
                }
                Command::Datagram { path, from, mut bytes } => self.on_datagram(now, path, from, &mut bytes),
                Command::Connection { stream, peer, bytes } => self.adopt(now, stream, peer, bytes),
                Command::Drain => self.is_draining = true,
            }
        }
    }

    fn add(&mut self, now: Instant, new: NewViewer) {
        let stream = new.stream;
        let slot = self.table.insert(Session::new(now, new, self.shared.burst_multiple));
        match self.streams.get_mut(&stream) {
            Some(stream) => stream.viewers.push(slot),
            None => self.close(now, slot, CloseReason::StreamEnded),
        }
    }

    /// Sound first: a keyframe to a thousand viewers must not delay it.
    fn take_frames(&mut self, now: Instant) {
        for _ in 0..TAKEN_PER_PASS {
            self.take_sounds();
            let Some((stream, frame)) = self.pictures.pop_front() else { return };
            self.send_video(now, stream, &frame);
        }
        self.is_busy = true;
    }

    /// Sends all the sound that has come so far. Pictures that came with it wait.
    fn take_sounds(&mut self) {
        let room = TAKEN_PER_PASS.saturating_sub(self.pictures.len());
        for (stream, frame) in self.frames.try_iter().take(room) {
            let is_sound = frame.track == Track::Audio;
            let queue = if is_sound { &mut self.sounds } else { &mut self.pictures };
            queue.push_back((stream, frame));
        }
        while let Some((stream, frame)) = self.sounds.pop_front() {
            self.send_audio(stream, &frame);
        }
    }

    fn send_audio(&mut self, stream: StreamId, frame: &Packets) {
        let Some(stream) = self.streams.get(&stream) else { return };
        for slot in &stream.viewers {
            if let Some(session) = self.table.session_mut(*slot) {
                session.with_media(&mut self.batch, |viewer, out| viewer.send_audio(frame, out));
            }
            if self.batch.is_full() {
                flush(&mut self.sockets, &mut self.batch, &mut self.connections, &self.shared);
            }
        }
        self.flush();
        self.shared.counters.sound_delay.observe(frame.arrival.elapsed());
    }

    fn send_video(&mut self, now: Instant, id: StreamId, frame: &Arc<Packets>) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.ring.push(Arc::clone(frame));
        }
        for first in (0..).step_by(VIEWERS_AT_ONCE) {
            // Who is left out goes on from there with the next picture, or at a keyframe.
            if self.sockets.is_blocked() {
                break;
            }
            let Some(stream) = self.streams.get(&id) else { return };
            let after = stream.viewers.len().min(first + VIEWERS_AT_ONCE);
            for slot in stream.viewers.get(first..after).unwrap_or(&[]) {
                self.table.drive(*slot, |session| session.send_video(now, &stream.ring, &mut self.batch));
                if self.batch.is_full() {
                    flush(&mut self.sockets, &mut self.batch, &mut self.connections, &self.shared);
                }
            }
            let is_last = after == stream.viewers.len();
            self.flush();
            if is_last {
                break;
            }
            self.make_way();
        }
        self.shared.counters.picture_delay.observe(frame.arrival.elapsed());
    }

    fn take_datagrams(&mut self, now: Instant) {
        let mut received = std::mem::take(&mut self.received);
        for taken in 0..=RECEIVES_PER_PASS {
            self.is_busy |= taken == RECEIVES_PER_PASS;
            let has_more = self.sockets.receive(&mut received);
            received.for_each(|path, from, bytes| self.on_datagram(now, path, from, bytes));
            if !has_more {
                break;
            }
        }
        self.received = received;
    }

    /// RFC 7983: the first byte tells STUN, DTLS and media apart.
    fn on_datagram(&mut self, now: Instant, path: Path, from: SocketAddr, bytes: &mut [u8]) {
        let known = self.table.slot_at(path);
        if known.is_none()
            && let Some(shard) = self.owner_of(path, bytes)
        {
            return self.forward(shard, Command::Datagram { path, from, bytes: bytes.to_vec() });
        }
        self.on_packet(now, path, from, bytes);
    }

    /// The other shard that a datagram belongs to. A connectivity check says so by itself; whatever comes later from
    /// the same address follows it.
    fn owner_of(&mut self, path: Path, bytes: &[u8]) -> Option<usize> {
        if bytes.first().is_some_and(|first| *first < 4) && !ice::is_answer(bytes) {
            let shard = shard_of(&ice::local_ufrag(bytes)?)?;
            if shard == self.index || shard >= self.shared.neighbours.len() {
                self.foreign.remove(&path);
                return None;
            }
            if self.foreign.len() >= FOREIGN_MAX {
                self.foreign.clear();
            }
            self.foreign.insert(path, shard);
            return Some(shard);
        }
        self.foreign.get(&path).copied()
    }

    fn forward(&self, shard: usize, command: Command) {
        if let Some(neighbour) = self.shared.neighbours.get(shard) {
            self.shared.counters.forwarded.add(1);
            // Full means that the other shard is far behind; what is lost here is sent again, as on any network.
            let _ = neighbour.tell(command);
        }
    }

    /// Returns whether the packet belongs to a viewer of this shard.
    fn on_packet(&mut self, now: Instant, path: Path, from: SocketAddr, bytes: &mut [u8]) -> bool {
        match bytes.first() {
            Some(0..=3) if ice::is_answer(bytes) => {
                if let Some(slot) = self.table.slot_at(path) {
                    self.table.drive(slot, |session| {
                        session.agent.on_answer(now, path, bytes);
                    });
                    return true;
                }
            }
            Some(0..=3) => {
                let slot = ice::local_ufrag(bytes).and_then(|ufrag| self.table.slot_with(&ufrag));
                if let Some(slot) = slot
                    && let Some(answer) = self.table.on_check(now, slot, path, from, bytes, &mut self.batch)
                {
                    if let Some(Path::Tcp(connection)) = answer.forgotten {
                        self.hang_up(connection);
                    }
                    return true;
                }
            }
            Some(20..=63) => {
                if let Some(slot) = self.table.slot_at(path) {
                    self.table.drive(slot, |session| session.on_dtls(now, bytes, path, &self.jobs));
                    return true;
                }
            }
            Some(128..=191) => {
                if let Some(slot) = self.table.slot_at(path) {
                    self.on_feedback(now, slot, path, bytes);
                    return true;
                }
            }
            _ => {}
        }
        self.shared.counters.strays.add(1);
        false
    }

    fn on_feedback(&mut self, now: Instant, slot: usize, path: Path, bytes: &mut [u8]) {
        self.table.drive(slot, |session| {
            let Some(stream) = self.streams.get_mut(&session.stream) else { return };
            session.on_feedback(now, path, bytes, &stream.ring, &mut stream.crowd, &mut self.batch);
        });
    }

    fn take_handshakes(&mut self, now: Instant) {
        for taken in 0..=TAKEN_PER_PASS {
            self.is_busy |= taken == TAKEN_PER_PASS;
            let Ok(done) = self.done.try_recv() else { return };
            // Whoever is gone meanwhile has no slot.
            let Some(slot) = self.table.slot_of(done.viewer) else { continue };
            let mut verdict = Verdict::Stay;
            self.table.drive(slot, |session| {
                verdict = session.on_handshake(now, done, &self.jobs, &mut self.batch);
            });
            self.settle(now, slot, verdict);
        }
    }

    fn run_timers(&mut self, now: Instant) {
        let clock = Clock { now, ntp: ntp_now() };
        while let Some(slot) = self.table.next_due(now) {
            let mut verdict = Verdict::Stay;
            self.table.drive(slot, |session| {
                let Some(stream) = self.streams.get(&session.stream) else { return };
                let time = media_time(stream.origin, now);
                verdict = session.on_timer(clock, time, &stream.ring, &self.jobs, &mut self.batch);
                session.account(&self.shared.counters);
            });
            self.settle(now, slot, verdict);
            if self.batch.is_full() {
                self.flush();
                self.make_way();
            }
        }
    }

    /// Amid long work: lets those run who bring sound, if they share this core, and sends what they brought.
    fn make_way(&mut self) {
        std::thread::yield_now();
        self.take_sounds();
    }

    fn settle(&mut self, now: Instant, slot: usize, verdict: Verdict) {
        match verdict {
            Verdict::Stay => {}
            Verdict::Close(reason) => self.close(now, slot, reason),
            Verdict::Connected => self.on_connected(now, slot),
        }
    }

    /// The first report goes before the first frame, so that the player can line up sound and picture at once.
    fn on_connected(&mut self, now: Instant, slot: usize) {
        let clock = Clock { now, ntp: ntp_now() };
        self.table.drive(slot, |session| {
            let Some(stream) = self.streams.get(&session.stream) else { return };
            let time = media_time(stream.origin, now);
            let _ = session.on_timer(clock, time, &stream.ring, &self.jobs, &mut self.batch);
            session.send_video(now, &stream.ring, &mut self.batch);
            let event = Event::Connected {
                viewer: session.id,
                profile: session.profile(),
                took: now.saturating_duration_since(session.created),
            };
            let _ = self.shared.events.send(event);
        });
    }

    fn close(&mut self, now: Instant, slot: usize, reason: CloseReason) {
        let Some(mut session) = self.table.remove(slot) else { return };
        session.say_goodbye(&mut self.batch);
        if let Some(stream) = self.streams.get_mut(&session.stream) {
            stream.viewers.retain(|viewer| *viewer != slot);
        }
        if !session.is_connected() {
            self.shared.counters.handshakes_failed.add(1);
        }
        // Goodbyes must be written before their connections are dropped.
        if session.paths().any(|path| matches!(path, Path::Tcp(_))) {
            self.flush();
        }
        for path in session.paths() {
            if let Path::Tcp(connection) = path {
                self.hang_up(connection);
            }
        }
        tracing::debug!(
            reason = reason.as_str(),
            lived_ms = now.saturating_duration_since(session.created).as_millis(),
            "viewer closed"
        );
        let stats = session.account(&self.shared.counters);
        self.report_closed(session.id, reason, &stats);
    }

    fn report_closed(
        &self,
        viewer: crate::engine::ViewerId,
        reason: CloseReason,
        stats: &crate::viewer::ViewerStats,
    ) {
        self.shared.living.lock().unwrap_or_else(PoisonError::into_inner).remove(&viewer);
        let _ = self.shared.events.send(Event::Closed { viewer, reason, stats: *stats });
    }

    fn accept(&mut self, now: Instant) {
        while let Some((stream, peer)) = self.sockets.accept() {
            self.connect(now, stream, peer, Vec::new());
        }
    }

    /// Takes over a connection that another shard accepted.
    fn adopt(&mut self, now: Instant, stream: std::net::TcpStream, peer: SocketAddr, bytes: Vec<u8>) {
        let stream = mio::net::TcpStream::from_std(stream);
        if let Some(connection) = self.connect(now, stream, peer, bytes) {
            self.serve(now, connection);
        }
    }

    fn connect(
        &mut self,
        now: Instant,
        mut stream: mio::net::TcpStream,
        peer: SocketAddr,
        bytes: Vec<u8>,
    ) -> Option<usize> {
        self.sweep_connections(now);
        if self.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        let number = self.next_connection;
        self.next_connection += 1;
        self.sockets.watch(&mut stream, number).ok()?;
        self.connections.insert(number, Connection::new(now, stream, peer, bytes));
        Some(number)
    }

    /// Reads and writes one connection as far as it goes.
    fn serve(&mut self, now: Instant, number: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut is_alive = connection.write().is_ok();
        match connection.read() {
            Ok(true) => self.sockets.revisit(number),
            Ok(false) => {}
            Err(_) => is_alive = false,
        }
        let peer = connection.peer;
        while is_alive {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let mut frame = match connection.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => break,
            };
            let is_claimed = connection.is_claimed();
            let owner = ice::local_ufrag(&frame).and_then(|ufrag| shard_of(&ufrag));
            if let Some(owner) = owner.filter(|owner| *owner != self.index && !is_claimed) {
                return self.hand_over(number, owner, &frame);
            }
            let is_authentic = self.on_packet(now, Path::Tcp(number), peer, &mut frame);
            is_alive = is_authentic || is_claimed;
            if let Some(connection) = self.connections.get_mut(&number).filter(|_| is_authentic) {
                connection.on_authentic(now);
            }
        }
        self.hang_up(number);
    }

    /// Closes connections that belong to nobody. Once a second is enough, and no more work for who opens thousands.
    fn sweep_connections(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let expired = self.connections.iter().filter(|(_, connection)| connection.is_expired(now));
        let expired: Vec<usize> = expired.map(|(number, _)| *number).collect();
        for number in expired {
            self.hang_up(number);
        }
    }

    fn hand_over(&mut self, number: usize, owner: usize, frame: &[u8]) {
        let Some(mut connection) = self.connections.remove(&number) else { return };
        self.sockets.unwatch(&mut connection.stream);
        let (stream, peer, bytes) = connection.into_parts(frame);
        self.forward(owner, Command::Connection { stream: stream.into(), peer, bytes });
    }

    fn hang_up(&mut self, number: usize) {
        if let Some(mut connection) = self.connections.remove(&number) {
            self.sockets.unwatch(&mut connection.stream);
        }
        self.table.forget_path(Path::Tcp(number));
    }

    fn flush(&mut self) {
        flush(&mut self.sockets, &mut self.batch, &mut self.connections, &self.shared);
    }
}

/// Sends what the pass has written.
fn flush(
    sockets: &mut Sockets,
    batch: &mut Batch,
    connections: &mut HashMap<usize, Connection>,
    shared: &Shared,
) {
    if batch.is_empty() {
        return;
    }
    let sent = sockets.send(batch);
    shared.counters.send_calls.add(sent.calls);
    shared.counters.send_refused.add(sent.refused);
    shared.counters.send_blocked.add(sent.blocked);
    shared.counters.unsegmented.add(sent.unsegmented);
    for framed in batch.streams() {
        let packet = batch.arena.get(framed.start..framed.start + framed.len);
        if let (Some(connection), Some(packet)) = (connections.get_mut(&framed.connection), packet) {
            connection.push(packet, framed.class);
            shared.counters.tcp_dropped.add(connection.take_dropped());
        }
    }
    for framed in batch.streams() {
        // A connection that fails here is found dead by its next event.
        let _ = connections.get_mut(&framed.connection).map(Connection::write);
    }
    shared.counters.send_dropped.add(batch.carry());
}

fn media_time(origin: Instant, now: Instant) -> MediaTime {
    let since = now.saturating_duration_since(origin);
    MediaTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The wall clock as RTCP writes it: seconds since 1900 and their fraction (RFC 3550, section 4).
fn ntp_now() -> u64 {
    /// Seconds between 1900 and 1970.
    const EPOCH_SECONDS: u64 = 2_208_988_800;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + EPOCH_SECONDS) << 32) | fraction
}
