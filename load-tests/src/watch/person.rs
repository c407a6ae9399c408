//! One person who watches, over all the sessions that this takes.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::stats::{rounded, to_f64};

/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(50);
/// So long without a new picture is a freeze: what WebRTC's statistics call one at 30 pictures a second, three times as long as
/// usual and 150 ms longer at least (webrtc-stats, `freezeCount`).
const FREEZE: Duration = Duration::from_millis(183);

/// Without a new picture for this long somebody is not playing.
const BACK: Duration = Duration::from_millis(500);
/// Silence for this long means that a node is gone, or that nobody publishes.
pub(super) const SILENCE: Duration = Duration::from_secs(2);

/// All who watch.
#[derive(Debug, Default)]
pub(super) struct People {
    /// How often whoever runs us has let the figures begin anew.
    rounds: Arc<AtomicU64>,
    all: Mutex<Vec<Arc<Person>>>,
}

/// What somebody saw.
#[derive(Debug)]
pub(super) struct Person {
    rounds: Arc<AtomicU64>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The last picture; before the first, when the person came.
    last: Instant,
    /// What its publisher's clock said. A node that has nothing new may send the last group again.
    stamp_us: Option<u64>,
    has_begun: bool,
    /// The node that the person is at.
    node: Option<String>,
    round: Round,
}

/// What was seen since the figures began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    number: u64,
    /// The node that the person was at then.
    pub(super) node: Option<String>,
    /// The longest time without a picture.
    pub(super) longest_gap: Duration,
    pub(super) freezes: u64,
    /// How often the person was sent to another node, and had to look for one.
    pub(super) moved: u64,
    pub(super) rejoined: u64,
}

/// One session of a person.
#[derive(Debug)]
pub(super) struct Showing {
    person: Arc<Person>,
    is_there: AtomicBool,
    first: Notify,
}

impl People {
    /// Somebody who is not in yet.
    pub(super) fn newcomer(&self) -> Arc<Person> {
        let round = Round { number: self.rounds.load(Relaxed), ..Round::default() };
        let seen = Seen { last: Instant::now(), stamp_us: None, has_begun: false, node: None, round };
        Arc::new(Person { rounds: Arc::clone(&self.rounds), seen: Mutex::new(seen) })
    }

    /// Somebody has got in.
    pub(super) fn add(&self, person: &Arc<Person>) {
        self.lock().push(Arc::clone(person));
    }

    /// What was before counts no longer.
    pub(super) fn begin_anew(&self) {
        self.rounds.fetch_add(1, Relaxed);
    }

    /// Waits until everybody plays.
    pub(super) async fn are_back(&self) {
        while self.lock().iter().any(|person| person.silence() > BACK) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What each of them saw up to now, and whether that still goes on.
    pub(super) fn rounds(&self) -> Vec<(Round, bool)> {
        self.lock().iter().map(|person| (person.round(), person.silence() < SILENCE)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Person>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Person {
    /// With the figures begun anew if that is due.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.rounds.load(Relaxed);
        if seen.round.number != number {
            seen.round = Round { number, node: seen.node.clone(), ..Round::default() };
        }
        seen
    }

    fn on_picture(&self, now: Instant, stamp_us: Option<u64>) {
        let mut seen = self.lock();
        if stamp_us.is_some() && stamp_us <= seen.stamp_us {
            return;
        }
        seen.stamp_us = stamp_us.or(seen.stamp_us);
        // Two sessions may have one each at the same time.
        let gap = now.saturating_duration_since(seen.last);
        seen.last = seen.last.max(now);
        // What was before the first is the join.
        if std::mem::replace(&mut seen.has_begun, true) {
            seen.round.on_gap(gap);
        }
    }

    /// The person has come to a node; `count` counts why.
    pub(super) fn on_node(&self, node: Option<String>, count: impl FnOnce(&mut Round)) {
        let mut seen = self.lock();
        if seen.node.is_none() {
            seen.round.node.clone_from(&node);
        }
        seen.node = node;
        count(&mut seen.round);
    }

    pub(super) fn silence(&self) -> Duration {
        self.lock().last.elapsed()
    }

    /// Waits until nothing has come for so long.
    pub(super) async fn is_silent_for(&self, time: Duration) {
        while self.silence() < time {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What was seen up to now, the time since the last picture included.
    fn round(&self) -> Round {
        let seen = self.lock();
        let mut round = seen.round.clone();
        round.on_gap(seen.last.elapsed());
        round
    }
}

impl Round {
    fn on_gap(&mut self, gap: Duration) {
        self.longest_gap = self.longest_gap.max(gap);
        self.freezes += u64::from(gap > FREEZE);
    }

    pub(super) fn to_json(&self, is_back: bool) -> Value {
        let gap_us = u64::try_from(self.longest_gap.as_micros()).unwrap_or(u64::MAX);
        json!({
            "node": self.node, "longest_gap_ms": rounded(to_f64(gap_us) / 1000.0), "freezes": self.freezes,
            "moved": self.moved, "rejoined": self.rejoined, "is_back": is_back,
        })
    }
}

impl Showing {
    pub(super) fn new(person: &Arc<Person>) -> Arc<Self> {
        Arc::new(Self { person: Arc::clone(person), is_there: AtomicBool::new(false), first: Notify::new() })
    }

    pub(super) fn on_picture(&self, now: Instant, stamp_us: Option<u64>) {
        self.person.on_picture(now, stamp_us);
        if !self.is_there.swap(true, Relaxed) {
            self.first.notify_one();
        }
    }

    /// Waits for the first picture.
    pub(super) async fn first(&self) {
        self.first.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_begin_anew_with_the_gap_that_is_open_then() {
        let people = People::default();
        let person = people.newcomer();
        person.on_node(Some("a".to_owned()), |_| ());
        let start = Instant::now();
        let picture = |ms| person.on_picture(start + Duration::from_millis(ms), None);
        // The first ends the join, and no gap.
        [600, 633, 1033].into_iter().for_each(picture);
        let of = |seen: MutexGuard<'_, Seen>| (seen.round.longest_gap.as_millis(), seen.round.freezes);
        assert_eq!(of(person.lock()), (400, 1));
        people.begin_anew();
        [1233, 1266].into_iter().for_each(picture);
        person.on_node(Some("b".to_owned()), |round| round.moved += 1);
        assert_eq!(of(person.lock()), (200, 1));
        let round = person.lock().round.clone();
        assert_eq!((round.node.as_deref(), round.moved), (Some("a"), 1), "where the round began");
        people.begin_anew();
        assert_eq!(person.lock().round.node.as_deref(), Some("b"));
        // What was seen before is no news.
        for (ms, stamp) in [(1_300, 70), (1_500, 70), (1_550, 60), (1_700, 71)] {
            person.on_picture(start + Duration::from_millis(ms), Some(stamp));
        }
        assert_eq!(of(person.lock()), (400, 1));
    }
}
