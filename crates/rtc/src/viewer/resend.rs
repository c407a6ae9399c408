//! Retransmissions of one viewer: what they may cost, and when a request is a repetition.
use std::time::{Duration, Instant};

/// Retransmissions may take this share of the stream's rate, in percent: a link that loses more than that is not healed by
/// sending more.
const SHARE_PERCENT: u64 = 25;
/// What may be sent again at once: this much of the stream's time.
const DEPTH: Duration = Duration::from_millis(500);
/// Streams slower than this have the budget of one that is this fast.
const STREAM_BPS_MIN: u64 = 1_000_000;
/// A packet is not sent again before a round trip has passed: the request and its copy crossed. This long while the round
/// trip is not known, which is also what browsers assume, and never less than the shortest.
const ROUND_TRIP_USUAL: Duration = Duration::from_millis(90);
const ROUND_TRIP_MIN: Duration = Duration::from_millis(10);
const ROUND_TRIP_MAX: Duration = Duration::from_millis(1_000);
/// Places in which packets sent again are remembered for that, each found by its sequence number: a request may name
/// thousands.
const RECENT_LEN: usize = 256;
/// When many viewers of a stream ask within this time, they probably share an access point that had no room for a moment.
const CROWD_WINDOW: Duration = Duration::from_millis(20);
/// Viewers that ask within one window and count as a crowd.
const CROWD_MIN: u32 = 8;
/// The answers to a crowd are spread over this time, so that they find the room that the packets themselves did not.
const CROWD_SPREAD: Duration = Duration::from_millis(10);
/// Packets of one viewer that wait for that; more are answered when they are asked for again.
const WAITING_MAX: usize = 128;

/// Who of one stream has asked for lost packets lately.
#[derive(Debug)]
pub(crate) struct Crowd {
    since: Instant,
    viewers: u32,
}

impl Crowd {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, viewers: 0 }
    }

    /// A viewer asks. `counted` is the window in which it was counted last. Returns the share of the spread, drawn by
    /// `random`, that its answer is to wait.
    fn on_nack(&mut self, now: Instant, counted: &mut Option<Instant>, random: f64) -> Duration {
        if now.saturating_duration_since(self.since) >= CROWD_WINDOW {
            *self = Self::new(now);
        }
        if *counted != Some(self.since) {
            *counted = Some(self.since);
            self.viewers = self.viewers.saturating_add(1);
        }
        if self.viewers <= CROWD_MIN { Duration::ZERO } else { CROWD_SPREAD.mul_f64(random) }
    }
}

/// The budget of retransmissions and their own numbering (RFC 4588).
#[derive(Debug)]
pub(crate) struct Resend {
    /// The index of the next packet on the retransmission source.
    next: u64,
    /// Bytes that may be sent again now.
    bytes: u64,
    filled: Instant,
    /// Sequence numbers that were sent again, and when; empty until something is.
    recent: Vec<(u16, Instant)>,
    /// What is sent again at `due`.
    waiting: Vec<u16>,
    due: Option<Instant>,
    counted: Option<Instant>,
}

impl Resend {
    pub(crate) fn new(now: Instant, start: u16) -> Self {
        Self {
            next: u64::from(start),
            bytes: budget(DEPTH, STREAM_BPS_MIN),
            filled: now,
            recent: Vec::new(),
            waiting: Vec::new(),
            due: None,
            counted: None,
        }
    }

    /// The next index on the retransmission source.
    pub(crate) fn next_index(&mut self) -> u64 {
        let index = self.next;
        self.next += 1;
        index
    }

    /// A request came in. Returns whether it is to be answered at once; otherwise it waits.
    pub(crate) fn on_nack(
        &mut self,
        now: Instant,
        crowd: &mut Crowd,
        random: f64,
        sequences: impl Iterator<Item = u16>,
    ) -> bool {
        let wait = crowd.on_nack(now, &mut self.counted, random);
        if wait.is_zero() {
            return true;
        }
        let room = WAITING_MAX.saturating_sub(self.waiting.len());
        self.waiting.extend(sequences.take(room));
        self.due.get_or_insert(now + wait);
        false
    }

