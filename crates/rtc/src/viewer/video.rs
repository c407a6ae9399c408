//! One viewer's video: keyframe gate, join burst, pacing, retransmission.
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use rtp::rtcp::Lost;
use rtp::transport_cc::TransportFeedback;
use rtp::{Header, Packets, PlayoutDelay, TransportNumber};

use super::pace::Pace;
use super::replay::Replay;
use super::resend::{Crowd, Resend};
use super::{Out, Source, ViewerStats, write};
use crate::batch::Class;
use crate::ring::{OVERHEAD, Ring};
use crate::sdp::VideoTerms;
use crate::sequence::{Numbered, Sequence, low16};

/// Bytes of a group of pictures that are sent to a viewer that joins. A larger group gives its keyframe alone: a still
/// picture at once, motion at the next keyframe.
const BURST_BYTES_MAX: usize = 8 << 20;
/// Frames that a viewer may be behind when the next keyframe is there: then it goes on at the keyframe.
const LAG_FRAMES_MAX: u64 = 15;
/// The same for one that is late, on a link that could not make up for them within a second.
const LAG_FRAMES_SLOW_MAX: u64 = 3;
/// Packets of video that one viewer gets in one pass, so that a keyframe to many does not hold up anybody's audio.
const PASS_PACKETS: usize = 16;
/// The shortest time between two passes of one viewer: 16 packets a millisecond are 150 Mbit/s.
const PASS_INTERVAL: Duration = Duration::from_millis(1);
/// A burst over a good link is never slower than this, however slow its stream.
const BURST_BPS_MIN: u64 = 20_000_000;
/// A burst is given this long before a keyframe request means that it was not understood.
const BURST_GRACE: Duration = Duration::from_millis(1_500);
/// A frame that is sent this long after it came is stamped as late: a player that is told of the delay holds the audio back.
const LATE_MIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Video {
    pub(super) terms: VideoTerms,
    playout_delay: Option<PlayoutDelay>,
    pub(super) sequence: Sequence,
    cursor: Cursor,
    /// Packets before this one, in the viewer's count, are not sent again: pictures that need them were given up.
    given_up: u64,
    /// The keyframe that is sent alone, because its group is too large for a burst.
    still: Option<u64>,
    /// Frames are sent later than they were made.
    is_late: bool,
    /// When the first packet of the current frame left.
    frame_began: Instant,
    /// How far late frames are stamped behind the live timeline, because one before them took long to leave.
    spread: Duration,
    has_begun: bool,
    /// When it last set out at a keyframe.
    began: Instant,
    next_pass: Instant,
    /// The next pass is as late as it is because of the link.
    is_held: bool,
    /// How many times faster than its stream a burst may be.
    burst_multiple: u32,
    replay: Replay,
    resend: Resend,
    pub(super) pace: Pace,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// Nothing may be sent before a keyframe with at least this number, or a recovery point if no keyframe is to be
    /// expected.
    Keyframe { from: u64 },
    /// Next is this packet of this frame.
    At { frame: u64, packet: usize },
}

/// Where a viewer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Keyframe(u64),
    RecoveryPoint(u64),
}

impl Video {
    pub(super) fn new(now: Instant, terms: VideoTerms, burst_multiple: u32, rng: &mut impl Rng) -> Self {
        Self {
            playout_delay: terms.playout_delay_id.and_then(PlayoutDelay::new),
            // Without a source of its own a retransmission has the bytes of the first time, the number included: it would
            // say nothing of when the copy arrived.
            pace: Pace::new(terms.transport_cc_id.filter(|_| terms.rtx.is_some() || !terms.nack)),
            terms,
            sequence: Sequence::new(super::start(rng), rng.random()),
            cursor: Cursor::Keyframe { from: 0 },
            given_up: 0,
            still: None,
            is_late: false,
            frame_began: now,
            spread: Duration::ZERO,
            has_begun: false,
            began: now,
            next_pass: now,
            is_held: false,
            burst_multiple,
            replay: Replay::new(now),
            resend: Resend::new(now, super::start(rng)),
            source: Source::default(),
        }
    }

