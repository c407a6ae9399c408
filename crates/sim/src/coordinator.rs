//! A coordinator: the registry and the ledger of the product, and what is around them there.
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use control::api::{Heartbeat, HeartbeatAnswer};
use coordinator::Ledger;
use coordinator::registry::{Registry, Wish};
use coordinator::store::{Epoch, Opening};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Plant;
use crate::message::{Address, Body, Host};
use crate::names::{class_name, node_index, node_name, user_name};
use crate::net::Net;

/// How often silent nodes are looked for, and the store is tried.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// What the store has to write a session.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A publisher that waits for the store.
#[derive(Debug)]
struct Waiting {
    call: u64,
    node: Address,
    opening: Opening,
    heard: u64,
    until: Instant,
}

#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) index: usize,
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    pub(crate) paused_until: Option<Instant>,
    pub(crate) registry: Registry,
    pub(crate) ledger: Ledger,
    calls: u64,
    opening: Vec<(u64, Waiting)>,
    /// A session that waited is being written: its call, and until when.
    flushing: Option<(u64, String, Instant)>,
    next_look: Instant,
    plant: Option<Plant>,
}

impl Coordinator {
    pub(crate) fn new(now: Instant, index: usize, life: u64, nodes: usize, plant: Option<Plant>) -> Self {
        let mut registry = Registry::default();
        // As the store knows them.
        (0..nodes).for_each(|node| registry.expect(now, &node_name(node)));
        let ledger = Ledger::default();
        let (opening, flushing) = (Vec::new(), None);
        let (is_up, paused_until, calls) = (true, None, 0);
        Self {
            index,
            life,
            is_up,
            paused_until,
            registry,
            ledger,
            calls,
            opening,
            flushing,
            next_look: now,
            plant,
        }
    }

    pub(crate) fn address(&self) -> Address {
        Address { host: Host::Coordinator(self.index), life: self.life }
    }

    /// What it calls itself, towards nodes and in tokens.
    pub(crate) fn run(&self) -> String {
        format!("c{}-{}", self.index, self.life)
    }

    pub(crate) fn on_message(&mut self, now: Instant, net: &mut Net, from: Address, body: Body) {
        let answer = match body {
            Body::Heartbeat { call, heartbeat } => {
                Body::HeartbeatAnswer { call, answer: self.on_heartbeat(now, *heartbeat) }
            }
            Body::Authorize { call, class } => return self.authorize(now, net, from, call, class),
            Body::Find { call, class, failed } => {
                let Host::Node(asking) = from.host else { return };
                let source = self.registry.source(&class_name(class), &node_name(asking), failed.as_deref());
                Body::Found { call, source }
            }
            Body::Places { call, viewers } => {
                let Host::Node(leaving) = from.host else { return };
                let place = |(session, class): (u64, usize)| {
                    (session, self.place(now, (class, &format!("s{session}")), None, Some(leaving)))
                };
                let nodes = viewers.into_iter().map(place).collect();
                Body::PlacesAre { call, nodes }
            }
            Body::Token { viewer, attempt, class, hint, excluded } => {
                let node = self.place(now, (class, &user_name(viewer)), hint, excluded);
                // Where no other node is, the one that seemed lost is the best there is.
                let node = node.or_else(|| self.place(now, (class, &user_name(viewer)), None, None));
                Body::TokenIs { viewer, attempt, node, by: self.run() }
            }
            Body::Opened { call, epoch } => return self.on_opened(now, net, call, epoch),
            Body::Refused { asked } => {
                if let Body::Open { call, .. } = *asked {
                    self.on_failed(net, now, call);
                }
                return;
            }
            _ => return,
        };
        net.send(now, self.address(), from, answer);
    }

    fn on_heartbeat(&mut self, now: Instant, mut heartbeat: Heartbeat) -> Option<HeartbeatAnswer> {
        let node = heartbeat.node.clone();
        let answer = HeartbeatAnswer { coordinator: self.run(), ..HeartbeatAnswer::default() };
        if heartbeat.coordinator != answer.coordinator {
            return Some(answer);
        }
        if self.plant == Some(Plant::ReplayedHeartbeat) {
            // As if nobody looked at which life and which number it is of.
            self.calls += 1;
            (heartbeat.boot, heartbeat.seq) = (0, self.calls);
        }
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.registry.on_heartbeat(now, from, heartbeat).ok()?;
        if let Some(telling) = self.registry.unsaved(&node) {
            self.registry.on_saved(&node, telling);
        }
        let superseded = self.registry.superseded(&node);
        Some(HeartbeatAnswer { superseded, ..answer })
    }

