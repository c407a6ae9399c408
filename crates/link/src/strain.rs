//! Whether the way to another node carries what is sent. A machine without a clock.
use std::time::{Duration, Instant};

/// Of the packets of a look, lost ones beyond one in so many are too many.
const LOST_ONE_IN: u64 = 10;
/// Fewer packets say nothing.
const SENT_MIN: u64 = 20;
/// A round trip beyond so many times the shortest is one with a queue, but not below this.
const ROUND_TRIPS_MAX: u32 = 3;
const QUEUE_MIN: Duration = Duration::from_millis(20);
/// So long it may be bad before old groups are given up, and before no more streams are taken.
const SHED_AFTER: Duration = Duration::from_secs(1);
const REFUSE_AFTER: Duration = Duration::from_secs(3);
/// So long it must be well to be as before.
const WELL_AFTER: Duration = Duration::from_secs(2);
/// What was measured before is forgotten after so long, or twice that.
const REMEMBERED: Duration = Duration::from_secs(30);

/// What a way carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Well,
    /// Not everything: groups that are not there when the next begins are given up.
    Shedding,
    /// Less still: no further stream is taken.
    Refusing,
}

/// Looks at one connection.
#[derive(Debug, Default)]
pub struct Strain {
    sent: u64,
    lost: u64,
    shortest: Shortest,
    bad_since: Option<Instant>,
    well_since: Option<Instant>,
    level: Level,
}

impl Strain {
    /// What the connection has sent and lost since it began, and its round trip now.
    pub fn on_look(&mut self, now: Instant, (sent, lost): (u64, u64), round_trip: Duration) -> Level {
        let sent_now = sent.saturating_sub(std::mem::replace(&mut self.sent, sent));
        let lost_now = lost.saturating_sub(std::mem::replace(&mut self.lost, lost));
        let shortest = self.shortest.on_round_trip(now, round_trip);
        let loses = sent_now >= SENT_MIN && lost_now > sent_now / LOST_ONE_IN;
        let queues = round_trip > shortest * ROUND_TRIPS_MAX && round_trip > shortest + QUEUE_MIN;
        if loses || queues {
            self.well_since = None;
            let bad = now.saturating_duration_since(*self.bad_since.get_or_insert(now));
            if bad >= REFUSE_AFTER {
                self.level = Level::Refusing;
            } else if bad >= SHED_AFTER {
                self.level = self.level.max(Level::Shedding);
            }
        } else {
            self.bad_since = None;
            let well = now.saturating_duration_since(*self.well_since.get_or_insert(now));
            if well >= WELL_AFTER {
                self.level = Level::Well;
            }
        }
        self.level
    }
}

/// The shortest round trip of late: a way may become a longer one for good.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shortest {
    /// Of the time before, and since then.
    former: Option<Duration>,
    present: Option<(Instant, Duration)>,
}

impl Shortest {
    /// Takes one, and returns the shortest of the last half to whole minute.
    pub(crate) fn on_round_trip(&mut self, now: Instant, round_trip: Duration) -> Duration {
        let (since, present) = self.present.unwrap_or((now, round_trip));
        if now.saturating_duration_since(since) >= REMEMBERED {
            self.former = Some(present);
            self.present = Some((now, round_trip));
        } else {
            self.present = Some((since, present.min(round_trip)));
        }
        let shortest = self.present.map_or(round_trip, |(_, present)| present);
        self.former.map_or(shortest, |former| former.min(shortest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(250);
    const SHORT: Duration = Duration::from_millis(10);

    /// What it says at each of so many looks, every one with 1,000 packets more.
    fn looks(strain: &mut Strain, from: Instant, count: u32, lost: u64, round_trip: Duration) -> Vec<Level> {
        let look = |step: u32| {
            let (sent, lost) = (strain.sent + 1000, strain.lost + lost);
            strain.on_look(from + LOOK * step, (sent, lost), round_trip)
        };
        (0..count).map(look).collect()
    }

    #[test]
    fn loss_that_lasts_sheds_and_then_refuses_until_it_has_ended_for_a_while() {
        let (mut strain, begun) = (Strain::default(), Instant::now());
        assert_eq!(looks(&mut strain, begun, 8, 90, SHORT).last(), Some(&Level::Well), "9 % are carried");
        let begun = begun + LOOK * 8;
        let levels = looks(&mut strain, begun, 13, 110, SHORT);
        let expected = [[Level::Well; 4].as_slice(), &[Level::Shedding; 8], &[Level::Refusing]].concat();
        assert_eq!(levels, expected);
        let levels = looks(&mut strain, begun + LOOK * 13, 9, 0, SHORT);
        let expected = [[Level::Refusing; 8].as_slice(), &[Level::Well]].concat();
        assert_eq!(levels, expected);
    }

    #[test]
    fn a_queue_on_the_way_is_as_bad_as_loss_but_jitter_of_a_short_way_is_not() {
        let (mut strain, begun) = (Strain::default(), Instant::now());
        looks(&mut strain, begun, 1, 0, SHORT);
        let long = looks(&mut strain, begun + LOOK, 5, 0, SHORT * 4);
        assert_eq!(long.last(), Some(&Level::Shedding));
        let (mut strain, tiny) = (Strain::default(), Duration::from_micros(200));
        looks(&mut strain, begun, 1, 0, tiny);
        assert_eq!(looks(&mut strain, begun + LOOK, 9, 0, tiny * 50).last(), Some(&Level::Well));
    }

    #[test]
    fn a_way_that_has_become_longer_for_good_is_well_again_within_a_minute() {
        let (mut strain, begun) = (Strain::default(), Instant::now());
        looks(&mut strain, begun, 1, 0, SHORT);
        let levels = looks(&mut strain, begun + LOOK, 4 * 70, 0, SHORT * 4);
        assert_eq!(levels.get(4 * 20), Some(&Level::Refusing));
        assert_eq!(levels.last(), Some(&Level::Well));
    }

    #[test]
    fn a_few_packets_say_nothing() {
        let (mut strain, begun) = (Strain::default(), Instant::now());
        for step in 0..20_u32 {
            let count = u64::from(step) * 10;
            assert_eq!(strain.on_look(begun + LOOK * step, (count, count), SHORT), Level::Well);
        }
    }
}