    /// Sends what is due, a pass at most. Returns when the next pass may be, if there is more to send.
    pub(super) fn send(
        &mut self,
        now: Instant,
        ring: &Ring,
        stats: &mut ViewerStats,
        out: &mut Out<'_>,
    ) -> Option<Instant> {
        if now < self.next_pass {
            return self.has_more(ring).then_some(self.next_pass);
        }
        self.is_held = false;
        let stream_bps = ring.rate_bps();
        if self.has_begun && ring.is_burst(stream_bps) {
            self.pace.on_burst(now);
        }
        let mut bytes = 0;
        for _ in 0..PASS_PACKETS {
            let Some((frame, packet)) = self.next_packet(now, ring, stats) else {
                self.is_late = false;
                self.pace.on_caught_up(now, stream_bps);
                return None;
            };
            // While the link is unknown the wait is long: a frame that was begun is ended, unless it is a large one.
            let may_wait = packet == 0 || frame.count() > PASS_PACKETS || self.pace.is_known();
            if let Some(at) = self.pace.wait(now, stream_bps).filter(|_| may_wait) {
                self.is_held = true;
                self.next_pass = at.max(now + PASS_INTERVAL);
                return Some(self.next_pass);
            }
            let payload = frame.payload(packet)?;
            if packet == 0 {
                self.on_frame_begun(now, frame);
                self.sequence.forget_before(ring.oldest().unwrap_or(0));
            }
            let live = self.is_late.then(|| ring.live_edge(now, self.spread)).flatten();
            let numbered = self.sequence.number(frame, packet, live);
            let transport = self.pace.on_sent(now, payload.len() + OVERHEAD, stream_bps);
            let header = self.header(numbered, frame.is_last(packet), transport);
            write(out, Class::Video, header, numbered.index, &[payload]);
            self.source.count(payload.len());
            stats.count(payload.len());
            if frame.is_last(packet) {
                self.on_frame_sent(now);
            }
            self.advance(frame, packet);
            bytes += payload.len() as u64;
        }
        let took = Duration::from_micros(bytes * 8_000_000 / self.burst_bps(stream_bps));
        self.next_pass = now + PASS_INTERVAL.max(took);
        self.has_more(ring).then_some(self.next_pass)
    }

    /// A viewer whose link is slower than the stream falls behind without ever having been late at its beginning.
    fn on_frame_begun(&mut self, now: Instant, frame: &Packets) {
        self.frame_began = now;
        let age = now.saturating_duration_since(frame.arrival);
        if !self.is_late && age > LATE_MIN {
            self.is_late = true;
            // From its own time on, so that the stamps do not leap.
            self.spread = age;
        }
    }

    /// A keyframe is stamped when it begins to leave. Over a slow link that takes a while, and a player would hold back the
    /// next frame for as long, though it comes right behind: so the while is shared out over the frames that follow.
    fn on_frame_sent(&mut self, now: Instant) {
        let took = now.saturating_duration_since(self.frame_began);
        self.spread = if self.is_late { (self.spread + took) / 2 } else { Duration::ZERO };
    }

    fn burst_bps(&self, stream_bps: u64) -> u64 {
        (stream_bps * u64::from(self.burst_multiple)).max(BURST_BPS_MIN)
    }

    /// A NACK. Returns whether it is to be answered now; otherwise what it names waits, as far as there is room.
    pub(super) fn on_nack(&mut self, now: Instant, lost: Lost<'_>, crowd: &mut Crowd, random: f64) -> bool {
        self.resend.on_nack(now, crowd, random, lost.sequences())
    }

