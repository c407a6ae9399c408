//! Publishers, the node, its viewers and the networks between them, in virtual time.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rtc::sdp::{Local, Offer};
use rtc::testing::Node;
use rtc::{CNAME, CloseReason, Event, StreamId, ViewerId, ViewerStats};

use crate::browser::{Browser, Offers};
use crate::keyed::Keyed;
use crate::lesson::{Lesson, Publisher};
use crate::network::Link;
use crate::screen::Screen;

/// The media port of the node.
pub(crate) const NODE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 8189);
/// The seed of all that is random; another is taken from `SCENARIO_SEED`.
const SEED: u64 = 1;

/// The far end of a viewer.
pub(crate) trait Client {
    /// A datagram arrives.
    fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]);
    /// Does what is due. Returns what is to be sent.
    fn drive(&mut self, now: Instant, screen: &mut Screen) -> Vec<Vec<u8>>;
    /// When something is due.
    fn next(&self) -> Option<Instant>;
    /// The viewer with keys that it is.
    fn keyed(&mut self) -> Option<&mut Keyed> {
        None
    }
    /// The browser that it is.
    fn browser(&mut self) -> Option<&mut Browser> {
        None
    }
}

pub(crate) struct Viewer {
    pub(crate) id: ViewerId,
    /// Where its datagrams come from.
    pub(crate) address: SocketAddr,
    /// The shard to whose socket the kernel gives them.
    pub(crate) socket: usize,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) client: Box<dyn Client>,
    pub(crate) screen: Screen,
    /// When it asked to join.
    pub(crate) joined: Instant,
    pub(crate) stats: ViewerStats,
    wake: Option<Instant>,
}

