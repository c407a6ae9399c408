//! What a node says to coordinators once a second, and hears from them.
use std::time::Instant;

use agent::{obey, reports};
use control::api::{Heartbeat, HeartbeatAnswer, LinkAddress, NodeLoad, Playback, StreamReport};
use futures_util::FutureExt;

use super::{CALL_TIMEOUT, CAPACITY_BPS, Node, Reporting};
use crate::message::{Address, Body, Host};
use crate::names::{class_index, class_name};
use crate::net::Net;

impl Node {
    pub(super) fn on_heartbeat_over(&mut self, now: Instant, call: u64, answer: Option<&HeartbeatAnswer>) {
        let is_it = |reporting: &&mut Reporting| reporting.under_way.is_some_and(|(known, _)| known == call);
        let Some(reporting) = self.reporting.iter_mut().find(is_it) else { return };
        reporting.under_way = None;
        reporting.beat.on_outcome(now, answer.is_some());
        let Some(answer) = answer else { return };
        if reporting.coordinator != answer.coordinator {
            reporting.coordinator.clone_from(&answer.coordinator);
            // It has taken nothing: said again at once.
            reporting.beat.on_change();
        }
        for class in obey(&self.hub, answer) {
            if let Some(class) = class_index(&class) {
                self.want(now, class);
                self.follows
                    .get_mut(&class)
                    .into_iter()
                    .for_each(|following| following.follow.on_superseded());
            }
        }
    }

    pub(super) fn report(&mut self, now: Instant, net: &mut Net) {
        let is_changed = self.changes.next().now_or_never().is_some();
        let address = self.address();
        for index in 0..self.reporting.len() {
            let is_due = {
                let Some(reporting) = self.reporting.get_mut(index) else { continue };
                if is_changed {
                    reporting.beat.on_change();
                }
                if reporting.under_way.is_some_and(|(_, until)| until <= now) {
                    reporting.under_way = None;
                    reporting.beat.on_outcome(now, false);
                }
                let is_due = reporting.beat.due(&self.hub).is_some_and(|due| due <= now);
                reporting.under_way.is_none()
                    && (is_due || !std::mem::replace(&mut reporting.has_begun, true))
            };
            if is_due {
                let (call, heartbeat) = (self.number(), Box::new(self.heartbeat(index)));
                if let Some(reporting) = self.reporting.get_mut(index) {
                    reporting.beat.on_sent();
                    reporting.under_way = Some((call, now + CALL_TIMEOUT));
                }
                let to = Address::whoever(Host::Coordinator(index));
                net.send(now, address, to, Body::Heartbeat { call, heartbeat });
            }
        }
    }

    fn heartbeat(&mut self, coordinator: usize) -> Heartbeat {
        self.seq += 1;
        let audience = |class: &str| {
            let count = self.sessions.values().filter(|session| class_name(session.class) == class).count();
            (u32::try_from(count).unwrap_or(u32::MAX), Playback::default())
        };
        let streams = reports(&self.hub, audience);
        let count = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let run = self.reporting.get(coordinator).map_or("", |reporting| &*reporting.coordinator);
        let load = NodeLoad {
            capacity_bps: CAPACITY_BPS,
            load_bps: u64::from(count) * StreamReport::RATE_USUAL_BPS,
            viewers: count,
            joins_seen: self.joins_seen.get(run).copied().unwrap_or_default(),
            ..NodeLoad::default()
        };
        Heartbeat {
            node: self.name(),
            boot: self.life + 1,
            seq: self.seq,
            coordinator: run.to_owned(),
            is_draining: self.drains_until.is_some(),
            coordinators: u32::try_from(self.reporting.len()).unwrap_or(1),
            load,
            link: Some(LinkAddress { host: None, port: 1 }),
            streams,
            ..Heartbeat::default()
        }
    }
}
