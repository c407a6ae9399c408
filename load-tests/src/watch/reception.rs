//! Which packets of one RTP stream have come: losses, reordering, what to ask for again, and the receiver's report.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

// Requests are timed as libwebrtc's `nack_requester.cc` does, so that a server meets here what browsers do to it.

/// How long a packet may be out of order before it is asked for: browsers ask within their timer's 20 ms.
const REORDER_WAIT: Duration = Duration::from_millis(8);
/// Times that a packet is asked for (`kMaxNackRetries`): in practice until a later keyframe makes it useless.
const NACKS_MAX: u8 = 100;
/// Between two requests for one packet (`kDefaultRtt`): a browser that sends no media never learns the round trip.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a missing packet is waited for when it cannot be asked for.
const LATE_MAX: Duration = Duration::from_millis(250);
/// Packets that may be missing at once (`kMaxNackPackets`); beyond that all are given up and a keyframe is needed.
const MISSING_MAX: usize = 1000;
/// A step in the numbers above this is another stream, not a loss (RFC 3550, appendix A.1).
const STEP_MAX: u64 = 3000;

/// What a packet is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next, or one after a hole.
    New,
    /// It was missing and came by itself.
    Reordered,
    /// It was missing and came after it was asked for.
    Healed,
    /// It came before, or after it was given up.
    Duplicate,
    /// The numbers jumped; counting begins anew.
    Restart,
}

/// Counts of one stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) reordered: u64,
    pub(super) duplicates: u64,
    pub(super) restarts: u64,
    /// Holes, however long.
    pub(super) gaps: u64,
    /// Packets that were missing for a moment at least.
    pub(super) missed: u64,
    pub(super) nacked: u64,
    /// Requests, repeated ones included.
    pub(super) nacks: u64,
    pub(super) healed: u64,
    pub(super) lost: u64,
    /// Times that too many were missing at once.
    pub(super) overflows: u64,
    /// From the first number to the highest, as RFC 3550, appendix A.3 has it.
    pub(super) expected: u64,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    due: Instant,
    nacks: u8,
}

#[derive(Debug)]
pub(super) struct Reception {
    clock_hz: u32,
    /// Missing packets are asked for.
    asks: bool,
    highest: u64,
    first: u64,
    missing: BTreeMap<u64, Missing>,
    /// Of what was received, how much came on the stream of retransmissions.
    received_again: u64,
    pub(super) counts: Counts,
    /// RFC 3550, section 6.4.1, in ticks of the clock.
    jitter: f64,
    transit: Option<(Instant, u32)>,
    /// At the last report: expected and lost.
    reported: (u64, u64),
}

impl Reception {
    pub(super) fn new(clock_hz: u32, asks: bool, sequence: u16) -> Self {
        // One cycle ahead, so that a packet from before the first has a number.
        let first = (1 << 16) + u64::from(sequence);
        Self {
            clock_hz,
            asks,
            highest: first - 1,
            first,
            missing: BTreeMap::new(),
            received_again: 0,
            counts: Counts::default(),
            jitter: 0.0,
            transit: None,
            reported: (0, 0),
        }
    }

    /// The number of a packet without wrapping, for the stream's own order.
    pub(super) fn extend(&self, sequence: u16) -> u64 {
        nearest(self.highest, sequence)
    }

    /// The packet index of SRTP (RFC 3711, section 3.3.1): the first cycle is 0.
    pub(super) fn srtp_index(number: u64) -> u64 {
        number.saturating_sub(1 << 16)
    }

    pub(super) fn on_packet(&mut self, now: Instant, number: u64) -> Arrival {
        if number > self.highest {
            let step = number - self.highest;
            if step > STEP_MAX {
                self.restart(number);
                return Arrival::Restart;
            }
            self.counts.expected += step;
            if step > 1 {
                self.counts.gaps += 1;
                self.counts.missed += step - 1;
            }
            for lost in self.highest + 1..number {
                let missing = Missing { since: now, due: now + REORDER_WAIT, nacks: 0 };
                self.missing.insert(lost, missing);
            }
            if self.missing.len() > MISSING_MAX {
                self.counts.overflows += 1;
                self.give_up_before(number);
            }
            self.highest = number;
            self.counts.received += 1;
            return Arrival::New;
        }
        if self.highest - number > STEP_MAX {
            self.restart(number);
            return Arrival::Restart;
        }
        match self.missing.remove(&number) {
            Some(missing) if missing.nacks > 0 => {
                self.counts.received += 1;
                self.counts.healed += 1;
                Arrival::Healed
            }
            Some(_) => {
                self.counts.received += 1;
                self.counts.reordered += 1;
                Arrival::Reordered
            }
            None => {
                self.counts.duplicates += 1;
                Arrival::Duplicate
            }
        }
    }

