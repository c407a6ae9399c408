//! What goes wrong, drawn from the seed.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::coordinator::Coordinator;
use crate::message::Host;
use crate::node::Node;
use crate::phone::{Phone, State};
use crate::world::{FAULTS_FOR, World};

/// From the end of a node that has drained to its next life.
pub(crate) const RESTART: Duration = Duration::from_secs(2);
/// Part of the gaps between faults are long, so that what comes after a fault is seen alone.
const LONG_GAP_ONE_IN: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillNode(usize, Duration),
    StartNode(usize),
    /// Its process stands still.
    PauseNode(usize, Duration),
    Drain(usize),
    KillCoordinator(usize, Duration),
    StartCoordinator(usize),
    PauseCoordinator(usize, Duration),
    StoreDown(Duration),
    StoreUp,
    /// Nothing comes from the one to the other.
    Cut(Host, Host, Duration),
    /// A host reaches nobody, and nobody reaches it.
    Isolate(Host, Duration),
    Slow(Host, Duration, Duration),
    /// A phone is in another network all at once, and connects to some node.
    PhoneMoves(usize),
    /// A phone ends, and comes back.
    PhoneLeaves(usize, Duration),
    /// Another device publishes in the same class, at the same moment as the phone connects anew.
    Rival(usize, Duration),
}

/// Draws the faults of one run, in their order.
pub(crate) fn draw(
    rng: &mut StdRng,
    begins: Instant,
    (nodes, coordinators, classes): (usize, usize, usize),
) -> VecDeque<(Instant, Fault)> {
    let (mut at, mut faults) = (begins, VecDeque::new());
    let mean_gap_ms = *[500, 2000, 5000, 9000].get(rng.random_range(0..4)).unwrap_or(&2000);
    loop {
        let is_long = rng.random_ratio(1, LONG_GAP_ONE_IN);
        let gap_ms =
            if is_long { rng.random_range(8000..30_000) } else { rng.random_range(0..2 * mean_gap_ms) };
        at += Duration::from_millis(gap_ms);
        if at >= begins + FAULTS_FOR {
            return faults;
        }
        let fault = draw_one(rng, nodes, coordinators, classes);
        faults.push_back((at, fault));
    }
}

fn draw_one(rng: &mut StdRng, nodes: usize, coordinators: usize, classes: usize) -> Fault {
    let seconds =
        |rng: &mut StdRng, range: std::ops::Range<u64>| Duration::from_millis(rng.random_range(range));
    let node = rng.random_range(0..nodes);
    let coordinator = rng.random_range(0..coordinators);
    let class = rng.random_range(0..classes);
    let host = |rng: &mut StdRng| match rng.random_range(0..10) {
        0 => Host::Store,
        1 => Host::Viewers,
        2 => Host::Phone(rng.random_range(0..classes)),
        3 | 4 => Host::Coordinator(rng.random_range(0..coordinators)),
        _ => Host::Node(rng.random_range(0..nodes)),
    };
    match rng.random_range(0..16) {
        0 | 1 => Fault::KillNode(node, seconds(rng, 300..25_000)),
        2 => Fault::PauseNode(node, seconds(rng, 500..8000)),
        3 | 4 => Fault::Drain(node),
        5 => Fault::KillCoordinator(coordinator, seconds(rng, 500..20_000)),
        6 => Fault::PauseCoordinator(coordinator, seconds(rng, 500..8000)),
        7 => Fault::StoreDown(seconds(rng, 1000..40_000)),
        8 | 9 => {
            let (from, to) = (host(rng), host(rng));
            Fault::Cut(from, to, seconds(rng, 500..20_000))
        }
        10 => Fault::Isolate(host(rng), seconds(rng, 500..15_000)),
        11 => {
            let by = seconds(rng, 50..900);
            Fault::Slow(host(rng), seconds(rng, 1000..15_000), by)
        }
        12 => Fault::PhoneMoves(class),
        13 => Fault::PhoneLeaves(class, seconds(rng, 200..8000)),
        _ => Fault::Rival(class, seconds(rng, 1000..10_000)),
    }
}

impl World {
    /// Begins what is due.
    pub(crate) fn begin_faults(&mut self) {
        while let Some((_, fault)) = self.faults.pop_front_if(|(at, _)| *at <= self.now) {
            self.checks.on_fault(self.now, &fault);
            self.begin(fault);
        }
    }

    fn later(&mut self, wait: Duration, fault: Fault) {
        let at = self.now + wait;
        let place = self.faults.partition_point(|(other, _)| *other <= at);
        self.faults.insert(place, (at, fault));
    }

