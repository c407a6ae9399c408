//! The recent packets of one stream on one shard: what late viewers start from and lost packets are sent again from.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::MediaTime;
use rtp::{HEADER_LEN, Packets};

/// Video is kept for retransmission at least this long, whatever the distance of keyframes.
const SPAN_MIN: MediaTime = MediaTime::from_millis(2_000);
/// Bytes of payload that one ring keeps at most: a 10 s GOP at 12 Mbit/s. The packets are shared with the other shards.
const BYTES_MAX: usize = 16 << 20;
/// Frames that one ring keeps at most: 30 s at 60 frames a second.
const FRAMES_MAX: usize = 1800;

/// Bytes that a packet has beside its payload: extensions, the retransmission's number, the tag, UDP and IP.
pub(crate) const OVERHEAD: usize = HEADER_LEN + 8 + 2 + 16 + 8 + 20;
/// A rate is told from this much video at least.
const RATE_SPAN_MIN_US: u64 = 500_000;
/// The live timeline goes on for this long without a frame: longer means that the publisher is away.
const LIVE_EDGE_MAX: Duration = Duration::from_millis(100);
/// More of the stream than this at once is a burst, if it is also more than is sent before a link is known: what a publisher, or the
/// way from it, held back.
const BURST_MIN: MediaTime = MediaTime::from_millis(200);
const BURST_BITS_MIN: u64 = 8 * (40 << 10);
const BURST_MAX: MediaTime = MediaTime::from_millis(2_000);
/// A burst is over when no queue is left of it on a link that carries this share of the stream, in percent.
const BURST_DRAIN_PERCENT: i64 = 150;
/// Bits a second of a phone's 720p.
const VIDEO_RATE_USUAL_BPS: u64 = 2_500_000;

/// Frames of video in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    frames: VecDeque<Arc<Packets>>,
    bytes: usize,
    packets: usize,
    /// The number of the newest keyframe, if it is among the frames.
    keyframe: Option<u64>,
    group_bytes: usize,
    /// The newest keyframe, once its group has outgrown the ring. No decoder begins without one.
    still: Option<Arc<Packets>>,
    /// The numbers of the last recovery point and the one before it, if they are among the frames: a whole refresh lies
    /// between them.
    recovery_points: VecDeque<u64>,
    /// How much of the stream such a link would hold in its queue.
    burst: MediaTime,
}

impl Ring {
    pub(crate) fn push(&mut self, frame: Arc<Packets>) {
        self.follow_bursts(&frame);
        if frame.keyframe {
            self.keyframe = Some(frame.number);
            self.group_bytes = 0;
            self.still = None;
            self.recovery_points.clear();
        } else if frame.recovery_point {
            if self.recovery_points.len() == 2 {
                self.recovery_points.pop_front();
            }
            self.recovery_points.push_back(frame.number);
        }
        self.group_bytes += frame.len_bytes();
        self.bytes += frame.len_bytes();
        self.packets += frame.count();
        self.frames.push_back(frame);
        while self.must_shrink() {
            let Some(front) = self.frames.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(front.len_bytes());
            self.packets = self.packets.saturating_sub(front.count());
            if self.recovery_points.front() == Some(&front.number) {
                self.recovery_points.pop_front();
            }
            if self.keyframe == Some(front.number) {
                self.keyframe = None;
                self.still = Some(front);
            }
        }
    }

    fn follow_bursts(&mut self, frame: &Packets) {
        let Some(last) = self.frames.back() else { return };
        let came = frame.arrival.saturating_duration_since(last.arrival).min(Duration::from_secs(10));
        let drained = i64::try_from(came.as_micros()).unwrap_or(i64::MAX) * BURST_DRAIN_PERCENT / 100;
        let burst = self.burst + (frame.time - last.time) - MediaTime::from_micros(drained);
        self.burst = burst.clamp(MediaTime::ZERO, BURST_MAX);
    }

