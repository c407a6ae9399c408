//! A viewer that does not report arrivals: losses and round trips are all that tells of its link.
use std::time::{Duration, Instant};

use super::least::Least;

/// The rest follows at the first share of the stream's rate while the first window may be queued, for so long, then at the
/// second.
const FIRST: Duration = Duration::from_millis(500);
const FIRST_PERCENT: u64 = 85;
const PERCENT: u64 = 110;
/// The same when losses or round trips show that this is too much, and when more was lost than may be sent again.
const FULL_PERCENT: u64 = 100;
const LOST_PERCENT: u64 = 85;
/// A link that was full is taken to be full for this long: viewers send receiver reports every second.
const FULL: Duration = Duration::from_millis(2_000);
/// After losses that could not be repaired it is tried again this much later.
const LOST: Duration = Duration::from_secs(5);
/// A round trip that is longer than the shortest by this much shows a queue.
const QUEUE_HIGH: Duration = Duration::from_millis(40);
/// The shortest round trip is one of the last so long: the way may be another by then. At the stream's own rate a queue
/// does not go away, so it is longer than for who reports arrivals.
const ROUND_TRIP_SPAN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Blind {
    lost: Option<Instant>,
    full: Option<Instant>,
    round_trip: Option<Least<Duration>>,
    pub(super) queue: Duration,
}

impl Blind {
    /// Bits a second at which video goes out, `since` the probe began.
    pub(super) fn rate_bps(&self, now: Instant, since: Duration, stream_bps: u64) -> u64 {
        let percent = match (self.is_lost(now), self.full) {
            (true, _) => LOST_PERCENT,
            (false, Some(full)) if now < full + FULL => FULL_PERCENT,
            (false, _) if since < FIRST => FIRST_PERCENT,
            (false, _) => PERCENT,
        };
        stream_bps * percent / 100
    }

    /// Whether more was lost lately than could be repaired.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.lost.is_some_and(|lost| now < lost + LOST)
    }

    pub(super) fn on_loss(&mut self, now: Instant) {
        self.lost = Some(now);
    }

    pub(super) fn on_nack(&mut self, now: Instant) {
        self.full = Some(now);
    }

    pub(super) fn on_round_trip(&mut self, now: Instant, round_trip: Duration) {
        let known = self.round_trip.get_or_insert_with(|| Least::new(now, ROUND_TRIP_SPAN, round_trip));
        self.queue = round_trip.saturating_sub(known.on(now, round_trip));
        if self.queue > QUEUE_HIGH {
            self.full = Some(now);
        }
    }
}
