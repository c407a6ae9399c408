//! How fast one viewer's link takes video, found out while it matters: at a join, after a keyframe request and after losses.
//!
//! The viewer reports when each packet arrived (transport-wide congestion control). Arrivals spread by the slowest link on
//! the way show its rate, and arrivals later than the first show its queue. A probe costs the viewer 10 to 20 reports a
//! second, so it ends when the viewer is at the live edge and its queue is empty: a thousand viewers on good links report
//! nothing. A viewer that cannot report is paced by its stream's rate and by its losses.
mod blind;
mod least;
mod reported;
mod train;

use std::time::{Duration, Instant};

use rtp::TransportNumber;
use rtp::transport_cc::TransportFeedback;

use self::blind::Blind;
use self::reported::{QUEUE_HIGH, Reported};
use crate::sequence::low16;

/// Bytes that are sent before the link is known: a keyframe of a 2.5 Mbit/s lesson, and less than the 112 kB that a queue of
/// 300 ms holds at 3 Mbit/s.
const FIRST_MIN: usize = 40 << 10;
const FIRST_MAX: usize = 90 << 10;
/// Until the first report the rest follows at this share of the stream's rate, in percent: the first bytes fill the queue of
/// a slow link, and whatever came on top would push audio out of it.
const UNKNOWN_PERCENT: u64 = 55;
/// Nothing goes slower than this.
const RATE_MIN_BPS: u64 = 200_000;
/// The probe ends when the viewer has been at the live edge for this long, with an empty queue and without losses.
const CALM: Duration = Duration::from_millis(1_000);
/// Or for this long on a link that carries so many times the stream: a class comes all at once, and every report costs.
const CALM_WIDE: Duration = Duration::from_millis(150);
const WIDE_MULTIPLE: u64 = 10;
/// A link that carries less than this share of the stream's rate, in percent, is watched for the whole lesson: a keyframe at
/// once would fill its queue.
const NARROW_PERCENT: u64 = 150;
/// A burst begins at this share of what the link carried before, in percent: the stream's audio goes beside it.
const CARRIED_PERCENT: u64 = 85;
/// A viewer that was not at the live edge for this long was behind: longer than it takes to send a keyframe.
const BEHIND: Duration = Duration::from_millis(300);
/// Packets that are due within this time leave together: fewer wakes, and no queue worth the name.
const SLACK: Duration = Duration::from_millis(4);

/// What is known of one viewer's link.
#[derive(Debug)]
pub(crate) struct Pace {
    /// The negotiated id of the transport-wide number, and whether the viewer offers reports in vain.
    id: Option<u8>,
    is_mute: bool,
    /// The next transport-wide number.
    next: u64,
    probe: Option<Box<Probe>>,
    /// What the link carried when the last probe ended.
    carried_bps: Option<u64>,
}

/// A probe that runs.
#[derive(Debug)]
struct Probe {
    began: Instant,
    /// Bytes that may be on their way before the link is known.
    first: usize,
    link: Link,
    /// When the next packet may go, by the rate.
    next_at: Instant,
    /// When the viewer was at the live edge last, and since when it has been there with an empty queue.
    caught_up: Instant,
    calm_since: Option<Instant>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the probe that holds it is boxed")]
enum Link {
    Reported(Reported),
    /// With the bytes that were sent so far.
    Blind(Blind, usize),
}

impl Pace {
    pub(crate) fn new(id: Option<u8>) -> Self {
        Self { id, is_mute: false, next: 0, probe: None, carried_bps: None }
    }

    /// The link matters from now on: `first` bytes are a keyframe that is about to be sent at once.
    pub(crate) fn begin(&mut self, now: Instant, first: usize) {
        if let Some(probe) = &mut self.probe {
            probe.calm_since = None;
            return;
        }
        let link = match self.id() {
            Some(_) => Link::Reported(Reported::new(now)),
            None => Link::Blind(Blind::default(), 0),
        };
        let first = first.clamp(FIRST_MIN, FIRST_MAX);
        let (next_at, caught_up, calm_since) = (now, now, None);
        self.probe = Some(Box::new(Probe { began: now, first, link, next_at, caught_up, calm_since }));
    }

