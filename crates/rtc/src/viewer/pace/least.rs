//! The least of a value over the last while.
use std::time::{Duration, Instant};

/// The least value of the last one to two spans. What was less before that is forgotten: clocks drift, and ways change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least<T> {
    span: Duration,
    since: Instant,
    now: T,
    before: Option<T>,
}

impl<T: Copy + Ord> Least<T> {
    pub(super) fn new(now: Instant, span: Duration, value: T) -> Self {
        Self { span, since: now, now: value, before: None }
    }

    /// Takes a value, and returns the least.
    pub(super) fn on(&mut self, now: Instant, value: T) -> T {
        if now.saturating_duration_since(self.since) >= self.span {
            (self.since, self.before, self.now) = (now, Some(self.now), value);
        }
        self.now = self.now.min(value);
        self.get()
    }

    pub(super) fn get(&self) -> T {
        self.before.map_or(self.now, |before| before.min(self.now))
    }
}
