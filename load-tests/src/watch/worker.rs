//! A thread with some thousand viewers: one poll, one socket for each, one heap of times.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};

use super::dtls::Identity;
use super::link::{Link, Quality};
use super::media::Moment;
use super::orders::{Gauge, Group, Order, Orders, Outcome};
use super::socket::{self, Received};
use super::viewer::{Beginning, Effects, Viewer};

/// Sockets that one poll reports: a rush of handshakes must not hold up times and orders.
const EVENTS: usize = 128;
/// Orders that are carried out in one pass, so that a rush of joins does not hold up those who watch.
const ORDERS_PER_PASS: usize = 16;
/// The longest sleep, so that figures for the progress line stay fresh.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// How often the figures for the progress line are renewed.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);
/// The wake-up's token; viewers count up from 0.
const WAKER: Token = Token(usize::MAX);

/// The end of a thread that others hold.
#[derive(Debug)]
pub(super) struct Handle {
    orders: Orders,
    pub(super) gauge: Arc<Gauge>,
    thread: JoinHandle<Outcome>,
}

impl Handle {
    pub(super) fn start(number: u64, identity: Arc<Identity>, quality: Option<Quality>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (orders, inbox) = Orders::channel(waker);
        let gauge = Arc::new(Gauge::default());
        let links = quality.map(|quality| [0, 1].map(|way| Link::new(quality, 2 * number + way)));
        let worker = Worker {
            poll,
            inbox,
            identity,
            gauge: Arc::clone(&gauge),
            seats: HashMap::new(),
            times: BinaryHeap::new(),
            links: links.map(|[inbound, outbound]| Links { inbound, outbound }),
            out: Vec::new(),
            received: Received::default(),
            outcome: Outcome::default(),
            shown: Instant::now(),
        };
        let thread = std::thread::Builder::new().name(format!("viewers-{number}")).spawn(|| worker.run())?;
        Ok(Self { orders, gauge, thread })
    }

