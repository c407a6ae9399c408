//! From one publisher of a stream to the next, and from its time to ours.
use std::time::{Duration, Instant};

use media::MediaTime;

/// Sound goes on in the rhythm that it had: whole packets.
const GRID: MediaTime = MediaTime::from_millis(20);

/// What a publisher is, to the node that it speaks to and to every node that passes its stream on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number: who publishes later has a greater one. The coordinator gives it out.
    pub number: u64,
    /// The session that the coordinator opened for it.
    pub session: String,
    /// What its frames' times are counted on.
    pub timeline: Timeline,
    /// The nodes that it has come through, that of the publisher first. None where it is published here.
    pub path: Vec<String>,
}

/// A count of media time, begun by the node that first received the stream. Every node that passes the stream on keeps its own
/// count, and this one's distance to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The same at every node.
    pub id: u64,
    /// The instant at which it is zero, by this machine's clock.
    pub zero: Instant,
}

/// What is added to the times of one timeline so that they go on where the stream is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shift {
    pub(crate) timeline: u64,
    pub(crate) by: MediaTime,
}

impl Shift {
    /// By the clock, to the next packet of sound.
    pub(crate) fn new(timeline: &Timeline, origin: Instant) -> Self {
        let by = between(origin, timeline.zero);
        Self { timeline: timeline.id, by: on_grid(by) }
    }

    /// Clocks are known to some milliseconds only: the first frame of an epoch comes after the last of the one before.
    pub(crate) fn put_after(&mut self, first: MediaTime, latest: MediaTime) {
        let early = latest - (first + self.by);
        if early >= MediaTime::ZERO {
            self.by = self.by + on_grid(early) + GRID;
        }
    }
}

/// From one instant to another.
pub(crate) fn between(from: Instant, to: Instant) -> MediaTime {
    let micros =
        |duration: Duration| MediaTime::from_micros(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX));
    match to.checked_duration_since(from) {
        Some(later) => micros(later),
        None => MediaTime::ZERO - micros(from.saturating_duration_since(to)),
    }
}

fn on_grid(time: MediaTime) -> MediaTime {
    let grid = GRID.as_micros();
    MediaTime::from_micros(time.as_micros().saturating_add(grid / 2).div_euclid(grid).saturating_mul(grid))
}
