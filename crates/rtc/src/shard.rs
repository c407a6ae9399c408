//! One thread of the egress engine: it feeds the machine of [`crate::egress`] and writes what comes out.
//!
//! A pass takes what has come in, in the order of its urgency - commands and frames, feedback, handshakes, timers - and ends
//! with one flush. Frames and timers that take long are written in parts and left for the next pass, so that feedback is
//! heard however many viewers there are.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::UnboundedSender;

use crate::batch::Path;
use crate::bell::{Bell, Heard};
use crate::command::{Command, Event};
use crate::egress::{Clock, Egress};
use crate::handshake::Desk;
use crate::ice;
use crate::id::shard_of;
use crate::mailbox::{Forwarded, Inbox, Mailbox};
use crate::pass::{self, Around, TAKEN_AT_ONCE};
use crate::sockets::{Ready, Sockets};
use crate::tcp::Connection;
use crate::udp::Received;

/// Calls of `recvmmsg` in one pass.
const RECEIVES_PER_PASS: usize = 16;
/// How often connections are looked through for those that belong to nobody.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The longest sleep; timers usually end it sooner.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    sockets: Sockets,
    bell: Bell,
    /// Whatever was put into a queue up to here is taken by this pass.
    heard: Heard,
    inbox: Inbox,
    neighbours: Vec<Mailbox>,
    desk: Desk,
    egress: Egress,
    events: UnboundedSender<Event>,
    connections: HashMap<usize, Connection>,
    connections_max: usize,
    next_connection: usize,
    next_sweep: Instant,
    received: Received,
    /// Something was left for the next pass.
    is_busy: bool,
}