    /// When answers that wait are due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What has waited for this moment.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<u16> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.waiting)
    }

    /// Whether a copy of this packet is on its way.
    pub(crate) fn is_repeat(&self, now: Instant, sequence: u16, round_trip: Option<Duration>) -> bool {
        let place = self.recent.get(usize::from(sequence) % RECENT_LEN);
        let least = round_trip.unwrap_or(ROUND_TRIP_USUAL).clamp(ROUND_TRIP_MIN, ROUND_TRIP_MAX);
        place.is_some_and(|(known, at)| *known == sequence && now.saturating_duration_since(*at) < least)
    }

    /// Remembers that this is sent again now, in the place of an older one.
    pub(crate) fn remember(&mut self, now: Instant, sequence: u16) {
        self.recent.resize(RECENT_LEN, (sequence, now));
        if let Some(place) = self.recent.get_mut(usize::from(sequence) % RECENT_LEN) {
            *place = (sequence, now);
        }
    }

    /// Takes `bytes` from the budget, if it has as many.
    pub(crate) fn allows(&mut self, now: Instant, bytes: usize, stream_bps: u64) -> bool {
        let stream_bps = stream_bps.max(STREAM_BPS_MIN);
        let since = now.saturating_duration_since(self.filled);
        self.filled = now;
        let more = budget(since, stream_bps).saturating_mul(SHARE_PERCENT) / 100;
        self.bytes = self.bytes.saturating_add(more).min(budget(DEPTH, stream_bps));
        match self.bytes.checked_sub(bytes as u64) {
            Some(rest) => {
                self.bytes = rest;
                true
            }
            None => false,
        }
    }
}

/// Bytes of a stream in some time.
fn budget(time: Duration, stream_bps: u64) -> u64 {
    let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    stream_bps.saturating_mul(time_us) / 8_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_crossed_its_answer_is_not_answered_again() {
        let now = Instant::now();
        let mut resend = Resend::new(now, 0);
        assert!(!resend.is_repeat(now, 7, None));
        resend.remember(now, 7);
        assert!(!resend.is_repeat(now, 8, None));
        resend.remember(now, 8);
        assert!(resend.is_repeat(now + ROUND_TRIP_USUAL / 2, 7, None));
        assert!(!resend.is_repeat(now + ROUND_TRIP_USUAL, 7, None), "then it may have been lost again");
        let slow = Duration::from_millis(300);
        assert!(resend.is_repeat(now + slow * 9 / 10, 7, Some(slow)), "its copy waits in a queue");
        assert!(!resend.is_repeat(now + slow, 7, Some(slow)));
        assert!(!resend.is_repeat(now + ROUND_TRIP_MIN, 7, Some(Duration::ZERO)));
    }

    #[test]
    fn retransmissions_take_a_share_of_the_stream_and_no_more() {
        let began = Instant::now();
        let mut resend = Resend::new(began, 0);
        let stream_bps = 2_000_000;
        let mut sent = 0;
        for ms in 0..10_000 {
            let now = began + Duration::from_millis(ms);
            while resend.allows(now, 1_200, stream_bps) {
                sent += 1_200;
            }
        }
        let stream_bytes = stream_bps * 10 / 8;
        let share = sent * 100 / stream_bytes;
        assert!((24..=31).contains(&share), "{share} % with what may be sent at once");
    }

    #[test]
    fn answers_to_a_crowd_are_spread_and_those_to_a_few_are_not() {
        let now = Instant::now();
        let mut crowd = Crowd::new(now);
        let ask = |crowd: &mut Crowd, now| crowd.on_nack(now, &mut None, 0.5);
        for _ in 0..CROWD_MIN {
            assert!(ask(&mut crowd, now).is_zero());
        }
        assert_eq!(ask(&mut crowd, now), CROWD_SPREAD / 2);
        assert!(ask(&mut crowd, now + CROWD_WINDOW).is_zero(), "the crowd is gone");
    }

    #[test]
    fn a_viewer_that_asks_often_is_no_crowd() {
        let now = Instant::now();
        let (mut crowd, mut counted) = (Crowd::new(now), None);
        for _ in 0..100 {
            assert!(crowd.on_nack(now, &mut counted, 1.0).is_zero());
        }
    }

    #[test]
    fn what_waits_is_taken_when_it_is_due_and_once() {
        let now = Instant::now();
        let (mut crowd, mut resend) = (Crowd::new(now), Resend::new(now, 0));
        for _ in 0..CROWD_MIN {
            crowd.on_nack(now, &mut None, 1.0);
        }
        assert!(!resend.on_nack(now, &mut crowd, 1.0, [7, 8].into_iter()));
        assert!(!resend.on_nack(now, &mut crowd, 1.0, 0..1000), "the rest has no room");
        assert_eq!(resend.due(), Some(now + CROWD_SPREAD));
        assert!(resend.take_due(now).is_empty());
        assert_eq!(resend.take_due(now + CROWD_SPREAD).len(), WAITING_MAX);
        assert_eq!((resend.due(), resend.take_due(now + CROWD_SPREAD).len()), (None, 0));
    }
}