    /// What was sent so far could not be understood, and says nothing of the link.
    pub(crate) fn forget(&mut self) {
        self.probe = None;
        self.is_mute = false;
        self.carried_bps = None;
    }

    /// Whether the link's rate is known, or does not matter.
    pub(crate) fn is_known(&self) -> bool {
        self.probe.as_ref().is_none_or(|probe| probe.rate().is_some())
    }

    /// How long a packet waits in the queue of the slowest link, as far as is known.
    pub(crate) fn queue(&self) -> Duration {
        self.probe.as_ref().map_or(Duration::ZERO, |probe| probe.queue())
    }

    /// Whether the link is known to be slower than this many bits a second.
    pub(crate) fn is_slower_than(&self, now: Instant, bps: u64) -> bool {
        self.probe
            .as_ref()
            .is_some_and(|probe| probe.rate().is_some_and(|rate| rate < bps) || probe.is_lost(now))
    }

    /// The publisher sends what it held back. The rate of a link of which nothing is known would only be guessed, and a good one
    /// held up.
    pub(crate) fn on_burst(&mut self, now: Instant) {
        let Some(carried) = self.carried_bps else { return };
        let is_new = self.probe.is_none();
        self.begin(now, 0);
        if let Some(Link::Reported(link)) = self.probe.as_mut().map(|probe| &mut probe.link)
            && is_new
        {
            link.rate = Some(carried * CARRIED_PERCENT / 100);
        }
    }

    fn id(&self) -> Option<u8> {
        self.id.filter(|_| !self.is_mute)
    }

    /// When the next packet of a stream of `stream_bps` may be sent; `None` for now.
    #[inline]
    pub(crate) fn wait(&mut self, now: Instant, stream_bps: u64) -> Option<Instant> {
        self.probe.as_ref()?;
        self.wait_probing(now, stream_bps)
    }

    fn wait_probing(&mut self, now: Instant, stream_bps: u64) -> Option<Instant> {
        let probe = self.probe.as_mut()?;
        if let Link::Reported(link) = &probe.link
            && self.carried_bps.is_none()
            && link.is_mute(now)
        {
            tracing::debug!("a viewer that offered reports of arrivals sends none");
            (self.is_mute, probe.link) = (true, Link::Blind(Blind::default(), probe.first));
        }
        let held = match &mut probe.link {
            Link::Reported(link) => link.held_until(now, stream_bps),
            Link::Blind(..) => None,
        };
        let by_rate = (probe.next_at > now + SLACK && !probe.is_first()).then_some(probe.next_at);
        held.or(by_rate)
    }

    /// A packet of this size leaves. Returns the number that it is to carry.
    #[inline]
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: usize, stream_bps: u64) -> Option<TransportNumber> {
        self.probe.as_ref()?;
        self.count_sent(now, bytes, stream_bps)
    }

    fn count_sent(&mut self, now: Instant, bytes: usize, stream_bps: u64) -> Option<TransportNumber> {
        let probe = self.probe.as_mut()?;
        // What leaves before the link is known is not held against it; time in which nothing was sent is not saved up.
        if !probe.is_first() {
            let took = (bytes as u64).saturating_mul(8_000_000_000) / probe.bps(now, stream_bps);
            probe.next_at = probe.next_at.max(now) + Duration::from_nanos(took);
        }
        let number = self.next;
        match &mut probe.link {
            Link::Reported(link) => link.on_sent(number, now, bytes),
            Link::Blind(_, sent) => *sent = sent.saturating_add(bytes),
        }
        let id = self.id()?;
        self.next = self.next.wrapping_add(1);
        TransportNumber::new(id, low16(number))
    }

    /// The viewer reports arrivals. `burst_bps` is the fastest that it is ever sent. Returns whether that may let video go
    /// on.
    pub(crate) fn on_arrivals(
        &mut self,
        now: Instant,
        feedback: &TransportFeedback<'_>,
        burst_bps: u64,
    ) -> bool {
        let Some(probe) = self.probe.as_mut() else { return false };
        let Link::Reported(link) = &mut probe.link else { return false };
        let before = link.rate;
        let is_news = link.on_arrivals(now, feedback, burst_bps);
        let owed = probe.next_at.saturating_duration_since(now);
        if let Some(rate) = link.rate {
            // What is owed at the rate of before takes longer or shorter now.
            let owed = before.map_or(0, |before| owed_nanos(owed).saturating_mul(before) / rate);
            probe.next_at = now + Duration::from_nanos(owed);
        }
        is_news
    }

