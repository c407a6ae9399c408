//! Everything, and time.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use media::Track;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::check::Checks;
use crate::conn::Conn;
use crate::coordinator::Coordinator;
use crate::faults::{self, Fault};
use crate::message::{Address, Body, Host, Message};
use crate::net::Net;
use crate::node::Node;
use crate::phone::{Phone, Sent};
use crate::store::Store;
use crate::viewer::Viewer;
use crate::{Outcome, Plant};

/// Everything looks at the time this often.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Viewers look this often, and so does who checks.
pub(crate) const SLOW_TICK: Duration = Duration::from_millis(100);
/// How long there are faults, and how long everything has then to be as it should.
pub(crate) const FAULTS_FOR: Duration = Duration::from_secs(100);
pub(crate) const SETTLE: Duration = Duration::from_secs(40);
/// How long a session stays to which nobody answers.
const CONSENT: Duration = Duration::from_secs(15);
/// Everybody is there before faults begin.
const WARM_UP: Duration = Duration::from_secs(8);

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) begun: Instant,
    pub(crate) rng: StdRng,
    pub(crate) net: Net,
    pub(crate) store: Store,
    pub(crate) coordinators: Vec<Coordinator>,
    pub(crate) nodes: Vec<Node>,
    /// The lives of the nodes that are there now.
    pub(crate) lives: Vec<u64>,
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) conns_begun: u64,
    pub(crate) phones: Vec<Phone>,
    pub(crate) viewers: Vec<Viewer>,
    pub(crate) faults: VecDeque<(Instant, Fault)>,
    pub(crate) checks: Checks,
    pub(crate) classes: usize,
    pub(crate) plant: Option<Plant>,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let classes = rng.random_range(1..=5);
        let coordinators = rng.random_range(1..=3);
        let nodes = if rng.random_ratio(1, 4) { 20 } else { rng.random_range(2..=8) };
        let viewers = if rng.random_ratio(1, 16) { 2000 } else { rng.random_range(10..=200) };
        let begins = |rng: &mut StdRng| now + Duration::from_millis(rng.random_range(500..4000));
        let phones: Vec<Phone> =
            (0..classes).map(|class| Phone::new(class, class, begins(&mut rng))).collect();
        let viewers = (0..viewers)
            .map(|index| Viewer::new(index, index % classes, coordinators, begins(&mut rng), plant))
            .collect();
        let net = Net::new(StdRng::seed_from_u64(rng.random()));
        let faults = faults::draw(&mut rng, now + WARM_UP, (nodes, coordinators, classes));
        Self {
            now,
            begun: now,
            net,
            store: Store::new(plant),
            coordinators: (0..coordinators).map(|index| Coordinator::new(now, index, 0, 0, plant)).collect(),
            nodes: (0..nodes).map(|index| Node::new(now, index, 0, coordinators)).collect(),
            lives: vec![0; nodes],
            conns: BTreeMap::new(),
            conns_begun: 0,
            phones,
            viewers,
            faults,
            checks: Checks::new(now),
            classes,
            plant,
            rng,
        }
    }

    /// Plays it to its end, or to the first invariant that is broken.
    pub(crate) fn run(mut self) -> Outcome {
        let end_of_faults = self.begun + WARM_UP + FAULTS_FOR;
        let end = end_of_faults + SETTLE;
        let (mut next_slow, mut is_healed) = (self.now, false);
        while self.now < end {
            self.now += TICK;
            if !is_healed && self.now >= end_of_faults {
                is_healed = true;
                self.heal();
            }
            self.begin_faults();
            self.deliver();
            let Self { now, net, store, coordinators, .. } = &mut self;
            store.poll(*now);
            for coordinator in coordinators {
                if coordinator.is_up && coordinator.paused_until.is_none_or(|until| until <= *now) {
                    coordinator.poll(*now, net);
                }
            }
            self.poll_phones();
            self.poll_nodes();
            self.poll_conns();
            if self.now >= next_slow {
                next_slow += SLOW_TICK;
                for viewer in &mut self.viewers {
                    viewer.poll(self.now, &mut self.net, &mut self.rng);
                }
                self.expire_sessions();
                if let Err(broken) = self.check() {
                    return self.outcome(Some(broken));
                }
            }
        }
        let broken = self.check_end().err();
        self.outcome(broken)
    }

    fn outcome(&self, broken: Option<String>) -> Outcome {
        let at = self.now.saturating_duration_since(self.begun);
        let joins = self.viewers.iter().map(|viewer| viewer.joins).sum();
        Outcome { broken, at, joins, figures: self.checks.figures() }
    }

    fn deliver(&mut self) {
        while let Some(message) = self.net.next(self.now) {
            let Message { from, to, body } = message;
            let now = self.now;
            let paused = match to.host {
                Host::Coordinator(index) => self.coordinators.get(index).and_then(|known| known.paused_until),
                Host::Node(index) => self.nodes.get(index).and_then(|known| known.paused_until),
                _ => None,
            };
            if let Some(until) = paused.filter(|until| now < *until) {
                self.net.put_off(until, Message { from, to, body });
                continue;
            }
            if to.host == Host::Viewers {
                self.on_viewers_message(from, body);
                continue;
            }
            let Self { net, coordinators, nodes, phones, store, checks, .. } = self;
            match to.host {
                Host::Store if store.is_up => store.on_message(now, net, from, body),
                Host::Coordinator(index) => match coordinators.get_mut(index) {
                    Some(known) if known.is_up && to.is(known.life) => {
                        if let (Host::Node(node), Body::Heartbeat { heartbeat, .. }) = (from.host, &body) {
                            checks.on_heartbeat(now, index, node, (heartbeat.boot, heartbeat.seq));
                        }
                        known.on_message(now, net, from, body);
                    }
                    _ => refuse(now, net, from, to, body),
                },
                Host::Node(index) => match nodes.get_mut(index) {
                    Some(known) if known.is_up && to.is(known.life) => known.on_message(now, net, from, body),
                    _ => refuse(now, net, from, to, body),
                },
                Host::Phone(index) => {
                    if let Some(phone) = phones.get_mut(index) {
                        phone.on_message(now, &body);
                    }
                }
                // It does not answer.
                Host::Store | Host::Viewers => {}
            }
        }
    }

    fn on_viewers_message(&mut self, from: Address, body: Body) {
        let Self { net, rng, viewers, nodes, now, .. } = self;
        let index = match &body {
            Body::TokenIs { viewer, .. }
            | Body::Joined { viewer, .. }
            | Body::Known { viewer, .. }
            | Body::Closed { viewer, .. }
            | Body::Move { viewer, .. } => *viewer,
            Body::Refused { asked } => match **asked {
                Body::Token { viewer, .. } | Body::Join { viewer, .. } | Body::IsKnown { viewer, .. } => {
                    viewer
                }
                _ => return,
            },
            _ => return,
        };
        let Some(viewer) = viewers.get_mut(index) else { return };
        let joined = match &body {
            Body::Joined { outcome: Ok(session), .. } => Some(*session),
            _ => None,
        };
        viewer.on_message(*now, net, rng, body);
        // The engine sends the group so far as soon as it is connected.
        let Some((session, Host::Node(at))) = joined.map(|session| (session, from.host)) else { return };
        let delivery = nodes.get(at).and_then(|node| node.deliveries.get(&viewer.class));
        if delivery.is_some_and(|delivery| delivery.latest.contains_key(&true)) {
            viewer.on_picture(*now, net, session);
        }
    }

    /// A session to which no viewer answers any more ends by itself.
    fn expire_sessions(&mut self) {
        let Self { nodes, viewers, now, .. } = self;
        for node in nodes.iter_mut().filter(|node| node.is_up) {
            let (index, holds) = (node.index, |viewer: &Viewer, session: u64, node: usize| {
                let next = viewer.next.as_ref().and_then(|(seat, ..)| *seat);
                viewer.seat.iter().chain(&next).any(|seat| seat.session == session && seat.node == node)
            });
            node.sessions.retain(|number, session| {
                let is_held = viewers.get(session.viewer).is_some_and(|viewer| holds(viewer, *number, index));
                if is_held {
                    session.unanswered = None;
                }
                is_held || *session.unanswered.get_or_insert(*now) + CONSENT > *now
            });
        }
    }

    fn poll_phones(&mut self) {
        let now = self.now;
        let count = self.nodes.len();
        let main_is_back = |phones: &[Phone], class: usize, index: usize| {
            phones.iter().all(|other| other.index == index || other.class != class || !other.is_publishing())
        };
        for index in 0..self.phones.len() {
            let class = self.phones.get(index).map_or(0, |phone| phone.class);
            let may_return = main_is_back(&self.phones, class, index);
            let Self { net, rng, phones, nodes, .. } = self;
            let Some(phone) = phones.get_mut(index) else { continue };
            phone.is_displaced &= !may_return;
            if phone.leaves.is_some_and(|at| at <= now) {
                if let crate::phone::State::Publishing { node, connection, .. } = phone.state
                    && let Some(node) = nodes.get_mut(node)
                {
                    node.on_phone_gone(now, connection);
                }
                phone.state = crate::phone::State::Away(now + Duration::from_secs(3600));
            }
            phone.poll(now, net, rng, count);
            while let Some((at, connection, number)) = phone.next(now) {
                let outcome = match nodes.get_mut(at) {
                    Some(_) if net.is_cut(now, Host::Phone(index), Host::Node(at)) => Sent::Stalled,
                    Some(_) if net.is_cut(now, Host::Node(at), Host::Phone(index)) => Sent::Stalled,
                    Some(node) if node.is_up && node.paused_until.is_some_and(|until| now < until) => {
                        Sent::Stalled
                    }
                    Some(node) if node.is_up => {
                        let is_there = [Track::Video, Track::Audio]
                            .into_iter()
                            .all(|track| node.on_frame(now, connection, number, track));
                        if is_there { Sent::Through } else { Sent::Reset }
                    }
                    _ => Sent::Reset,
                };
                phone.on_sent(now, outcome);
            }
        }
    }

    fn poll_nodes(&mut self) {
        let now = self.now;
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if !node.is_up || node.paused_until.is_some_and(|until| now < until) {
                continue;
            }
            if node.has_drained(now) {
                self.end_node(index, faults::RESTART);
                continue;
            }
            let frames = node.poll(now, &mut self.net);
            for (class, delivery, frame) in frames {
                self.checks.on_delivered(index, class, delivery, &frame);
                self.show(index, class, &frame);
            }
            self.follow(index);
        }
    }

    /// A frame goes to the viewers of a node.
    fn show(&mut self, node: usize, class: usize, frame: &hub::StreamFrame) {
        if frame.frame.track() != Track::Video || self.net.is_cut(self.now, Host::Node(node), Host::Viewers) {
            return;
        }
        let Self { nodes, viewers, net, now, .. } = self;
        let Some(node) = nodes.get(node) else { return };
        for (number, session) in node.sessions.iter().filter(|(_, session)| session.class == class) {
            let Some(viewer) = viewers.get_mut(session.viewer) else { continue };
            if viewer.seat.is_some_and(|seat| seat.session == *number) || viewer.next.is_some() {
                viewer.on_picture(*now, net, *number);
            }
        }
    }
}

/// Tells who asked that nobody listens there; answers are for nobody.
fn refuse(now: Instant, net: &mut Net, from: Address, to: Address, body: Body) {
    let is_question = matches!(
        body,
        Body::Heartbeat { .. }
            | Body::Authorize { .. }
            | Body::Find { .. }
            | Body::Places { .. }
            | Body::Token { .. }
            | Body::Join { .. }
            | Body::IsKnown { .. }
            | Body::Connect { .. }
    );
    if is_question {
        let from_whom = Address { host: to.host, life: 0 };
        net.send(now, from_whom, from, Body::Refused { asked: Box::new(body) });
    }
}