    /// Whether more has come at once than a link takes that carries half as much again as the stream.
    #[inline]
    pub(crate) fn is_burst(&self, stream_bps: u64) -> bool {
        let micros = || u64::try_from(self.burst.as_micros()).unwrap_or(0);
        self.burst >= BURST_MIN && micros().saturating_mul(stream_bps) / 1_000_000 > BURST_BITS_MIN
    }

    fn must_shrink(&self) -> bool {
        let (Some(oldest), Some(newest)) = (self.frames.front(), self.frames.back()) else { return false };
        let over = self.bytes > BYTES_MAX || self.frames.len() > FRAMES_MAX;
        let first = self.keyframe.or(self.recovery_points.front().copied());
        let is_needed = first.is_some_and(|first| oldest.number >= first);
        over || (!is_needed && newest.time - oldest.time > SPAN_MIN)
    }

    /// The frame with this number.
    #[inline]
    pub(crate) fn frame(&self, number: u64) -> Option<&Arc<Packets>> {
        let behind = self.frames.back()?.number.checked_sub(number)?;
        // Numbers are in a row, but for frames that were dropped before they got here.
        let at = usize::try_from(behind).ok().and_then(|behind| self.frames.len().checked_sub(behind + 1));
        let found = at.and_then(|at| self.frames.get(at)).filter(|frame| frame.number == number);
        found.or_else(|| self.search(number))
    }

    #[cold]
    fn search(&self, number: u64) -> Option<&Arc<Packets>> {
        let at = self.frames.partition_point(|frame| frame.number < number);
        let found = self.frames.get(at).filter(|frame| frame.number == number);
        found.or(self.still.as_ref().filter(|still| still.number == number))
    }

    /// The frame that holds the packet with this index, and the packet's place in it.
    pub(crate) fn packet(&self, index: u64) -> Option<(&Arc<Packets>, usize)> {
        let after = self.frames.partition_point(|frame| frame.first <= index);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        let place = usize::try_from(index.checked_sub(frame.first)?).ok()?;
        (place < frame.count()).then_some((frame, place))
    }

    /// The number of the oldest frame that can be sent again.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.number)
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Packets>> {
        self.frames.back()
    }

    /// The newest keyframe without the frames behind it, when its group has outgrown the ring.
    pub(crate) fn still(&self) -> Option<u64> {
        self.still.as_ref().map(|still| still.number)
    }

    /// Where a viewer that has seen a keyframe goes on when none is to be expected: at a recovery point from this frame on
    /// (`docs/decisions/0007-recovery-points.md`).
    pub(crate) fn recovery_point(&self, from: u64) -> Option<u64> {
        let mut known = self.recovery_points.iter().copied();
        known.find(|number| *number >= from).filter(|_| self.keyframe.is_none())
    }

    /// The number of the newest keyframe, if its group is here.
    pub(crate) fn keyframe(&self) -> Option<u64> {
        self.keyframe
    }

    /// Bits a second on the wire; what a lesson usually has while there is too little to tell.
    pub(crate) fn rate_bps(&self) -> u64 {
        let span = self.frames.front().zip(self.frames.back()).map(|(first, last)| last.time - first.time);
        let span_us = span.and_then(|span| u64::try_from(span.as_micros()).ok()).unwrap_or(0);
        if span_us < RATE_SPAN_MIN_US {
            return VIDEO_RATE_USUAL_BPS;
        }
        ((self.bytes + self.packets * OVERHEAD) as u64).saturating_mul(8_000_000) / span_us
    }

    /// This moment on the timeline of the stream's timestamps, less `spread`.
    pub(crate) fn live_edge(&self, now: Instant, spread: Duration) -> Option<MediaTime> {
        let newest = self.newest()?;
        let micros = |time: Duration| MediaTime::from_micros(i64::try_from(time.as_micros()).unwrap_or(0));
        let since = now.saturating_duration_since(newest.arrival).min(LIVE_EDGE_MAX);
        Some(newest.time + micros(since) - micros(spread))
    }

    /// Bytes of payload from the newest keyframe to the live edge.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes
    }
}
