//! What must hold at every step, and when faults have ended.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::api::StreamState;
use hub::{State, StreamFrame};
use media::Track;

use crate::faults::Fault;
use crate::message::Host;
use crate::names::{class_index, class_name, node_name};
use crate::phone::{self, Phone};
use crate::world::{SLOW_TICK, World};

/// While nothing disturbs media, nobody is without a picture for longer, and who was is back after so long.
const PICTURE_MAX: Duration = Duration::from_secs(1);
const BACK_MAX: Duration = Duration::from_secs(25);
/// How long a coordinator may take a node that is gone for there: silence, its looks, and messages under way.
const BELIEF_MAX: Duration = Duration::from_secs(9);
/// A coordinator that has just begun, or stood still, gives every node as long.
const FORGIVING: Duration = Duration::from_secs(8);
/// What may wait in one place.
const UNDER_WAY_MAX: usize = 40_000;
const HELD_MAX: usize = 4096;
/// Faults that are told when something is broken.
const FAULTS_KEPT: usize = 64;

#[derive(Debug)]
pub(crate) struct Checks {
    /// The last moment at which something disturbed media.
    disturbed: Instant,
    /// When each coordinator began, or stood still last.
    coordinators: BTreeMap<usize, Instant>,
    /// The newest heartbeat that came to each coordinator from each node, by life and number, and when. One that was held up on its way,
    /// or recorded there and then cut off, is news like any other; one that came before is none.
    heartbeats: BTreeMap<(usize, usize), ((u64, u64), Instant)>,
    /// The newest frame of each node's streams, by class and whether it is a picture, and of which delivery.
    delivered: BTreeMap<(usize, usize, bool), (u64, StreamFrame)>,
    /// What each frame says, by class, track and place.
    contents: BTreeMap<(usize, bool, hub::Place), u64>,
    /// Whose each epoch is.
    owners: BTreeMap<(usize, u64), String>,
    broken: Option<String>,
    faults: Vec<(Instant, Fault)>,
    pub(crate) frames: u64,
}

impl Checks {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            disturbed: now,
            coordinators: BTreeMap::new(),
            heartbeats: BTreeMap::new(),
            delivered: BTreeMap::new(),
            contents: BTreeMap::new(),
            owners: BTreeMap::new(),
            broken: None,
            faults: Vec::new(),
            frames: 0,
        }
    }

    pub(crate) fn figures(&self) -> String {
        format!("{} frames delivered by nodes, {} faults", self.frames, self.faults.len())
    }

    pub(crate) fn on_fault(&mut self, now: Instant, fault: &Fault) {
        if self.faults.len() >= FAULTS_KEPT {
            self.faults.remove(0);
        }
        self.faults.push((now, *fault));
        let is_of_phone = matches!(fault, Fault::PhoneMoves(_) | Fault::PhoneLeaves(..) | Fault::Rival(..));
        if is_of_phone {
            // It may be back before somebody looks.
            self.disturbed = now;
        }
    }

    pub(crate) fn on_coordinator(&mut self, at: Instant, index: usize) {
        self.coordinators.insert(index, at);
    }

    pub(crate) fn on_heartbeat(&mut self, at: Instant, coordinator: usize, node: usize, number: (u64, u64)) {
        let newest = self.heartbeats.entry((coordinator, node)).or_insert((number, at));
        if number > newest.0 {
            *newest = (number, at);
        }
    }

    fn fail(&mut self, broken: String) {
        self.broken.get_or_insert(broken);
    }

    /// A node gives a frame to its viewers: it is that of the origin, and comes after the one before.
    pub(crate) fn on_delivered(&mut self, node: usize, class: usize, delivery: u64, frame: &StreamFrame) {
        self.frames += 1;
        let is_video = frame.frame.track() == Track::Video;
        let says = phone::number_of(&frame.frame);
        let known = *self.contents.entry((class, is_video, frame.place)).or_insert(says);
        if known != says {
            self.fail(format!(
                "n{node} has another frame at {:?} of class {class} than its origin",
                frame.place
            ));
        }
        let before = self.delivered.insert((node, class, is_video), (delivery, frame.clone()));
        let Some((_, before)) = before.filter(|(known, _)| *known == delivery) else { return };
        let (last, next) = (before.place, frame.place);
        if next <= last {
            self.fail(format!("n{node} goes back from {last:?} to {next:?} in class {class}"));
        }
        let is_same_group = (last.epoch, last.group) == (next.epoch, next.group);
        if is_video && (if is_same_group { next.index != last.index + 1 } else { next.index != 0 }) {
            self.fail(format!("n{node} lacks pictures between {last:?} and {next:?} of class {class}"));
        }
    }
}

