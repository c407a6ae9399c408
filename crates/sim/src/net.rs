//! The network: who reaches whom, how late, and what is under way.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::message::{Address, Body, Host, Message};

/// From one host to another.
const LATENCY: std::ops::Range<u64> = 1..15;
/// How long a message that was recorded on its way may be kept until it is sent once more.
const REPLAYED_AFTER_MS: std::ops::Range<u64> = 100..40_000;

/// What carries messages.
#[derive(Debug)]
pub(crate) struct Net {
    rng: StdRng,
    /// Until when nothing comes from one host to another.
    cuts: BTreeMap<(Host, Host), Instant>,
    /// Until when a host's messages are late, and by how much.
    slow: BTreeMap<Host, (Instant, Duration)>,
    under_way: BTreeMap<(Instant, u64), Message>,
    sent: u64,
    /// One heartbeat of so many is recorded, and sent again later.
    pub(crate) replays_one_in: u32,
}

impl Net {
    pub(crate) fn new(rng: StdRng) -> Self {
        let (cuts, slow, under_way) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rng, cuts, slow, under_way, sent: 0, replays_one_in: 50 }
    }

    /// Nothing comes from one host to the other until then.
    pub(crate) fn cut(&mut self, from: Host, to: Host, until: Instant) {
        let known = self.cuts.entry((from, to)).or_insert(until);
        *known = until.max(*known);
    }

    /// What a host sends is late until then.
    pub(crate) fn slow_down(&mut self, host: Host, until: Instant, by: Duration) {
        self.slow.insert(host, (until, by));
    }

    pub(crate) fn is_cut(&self, now: Instant, from: Host, to: Host) -> bool {
        self.cuts.get(&(from, to)).is_some_and(|until| now < *until)
    }

    /// Whether anything is not as it should be.
    pub(crate) fn is_disturbed(&self, now: Instant) -> bool {
        self.cuts.values().any(|until| now < *until) || self.slow.values().any(|(until, _)| now < *until)
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.slow.clear();
    }

    /// How long something takes from one host to another.
    pub(crate) fn latency(&mut self, now: Instant, from: Host, to: Host) -> Duration {
        let usual = Duration::from_millis(self.rng.random_range(LATENCY));
        let late = |host| self.slow.get(&host).filter(|(until, _)| now < *until).map(|(_, by)| *by);
        usual + late(from).into_iter().chain(late(to)).sum::<Duration>()
    }

    /// Sends a message. It may come to nobody.
    pub(crate) fn send(&mut self, now: Instant, from: Address, to: Address, body: Body) {
        let due = now + self.latency(now, from.host, to.host);
        if matches!(body, Body::Heartbeat { .. }) && self.rng.random_ratio(1, self.replays_one_in) {
            let again = due + Duration::from_millis(self.rng.random_range(REPLAYED_AFTER_MS));
            self.push(again, Message { from, to, body: body.clone() });
        }
        self.push(due, Message { from, to, body });
    }

    fn push(&mut self, due: Instant, message: Message) {
        self.sent += 1;
        self.under_way.insert((due, self.sent), message);
    }

    /// Puts off a message to a host that stands still.
    pub(crate) fn put_off(&mut self, until: Instant, message: Message) {
        self.push(until, message);
    }

    /// The next message that has come, unless it was cut off on its way.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Message> {
        loop {
            let entry = self.under_way.first_entry()?;
            if entry.key().0 > now {
                return None;
            }
            let message = entry.remove();
            if !self.is_cut(now, message.from.host, message.to.host) {
                return Some(message);
            }
        }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.under_way.len()
    }
}
