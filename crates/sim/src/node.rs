//! A node: the hub, what it says to coordinators, the streams that it follows, its publishers and its viewers.
mod audience;
mod reporting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::{Beat, Follow, WAIT_MAX};
use control::api::Source;
use hub::{Changes, Clock, Hub, Limits, Publisher, StreamFrame, Subscription};
use media::Track;

use crate::message::{Address, Body, Denied, Host};
use crate::names::{class_name, node_name};
use crate::net::Net;

/// What a coordinator has for its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A publisher that sends nothing for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a stream that nobody watches is kept ready.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// Viewers that are told to go at once, how often, and when again.
const BATCH: usize = 4;
const BATCH_INTERVAL: Duration = Duration::from_millis(200);
const TOLD_AGAIN: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a node that drains waits for its viewers and publishers.
const DRAIN_MAX: Duration = Duration::from_secs(20);
const CAPACITY_BPS: u64 = 4_000_000_000;

/// Asked of the coordinators in turn, until one answers.
#[derive(Clone, Debug)]
enum Question {
    Authorize { connection: u64, class: usize },
    Find { class: usize, failed: Option<String> },
    Places { viewers: Vec<(u64, usize)> },
}

#[derive(Debug)]
struct Call {
    question: Question,
    at: usize,
    tried: usize,
    until: Instant,
}

/// The heartbeats to one coordinator.
#[derive(Debug, Default)]
struct Reporting {
    beat: Beat,
    under_way: Option<(u64, Instant)>,
    has_begun: bool,
    coordinator: String,
}

/// A stream that is pulled: by which of the world's connections.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) follow: Follow,
    pub(crate) present: Option<u64>,
    pub(crate) former: Option<u64>,
}

/// A stream on its way to viewers.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// A later one begins with the group so far again.
    number: u64,
    subscription: Subscription,
    /// The newest picture and sound.
    pub(crate) latest: BTreeMap<bool, StreamFrame>,
    idle_since: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Publishing {
    phone: Address,
    publisher: Publisher,
    heard: Instant,
    has_tracks: bool,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) viewer: usize,
    pub(crate) class: usize,
    told: Option<Instant>,
    /// Since when its viewer does not answer.
    pub(crate) unanswered: Option<Instant>,
}

#[derive(Debug)]
struct Joining {
    from: Address,
    viewer: usize,
    attempt: u64,
    class: usize,
    by: String,
    until: Instant,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) index: usize,
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    pub(crate) paused_until: Option<Instant>,
    /// Since when it has been down, or up.
    pub(crate) since: Instant,
    pub(crate) drains_until: Option<Instant>,
    clock: Clock,
    pub(crate) hub: Hub,
    changes: Changes,
    seq: u64,
    reporting: Vec<Reporting>,
    calls: BTreeMap<u64, Call>,
    next_number: u64,
    current: usize,
    pub(crate) follows: BTreeMap<usize, Following>,
    pub(crate) deliveries: BTreeMap<usize, Delivery>,
    pub(crate) publishing: BTreeMap<u64, Publishing>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    joining: Vec<Joining>,
    next_sweep: Instant,
    next_batch: Instant,
    joins_seen: BTreeMap<String, u64>,
    /// What was said of where streams are.
    pub(crate) found: Vec<(usize, Option<Source>)>,
}

