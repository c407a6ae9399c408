//! How fast one viewer's link takes video, found out while it matters: at a join, after a keyframe request and after losses.
//!
//! The viewer reports when each packet arrived (transport-wide congestion control). Arrivals spread by the slowest link on
//! the way show its rate, and arrivals later than the first show its queue. A probe costs the viewer 10 to 20 reports a
//! second, so it ends when the viewer is at the live edge and its queue is empty: a thousand viewers on good links report
//! nothing. A viewer that cannot report is paced by its stream's rate and by its losses.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtp::TransportNumber;
use rtp::transport_cc::TransportFeedback;

/// Bytes that may be on their way before the link is known: a keyframe of a 2.5 Mbit/s lesson, and less than the 112 kB
/// that a queue of 300 ms holds at 3 Mbit/s.
const WINDOW_MIN: usize = 40 << 10;
const WINDOW_FIRST_MAX: usize = 90 << 10;
/// With a known rate, this much time's worth may be on its way: reports come every 50 to 100 ms.
const WINDOW_TIME_MS: u64 = 250;
/// Until the first report the rest follows at this share of the stream's rate, in percent: the window fills the queue of a
/// slow link, and whatever came on top would push audio out of it.
const UNKNOWN_PERCENT: u64 = 60;
/// Without reports the rest follows at the first share while the first window may be queued, for so long, then at the second.
const BLIND_FIRST: Duration = Duration::from_millis(500);
const BLIND_FIRST_PERCENT: u64 = 90;
const BLIND_PERCENT: u64 = 115;
/// The same when losses or round trips show that this is too much, and when more was lost than may be sent again.
const BLIND_NACK_PERCENT: u64 = 100;
const BLIND_LOSS_PERCENT: u64 = 90;
/// A queue longer than this is drained, by a good part when it is longer than the second.
const QUEUE_HIGH: Duration = Duration::from_millis(40);
const QUEUE_FULL: Duration = Duration::from_millis(100);
/// A queue shorter than this is none, and the rate may grow.
const QUEUE_LOW: Duration = Duration::from_millis(15);
/// Packets of one report that tell a rate, and the shortest time that they are taken to have arrived in.
const TRAIN_MIN: usize = 6;
const TRAIN_SPAN_MIN_US: i64 = 1_000;
/// Packets that left within this time of each other left together. So many of them show the link even where others that
/// trickled behind them make the report long.
const TOGETHER: Duration = Duration::from_millis(4);
const TOGETHER_MIN: usize = 20;
/// Nothing goes slower than this.
const RATE_MIN_BPS: u64 = 200_000;
/// Without a report for this long, what is on its way is taken for lost.
const REPORT_TIMEOUT: Duration = Duration::from_millis(600);
/// The probe ends this long after the viewer caught up, its queue ran empty and its losses ended.
const CALM: Duration = Duration::from_millis(1_000);
/// A link that was full is taken to be full for this long: viewers send receiver reports every second.
const FULL: Duration = Duration::from_millis(2_000);
/// Packets that are due within this time leave together: fewer wakes, and no queue worth the name.
const SLACK: Duration = Duration::from_millis(4);
/// Packets remembered until they are reported: a quarter of a second at 80 Mbit/s.
const SENT_MAX: usize = 2_048;

/// What is known of one viewer's link.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The negotiated id of the transport-wide number, if the viewer can report.
    id: Option<u8>,
    /// The next transport-wide number.
    next: u64,
    probe: Option<Box<Probe>>,
}

/// A probe that runs.
#[derive(Debug)]
struct Probe {
    /// Packets on their way, in the order of their numbers.
    sent: VecDeque<Sent>,
    in_flight: usize,
    /// Bytes that may be on their way before the link is known.
    window_first: usize,
    rate: Option<u64>,
    /// The least difference between arrival and departure, on two clocks.
    base_us: Option<i64>,
    queue: Duration,
    began: Instant,
    /// When the last report came, or the first packet left.
    reported: Instant,
    lost: Option<Instant>,
    /// When a viewer that does not report arrivals last showed that the link is full.
    full: Option<Instant>,
    round_trip_least: Option<Duration>,
    /// When the next packet may go, by the rate.
    next_at: Instant,
    calm_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    at: Instant,
    bytes: usize,
    is_done: bool,
}

