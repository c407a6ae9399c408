//! A viewer, with the rules of the page: what it takes for a dead session or a lost node, and when it tries again.
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::Plant;
use crate::message::{Address, Body, Denied, Host};
use crate::net::Net;

/// No picture for this long means that the session is dead, whatever it says of itself.
const STALL: Duration = Duration::from_millis(6000);
/// After this long the node is asked whether it still has the session, and has this for its answer.
const DOUBT: Duration = Duration::from_millis(2000);
const KNOWN_TIMEOUT: Duration = Duration::from_millis(1500);
/// From the answer to the first picture.
const CONNECT: Duration = Duration::from_secs(10);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// A session at a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) node: usize,
    pub(crate) session: u64,
    pub(crate) has_picture: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Tries again then.
    Waiting(Instant),
    /// Has asked for a token or to join, and waits for so long.
    Asked {
        until: Instant,
        is_token: bool,
    },
    Watching,
}

#[derive(Debug)]
pub(crate) struct Viewer {
    index: usize,
    pub(crate) class: usize,
    step: Step,
    attempt: u64,
    coordinator: usize,
    coordinators: usize,
    /// The node of its token, and who gave it.
    token: Option<(usize, String)>,
    is_node_lost: bool,
    pub(crate) seat: Option<Seat>,
    /// The session that it is moving to, and until when it tries.
    pub(crate) next: Option<(Option<Seat>, usize, Instant)>,
    progress: Instant,
    doubt: Option<Instant>,
    retry: Duration,
    /// The newest picture that it was shown.
    pub(crate) shown: Option<Instant>,
    plant: Option<Plant>,
    /// How often it has joined.
    pub(crate) joins: u64,
}

impl Viewer {
    pub(crate) fn new(
        index: usize,
        class: usize,
        coordinators: usize,
        begins: Instant,
        plant: Option<Plant>,
    ) -> Self {
        Self {
            index,
            class,
            step: Step::Waiting(begins),
            attempt: 0,
            coordinator: index % coordinators,
            coordinators,
            token: None,
            is_node_lost: false,
            seat: None,
            next: None,
            progress: begins,
            doubt: None,
            retry: RETRY_MIN,
            shown: None,
            plant,
            joins: 0,
        }
    }

    fn send(&self, now: Instant, net: &mut Net, to: Host, body: Body) {
        net.send(now, VIEWERS, Address::whoever(to), body);
    }

    /// Gets a token if it needs one, and joins.
    fn connect(&mut self, now: Instant, net: &mut Net) {
        self.attempt += 1;
        let (viewer, attempt, class) = (self.index, self.attempt, self.class);
        let is_token = self.token.is_none() || self.is_node_lost;
        self.step = Step::Asked { until: now + ASK_TIMEOUT, is_token };
        match &self.token {
            Some((node, by)) if !is_token => {
                let join = Body::Join { viewer, attempt, class, by: by.clone() };
                self.send(now, net, Host::Node(*node), join);
            }
            token => {
                let node = token.as_ref().map(|(node, _)| *node);
                let (hint, excluded) = if self.is_node_lost { (None, node) } else { (node, None) };
                let asked = Body::Token { viewer, attempt, class, hint, excluded };
                self.send(now, net, Host::Coordinator(self.coordinator), asked);
            }
        }
    }

    fn retry(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng) {
        self.drop_seats(now, net);
        let wait = self.retry.mul_f64(rng.random_range(0.5..1.0));
        self.step = Step::Waiting(now + wait);
        self.retry = (self.retry * 2).min(RETRY_MAX);
    }

    fn drop_seats(&mut self, now: Instant, net: &mut Net) {
        let next = self.next.take().and_then(|(seat, ..)| seat);
        for seat in self.seat.take().into_iter().chain(next) {
            self.send(now, net, Host::Node(seat.node), Body::Leave { session: seat.session });
        }
        self.doubt = None;
    }

    pub(crate) fn on_message(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng, body: Body) {
        match body {
            Body::TokenIs { attempt, node, by, .. } if self.waits_for(attempt) => match node {
                Some(node) => {
                    (self.token, self.is_node_lost) = (Some((node, by)), false);
                    self.connect(now, net);
                }
                None => self.retry(now, net, rng),
            },
            Body::Joined { attempt, outcome, .. } => self.on_joined(now, net, rng, attempt, outcome),
            Body::Known { session, is_known, .. } if self.is_at(session) && !is_known => {
                self.retry(now, net, rng);
            }
            Body::Known { session, .. } if self.is_at(session) => self.doubt = Some(now + STALL),
            Body::Closed { session, .. } if self.is_at(session) => self.retry(now, net, rng),
            Body::Move { session, to, .. } => self.on_move(now, net, session, to),
            Body::Refused { asked } => self.on_refused(now, net, rng, &asked),
            _ => {}
        }
    }

    /// What comes after the page has given up on it, it does not hear.
    fn waits_for(&self, attempt: u64) -> bool {
        attempt == self.attempt && matches!(self.step, Step::Asked { .. })
    }

    fn is_at(&self, session: u64) -> bool {
        self.seat.is_some_and(|seat| seat.session == session)
    }

