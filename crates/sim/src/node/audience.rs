//! The viewers of a node, and the streams on their way to them.
use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Instant;

use hub::{State, StreamFrame, Update};
use media::Track;

use super::{BATCH, Delivery, IDLE_MAX, Joining, Node, Question, Session, TOLD_AGAIN};
use crate::message::{Address, Body, Denied, Host};
use crate::names::class_name;
use crate::net::Net;

impl Node {
    pub(super) fn is_active(&self, class: usize) -> bool {
        self.hub.status(&class_name(class)).is_some_and(|status| status.state == State::Active)
    }

    pub(super) fn on_join(&mut self, now: Instant, net: &mut Net, joining: Joining) {
        if self.drains_until.is_some() {
            return self.deny(now, net, &joining, Denied::Draining);
        }
        if self.is_active(joining.class) {
            return self.seat(now, net, joining);
        }
        self.want(now, joining.class);
        self.joining.push(joining);
    }

    pub(super) fn deny(&self, now: Instant, net: &mut Net, joining: &Joining, why: Denied) {
        let Joining { viewer, attempt, .. } = *joining;
        net.send(now, self.address(), joining.from, Body::Joined { viewer, attempt, outcome: Err(why) });
    }

    pub(super) fn seat(&mut self, now: Instant, net: &mut Net, joining: Joining) {
        let Joining { from, viewer, attempt, class, by, .. } = joining;
        if !self.deliveries.contains_key(&class) {
            let Some(subscription) = self.hub.subscribe(&class_name(class)) else { return };
            let delivery =
                Delivery { number: self.number(), subscription, latest: BTreeMap::new(), idle_since: None };
            self.deliveries.insert(class, delivery);
        }
        *self.joins_seen.entry(by).or_default() += 1;
        let number = self.number();
        self.sessions.insert(number, Session { viewer, class, told: None, unanswered: None });
        net.send(now, self.address(), from, Body::Joined { viewer, attempt, outcome: Ok(number) });
    }

    pub(super) fn deliver(&mut self, now: Instant, net: &mut Net) -> Vec<(usize, u64, StreamFrame)> {
        let mut frames = Vec::new();
        let mut over = Vec::new();
        for (class, delivery) in &mut self.deliveries {
            loop {
                match delivery.subscription.try_next() {
                    Poll::Ready(Some(Update::Frame(frame))) => {
                        let is_video = frame.frame.track() == Track::Video;
                        delivery.latest.insert(is_video, (*frame).clone());
                        frames.push((*class, delivery.number, (*frame).clone()));
                    }
                    Poll::Ready(Some(_)) => {}
                    Poll::Pending => break,
                    Poll::Ready(None) => {
                        over.push(*class);
                        break;
                    }
                }
            }
            if self.sessions.values().any(|session| session.class == *class) {
                delivery.idle_since = None;
            } else if now.saturating_duration_since(*delivery.idle_since.get_or_insert(now)) >= IDLE_MAX {
                over.push(*class);
            }
        }
        for class in over {
            self.deliveries.remove(&class);
            let is_of = |session: &Session| session.class == class;
            let ended: Vec<_> = self.sessions.extract_if(.., |_, session| is_of(session)).collect();
            for (session, Session { viewer, .. }) in ended {
                let closed = Body::Closed { viewer, session };
                net.send(now, self.address(), Address::whoever(Host::Viewers), closed);
            }
        }
        frames
    }

    pub(super) fn send_away(&mut self, now: Instant, net: &mut Net) {
        let is_due = |session: &Session| session.told.is_none_or(|told| told + TOLD_AGAIN <= now);
        let mut viewers = Vec::new();
        for (number, session) in self.sessions.iter_mut().filter(|(_, session)| is_due(session)).take(BATCH) {
            session.told = Some(now);
            viewers.push((*number, session.class));
        }
        if !viewers.is_empty() {
            self.ask(now, net, Question::Places { viewers });
        }
    }
}