/// What one report says of the packets that it names.
#[derive(Debug, Default)]
struct Train {
    whole: Run,
    /// Packets that left together, up to now, and the best rate of such a run.
    together: Run,
    left: Option<Instant>,
    best_bps: Option<u64>,
    lost: usize,
    delay_us: Option<i64>,
}

/// Packets that arrived one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    packets: usize,
    bytes: usize,
    first_bytes: usize,
    first_us: Option<i64>,
    last_us: i64,
}

impl Pace {
    pub(crate) fn new(id: Option<u8>) -> Self {
        Self { id, next: 0, probe: None }
    }

    /// The link matters from now on: `first` bytes are a keyframe that is about to be sent at once.
    pub(crate) fn begin(&mut self, now: Instant, first: usize) {
        let window_first = first.clamp(WINDOW_MIN, WINDOW_FIRST_MAX);
        if let Some(probe) = &mut self.probe {
            probe.calm_since = None;
            return;
        }
        self.probe = Some(Box::new(Probe {
            sent: VecDeque::new(),
            in_flight: 0,
            window_first,
            rate: None,
            base_us: None,
            queue: Duration::ZERO,
            began: now,
            reported: now,
            lost: None,
            full: None,
            round_trip_least: None,
            next_at: now,
            calm_since: None,
        }));
    }

    /// Whether the link's rate is known, or does not matter.
    pub(crate) fn is_known(&self) -> bool {
        self.probe.as_ref().is_none_or(|probe| probe.rate.is_some())
    }

    /// How long a packet waits in the queue of the slowest link, as far as is known.
    pub(crate) fn queue(&self) -> Duration {
        self.probe.as_ref().map_or(Duration::ZERO, |probe| probe.queue)
    }

    /// Whether the link is known to be slower than this many bits a second.
    pub(crate) fn is_slower_than(&self, bps: u64) -> bool {
        self.probe
            .as_ref()
            .is_some_and(|probe| probe.rate.is_some_and(|rate| rate < bps) || probe.lost.is_some())
    }

    /// When the next packet of a stream of `stream_bps` may be sent; `None` for now.
    pub(crate) fn wait(&mut self, now: Instant, stream_bps: u64) -> Option<Instant> {
        let reports = self.id.is_some();
        let probe = self.probe.as_mut()?;
        if probe.sent.is_empty() {
            // The silence is ours.
            probe.reported = now;
        }
        let overdue = probe.reported + REPORT_TIMEOUT;
        if reports && now >= overdue && !probe.sent.is_empty() {
            probe.on_silence(now, stream_bps);
        }
        let window = probe.window(stream_bps);
        let by_rate = (probe.next_at > now + SLACK).then_some(probe.next_at);
        match probe.rate {
            None if probe.in_flight < window => None,
            Some(_) if reports && probe.in_flight >= window => Some(overdue),
            _ => by_rate,
        }
    }

    /// A packet of this size leaves. Returns the number that it is to carry.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize, stream_bps: u64) -> Option<TransportNumber> {
        let reports = self.id.is_some();
        let probe = self.probe.as_mut()?;
        let blind = probe.blind_bps(now, stream_bps, reports);
        let bps = probe.rate.unwrap_or(blind).max(RATE_MIN_BPS);
        let took = Duration::from_nanos((bytes as u64).saturating_mul(8_000_000_000) / bps);
        // Time in which nothing was sent is not saved up; what leaves before the link is known is not held against it.
        if probe.rate.is_some() || probe.in_flight >= probe.window_first {
            probe.next_at = probe.next_at.max(now) + took;
        }
        probe.in_flight = probe.in_flight.saturating_add(bytes);
        if !reports {
            return None;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if probe.sent.len() == SENT_MAX
            && let Some(oldest) = probe.sent.pop_front()
            && !oldest.is_done
        {
            probe.in_flight = probe.in_flight.saturating_sub(oldest.bytes);
        }
        probe.sent.push_back(Sent { number, at: now, bytes, is_done: false });
        TransportNumber::new(self.id?, crate::sequence::low16(number))
    }