impl World {
    /// Whether something is wrong that may keep pictures from viewers.
    fn is_disturbed(&self) -> bool {
        let now = self.now;
        let is_stopped = |paused: Option<Instant>| paused.is_some_and(|until| now < until);
        self.net.is_disturbed(now)
            || self.nodes.iter().any(|node| !node.is_up || is_stopped(node.paused_until))
            || self.coordinators.iter().all(|known| !known.is_up || is_stopped(known.paused_until))
            || (0..self.classes).any(|class| self.publishing(class).is_none())
            || self.phones.iter().any(|phone| phone.leaves.is_some_and(|at| now < at))
    }

    /// The phone that publishes in a class, if only one does.
    fn publishing(&self, class: usize) -> Option<&Phone> {
        let mut phones = self.phones.iter().filter(|phone| phone.class == class && phone.is_publishing());
        phones.next().filter(|_| phones.next().is_none())
    }

    /// What must hold at every step.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        if self.is_disturbed() {
            self.checks.disturbed = self.now;
        }
        self.check_owners();
        if let Some(broken) = self.checks.broken.take() {
            return Err(self.told(&broken));
        }
        self.check_bounds()?;
        self.check_beliefs()?;
        self.check_pictures()
    }

    /// Each epoch has one owner.
    fn check_owners(&mut self) {
        let Self { nodes, checks, .. } = self;
        for node in nodes.iter().filter(|node| node.is_up) {
            for status in node.hub.statuses() {
                if status.is_relayed {
                    continue;
                }
                let Some(class) = class_index(&status.name) else {
                    continue;
                };
                let owner =
                    checks.owners.entry((class, status.epoch)).or_insert_with(|| status.session.clone());
                if *owner != status.session {
                    let (epoch, other) = (status.epoch, owner.clone());
                    let broken =
                        format!("epoch {epoch} of class {class} is {other}'s and {}'s", status.session);
                    checks.fail(broken);
                }
            }
        }
    }

    fn check_bounds(&self) -> Result<(), String> {
        let bound = |what: &str, count: usize, max: usize| {
            if count > max {
                Err(self.told(&format!("{what}: {count}, and {max} are the bound")))
            } else {
                Ok(())
            }
        };
        bound("messages under way", self.net.under_way(), UNDER_WAY_MAX)?;
        for conn in self.conns.values() {
            bound("pieces under way from node to node", conn.under_way(), HELD_MAX)?;
        }
        for node in self.nodes.iter().filter(|node| node.is_up) {
            bound("what a node holds", node.held(), HELD_MAX)?;
        }
        for known in self.coordinators.iter().filter(|known| known.is_up) {
            bound("sessions that wait", known.ledger.waiting(), 1024)?;
        }
        Ok(())
    }

    /// No coordinator takes a node for there that has been gone for long.
    fn check_beliefs(&self) -> Result<(), String> {
        for known in self.coordinators.iter().filter(|known| known.is_up) {
            let begun = self.checks.coordinators.get(&known.index).copied().unwrap_or(self.begun);
            let gone = self.nodes.iter().filter(|node| !node.is_up && node.since + BELIEF_MAX <= self.now);
            for node in gone.filter(|_| begun + FORGIVING <= self.now) {
                let newest = self.checks.heartbeats.get(&(known.index, node.index));
                let is_late = newest.is_none_or(|(_, at)| *at + BELIEF_MAX <= self.now);
                if is_late && known.registry.is_heard(self.now, &node_name(node.index)) {
                    return Err(self.told(&format!("c{} takes n{} for there", known.index, node.index)));
                }
            }
        }
        Ok(())
    }

    /// Whoever has a node to go to has a picture.
    fn check_pictures(&mut self) -> Result<(), String> {
        let Self { viewers, now, checks, .. } = self;
        let calm = now.saturating_duration_since(checks.disturbed);
        let mut broken = None;
        for (index, viewer) in viewers.iter().enumerate() {
            if let Some((_, to, _)) = viewer.next.filter(|_| viewer.seat.is_none()) {
                broken =
                    Some(format!("viewer {index} moves to n{to} and has nothing to watch until it is there"));
            }
            let Some(shown) = viewer.shown else { continue };
            let gap = now.saturating_duration_since(shown);
            if calm > BACK_MAX + SLOW_TICK && gap > PICTURE_MAX {
                broken = Some(format!("viewer {index} of class {} has no picture for {gap:?}", viewer.class));
            }
        }
        broken.map_or(Ok(()), |broken| Err(self.told(&broken)))
    }

    /// What must hold when faults have ended some time ago.
    pub(crate) fn check_end(&mut self) -> Result<(), String> {
        self.check()?;
        for (index, viewer) in self.viewers.iter().enumerate() {
            let gap = viewer.shown.map(|shown| self.now.saturating_duration_since(shown));
            if gap.is_none_or(|gap| gap > PICTURE_MAX) {
                return Err(
                    self.told(&format!("viewer {index} of class {} has no picture: {gap:?}", viewer.class))
                );
            }
        }
        for class in 0..self.classes {
            let Some(phone) = self.publishing(class) else {
                return Err(self.told(&format!("nobody publishes class {class}")));
            };
            let phone::State::Publishing { node: origin, .. } = phone.state else { continue };
            for known in &self.coordinators {
                let located = known.registry.stream(&class_name(class)).map(|located| located.node);
                if located.as_deref() != Some(&node_name(origin)) {
                    let broken =
                        format!("c{} has class {class} at {located:?} and not n{origin}", known.index);
                    return Err(self.told(&broken));
                }
            }
            for node in &self.nodes {
                let status = node.hub.status(&class_name(class));
                let is_stale = |status: &hub::Status| !status.is_relayed && status.state == State::Active;
                if node.index != origin && status.as_ref().is_some_and(is_stale) {
                    return Err(
                        self.told(&format!("n{} publishes class {class} beside n{origin}", node.index))
                    );
                }
            }
        }
        let waits = self.coordinators.iter().map(|known| known.ledger.waiting()).sum::<usize>();
        if waits > 0 {
            return Err(self.told(&format!("{waits} sessions were never written")));
        }
        Ok(())
    }

    /// With what a person needs who looks for the reason.
    fn told(&self, broken: &str) -> String {
        let at = |time: Instant| time.saturating_duration_since(self.begun).as_secs_f64();
        let mut text = format!("{broken}\n");
        for (time, fault) in &self.checks.faults {
            text.push_str(&format!("  {:7.2} s  {fault:?}\n", at(*time)));
        }
        for phone in &self.phones {
            text.push_str(&format!("  phone {} of class {}: {:?}\n", phone.index, phone.class, phone.state));
        }
        for node in self.nodes.iter().filter(|node| node.is_up) {
            let streams = node.hub.statuses().into_iter();
            let streams = streams.map(|status| {
                let Host::Node(index) = node.address().host else { return String::new() };
                let follows = node.follows.keys().copied().collect::<Vec<_>>();
                let relayed = if status.is_relayed { "relayed" } else { "published" };
                let (name, epoch, state) = (status.name, status.epoch, status.state);
                format!(
                    "n{index} {name} {epoch} {state:?} {relayed}, {} take it, follows {follows:?}",
                    status.subscribers
                )
            });
            streams.for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        for known in self.coordinators.iter().filter(|known| known.is_up) {
            let streams = known.registry.streams().into_iter();
            let streams = streams.filter(|located| located.report.state == StreamState::Active);
            let streams: Vec<String> =
                streams.map(|located| format!("{} at {}", located.report.class, located.node)).collect();
            text.push_str(&format!("  c{}: nodes {:?}, {streams:?}\n", known.index, known.registry.nodes()));
        }
        text
    }
}