    pub(super) fn next_resend(&self) -> Option<Instant> {
        self.resend.due()
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<u16> {
        self.resend.take_due(now)
    }

    /// Sends these packets again, as far as that helps.
    pub(super) fn resend(
        &mut self,
        now: Instant,
        sequences: impl Iterator<Item = u16>,
        ring: &Ring,
        round_trip: Option<Duration>,
        stats: &mut ViewerStats,
        out: &mut Out<'_>,
    ) {
        let stream_bps = ring.rate_bps();
        self.pace.on_nack(now);
        for sequence in sequences {
            let found = self.sequence.find(sequence);
            let Some((source, index)) = found.filter(|(_, index)| *index >= self.given_up) else { continue };
            let Some((frame, packet)) = ring.packet(source) else { continue };
            let Some(payload) = frame.payload(packet) else { continue };
            if self.resend.is_repeat(now, sequence, round_trip) {
                continue;
            }
            if !self.resend.allows(now, payload.len() + OVERHEAD, stream_bps) {
                stats.resends_refused += 1;
                self.pace.on_loss(now);
                self.skip(ring, stats);
                continue;
            }
            self.resend.remember(now, sequence);
            let numbered = self.sequence.renumber(index, frame, packet);
            let transport = self.pace.on_sent(now, payload.len() + OVERHEAD, stream_bps);
            let header = self.header(numbered, frame.is_last(packet), transport);
            match &self.terms.rtx {
                // The very same packet: its bytes, and so its header, are those of the first time.
                None => write(out, Class::Video, header, index, &[payload]),
                Some(rtx) => {
                    let index = self.resend.next_index();
                    let header =
                        Header { payload_type: rtx.pt, ssrc: rtx.ssrc, sequence: low16(index), ..header };
                    write(out, Class::Video, header, index, &[&sequence.to_be_bytes(), payload]);
                }
            }
            stats.resent += 1;
            stats.count(payload.len());
        }
    }

    /// What is lost cannot be repaired, or what is sent comes too late: leaves out whatever follows, up to the next entry.
    pub(super) fn skip(&mut self, ring: &Ring, stats: &mut ViewerStats) {
        if let Cursor::At { .. } = self.cursor
            && let Some(newest) = ring.newest()
        {
            stats.skips += 1;
            self.replay.forget();
            self.cursor = Cursor::Keyframe { from: newest.number + 1 };
            self.given_up = self.sequence.next();
        }
    }

    /// The viewer reports when packets arrived.
    pub(super) fn on_arrivals(&mut self, now: Instant, feedback: &TransportFeedback<'_>, ring: &Ring) {
        let is_news = self.pace.on_arrivals(now, feedback, self.burst_bps(ring.rate_bps()));
        if is_news && std::mem::take(&mut self.is_held) {
            // What waited for this report may go.
            self.next_pass = self.next_pass.min(now);
        }
    }

    /// Begins with the group of pictures once more: the phone cannot be asked for a keyframe. Returns whether there is now
    /// something to send.
    pub(super) fn on_keyframe_request(&mut self, now: Instant, ring: &Ring) -> bool {
        let is_bursting = self.has_begun && self.has_more(ring) && now < self.began + BURST_GRACE;
        // What was lost last is missed by nobody until more comes.
        let has_arrived = self.source.arrived == Some(low16(self.sequence.next().wrapping_sub(1)));
        let has_all = self.has_begun && has_arrived && !self.has_more(ring);
        let has_all_since = has_all.then_some(self.began);
        let newest = ring.newest().map(|newest| newest.arrival);
        if is_bursting || !self.replay.on_request(now, newest, has_all_since) {
            return false;
        }
        self.pace.begin(now, 0);
        self.begin_again(now, ring)
    }

    /// Begins as if nothing had been sent before: the viewer could not read it. Returns whether there is now something to
    /// send.
    pub(super) fn restart(&mut self, now: Instant, ring: &Ring) -> bool {
        self.has_begun = false;
        self.replay.forget();
        self.pace.forget();
        self.begin_again(now, ring)
    }

    fn begin_again(&mut self, now: Instant, ring: &Ring) -> bool {
        if let Some(keyframe) = ring.keyframe().or(ring.still()) {
            let _ = self.begin(now, ring, keyframe);
        }
        self.has_more(ring)
    }

    /// The packet at the cursor, if the stream has it; moves the cursor over what is gone.
    fn next_packet<'r>(
        &mut self,
        now: Instant,
        ring: &'r Ring,
        stats: &mut ViewerStats,
    ) -> Option<(&'r Arc<Packets>, usize)> {
        loop {
            match self.cursor {
                Cursor::At { frame, packet } => {
                    if packet == 0 && self.is_overtaken(now, frame, ring) {
                        stats.skips += 1;
                        self.cursor = Cursor::Keyframe { from: frame };
                        continue;
                    }
                    if let Some(found) = ring.frame(frame) {
                        return Some((found, packet));
                    }
                    if ring.newest().is_none_or(|newest| newest.number < frame) {
                        return None;
                    }
                    // The frame was dropped before it got here, or this viewer was too slow for the ring.
                    stats.skips += 1;
                    self.cursor = Cursor::Keyframe { from: frame };
                }
                Cursor::Keyframe { from } => match self.entry(ring, from)? {
                    Entry::Keyframe(first) => self.begin(now, ring, first)?,
                    Entry::RecoveryPoint(first) => {
                        self.sequence.begin(ring.frame(first)?.first);
                        self.cursor = Cursor::At { frame: first, packet: 0 };
                    }
                },
            }
        }
    }