    /// Nobody listens there.
    fn on_refused(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng, asked: &Body) {
        match *asked {
            Body::Token { attempt, .. } if self.waits_for(attempt) => {
                self.coordinator = (self.coordinator + 1) % self.coordinators;
                self.retry(now, net, rng);
            }
            Body::Join { attempt, .. } if attempt == self.attempt | MOVE => self.next = None,
            Body::Join { attempt, .. } if self.waits_for(attempt) => {
                self.is_node_lost = true;
                self.retry(now, net, rng);
            }
            Body::IsKnown { session, .. } if self.is_at(session) => {
                self.is_node_lost = true;
                self.retry(now, net, rng);
            }
            _ => {}
        }
    }

    fn on_joined(
        &mut self,
        now: Instant,
        net: &mut Net,
        rng: &mut StdRng,
        attempt: u64,
        outcome: Result<u64, Denied>,
    ) {
        let is_moving = self.next.as_ref().is_some_and(|(seat, ..)| seat.is_none()) && attempt & MOVE != 0;
        match outcome {
            Ok(session) if is_moving && attempt == self.attempt | MOVE => {
                if let Some((seat, node, _)) = &mut self.next {
                    *seat = Some(Seat { node: *node, session, has_picture: false });
                }
            }
            Err(_) if is_moving => self.next = None,
            _ if !self.waits_for(attempt) => {}
            Ok(session) => {
                let Some((node, _)) = self.token else { return };
                self.seat = Some(Seat { node, session, has_picture: false });
                self.joins += 1;
                (self.step, self.doubt) = (Step::Watching, None);
                self.progress = now + CONNECT - STALL;
            }
            Err(why) => {
                self.is_node_lost = why == Denied::Draining;
                self.retry(now, net, rng);
            }
        }
    }

    /// Opens a session at another node, and takes it over when its first picture is there.
    fn on_move(&mut self, now: Instant, net: &mut Net, session: u64, to: usize) {
        if !self.is_at(session) || self.next.is_some() {
            return;
        }
        if self.plant == Some(Plant::CloseBeforeOpen)
            && let Some(seat) = self.seat.take()
        {
            self.send(now, net, Host::Node(seat.node), Body::Leave { session });
        }
        self.next = Some((None, to, now + CONNECT));
        // What became of an earlier move is nothing to this one.
        self.attempt += 1;
        let (viewer, attempt, class) = (self.index, self.attempt | MOVE, self.class);
        let by = self.token.as_ref().map(|(_, by)| by.clone()).unwrap_or_default();
        self.send(now, net, Host::Node(to), Body::Join { viewer, attempt, class, by });
    }

    /// A picture comes by this session.
    pub(crate) fn on_picture(&mut self, now: Instant, net: &mut Net, session: u64) {
        if let Some((Some(seat), ..)) = &self.next
            && seat.session == session
        {
            let former = self.seat.replace(Seat { has_picture: true, ..*seat });
            let by = self.token.take().map(|(_, by)| by).unwrap_or_default();
            self.token = self.seat.map(|seat| (seat.node, by));
            (self.next, self.step) = (None, Step::Watching);
            if let Some(former) = former {
                self.send(now, net, Host::Node(former.node), Body::Leave { session: former.session });
            }
        }
        let Some(seat) = self.seat.as_mut().filter(|seat| seat.session == session) else { return };
        seat.has_picture = true;
        (self.progress, self.shown, self.doubt, self.retry) = (now, Some(now), None, RETRY_MIN);
    }

    pub(crate) fn poll(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng) {
        if self.next.as_ref().is_some_and(|(.., until)| *until <= now)
            && let Some((Some(seat), ..)) = self.next.take()
        {
            self.send(now, net, Host::Node(seat.node), Body::Leave { session: seat.session });
        }
        match self.step {
            Step::Waiting(until) if until <= now => self.connect(now, net),
            Step::Asked { until, is_token } if until <= now => {
                if is_token {
                    self.coordinator = (self.coordinator + 1) % self.coordinators;
                } else {
                    self.is_node_lost = true;
                }
                self.retry(now, net, rng);
            }
            Step::Watching => self.watch(now, net, rng),
            Step::Waiting(_) | Step::Asked { .. } => {}
        }
    }

    fn watch(&mut self, now: Instant, net: &mut Net, rng: &mut StdRng) {
        let silent = now.saturating_duration_since(self.progress);
        let Some(seat) = self.seat else { return };
        if silent > STALL {
            return self.retry(now, net, rng);
        }
        match self.doubt {
            None if silent > DOUBT && self.shown.is_some() => {
                self.doubt = Some(now + KNOWN_TIMEOUT);
                let asked = Body::IsKnown { viewer: self.index, session: seat.session };
                self.send(now, net, Host::Node(seat.node), asked);
            }
            Some(until) if until <= now => {
                self.is_node_lost = true;
                self.retry(now, net, rng);
            }
            _ => {}
        }
    }
}

/// Marks the attempts that are moves.
const MOVE: u64 = 1 << 63;
/// Where answers to viewers go.
pub(crate) const VIEWERS: Address = Address { host: Host::Viewers, life: 0 };
