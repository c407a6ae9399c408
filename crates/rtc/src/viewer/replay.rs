//! When keyframe requests of one viewer are answered.
use std::time::{Duration, Instant};

/// After the first picture a request is not answered for this long: it may have crossed the keyframe.
const FIRST: Duration = Duration::from_millis(300);
/// A request is answered at most this often, and half as often each time that this did not help.
const INTERVAL: Duration = Duration::from_millis(1_000);
const INTERVAL_MAX: Duration = Duration::from_millis(8_000);
/// Without requests for this long, the next is answered as the first was.
const FORGET: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) struct Replay {
    next: Instant,
    interval: Duration,
}

impl Replay {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, interval: INTERVAL }
    }

    pub(super) fn on_first_frame(&mut self, now: Instant) {
        self.next = now + FIRST;
    }

    /// Returns whether a request is to be answered.
    pub(super) fn on_request(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        if now > self.next + FORGET {
            self.interval = INTERVAL;
        }
        self.next = now + self.interval;
        self.interval = (self.interval * 2).min(INTERVAL_MAX);
        true
    }
}