    /// Takes a packet that came on the stream of retransmissions (RFC 4588): reports count it as lost all the same,
    /// since they are about what happens to first transmissions (`StreamStatisticianImpl` never sees it).
    pub(super) fn on_packet_again(&mut self, now: Instant, number: u64) -> Arrival {
        let arrival = self.on_packet(now, number);
        self.received_again += u64::from(arrival != Arrival::Duplicate);
        arrival
    }

    /// Packets before this one are of no use any more.
    pub(super) fn give_up_before(&mut self, number: u64) {
        let kept = self.missing.split_off(&number);
        self.counts.lost += u64::try_from(self.missing.len()).unwrap_or(0);
        self.missing = kept;
    }

    /// RFC 3550, appendix A.8. For packets that were not sent again.
    pub(super) fn on_timing(&mut self, now: Instant, timestamp: u32) {
        if let Some((before, stamp)) = self.transit {
            let elapsed = now.saturating_duration_since(before).as_secs_f64() * f64::from(self.clock_hz);
            let ticks = f64::from(timestamp.wrapping_sub(stamp).cast_signed());
            self.jitter += ((elapsed - ticks).abs() - self.jitter) / 16.0;
        }
        self.transit = Some((now, timestamp));
    }

    pub(super) fn jitter(&self) -> Duration {
        Duration::try_from_secs_f64(self.jitter / f64::from(self.clock_hz)).unwrap_or_default()
    }

    pub(super) fn jitter_ticks(&self) -> u32 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floats saturate")]
        let ticks = self.jitter as u32;
        ticks
    }

    /// Gives up what took too long, and writes down what to ask for, at most as many as fit.
    pub(super) fn on_timeout(&mut self, now: Instant, ask: &mut Vec<u16>) {
        if self.missing.is_empty() {
            return;
        }
        let (asks, counts) = (self.asks, &mut self.counts);
        self.missing.retain(|number, missing| {
            if now < missing.due {
                return true;
            }
            if !asks {
                missing.due = missing.since + LATE_MAX;
                counts.lost += u64::from(now >= missing.due);
                return now < missing.due;
            }
            if missing.nacks == NACKS_MAX {
                counts.lost += 1;
                return false;
            }
            counts.nacked += u64::from(missing.nacks == 0);
            counts.nacks += 1;
            missing.nacks += 1;
            missing.due = now + NACK_INTERVAL;
            ask.push(low16(*number));
            true
        });
    }

    /// When the next packet must be asked for or given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing.values().map(|missing| missing.due).min()
    }

    pub(super) fn is_missing(&self, number: u64) -> bool {
        self.missing.contains_key(&number)
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Packets that are still awaited after longer than a reordering takes.
    pub(super) fn open(&self, now: Instant) -> u64 {
        let is_late = |missing: &&Missing| now.saturating_duration_since(missing.since) > LATE_MAX;
        self.missing.values().filter(is_late).count().try_into().unwrap_or(u64::MAX)
    }

    /// Fraction lost since the last report, and lost in all (RFC 3550, section 6.4.1).
    pub(super) fn report(&mut self) -> (u8, u32) {
        let expected = self.highest + 1 - self.first;
        let lost = expected.saturating_sub(self.counts.received - self.received_again);
        let (expected_before, lost_before) = self.reported;
        self.reported = (expected, lost);
        let interval = expected.saturating_sub(expected_before);
        let lost_now = lost.saturating_sub(lost_before);
        let fraction = (lost_now * 256).checked_div(interval).unwrap_or(0).min(255);
        let total = u32::try_from(lost.min(0x7f_ffff)).unwrap_or(0x7f_ffff);
        (u8::try_from(fraction).unwrap_or(255), total)
    }

    /// The highest number as a report carries it: cycles and sequence.
    pub(super) fn highest_reported(&self) -> u32 {
        u32::try_from(Self::srtp_index(self.highest) & 0xffff_ffff).unwrap_or(0)
    }

    fn restart(&mut self, number: u64) {
        self.counts.lost += u64::try_from(self.missing.len()).unwrap_or(0);
        self.missing.clear();
        self.highest = number;
        self.first = number;
        self.counts.restarts += 1;
        self.counts.expected += 1;
        self.counts.received += 1;
        self.received_again = 0;
        self.reported = (0, 0);
        self.transit = None;
    }
}

