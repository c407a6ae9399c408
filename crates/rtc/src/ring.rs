//! The recent packets of one stream on one shard: what late viewers start from and lost packets are sent again from.
use std::collections::VecDeque;
use std::sync::Arc;

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
/// Bits a second of a phone's 720p.
const RATE_USUAL_BPS: u64 = 2_500_000;

/// Frames of video in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    frames: VecDeque<Arc<Packets>>,
    bytes: usize,
    packets: usize,
    /// The number of the newest keyframe, if it is still here.
    keyframe: Option<u64>,
    group_bytes: usize,
}

impl Ring {
    pub(crate) fn push(&mut self, frame: Arc<Packets>) {
        if frame.keyframe {
            self.keyframe = Some(frame.number);
            self.group_bytes = 0;
        }
        self.group_bytes += frame.len_bytes();
        self.bytes += frame.len_bytes();
        self.packets += frame.count();
        self.frames.push_back(frame);
        while self.must_shrink() {
            let Some(front) = self.frames.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(front.len_bytes());
            self.packets = self.packets.saturating_sub(front.count());
            if self.keyframe == Some(front.number) {
                self.keyframe = None;
            }
        }
    }

    fn must_shrink(&self) -> bool {
        let (Some(oldest), Some(newest)) = (self.frames.front(), self.frames.back()) else { return false };
        let over = self.bytes > BYTES_MAX || self.frames.len() > FRAMES_MAX;
        let is_needed = self.keyframe.is_some_and(|keyframe| oldest.number >= keyframe);
        over || (!is_needed && newest.time - oldest.time > SPAN_MIN)
    }

    /// The frame with this number.
    pub(crate) fn frame(&self, number: u64) -> Option<&Arc<Packets>> {
        let at = self.frames.partition_point(|frame| frame.number < number);
        self.frames.get(at).filter(|frame| frame.number == number)
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

    /// The number of the newest keyframe.
    pub(crate) fn keyframe(&self) -> Option<u64> {
        self.keyframe
    }

    /// Bits a second on the wire; what a lesson usually has while there is too little to tell.
    pub(crate) fn rate_bps(&self) -> u64 {
        let span = self.frames.front().zip(self.frames.back()).map(|(first, last)| last.time - first.time);
        let span_us = span.and_then(|span| u64::try_from(span.as_micros()).ok()).unwrap_or(0);
        if span_us < RATE_SPAN_MIN_US {
            return RATE_USUAL_BPS;
        }
        ((self.bytes + self.packets * OVERHEAD) as u64).saturating_mul(8_000_000) / span_us
    }

    /// Bytes of payload from the newest keyframe to the live edge.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes
    }
}