    fn begin(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::KillNode(index, away) => self.end_node(index, away),
            Fault::StartNode(index) => self.start_node(index),
            Fault::PauseNode(index, wait) => {
                if let Some(node) = self.nodes.get_mut(index) {
                    node.paused_until = Some(now + wait);
                }
            }
            Fault::Drain(index) => {
                if let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_up) {
                    node.drain(now);
                }
            }
            Fault::KillCoordinator(index, away) => {
                let Some(known) = self.coordinators.get_mut(index).filter(|known| known.is_up) else {
                    return;
                };
                known.is_up = false;
                self.later(away, Fault::StartCoordinator(index));
            }
            Fault::StartCoordinator(index) => {
                let (nodes, plant) = (self.nodes.len(), self.plant);
                let Some(known) = self.coordinators.get_mut(index).filter(|known| !known.is_up) else {
                    return;
                };
                *known = Coordinator::new(now, index, known.life + 1, nodes, plant);
                self.checks.on_coordinator(now, index);
            }
            Fault::PauseCoordinator(index, wait) => {
                if let Some(known) = self.coordinators.get_mut(index) {
                    known.paused_until = Some(now + wait);
                    self.checks.on_coordinator(now + wait, index);
                }
            }
            Fault::StoreDown(away) => {
                self.store.is_up = false;
                self.later(away, Fault::StoreUp);
            }
            Fault::StoreUp => self.store.is_up = true,
            Fault::Cut(from, to, wait) => self.net.cut(from, to, now + wait),
            Fault::Isolate(host, wait) => {
                for other in self.hosts() {
                    self.net.cut(host, other, now + wait);
                    self.net.cut(other, host, now + wait);
                }
            }
            Fault::Slow(host, wait, by) => self.net.slow_down(host, now + wait, by),
            Fault::PhoneMoves(index) => self.move_phone(index),
            Fault::PhoneLeaves(index, away) => {
                let Some(phone) = self.phones.get_mut(index) else { return };
                if let State::Publishing { node, connection, .. } = phone.state
                    && let Some(node) = self.nodes.get_mut(node).filter(|node| node.is_up)
                {
                    node.on_phone_gone(now, connection);
                }
                phone.state = State::Away(now + away);
            }
            Fault::Rival(class, wait) => {
                let mut rival = Phone::new(self.phones.len(), class, now);
                rival.leaves = Some(now + wait);
                self.phones.push(rival);
                self.move_phone(class);
            }
        }
    }

    /// The old connection stays, as far as its node knows.
    fn move_phone(&mut self, index: usize) {
        let count = self.nodes.len();
        let Some(phone) = self.phones.get_mut(index) else { return };
        let node = self.rng.random_range(0..count);
        phone.connect(self.now, &mut self.net, node);
    }

    /// A node ends, and another life of it begins later.
    pub(crate) fn end_node(&mut self, index: usize, away: Duration) {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.is_up) else { return };
        (node.is_up, node.since, node.paused_until) = (false, now, None);
        let address = node.address();
        self.conns.retain(|_, conn| conn.puller != address);
        self.later(away, Fault::StartNode(index));
    }

    fn start_node(&mut self, index: usize) {
        let coordinators = self.coordinators.len();
        let Some(node) = self.nodes.get_mut(index).filter(|node| !node.is_up) else { return };
        *node = Node::new(self.now, index, node.life + 1, coordinators);
        if let Some(life) = self.lives.get_mut(index) {
            *life += 1;
        }
    }

    fn hosts(&self) -> Vec<Host> {
        let nodes = (0..self.nodes.len()).map(Host::Node);
        let coordinators = (0..self.coordinators.len()).map(Host::Coordinator);
        let phones = (0..self.phones.len()).map(Host::Phone);
        nodes.chain(coordinators).chain(phones).chain([Host::Store, Host::Viewers]).collect()
    }

    /// Everything works from now on.
    pub(crate) fn heal(&mut self) {
        self.net.heal();
        self.store.is_up = true;
        self.faults.clear();
        self.nodes.iter_mut().for_each(|node| node.paused_until = None);
        self.coordinators.iter_mut().for_each(|known| known.paused_until = None);
        (0..self.nodes.len()).for_each(|index| self.start_node(index));
        (0..self.coordinators.len()).for_each(|index| self.begin(Fault::StartCoordinator(index)));
        let now = self.now;
        self.phones
            .iter_mut()
            .filter(|phone| phone.leaves.is_some())
            .for_each(|phone| phone.leaves = Some(now));
    }
}