    /// The viewer reports arrivals. `burst_bps` is the fastest that it is ever sent.
    pub(crate) fn on_arrivals(&mut self, now: Instant, feedback: &TransportFeedback<'_>, burst_bps: u64) {
        let Some(probe) = self.probe.as_mut() else { return };
        let mut train = Train::default();
        if let Some((first, _)) = feedback.packets().next() {
            probe.forget_before(first);
        }
        for (number, arrival) in feedback.packets() {
            probe.on_packet(number, arrival, &mut train);
        }
        while probe.sent.front().is_some_and(|sent| sent.is_done) {
            probe.sent.pop_front();
        }
        if train.whole.packets + train.lost > 0 {
            probe.reported = now;
            probe.control(now, &train, burst_bps);
        }
    }

    /// The viewer asks for lost packets, without reporting arrivals.
    pub(crate) fn on_loss(&mut self, now: Instant) {
        self.begin(now, 0);
        if let Some(probe) = &mut self.probe {
            probe.calm_since = None;
            if self.id.is_none() {
                probe.lost = Some(now);
            }
        }
    }

    /// A viewer that does not report arrivals asks for lost packets.
    pub(crate) fn on_nack(&mut self, now: Instant) {
        if let Some(probe) = self.probe.as_mut().filter(|_| self.id.is_none()) {
            probe.full = Some(now);
        }
    }

    /// A viewer that does not report arrivals tells the round trip: what it is longer than the shortest is the queue.
    pub(crate) fn on_round_trip(&mut self, now: Instant, round_trip: Duration) {
        let Some(probe) = self.probe.as_mut().filter(|_| self.id.is_none()) else { return };
        let least = probe.round_trip_least.map_or(round_trip, |least| least.min(round_trip));
        probe.round_trip_least = Some(least);
        probe.queue = round_trip.saturating_sub(least);
        if probe.queue > QUEUE_HIGH {
            probe.full = Some(now);
        }
    }

    /// The viewer has been sent everything. Ends the probe when all has been well for a while.
    pub(crate) fn on_caught_up(&mut self, now: Instant) {
        let reports = self.id.is_some();
        let Some(probe) = &mut self.probe else { return };
        let is_well = probe.queue < QUEUE_HIGH && probe.lost.is_none_or(|lost| now > lost + CALM);
        let is_known = !reports || probe.rate.is_some();
        if !is_well || !is_known {
            probe.calm_since = None;
            return;
        }
        let since = *probe.calm_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= CALM {
            self.probe = None;
        }
    }
}

impl Probe {
    /// Bytes that may be on their way.
    fn window(&self, stream_bps: u64) -> usize {
        match self.rate {
            None => self.window_first,
            Some(rate) => {
                let bytes = rate.max(stream_bps / 2).saturating_mul(WINDOW_TIME_MS) / 8_000;
                usize::try_from(bytes).unwrap_or(usize::MAX).max(WINDOW_MIN)
            }
        }
    }

    fn blind_bps(&self, now: Instant, stream_bps: u64, reports: bool) -> u64 {
        let is_full = self.full.is_some_and(|full| now < full + FULL);
        let percent = match (self.lost, is_full) {
            (Some(_), _) => BLIND_LOSS_PERCENT,
            (None, _) if reports => UNKNOWN_PERCENT,
            (None, true) => BLIND_NACK_PERCENT,
            (None, false) if now < self.began + BLIND_FIRST => BLIND_FIRST_PERCENT,
            (None, false) => BLIND_PERCENT,
        };
        stream_bps * percent / 100
    }

    /// Nothing has been reported for too long: whatever was sent is lost, and the rate was too high.
    fn on_silence(&mut self, now: Instant, stream_bps: u64) {
        self.sent.clear();
        self.in_flight = 0;
        self.reported = now;
        self.rate = Some((self.rate.unwrap_or(stream_bps) / 2).max(RATE_MIN_BPS));
    }