    /// More was lost than may be sent again.
    pub(crate) fn on_loss(&mut self, now: Instant) {
        self.begin(now, 0);
        if let Some(Link::Blind(link, _)) = self.probe.as_mut().map(|probe| &mut probe.link) {
            link.on_loss(now);
        }
    }

    /// The viewer asks for lost packets.
    pub(crate) fn on_nack(&mut self, now: Instant) {
        if let Some(Link::Blind(link, _)) = self.probe.as_mut().map(|probe| &mut probe.link) {
            link.on_nack(now);
        }
    }

    /// A receiver report tells the round trip: what it is longer than the shortest is the queue.
    pub(crate) fn on_round_trip(&mut self, now: Instant, round_trip: Duration) {
        if let Some(Link::Blind(link, _)) = self.probe.as_mut().map(|probe| &mut probe.link) {
            link.on_round_trip(now, round_trip);
        }
    }

    /// The viewer has been sent everything. Ends the probe when all has been well for a while, and the link is not one that
    /// the stream all but fills.
    #[inline]
    pub(crate) fn on_caught_up(&mut self, now: Instant, stream_bps: u64) {
        if self.probe.is_some() {
            self.caught_up_probing(now, stream_bps);
        }
    }

    fn caught_up_probing(&mut self, now: Instant, stream_bps: u64) {
        let Some(probe) = &mut self.probe else { return };
        let since = now.saturating_duration_since(std::mem::replace(&mut probe.caught_up, now));
        // At its stream's rate a viewer is behind after each keyframe, whatever its link.
        let was_behind = since > BEHIND && matches!(probe.link, Link::Reported(_));
        if was_behind || probe.queue() >= QUEUE_HIGH || probe.is_lost(now) {
            probe.calm_since = None;
            return;
        }
        let since = *probe.calm_since.get_or_insert(now);
        let is_wide = probe.rate().is_some_and(|rate| rate >= stream_bps.saturating_mul(WIDE_MULTIPLE));
        let calm = if is_wide { CALM_WIDE } else { CALM };
        if now.saturating_duration_since(since) >= calm && !probe.is_narrow(stream_bps) {
            self.carried_bps = probe.carried_bps().or(self.carried_bps);
            self.probe = None;
        }
    }
}

impl Probe {
    fn carried_bps(&self) -> Option<u64> {
        match &self.link {
            Link::Reported(link) => link.carried_bps(),
            Link::Blind(..) => None,
        }
    }

    /// The link's rate, if it is known.
    fn rate(&self) -> Option<u64> {
        match &self.link {
            Link::Reported(link) => link.rate,
            Link::Blind(..) => None,
        }
    }

    fn queue(&self) -> Duration {
        match &self.link {
            Link::Reported(link) => link.queue,
            Link::Blind(link, _) => link.queue,
        }
    }

    fn is_lost(&self, now: Instant) -> bool {
        match &self.link {
            Link::Reported(link) => link.is_lost(),
            Link::Blind(link, _) => link.is_lost(now),
        }
    }

    fn is_narrow(&self, stream_bps: u64) -> bool {
        match &self.link {
            Link::Reported(link) => link.is_below(stream_bps * NARROW_PERCENT / 100),
            Link::Blind(..) => false,
        }
    }

    /// Nothing is known of the link, and what may go out nevertheless has not.
    fn is_first(&self) -> bool {
        match &self.link {
            Link::Reported(link) => link.rate.is_none() && link.in_flight() < self.first,
            Link::Blind(_, sent) => *sent < self.first,
        }
    }

    fn bps(&self, now: Instant, stream_bps: u64) -> u64 {
        let since = now.saturating_duration_since(self.began);
        let bps = match &self.link {
            Link::Reported(link) => link.rate.unwrap_or(stream_bps * UNKNOWN_PERCENT / 100),
            Link::Blind(link, _) => link.rate_bps(now, since, stream_bps),
        };
        bps.max(RATE_MIN_BPS)
    }
}

fn owed_nanos(owed: Duration) -> u64 {
    u64::try_from(owed.as_nanos()).unwrap_or(u64::MAX)
}