/// The number nearest to `known` whose low 16 bits are these.
pub(super) fn nearest(known: u64, low: u16) -> u64 {
    known.saturating_add_signed(i64::from(low.wrapping_sub(low16(known)).cast_signed()))
}

pub(super) fn low16(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(reception: &mut Reception, now: Instant, sequence: u16) -> Arrival {
        let number = reception.extend(sequence);
        reception.on_packet(now, number)
    }

    #[test]
    fn numbers_go_on_over_the_end_of_16_bits() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, true, 65_534);
        let indices: Vec<u64> = [65_534, 65_535, 0, 1]
            .into_iter()
            .map(|sequence| {
                let number = reception.extend(sequence);
                assert_eq!(reception.on_packet(now, number), Arrival::New);
                Reception::srtp_index(number)
            })
            .collect();
        assert_eq!(indices, [65_534, 65_535, 65_536, 65_537]);
        assert_eq!((reception.counts.missed, reception.counts.received), (0, 4));
    }

    #[test]
    fn a_packet_out_of_order_is_not_asked_for() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, true, 10);
        let arrivals = [10, 12, 11, 12].map(|sequence| take(&mut reception, now, sequence));
        assert_eq!(arrivals, [Arrival::New, Arrival::New, Arrival::Reordered, Arrival::Duplicate]);
        assert_eq!(reception.deadline(), None);
    }

    #[test]
    fn a_missing_packet_is_asked_for_every_100_ms_and_heals() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, true, 10);
        take(&mut reception, start, 10);
        take(&mut reception, start, 13);
        let mut asked = Vec::new();
        reception.on_timeout(start, &mut asked);
        assert!(asked.is_empty(), "not before the wait for reordering");
        let mut dues = Vec::new();
        for _ in 0..3 {
            dues.push(reception.deadline().unwrap());
            reception.on_timeout(*dues.last().unwrap(), &mut asked);
        }
        let waits: Vec<u128> = dues.iter().map(|due| (*due - start).as_millis()).collect();
        assert_eq!((&*waits, &*asked), (&[8, 108, 208][..], &[11, 12, 11, 12, 11, 12][..]));
        assert_eq!(take(&mut reception, start, 11), Arrival::Healed);
        while let Some(due) = reception.deadline() {
            reception.on_timeout(due, &mut asked);
        }
        let counts = reception.counts;
        assert_eq!((counts.nacked, counts.healed, counts.lost), (2, 1, 1));
        assert_eq!(counts.nacks, 3 + u64::from(NACKS_MAX));
    }

    #[test]
    fn a_stream_without_nacks_loses_after_a_while() {
        let start = Instant::now();
        let mut reception = Reception::new(48_000, false, 10);
        take(&mut reception, start, 10);
        take(&mut reception, start, 12);
        let mut asked = Vec::new();
        while let Some(due) = reception.deadline() {
            reception.on_timeout(due, &mut asked);
        }
        assert_eq!((asked.len(), reception.counts.lost), (0, 1));
        assert_eq!(reception.report(), (85, 1), "1 of 3");
    }

    #[test]
    fn reports_count_as_lost_what_came_as_a_retransmission() {
        let start = Instant::now();
        let mut reception = Reception::new(90_000, true, 10);
        take(&mut reception, start, 10);
        take(&mut reception, start, 13);
        let (again, late) = (reception.extend(11), reception.extend(12));
        assert_eq!(reception.on_packet_again(start, again), Arrival::Reordered);
        assert_eq!(reception.report(), (128, 2), "2 of 4");
        assert_eq!(reception.on_packet(start, late), Arrival::Reordered);
        assert_eq!(reception.on_packet_again(start, late), Arrival::Duplicate);
        assert_eq!(reception.report().1, 1, "a late first transmission is not lost");
    }

    #[test]
    fn too_many_missing_packets_are_given_up_together() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, true, 0);
        take(&mut reception, now, 0);
        take(&mut reception, now, 900);
        assert_eq!((reception.missing.len(), reception.counts.overflows), (899, 0));
        take(&mut reception, now, 1100);
        assert_eq!((reception.missing.len(), reception.counts.overflows), (0, 1));
        assert_eq!(reception.counts.lost, 899 + 199);
    }

    #[test]
    fn a_jump_is_a_new_beginning_and_memory_is_bounded() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, true, 0);
        take(&mut reception, now, 0);
        assert_eq!(take(&mut reception, now, 20_000), Arrival::Restart);
        for n in 1..60_u16 {
            take(&mut reception, now, 20_000 + n * 500);
        }
        assert!(reception.missing.len() <= MISSING_MAX);
    }
}