    /// Reports go forward: what comes before this one will not be reported any more. So it is with packets that arrived
    /// before the viewer had its keys, and with reports that were lost. They say nothing of the link, and are not on their way.
    fn forget_before(&mut self, number: u16) {
        let ahead =
            self.sent.front().map_or(0, |front| number.wrapping_sub(crate::sequence::low16(front.number)));
        let ahead = if usize::from(ahead) < self.sent.len() { ahead.into() } else { 0 };
        for sent in self.sent.drain(..ahead).filter(|sent| !sent.is_done) {
            self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        }
    }

    fn on_packet(&mut self, number: u16, arrival: Option<i64>, train: &mut Train) {
        let Some(front) = self.sent.front() else { return };
        let ahead = number.wrapping_sub(crate::sequence::low16(front.number));
        let Some(sent) = self.sent.get_mut(usize::from(ahead)).filter(|sent| !sent.is_done) else { return };
        sent.is_done = true;
        self.in_flight = self.in_flight.saturating_sub(sent.bytes);
        let Some(arrival_us) = arrival else {
            train.lost += 1;
            return;
        };
        let left_us = i64::try_from(sent.at.saturating_duration_since(self.began).as_micros()).unwrap_or(0);
        let delay_us = arrival_us.saturating_sub(left_us);
        train.add(sent.at, sent.bytes, arrival_us);
        train.delay_us = Some(delay_us);
        self.base_us = Some(self.base_us.map_or(delay_us, |base| base.min(delay_us)));
    }

    fn control(&mut self, now: Instant, train: &Train, burst_bps: u64) {
        if let (Some(delay_us), Some(base_us)) = (train.delay_us, self.base_us) {
            self.queue = Duration::from_micros(u64::try_from(delay_us - base_us).unwrap_or(0));
        }
        let is_lossy = train.lost * 20 > train.whole.packets + train.lost;
        if is_lossy {
            self.lost = Some(now);
        } else if self.lost.is_some_and(|lost| now > lost + CALM) {
            self.lost = None;
        }
        let received = train.whole.rate_bps(TRAIN_MIN);
        let passed = received.max(train.best_bps).max(train.together.rate_bps(TOGETHER_MIN));
        let Some(rate) = self.rate.or(passed) else { return };
        // Where too little was sent to tell a rate, the queue alone decides.
        let received = received.unwrap_or(rate);
        let new = if is_lossy && self.queue > QUEUE_LOW || self.queue > QUEUE_FULL {
            received.min(rate) * 70 / 100
        } else if self.queue > QUEUE_HIGH {
            received.min(rate) * 90 / 100
        } else if self.queue < QUEUE_LOW {
            // Not beyond what was shown to pass: at the live edge little is sent, and nothing is learnt of the link.
            // Where too little was sent to show that, a small step tries it.
            passed.map_or(rate * 11 / 10, |passed| rate.max(passed * 3 / 2))
        } else {
            rate
        };
        self.rate = Some(new.clamp(RATE_MIN_BPS, burst_bps.max(RATE_MIN_BPS)));
        self.next_at = self.next_at.min(now);
    }
}

impl Train {
    fn add(&mut self, left: Instant, bytes: usize, arrival_us: i64) {
        self.whole.add(bytes, arrival_us);
        if self.left.is_some_and(|before| left.saturating_duration_since(before) > TOGETHER) {
            let run = std::mem::take(&mut self.together);
            self.best_bps = self.best_bps.max(run.rate_bps(TOGETHER_MIN));
        }
        self.left = Some(left);
        self.together.add(bytes, arrival_us);
    }
}

impl Run {
    fn add(&mut self, bytes: usize, arrival_us: i64) {
        self.packets += 1;
        self.bytes += bytes;
        if self.first_us.is_none() {
            (self.first_us, self.first_bytes) = (Some(arrival_us), bytes);
        }
        self.last_us = arrival_us;
    }

    /// Bits a second between the first and the last arrival, if there are at least so many.
    fn rate_bps(&self, packets_min: usize) -> Option<u64> {
        if self.packets < packets_min {
            return None;
        }
        let span_us = self.last_us.saturating_sub(self.first_us?).max(TRAIN_SPAN_MIN_US);
        let bits = (self.bytes - self.first_bytes) as u64 * 8_000_000;
        Some(bits / u64::try_from(span_us).ok()?)
    }
}