impl Node {
    pub(crate) fn new(now: Instant, index: usize, life: u64, coordinators: usize) -> Self {
        let clock = Clock::by_hand(now);
        let hub = Hub::with_clock(Limits::default(), clock.clone());
        Self {
            index,
            life,
            is_up: true,
            paused_until: None,
            since: now,
            drains_until: None,
            clock,
            changes: hub.changes(),
            hub,
            seq: 0,
            reporting: (0..coordinators).map(|_| Reporting::default()).collect(),
            calls: BTreeMap::new(),
            // Numbers are of no use to another life.
            next_number: life << 32,
            current: 0,
            follows: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            publishing: BTreeMap::new(),
            sessions: BTreeMap::new(),
            joining: Vec::new(),
            next_sweep: now,
            next_batch: now,
            joins_seen: BTreeMap::new(),
            found: Vec::new(),
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address { host: Host::Node(self.index), life: self.life }
    }

    pub(crate) fn name(&self) -> String {
        node_name(self.index)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// It takes no new viewers and publishers, and ends when it is empty.
    pub(crate) fn drain(&mut self, now: Instant) {
        self.drains_until.get_or_insert(now + DRAIN_MAX);
        self.reporting.iter_mut().for_each(|reporting| reporting.beat.on_change());
    }

    pub(crate) fn has_drained(&self, now: Instant) -> bool {
        let is_empty = self.sessions.is_empty() && self.publishing.is_empty();
        self.drains_until.is_some_and(|until| until <= now || is_empty)
    }

    pub(crate) fn on_message(&mut self, now: Instant, net: &mut Net, from: Address, body: Body) {
        self.clock.set(now);
        match body {
            Body::HeartbeatAnswer { call, answer } => self.on_heartbeat_over(now, call, answer.as_ref()),
            Body::Granted { call, session, epoch } => {
                let Some(Question::Authorize { connection, class }) = self.answered(call) else { return };
                self.begin(now, net, (connection, class), &session, epoch);
            }
            Body::Found { call, source } => {
                if let Some(Question::Find { class, .. }) = self.answered(call) {
                    self.on_found(class, source);
                }
            }
            Body::PlacesAre { call, nodes } => {
                self.answered(call);
                for (session, to) in nodes {
                    let Some((to, known)) = to.zip(self.sessions.get(&session)) else { continue };
                    let told = Body::Move { viewer: known.viewer, session, to };
                    net.send(now, self.address(), Address::whoever(Host::Viewers), told);
                }
            }
            Body::Join { viewer, attempt, class, by } => {
                let joining = Joining { from, viewer, attempt, class, by, until: now + WAIT_MAX };
                self.on_join(now, net, joining);
            }
            Body::IsKnown { viewer, session } => {
                let is_known = self.sessions.contains_key(&session);
                net.send(now, self.address(), from, Body::Known { viewer, session, is_known });
            }
            Body::Leave { session } => _ = self.sessions.remove(&session),
            Body::Connect { connection } => {
                let class = crate::phone::class_of(connection);
                if self.drains_until.is_some() {
                    let refused = Body::Accepted { connection, is_accepted: false };
                    return net.send(now, self.address(), from, refused);
                }
                self.ask(now, net, Question::Authorize { connection, class });
            }
            Body::Refused { asked } => match *asked {
                Body::Heartbeat { call, .. } => self.on_heartbeat_over(now, call, None),
                Body::Authorize { call, .. } | Body::Find { call, .. } | Body::Places { call, .. } => {
                    self.ask_next(now, net, call);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn answered(&mut self, call: u64) -> Option<Question> {
        let call = self.calls.remove(&call)?;
        self.current = call.at;
        Some(call.question)
    }

    pub(crate) fn find(&mut self, now: Instant, net: &mut Net, class: usize, failed: Option<String>) {
        self.ask(now, net, Question::Find { class, failed });
    }

    fn ask(&mut self, now: Instant, net: &mut Net, question: Question) {
        let (number, at) = (self.number(), self.current);
        self.calls.insert(number, Call { question, at, tried: 0, until: now });
        self.send_call(now, net, number);
    }

    fn send_call(&mut self, now: Instant, net: &mut Net, number: u64) {
        let from = self.address();
        let Some(call) = self.calls.get_mut(&number) else { return };
        (call.tried, call.until) = (call.tried + 1, now + CALL_TIMEOUT);
        let body = match call.question.clone() {
            Question::Authorize { class, .. } => Body::Authorize { call: number, class },
            Question::Find { class, failed } => Body::Find { call: number, class, failed },
            Question::Places { viewers } => Body::Places { call: number, viewers },
        };
        net.send(now, from, Address::whoever(Host::Coordinator(call.at)), body);
    }

    /// This coordinator does not answer: the next, or nobody.
    fn ask_next(&mut self, now: Instant, net: &mut Net, number: u64) {
        let coordinators = self.reporting.len();
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.at = (call.at + 1) % coordinators;
        if call.tried < coordinators {
            return self.send_call(now, net, number);
        }
        match self.calls.remove(&number).map(|call| call.question) {
            Some(Question::Authorize { connection, .. }) => self.refuse(now, net, connection),
            Some(Question::Find { class, .. }) => self.on_found(class, None),
            Some(Question::Places { .. }) | None => {}
        }
    }

    fn refuse(&self, now: Instant, net: &mut Net, connection: u64) {
        let phone = Address { host: Host::Phone(crate::phone::index_of(connection)), life: 0 };
        net.send(now, self.address(), phone, Body::Accepted { connection, is_accepted: false });
    }

    fn begin(
        &mut self,
        now: Instant,
        net: &mut Net,
        (connection, class): (u64, usize),
        session: &str,
        epoch: u64,
    ) {
        let Ok(publisher) = self.hub.publish(&class_name(class), session, epoch) else {
            return self.refuse(now, net, connection);
        };
        let phone = Address { host: Host::Phone(crate::phone::index_of(connection)), life: 0 };
        let publishing = Publishing { phone, publisher, heard: now, has_tracks: false };
        self.publishing.insert(connection, publishing);
        net.send(now, self.address(), phone, Body::Accepted { connection, is_accepted: true });
    }

    /// A phone sends. False if its connection is not there.
    pub(crate) fn on_frame(&mut self, now: Instant, connection: u64, number: u64, track: Track) -> bool {
        self.clock.set(now);
        let Some(publishing) = self.publishing.get_mut(&connection) else { return false };
        publishing.heard = now;
        if !std::mem::replace(&mut publishing.has_tracks, true) {
            let _ = publishing.publisher.set_tracks(&crate::phone::tracks());
        }
        let frame = crate::phone::frame(now, &publishing.publisher, number, track);
        publishing.publisher.push(frame).is_ok()
    }

    /// A phone has closed its connection.
    pub(crate) fn on_phone_gone(&mut self, now: Instant, connection: u64) {
        self.clock.set(now);
        self.publishing.remove(&connection);
    }

    fn on_found(&mut self, class: usize, source: Option<Source>) {
        // The world has the connections, and knows whether one passes the stream on.
        self.found.push((class, source));
    }

    pub(crate) fn want(&mut self, now: Instant, class: usize) {
        let following = || Following { follow: Follow::new(now), present: None, former: None };
        self.follows.entry(class).or_insert_with(following);
    }

    /// What time does. Returns the frames that its viewers get.
    pub(crate) fn poll(&mut self, now: Instant, net: &mut Net) -> Vec<(usize, u64, StreamFrame)> {
        self.clock.set(now);
        let late: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.until <= now).map(|(number, _)| *number).collect();
        late.into_iter().for_each(|number| self.ask_next(now, net, number));
        self.report(now, net);
        let frames = self.deliver(now, net);
        for joining in std::mem::take(&mut self.joining) {
            if self.is_active(joining.class) {
                self.seat(now, net, joining);
            } else if joining.until <= now || !self.follows.contains_key(&joining.class) {
                self.deny(now, net, &joining, Denied::NotLive);
            } else {
                self.joining.push(joining);
            }
        }
        let gone = |publishing: &Publishing| {
            publishing.heard + SILENCE_MAX <= now || publishing.publisher.superseded().is_cancelled()
        };
        let gone: Vec<_> = self.publishing.extract_if(.., |_, publishing| gone(publishing)).collect();
        for (connection, publishing) in gone {
            net.send(
                now,
                self.address(),
                publishing.phone,
                Body::Accepted { connection, is_accepted: false },
            );
        }
        if self.next_sweep <= now {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.hub.sweep(now);
        }
        if self.drains_until.is_some() && self.next_batch <= now {
            self.next_batch = now + BATCH_INTERVAL;
            self.send_away(now, net);
        }
        frames
    }

    /// How much of what is bounded it holds.
    pub(crate) fn held(&self) -> usize {
        self.calls.len() + self.joining.len() + self.follows.len() + self.publishing.len()
    }
}