    /// Where a viewer goes on that waits for a keyframe.
    fn entry(&self, ring: &Ring, from: u64) -> Option<Entry> {
        let keyframe = ring.keyframe().filter(|keyframe| *keyframe >= from);
        if self.has_begun {
            let recovery_point = || ring.recovery_point(from).map(Entry::RecoveryPoint);
            return keyframe.map(Entry::Keyframe).or_else(recovery_point);
        }
        keyframe.or(ring.still()).map(Entry::Keyframe)
    }

    /// A newer keyframe is there and the way to it is long.
    fn is_overtaken(&self, now: Instant, frame: u64, ring: &Ring) -> bool {
        let Some(ahead) = ring.keyframe().and_then(|keyframe| keyframe.checked_sub(frame)) else {
            return false;
        };
        ahead > LAG_FRAMES_MAX
            || ahead > LAG_FRAMES_SLOW_MAX
                && self.is_late
                && self.pace.is_slower_than(now, ring.rate_bps().saturating_mul(3) / 2)
    }

    /// Sets out at the keyframe `first`, with everything after it or with a jump to the next keyframe behind it.
    fn begin(&mut self, now: Instant, ring: &Ring, first: u64) -> Option<()> {
        let whole = ring.group_bytes() <= BURST_BYTES_MAX && ring.still() != Some(first);
        let keyframe = ring.frame(first)?;
        self.is_late = ring.newest().is_some_and(|newest| newest.number > first);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.replay.on_first_frame(now);
            self.pace.begin(now, keyframe.len_bytes() + keyframe.count() * OVERHEAD);
        }
        self.began = now;
        self.sequence.begin(keyframe.first);
        self.still = (!whole).then_some(first);
        self.cursor = Cursor::At { frame: first, packet: 0 };
        Some(())
    }

    fn advance(&mut self, frame: &Packets, packet: usize) {
        self.cursor = if frame.is_last(packet) && self.still == Some(frame.number) {
            Cursor::Keyframe { from: frame.number + 1 }
        } else if frame.is_last(packet) {
            Cursor::At { frame: frame.number + 1, packet: 0 }
        } else {
            Cursor::At { frame: frame.number, packet: packet + 1 }
        };
    }

    fn has_more(&self, ring: &Ring) -> bool {
        match self.cursor {
            Cursor::At { frame, .. } => ring.newest().is_some_and(|newest| newest.number >= frame),
            Cursor::Keyframe { from } => self.entry(ring, from).is_some(),
        }
    }

    fn header(&self, numbered: Numbered, marker: bool, transport: Option<TransportNumber>) -> Header {
        Header {
            payload_type: self.terms.pt,
            marker,
            sequence: low16(numbered.index),
            timestamp: numbered.timestamp,
            ssrc: self.terms.ssrc,
            playout_delay: self.playout_delay,
            transport,
        }
    }
}