    fn place(
        &mut self,
        now: Instant,
        (class, viewer): (usize, &str),
        hint: Option<usize>,
        excluded: Option<usize>,
    ) -> Option<usize> {
        let (class, hint, excluded) = (class_name(class), hint.map(node_name), excluded.map(node_name));
        let excluded: Vec<&str> = excluded.iter().map(String::as_str).collect();
        let wish = Wish { class: &class, viewer, hint: hint.as_deref(), excluded: &excluded, region: None };
        let (heartbeat, _) = self.registry.place(now, &wish).ok()?;
        node_index(&heartbeat.node)
    }

    fn authorize(&mut self, now: Instant, net: &mut Net, node: Address, call: u64, class: usize) {
        let Host::Node(index) = node.host else { return };
        self.calls += 1;
        let class = class_name(class);
        let heard = self.registry.epoch(&class);
        let opening = Opening {
            session: format!("{}-{}", self.run(), self.calls),
            epoch: Epoch::After(self.ledger.known(&class, heard)),
            class_id: class,
            node: node_name(index),
            peer_ip: String::new(),
            encoder: String::new(),
            at_ms: 0,
        };
        let waiting = Waiting { call, node, opening, heard, until: now + WRITE_TIMEOUT };
        if self.ledger.is_written() {
            let opening = Box::new(waiting.opening.clone());
            self.opening.push((self.calls, waiting));
            net.send(now, self.address(), STORE, Body::Open { call: self.calls, opening });
        } else {
            self.give(now, net, waiting);
        }
    }

    /// The store has written a session.
    fn on_opened(&mut self, now: Instant, net: &mut Net, call: u64, epoch: u64) {
        if let Some(at) = self.opening.iter().position(|(known, _)| *known == call) {
            let (_, waiting) = self.opening.remove(at);
            self.ledger.on_epoch(&waiting.opening.class_id, epoch);
            let granted = Body::Granted { call: waiting.call, session: waiting.opening.session, epoch };
            net.send(now, self.address(), waiting.node, granted);
        } else if let Some((_, session, _)) = self.flushing.take_if(|(known, ..)| *known == call) {
            self.ledger.on_written(&session);
            self.flush(now, net);
        }
    }

    fn on_failed(&mut self, net: &mut Net, now: Instant, call: u64) {
        self.flushing.take_if(|(known, ..)| *known == call);
        if let Some(at) = self.opening.iter().position(|(known, _)| *known == call) {
            let (_, waiting) = self.opening.remove(at);
            self.give(now, net, waiting);
        }
    }

    fn give(&mut self, now: Instant, net: &mut Net, waiting: Waiting) {
        let Waiting { call, node, opening, heard, .. } = waiting;
        let session = opening.session.clone();
        // Each draws another one.
        let number = |value: usize| u64::try_from(value).unwrap_or(0);
        let draw = number(self.index) << 48 | self.life << 32 | self.calls;
        let leap = StdRng::seed_from_u64(draw).random();
        let (epoch, _) = self.ledger.give(opening, heard, leap);
        net.send(now, self.address(), node, Body::Granted { call, session, epoch });
    }

    fn flush(&mut self, now: Instant, net: &mut Net) {
        if self.flushing.is_some() {
            return;
        }
        let Some(opening) = self.ledger.next().cloned() else { return };
        self.calls += 1;
        self.flushing = Some((self.calls, opening.session.clone(), now + WRITE_TIMEOUT));
        net.send(now, self.address(), STORE, Body::Open { call: self.calls, opening: Box::new(opening) });
    }

    pub(crate) fn poll(&mut self, now: Instant, net: &mut Net) {
        let late: Vec<u64> =
            self.opening.iter().filter(|(_, waiting)| waiting.until <= now).map(|(call, _)| *call).collect();
        late.into_iter().for_each(|call| self.on_failed(net, now, call));
        self.flushing.take_if(|(_, _, until)| *until <= now);
        if self.next_look <= now {
            self.next_look = now + LOOK_INTERVAL;
            self.registry.on_timeout(now);
            self.registry.take_lost();
            self.flush(now, net);
        }
    }
}

/// The database has one life: what it has written stays.
pub(crate) const STORE: Address = Address { host: Host::Store, life: 0 };
