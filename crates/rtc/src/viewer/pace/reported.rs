//! A viewer that reports arrivals (transport-wide congestion control): what its reports tell of the link.
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtp::transport_cc::TransportFeedback;

use super::RATE_MIN_BPS;
use super::least::Least;
use super::train::Train;
use crate::sequence::low16;

/// With a known rate, as much may be on its way as it carries in this time, or in the time to a report and this much more:
/// reports come every 50 to 100 ms.
const WINDOW_TIME: Duration = Duration::from_millis(250);
const REPORT_TIME: Duration = Duration::from_millis(100);
const WINDOW_MIN: usize = 40 << 10;
/// A queue longer than this is drained: within so long, and the time that it is long.
pub(super) const QUEUE_HIGH: Duration = Duration::from_millis(40);
const DRAIN_TIME: Duration = Duration::from_millis(200);
/// A queue longer than this is there by mistake.
const QUEUE_FULL: Duration = Duration::from_millis(100);
/// A queue shorter than this is none, and the rate may grow.
const QUEUE_LOW: Duration = Duration::from_millis(15);
/// With an empty queue the rate is this share of what has passed: at the live edge little is sent, and nothing is learnt of
/// the link. Reports that show nothing let it grow by the second.
const PASSED_PERCENT: u64 = 125;
const TRIAL_PERCENT: u64 = 110;
/// With a short queue it grows by this, since links that jitter seem to have one always.
const HOLD_PERCENT: u64 = 102;
/// Without a report for this long, what is on its way is taken for lost; or for twice the usual time to a report and the
/// second more.
const REPORT_TIMEOUT: Duration = Duration::from_millis(600);
const REPORT_SLACK: Duration = Duration::from_millis(200);
/// A viewer that was sent so long and has never reported does not.
const MUTE: Duration = Duration::from_millis(2_500);
/// The least delay is one of the last so long: clocks drift, and ways change.
const LEAST_SPAN: Duration = Duration::from_secs(10);
/// At falling rates any queue of ours is empty after this time: a delay that stays is that of a longer way, or of others.
const LATE: Duration = Duration::from_millis(1_000);
/// Losses are over this long after the last.
const LOST: Duration = Duration::from_millis(1_000);
/// Packets remembered until they are reported: a quarter of a second at 80 Mbit/s.
const SENT_MAX: usize = 2_048;

#[derive(Debug)]
pub(super) struct Reported {
    /// Packets that no report has named, in the order of their numbers.
    sent: VecDeque<Sent>,
    in_flight: usize,
    pub(super) rate: Option<u64>,
    /// The fastest that packets have arrived that left together or queued.
    link_bps: Option<Least<Reverse<u64>>>,
    /// The least difference between arrival and departure, on two clocks.
    base_us: Option<Least<i64>>,
    /// The least time from departure to report.
    turnaround: Option<Least<Duration>>,
    /// Since when packets have been very late without end, and the least delay since.
    late: Option<(Instant, i64)>,
    pub(super) queue: Duration,
    began: Instant,
    /// When the last report came, or the first packet left.
    reported: Instant,
    lost: Option<Instant>,
    /// When the rate was lowered: what left before says nothing of the lower one.
    lowered: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    at: Instant,
    bytes: usize,
    is_done: bool,
    /// It counts as on its way.
    is_counted: bool,
}

impl Reported {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            sent: VecDeque::new(),
            in_flight: 0,
            rate: None,
            link_bps: None,
            base_us: None,
            turnaround: None,
            late: None,
            queue: Duration::ZERO,
            began: now,
            reported: now,
            lost: None,
            lowered: now,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// The link is known to carry less than this.
    pub(super) fn is_below(&self, bps: u64) -> bool {
        self.link_bps.is_some_and(|link| link.get().0 < bps)
    }

    /// The most that the link has carried lately.
    pub(super) fn carried_bps(&self) -> Option<u64> {
        self.link_bps.map(|link| link.get().0)
    }

    /// Whether the viewer promised reports and sends none.
    pub(super) fn is_mute(&self, now: Instant) -> bool {
        self.turnaround.is_none() && self.sent.front().is_some_and(|first| now > first.at + MUTE)
    }

    /// Until when to wait at most because enough is on its way.
    pub(super) fn held_until(&mut self, now: Instant, stream_bps: u64) -> Option<Instant> {
        if self.sent.is_empty() {
            // The silence is ours.
            self.reported = now;
        }
        let turnaround = self.turnaround.map_or(Duration::ZERO, |turnaround| turnaround.get());
        let overdue = self.reported + REPORT_TIMEOUT.max(turnaround * 2 + REPORT_SLACK);
        if now >= overdue && self.in_flight > 0 {
            self.on_silence(now);
        }
        let rate = self.rate?.max(stream_bps / 2);
        let time = WINDOW_TIME.max(turnaround + REPORT_TIME).as_millis();
        let window = u128::from(rate) * time / 8_000;
        let window = usize::try_from(window).unwrap_or(usize::MAX).max(WINDOW_MIN);
        (self.in_flight >= window).then_some(overdue)
    }

    pub(super) fn on_sent(&mut self, number: u64, at: Instant, bytes: usize) {
        if self.sent.len() == SENT_MAX {
            self.forget(1);
        }
        self.in_flight = self.in_flight.saturating_add(bytes);
        self.sent.push_back(Sent { number, at, bytes, is_done: false, is_counted: true });
    }

