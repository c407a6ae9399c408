//! One person who watches, over all the sessions that this takes.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(50);

/// What somebody saw.
#[derive(Debug)]
pub(super) struct Person {
    began: Instant,
    /// Since then: the last picture, and the longest time without one.
    last_us: AtomicU64,
    longest_gap_us: AtomicU64,
}

/// One session of a person.
#[derive(Debug)]
pub(super) struct Showing {
    person: Arc<Person>,
    is_there: AtomicBool,
    first: Notify,
}

impl Person {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), last_us: AtomicU64::new(0), longest_gap_us: AtomicU64::new(0) }
    }

    fn on_picture(&self, now: Instant) {
        let now_us = micros(now.saturating_duration_since(self.began));
        let before = self.last_us.fetch_max(now_us, Relaxed);
        // What was before the first is the join.
        if before > 0 {
            self.longest_gap_us.fetch_max(now_us.saturating_sub(before), Relaxed);
        }
    }

    pub(super) fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_micros(self.last_us.load(Relaxed)))
    }

    /// Waits until nothing has come for so long.
    pub(super) async fn is_silent_for(&self, time: Duration) {
        while self.silence() < time {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The longest time without a picture, that up to now included.
    pub(super) fn longest_gap(&self) -> Duration {
        self.silence().max(Duration::from_micros(self.longest_gap_us.load(Relaxed)))
    }
}

impl Showing {
    pub(super) fn new(person: &Arc<Person>) -> Arc<Self> {
        Arc::new(Self { person: Arc::clone(person), is_there: AtomicBool::new(false), first: Notify::new() })
    }

    pub(super) fn on_picture(&self, now: Instant) {
        self.person.on_picture(now);
        if !self.is_there.swap(true, Relaxed) {
            self.first.notify_one();
        }
    }

    /// Waits for the first picture.
    pub(super) async fn first(&self) {
        self.first.notified().await;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