    pub(super) fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Ends the thread and its viewers.
    pub(super) fn stop(self) -> Outcome {
        self.orders.give(Order::Stop);
        self.thread.join().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Links {
    inbound: Link,
    outbound: Link,
}

/// A viewer and its socket.
#[derive(Debug)]
struct Seat {
    viewer: Viewer,
    socket: mio::net::UdpSocket,
    group: Group,
    /// The time in the heap that counts.
    wakes: Instant,
    was_watching: bool,
    has_watched: bool,
}

#[derive(Debug)]
struct Worker {
    poll: Poll,
    inbox: Receiver<Order>,
    identity: Arc<Identity>,
    gauge: Arc<Gauge>,
    seats: HashMap<usize, Seat>,
    times: BinaryHeap<Reverse<(Instant, usize)>>,
    links: Option<Links>,
    out: Vec<Vec<u8>>,
    received: Received,
    outcome: Outcome,
    shown: Instant,
}

impl Worker {
    fn run(mut self) -> Outcome {
        let mut events = Events::with_capacity(EVENTS);
        let mut has_more = false;
        loop {
            let sleep = if has_more { Duration::ZERO } else { self.sleep() };
            if let Err(error) = self.poll.poll(&mut events, Some(sleep))
                && error.kind() != io::ErrorKind::Interrupted
            {
                break;
            }
            let began = Instant::now();
            match self.on_orders() {
                Some(more) => has_more = more,
                None => break,
            }
            for event in &events {
                if event.token() != WAKER {
                    self.on_readable(event.token().0);
                }
            }
            self.on_links();
            self.on_times();
            self.outcome.pass.record_time(began.elapsed());
            self.show(began);
        }
        self.finish()
    }

    fn sleep(&self) -> Duration {
        let times = self.times.peek().map(|Reverse((time, _))| *time);
        let links = self.links.as_ref().and_then(|links| {
            [links.inbound.deadline(), links.outbound.deadline()].into_iter().flatten().min()
        });
        let next = [times, links].into_iter().flatten().min();
        let now = Instant::now();
        let sleep = next.map_or(SLEEP_MAX, |next| next.saturating_duration_since(now)).min(SLEEP_MAX);
        // The poll counts in milliseconds and rounds up; half a millisecond early is better than one late.
        if sleep < Duration::from_micros(500) { Duration::ZERO } else { sleep }
    }

    fn on_readable(&mut self, id: usize) {
        let Some(seat) = self.seats.get_mut(&id).filter(|seat| seat.viewer.reads()) else { return };
        loop {
            let count = self.received.receive(&seat.socket);
            let at = Moment::read();
            let totals = self.outcome.group(seat.group);
            let mut effects = Effects { out: &mut self.out, totals };
            let (viewer, identity) = (&mut seat.viewer, &self.identity);
            match &mut self.links {
                Some(links) => {
                    self.received
                        .for_each(at.wall, |datagram, _| links.inbound.push(at.now, id, datagram.to_vec()));
                }
                None => self.received.for_each(at.wall, |datagram, waited| {
                    let at = Moment { came: at.now.checked_sub(waited).unwrap_or(at.now), ..at };
                    viewer.on_datagram(at, datagram, identity, &mut effects);
                }),
            }
            // The poll tells of each arrival once, so the socket is emptied; a batch that is not full has done so.
            if count < socket::BATCH {
                break;
            }
        }
        self.after(id);
    }

    fn on_links(&mut self) {
        if self.links.is_none() {
            return;
        }
        loop {
            let at = Moment::read();
            let Some(links) = &mut self.links else { return };
            if let Some((id, datagram)) = links.outbound.pop(at.now) {
                if let Some(seat) = self.seats.get(&id) {
                    let _ = seat.socket.send(&datagram);
                }
                continue;
            }
            let Some((id, mut datagram)) = links.inbound.pop(at.now) else { return };
            let Some(seat) = self.seats.get_mut(&id) else { continue };
            let totals = self.outcome.group(seat.group);
            let mut effects = Effects { out: &mut self.out, totals };
            seat.viewer.on_datagram(at, &mut datagram, &self.identity, &mut effects);
            self.after(id);
        }
    }

    fn on_times(&mut self) {
        let at = Moment::read();
        while let Some(Reverse((time, id))) = self.times.peek().copied() {
            if time > at.now {
                return;
            }
            self.times.pop();
            let Some(seat) = self.seats.get_mut(&id).filter(|seat| seat.wakes == time) else { continue };
            let totals = self.outcome.group(seat.group);
            seat.viewer.on_timeout(at, &mut Effects { out: &mut self.out, totals });
            // The entry is used up, so whatever comes next needs a new one.
            seat.wakes = at.now + Duration::from_secs(3600);
            self.after(id);
        }
    }

    /// Sends what a viewer wants sent and notes when it must be woken.
    fn after(&mut self, id: usize) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let now = Instant::now();
        for datagram in self.out.drain(..) {
            match &mut self.links {
                Some(links) => links.outbound.push(now, id, datagram),
                // A full queue loses the datagram, as a network would; a refusal shows in a timeout.
                None => _ = seat.socket.send(&datagram),
            }
        }
        let is_watching = seat.viewer.is_watching();
        if is_watching && !seat.was_watching {
            self.gauge.connected.fetch_add(1, Relaxed);
            self.gauge.ever_connected.fetch_add(1, Relaxed);
        } else if !is_watching && seat.was_watching {
            self.gauge.connected.fetch_sub(1, Relaxed);
        }
        seat.was_watching = is_watching;
        seat.has_watched |= is_watching;
        if seat.viewer.is_over() {
            self.gauge.failed.fetch_add(u64::from(!seat.has_watched), Relaxed);
            self.remove(id);
            return;
        }
        let deadline = seat.viewer.deadline();
        if deadline < seat.wakes {
            seat.wakes = deadline;
            self.times.push(Reverse((deadline, id)));
        }
    }

    /// Carries out some orders. `Some(true)` when there may be more, `None` when it is over.
    fn on_orders(&mut self) -> Option<bool> {
        for _ in 0..ORDERS_PER_PASS {
            match self.inbox.try_recv() {
                Ok(Order::Join { id, group, socket, beginning }) => self.join(id, group, socket, *beginning),
                Ok(Order::Leave { id, left }) => {
                    self.leave(id);
                    self.after(id);
                    // Nobody waits any more when the run is over.
                    let _ = left.send(());
                }
                Ok(Order::Window { is_open }) => {
                    let now = Instant::now();
                    for seat in self.seats.values_mut() {
                        seat.viewer.media.set_window(now, is_open, self.outcome.group(seat.group));
                    }
                }
                Err(TryRecvError::Empty) => return Some(false),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return None,
            }
        }
        Some(true)
    }

    fn join(&mut self, id: usize, seat_group: Group, socket: UdpSocket, beginning: Beginning) {
        let now = Instant::now();
        let totals = self.outcome.group(seat_group);
        let mut socket = mio::net::UdpSocket::from_std(socket);
        if self.poll.registry().register(&mut socket, Token(id), Interest::READABLE).is_err() {
            totals.ended.add("the socket cannot be polled");
            return;
        }
        let viewer = Viewer::new(now, beginning);
        let seat =
            Seat { viewer, socket, group: seat_group, wakes: now, was_watching: false, has_watched: false };
        self.times.push(Reverse((now, id)));
        self.seats.insert(id, seat);
    }

    fn leave(&mut self, id: usize) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let totals = self.outcome.group(seat.group);
        seat.viewer.leave(Instant::now(), &mut Effects { out: &mut self.out, totals });
    }

    fn remove(&mut self, id: usize) {
        if let Some(mut seat) = self.seats.remove(&id) {
            seat.viewer.finish(Instant::now(), self.outcome.group(seat.group));
            let _ = self.poll.registry().deregister(&mut seat.socket);
        }
    }

    fn show(&mut self, now: Instant) {
        if now.saturating_duration_since(self.shown) < SHOW_INTERVAL {
            return;
        }
        self.shown = now;
        let (packets, bytes) = self
            .outcome
            .groups
            .iter()
            .fold((0, 0), |(packets, bytes), totals| (packets + totals.packets, bytes + totals.bytes));
        self.gauge.packets.store(packets, Relaxed);
        self.gauge.bytes.store(bytes, Relaxed);
        let gone: u64 = self.outcome.groups.iter().map(|totals| totals.video.lost + totals.audio.lost).sum();
        let here: u64 = self.seats.values().map(|seat| seat.viewer.media.lost()).sum();
        self.gauge.lost.store(gone + here, Relaxed);
    }

    fn finish(mut self) -> Outcome {
        let mut ids: Vec<usize> = self.seats.keys().copied().collect();
        ids.sort_unstable();
        // The link is not in the way of a goodbye.
        let links = self.links.take();
        for id in ids {
            self.leave(id);
            self.after(id);
        }
        if let Some(links) = links {
            self.outcome.link_lost = links.inbound.lost + links.outbound.lost;
            self.outcome.link_overflowed = links.inbound.overflowed + links.outbound.overflowed;
        }
        self.outcome
    }
}