enum Parcel {
    Up { from: SocketAddr, shard: usize, bytes: Vec<u8> },
    Down { viewer: usize, bytes: Vec<u8> },
    Wake { viewer: usize },
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) began: Instant,
    pub(crate) node: Node,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) events: Vec<(Instant, Event)>,
    pub(crate) rng: StdRng,
    /// The shard whose socket gets the datagrams of viewers that join, if not the one they live on.
    pub(crate) socket: Option<usize>,
    /// Whose address the next viewers have, if not one of their own.
    pub(crate) again: Option<usize>,
    /// Sees every packet that the node sends.
    pub(crate) tap: Option<Vec<(Instant, SocketAddr, Vec<u8>)>>,
    by_address: HashMap<SocketAddr, usize>,
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    parcels: HashMap<u64, Parcel>,
    next_parcel: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(shards: usize) -> Self {
        let seed = std::env::var("SCENARIO_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
        Self::with_seed(shards, seed)
    }

    pub(crate) fn with_seed(shards: usize, seed: u64) -> Self {
        let now = Instant::now() + Duration::from_secs(10);
        Self {
            now,
            began: now,
            node: Node::new(now, shards, NODE, seed),
            publishers: Vec::new(),
            viewers: Vec::new(),
            events: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
            socket: None,
            again: None,
            tap: None,
            by_address: HashMap::new(),
            due: BinaryHeap::new(),
            parcels: HashMap::new(),
            next_parcel: 0,
            seed,
        }
    }

    /// Since the beginning.
    pub(crate) fn since(&self) -> Duration {
        self.now - self.began
    }

    /// Publishes a lesson from now on.
    pub(crate) fn publish(&mut self, lesson: Lesson) -> StreamId {
        let stream = self.node.handle.open_stream(self.now);
        self.publishers.push(Publisher::new(stream, lesson, self.now, self.seed));
        stream
    }

    /// A viewer joins with a browser that can do everything, over these links.
    pub(crate) fn join(&mut self, stream: StreamId, up: Link, down: Link) -> usize {
        self.join_with(stream, up, down, Offers { transport_cc: true, rtx: true })
    }

    pub(crate) fn join_with(&mut self, stream: StreamId, up: Link, down: Link, offers: Offers) -> usize {
        let address = self.next_address();
        let (mut browser, offer) = Browser::new(self.now, address, offers);
        let seat = self.node.handle.reserve().expect("there is room");
        let offer = Offer::parse(&offer).expect("a browser's offer");
        let local = Local {
            credentials: &seat.credentials,
            fingerprint: self.node.handle.fingerprint(),
            candidates: &self.node.handle.candidates(),
            video: Some([0x42, 0xe0, 0x1f]),
            audio: true,
            low_latency: false,
            ssrcs: seat.ssrcs,
            session_id: 1,
            cname: CNAME,
        };
        let answer = offer.answer(&local).expect("what a browser offers can be answered");
        let id = seat.viewer;
        self.node.handle.add(seat, stream, answer.terms).expect("its shard lives");
        browser.accept(&answer.sdp);
        self.seat(id, address, (up, down), Box::new(browser))
    }

    /// A browser restarts ICE, as WHEP does it: with new credentials on both sides.
    pub(crate) fn restart(&mut self, viewer: usize) {
        let remote = self.browser(viewer).begin_restart();
        let local = self.node.handle.restart(self.viewers[viewer].id, remote).expect("its shard lives");
        self.node.pass(self.now);
        self.browser(viewer).restart_ice(&local);
        self.drive(viewer);
    }

    /// An address that no viewer has, unless it is to be that of an earlier one.
    pub(crate) fn next_address(&self) -> SocketAddr {
        if let Some(earlier) = self.again {
            return self.viewers[earlier].address;
        }
        let number = u16::try_from(self.viewers.len()).unwrap();
        let [high, low] = number.to_be_bytes();
        SocketAddr::from(([10, 1, high, low], 50_000 + number % 10_000))
    }

    /// Puts a client at the end of its links.
    pub(crate) fn seat(
        &mut self,
        id: ViewerId,
        address: SocketAddr,
        (up, down): (Link, Link),
        client: Box<dyn Client>,
    ) -> usize {
        let viewer = self.viewers.len();
        self.by_address.insert(address, viewer);
        self.viewers.push(Viewer {
            id,
            address,
            socket: self.socket.unwrap_or(Node::shard_of(id)),
            up,
            down,
            client,
            screen: Screen::default(),
            joined: self.now,
            stats: ViewerStats::default(),
            wake: None,
        });
        self.node.pass(self.now);
        self.drive(viewer);
        viewer
    }

    /// A viewer's datagrams come from another address from now on.
    pub(crate) fn move_to(&mut self, viewer: usize, address: SocketAddr) {
        self.by_address.remove(&self.viewers[viewer].address);
        self.viewers[viewer].address = address;
        self.by_address.insert(address, viewer);
    }

    /// Lets this much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    pub(crate) fn run_until(&mut self, end: Instant) {
        loop {
            let frame = self.publishers.iter().filter_map(Publisher::next).min();
            // What is due at once is due a little later: a pass takes some time.
            let node =
                self.node.next_timeout(self.now).map(|at| at.max(self.now + Duration::from_micros(100)));
            let parcel = self.due.peek().map(|Reverse((at, _))| *at);
            let next = [frame, node, parcel].into_iter().flatten().min().filter(|next| *next <= end);
            let Some(next) = next else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        let mut touched = Vec::new();
        while let Some(Reverse((_, number))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.due.pop();
            match self.parcels.remove(&number) {
                Some(Parcel::Up { from, shard, bytes }) => self.node.datagram(now, shard, from, &bytes),
                Some(Parcel::Down { viewer, bytes }) => {
                    self.viewers[viewer].client.receive(now, NODE, &bytes);
                    touched.push(viewer);
                }
                Some(Parcel::Wake { viewer }) => {
                    if self.viewers[viewer].wake == Some(now) {
                        self.viewers[viewer].wake = None;
                    }
                    touched.push(viewer);
                }
                None => {}
            }
        }
        for publisher in &mut self.publishers {
            for frame in publisher.take(now) {
                self.node.handle.send(publisher.stream, &frame);
            }
        }
        self.node.pass(now);
        self.deliver();
        touched.sort_unstable();
        touched.dedup();
        for viewer in touched {
            self.drive(viewer);
        }
    }

    /// What the node has sent goes on its way.
    pub(crate) fn deliver(&mut self) {
        let (now, since) = (self.now, self.since());
        for event in std::mem::take(&mut self.node.events) {
            if let Event::Closed { viewer, stats, .. } = &event
                && let Some(viewer) = self.viewers.iter_mut().find(|known| known.id == *viewer)
            {
                viewer.stats = *stats;
            }
            self.events.push((now, event));
        }
        for (to, bytes) in std::mem::take(&mut self.node.sent) {
            if let Some(tap) = &mut self.tap {
                tap.push((now, to, bytes.clone()));
            }
            let Some(viewer) = self.by_address.get(&to).copied() else { continue };
            let arrivals = self.viewers[viewer].down.pass(now, since, &bytes, &mut self.rng);
            for at in arrivals.into_iter().flatten() {
                self.post(at, Parcel::Down { viewer, bytes: bytes.clone() });
            }
        }
    }

    /// Lets a client do what it is due to do, and sends what it says.
    pub(crate) fn drive(&mut self, viewer: usize) {
        let (now, since) = (self.now, self.since());
        let place = &mut self.viewers[viewer];
        let sent = place.client.drive(now, &mut place.screen);
        let (from, shard) = (place.address, place.socket);
        let next = place.client.next().map(|next| next.max(now + Duration::from_micros(100)));
        let is_sooner = next.filter(|next| place.wake.is_none_or(|wake| *next < wake));
        place.wake = is_sooner.or(place.wake);
        for bytes in sent {
            let arrivals = self.viewers[viewer].up.pass(now, since, &bytes, &mut self.rng);
            for at in arrivals.into_iter().flatten() {
                self.post(at, Parcel::Up { from, shard, bytes: bytes.clone() });
            }
        }
        if let Some(next) = is_sooner {
            self.post(next, Parcel::Wake { viewer });
        }
    }

    fn post(&mut self, at: Instant, parcel: Parcel) {
        self.parcels.insert(self.next_parcel, parcel);
        self.due.push(Reverse((at, self.next_parcel)));
        self.next_parcel += 1;
    }

    /// Why a viewer was closed and when, if it was.
    pub(crate) fn closed(&self, viewer: usize) -> Option<(Instant, CloseReason)> {
        let id = self.viewers[viewer].id;
        self.events.iter().find_map(|(at, event)| match event {
            Event::Closed { viewer, reason, .. } if *viewer == id => Some((*at, *reason)),
            _ => None,
        })
    }

    pub(crate) fn screen(&self, viewer: usize) -> &Screen {
        &self.viewers[viewer].screen
    }

    pub(crate) fn browser(&mut self, viewer: usize) -> &mut Browser {
        self.viewers[viewer].client.browser().expect("it joined as one")
    }

    /// What the node says of a viewer.
    pub(crate) fn stats(&self, viewer: usize) -> ViewerStats {
        self.node.stats(self.viewers[viewer].id).unwrap_or(self.viewers[viewer].stats)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this scenario: SCENARIO_SEED={}", self.seed);
        }
    }
}