impl Shard {
    pub(crate) fn new(
        index: usize,
        (sockets, inbox, neighbours, desk): (Sockets, Inbox, Vec<Mailbox>, Desk),
        egress: Egress,
        connections_max: usize,
        events: UnboundedSender<Event>,
    ) -> Self {
        let bell = sockets.bell();
        Self {
            index,
            heard: bell.listen(),
            bell,
            sockets,
            inbox,
            neighbours,
            desk,
            egress,
            events,
            connections: HashMap::new(),
            connections_max,
            next_connection: 0,
            next_sweep: Instant::now(),
            received: Received::default(),
            is_busy: false,
        }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Runs until drained.
    pub(crate) fn run(mut self) {
        while !self.egress.is_draining() {
            let ready = self.wait();
            let began = Instant::now();
            self.is_busy = false;
            pass::take_commands(&mut self, began);
            self.egress.set_blocked(self.sockets.is_blocked());
            pass::send_frames(&mut self, began);
            let now = Instant::now();
            self.take_forwarded(now);
            if ready.udp {
                self.take_datagrams(now);
            }
            if ready.listener {
                self.accept(now);
            }
            for connection in ready.connections {
                self.serve(now, connection);
            }
            self.sweep_connections(now);
            let clock = clock();
            self.take_handshakes(clock);
            pass::run_timers(&mut self, clock);
            self.flush();
            self.egress.counters().pass_time.observe(began.elapsed());
        }
        self.flush();
    }

    fn wait(&mut self) -> Ready {
        let timeout = if self.is_busy || !self.bell.fall_asleep(self.heard) {
            Duration::ZERO
        } else {
            let wake = self.egress.next_timeout();
            wake.map_or(SLEEP_MAX, |wake| wake.saturating_duration_since(Instant::now())).min(SLEEP_MAX)
        };
        let ready = self.sockets.wait(timeout);
        self.bell.wake_up();
        self.heard = self.bell.listen();
        ready
    }

    fn take_forwarded(&mut self, now: Instant) {
        for _ in 0..TAKEN_AT_ONCE {
            let Some(forwarded) = self.inbox.forwarded() else { return };
            pass::take_commands(self, now);
            match forwarded {
                Forwarded::Datagram { path, from, mut bytes } => {
                    self.on_datagram(now, path, from, &mut bytes);
                }
                Forwarded::Connection { stream, peer, bytes } => self.adopt(now, stream, peer, bytes),
            }
        }
        self.is_busy = true;
    }

    fn take_datagrams(&mut self, now: Instant) {
        let mut received = std::mem::take(&mut self.received);
        for taken in 0..=RECEIVES_PER_PASS {
            self.is_busy |= taken == RECEIVES_PER_PASS;
            let has_more = self.sockets.receive(&mut received);
            // A viewer was added before it was answered, and checks after that: whoever is in here is known by now, unless
            // hundreds of commands were before it; then its next check finds it.
            pass::take_commands(self, now);
            received.for_each(|path, from, bytes| self.on_datagram(now, path, from, bytes));
            if !has_more {
                break;
            }
        }
        self.received = received;
    }

    fn on_datagram(&mut self, now: Instant, path: Path, from: SocketAddr, bytes: &mut [u8]) {
        if let Some(shard) = self.egress.on_datagram(now, path, from, bytes) {
            self.forward(shard, Forwarded::Datagram { path, from, bytes: bytes.to_vec() });
        }
        if self.egress.out.batch.is_full() {
            self.flush();
        }
    }

    fn forward(&self, shard: usize, forwarded: Forwarded) {
        let counters = self.egress.counters();
        let is_taken = self.neighbours.get(shard).is_some_and(|neighbour| neighbour.forward(forwarded));
        if is_taken { counters.forwarded.add(1) } else { counters.forwards_dropped.add(1) }
    }

    fn take_handshakes(&mut self, clock: Clock) {
        for _ in 0..TAKEN_AT_ONCE {
            let Some(done) = self.desk.take() else { return };
            self.egress.on_handshake(clock, done);
        }
        self.is_busy = true;
    }

    fn write(&mut self) {
        for job in self.egress.take_jobs() {
            if let Some(job) = self.desk.leave(job) {
                self.egress.on_refused(Instant::now(), job);
            }
        }
        let out = &mut self.egress.out;
        for event in out.events.drain(..) {
            // Nobody listens any more when the process ends.
            let _ = self.events.send(event);
        }
        let mut congested = Vec::new();
        if !out.batch.is_empty() {
            let sent = self.sockets.send(&mut out.batch);
            let mut tcp_dropped = 0;
            for framed in out.batch.streams() {
                let packet = out.batch.arena.get(framed.start..framed.start + framed.len);
                if let (Some(connection), Some(packet)) =
                    (self.connections.get_mut(&framed.connection), packet)
                {
                    connection.push(packet, framed.class);
                    tcp_dropped += connection.take_dropped();
                }
            }
            for framed in out.batch.streams() {
                // A connection that fails here is found dead by its next event.
                let Some(connection) = self.connections.get_mut(&framed.connection) else { continue };
                let _ = connection.write();
                if connection.is_congested() {
                    congested.push(framed.connection);
                }
            }
            let send_dropped = out.batch.carry();
            self.egress.set_blocked(self.sockets.is_blocked());
            let counters = self.egress.counters();
            counters.send_calls.add(sent.calls);
            counters.send_refused.add(sent.refused);
            counters.send_blocked.add(sent.blocked);
            counters.unsegmented.add(sent.unsegmented);
            counters.tcp_dropped.add(tcp_dropped);
            counters.send_dropped.add(send_dropped);
        }
        self.egress.on_flushed(Instant::now);
        for connection in congested {
            self.egress.on_congestion(Instant::now(), Path::Tcp(connection));
        }
        for connection in std::mem::take(&mut self.egress.out.hang_ups) {
            self.hang_up(connection);
        }
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
        if self.connections.len() >= self.connections_max {
            self.egress.counters().connections_refused.add(1);
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
        pass::take_commands(self, now);
        while is_alive {
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let mut frame = match connection.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => break,
            };
            let is_claimed = connection.is_claimed();
            let owner = ice::local_ufrag(&frame).and_then(shard_of);
            if let Some(owner) = owner.filter(|owner| *owner != self.index && !is_claimed) {
                return self.hand_over(number, owner, &frame);
            }
            let is_authentic = self.egress.on_packet(now, Path::Tcp(number), peer, &mut frame);
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
        self.forward(owner, Forwarded::Connection { stream: stream.into(), peer, bytes });
    }

    fn hang_up(&mut self, number: usize) {
        if let Some(mut connection) = self.connections.remove(&number) {
            self.sockets.unwatch(&mut connection.stream);
        }
        self.egress.on_disconnect(Path::Tcp(number));
    }
}

impl Around for Shard {
    fn egress(&mut self) -> &mut Egress {
        &mut self.egress
    }

    fn next_command(&mut self) -> Option<Command> {
        self.inbox.command()
    }

    fn flush(&mut self) {
        self.write();
    }

    fn give_way(&mut self) -> Clock {
        std::thread::yield_now();
        clock()
    }

    fn set_busy(&mut self) {
        self.is_busy = true;
    }
}

fn clock() -> Clock {
    Clock { now: Instant::now(), ntp: ntp_now() }
}

/// The wall clock as RTCP writes it: seconds since 1900 and their fraction (RFC 3550, section 4).
fn ntp_now() -> u64 {
    /// Seconds between 1900 and 1970.
    const EPOCH_SECONDS: u64 = 2_208_988_800;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + EPOCH_SECONDS) << 32) | fraction
}