    /// Nothing has been reported for too long: whatever was sent is taken for lost, and the rate was too high. A report that
    /// comes after all is still understood.
    fn on_silence(&mut self, now: Instant) {
        self.sent.iter_mut().for_each(|sent| sent.is_counted = false);
        self.in_flight = 0;
        self.reported = now;
        self.rate = self.rate.map(|rate| (rate / 2).max(RATE_MIN_BPS));
    }

    /// Returns whether the report was about packets of ours that no other has named.
    pub(super) fn on_arrivals(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
        burst_bps: u64,
    ) -> bool {
        let mut train = Train::default();
        let mut newest = None;
        if let Some((first, _)) = feedback.packets().next() {
            self.forget_before(first);
        }
        for (number, arrival) in feedback.packets() {
            newest = self.on_packet(number, arrival, &mut train).or(newest);
        }
        let done = self.sent.iter().take_while(|sent| sent.is_done).count();
        self.sent.drain(..done);
        let Some(newest) = newest else { return false };
        let took = now.saturating_duration_since(newest);
        self.turnaround.get_or_insert_with(|| Least::new(now, LEAST_SPAN, took)).on(now, took);
        self.reported = now;
        self.control((now, newest), &train, burst_bps);
        true
    }

    /// Reports go forward: what comes before this one will not be reported any more. So it is with packets that arrived
    /// before the viewer had its keys, and with reports that were lost. They say nothing of the link, and are not on their way.
    fn forget_before(&mut self, number: u16) {
        let ahead = self.sent.front().map_or(0, |front| number.wrapping_sub(low16(front.number)));
        if usize::from(ahead) < self.sent.len() {
            self.forget(ahead.into());
        }
    }

    fn forget(&mut self, count: usize) {
        for sent in self.sent.drain(..count).filter(|sent| sent.is_counted) {
            self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        }
    }

    /// Returns when the packet left, if no other report has named it.
    fn on_packet(&mut self, number: u16, arrival: Option<i64>, train: &mut Train) -> Option<Instant> {
        let front = self.sent.front()?;
        let ahead = number.wrapping_sub(low16(front.number));
        let sent = self.sent.get_mut(usize::from(ahead)).filter(|sent| !sent.is_done)?;
        sent.is_done = true;
        if std::mem::take(&mut sent.is_counted) {
            self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        }
        match arrival {
            Some(arrival_us) => {
                let since = sent.at.saturating_duration_since(self.began);
                let left_us = i64::try_from(since.as_micros()).unwrap_or(0);
                train.add((sent.at, left_us), sent.bytes, arrival_us);
            }
            None => train.lost += 1,
        }
        Some(sent.at)
    }

    fn on_delay(&mut self, now: Instant, least_us: i64, last_us: i64) {
        let base = self.base_us.get_or_insert_with(|| Least::new(now, LEAST_SPAN, least_us));
        let queue_us = last_us.saturating_sub(base.on(now, least_us));
        self.queue = Duration::from_micros(u64::try_from(queue_us).unwrap_or(0));
        let (since, least) = self.late.unwrap_or((now, least_us));
        let least = least.min(least_us);
        self.late = (self.queue > QUEUE_FULL).then_some((since, least));
        if self.late.is_some() && now >= since + LATE {
            *base = Least::new(now, LEAST_SPAN, least);
            self.late = None;
        }
    }

    fn control(&mut self, (now, newest): (Instant, Instant), train: &Train, burst_bps: u64) {
        if let Some((least_us, last_us)) = train.delay_us() {
            self.on_delay(now, least_us, last_us);
        }
        let is_lossy = train.is_lossy();
        if is_lossy {
            self.lost = Some(now);
        } else if self.lost.is_some_and(|lost| now > lost + LOST) {
            self.lost = None;
        }
        // A queue makes what was sent apart arrive together.
        let queued = train.received_bps().filter(|_| self.queue > QUEUE_HIGH);
        if let Some(bps) = train.together_bps().max(queued).map(Reverse) {
            self.link_bps.get_or_insert_with(|| Least::new(now, LEAST_SPAN, bps)).on(now, bps);
        }
        let passed = train.passed_bps();
        let Some(rate) = self.rate.or(passed) else { return };
        // Where too little was sent to tell a rate, the queue alone decides.
        let received = train.received_bps().unwrap_or(rate);
        let most = self.link_bps.map_or(u64::MAX, |link| link.get().0 * PASSED_PERCENT / 100);
        let new = if self.queue > QUEUE_HIGH || is_lossy && self.queue > QUEUE_LOW {
            if newest < self.lowered {
                rate
            } else {
                self.lowered = now;
                let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1);
                received.min(rate) * micros(DRAIN_TIME) / (micros(DRAIN_TIME) + micros(self.queue))
            }
        } else if self.queue < QUEUE_LOW {
            let trial = (rate * TRIAL_PERCENT / 100).min(most);
            rate.max(passed.map_or(trial, |passed| passed * PASSED_PERCENT / 100))
        } else {
            rate.max((rate * HOLD_PERCENT / 100).min(most))
        };
        tracing::trace!(rate, new, received, queue = ?self.queue, lost = train.lost, packets = train.packets(), "pace");
        self.rate = Some(new.clamp(RATE_MIN_BPS, burst_bps.max(RATE_MIN_BPS)));
    }
}
