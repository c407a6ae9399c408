//! How one viewer numbers and stamps the packets of a stream.
//!
//! Every viewer sees sequence numbers without holes although it joins late and may skip frames, and the same packet must get
//! the same number and stamp when it is sent again. So the mapping from the stream's packet index is kept as a short list of
//! *runs*, each with a constant distance; a new run begins where frames were skipped or repeated. Frames that are sent later
//! than they were made are stamped with the live timeline of the moment at which they leave, and those stamps are kept.
use std::collections::VecDeque;

use rtp::Packets;

/// Runs that are remembered. A viewer that skips or repeats this often within the ring's few seconds loses the
/// ability to have the oldest of them retransmitted, nothing else.
const RUNS_MAX: usize = 16;
/// Stamps that are remembered: more than a ring has frames.
const STAMPS_MAX: usize = 2_048;
/// The clock of video in RTP (RFC 6184, section 8.2.1).
const VIDEO_CLOCK_HZ: u32 = 90_000;

/// A packet as one viewer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    /// Rollover counter and sequence number, as SRTP counts.
    pub(crate) index: u64,
    /// The RTP timestamp.
    pub(crate) timestamp: u32,
}

/// The numbering of one viewer's video.
#[derive(Debug)]
pub(crate) struct Sequence {
    runs: VecDeque<Run>,
    stamps: VecDeque<Stamp>,
    /// Packets before this one are not found any more, since the stamp of one of them had to be forgotten: sent again with
    /// another stamp they would be other bytes under the same nonce.
    floor: u64,
    next: u64,
    /// Added to every timestamp, so that viewers cannot be told apart from a stream's start (RFC 3550, section 5.1).
    offset: u32,
    /// The stamp of the frame that is being sent, unwrapped and without the offset; the largest so far.
    latest_ticks: Option<i64>,
}

/// Packets in a row with one distance between the stream's index and the viewer's.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The viewer's index of its first packet.
    first: u64,
    /// The stream's index of the same packet.
    source: u64,
}

/// A frame whose stamp is not its own time.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    /// The viewer's index of its first packet.
    first: u64,
    /// Its number in the stream.
    frame: u64,
    ticks: i64,
}

impl Sequence {
    pub(crate) fn new(start: u16, offset: u32) -> Self {
        Self {
            runs: VecDeque::with_capacity(4),
            stamps: VecDeque::new(),
            floor: 0,
            next: u64::from(start),
            offset,
            latest_ticks: None,
        }
    }

    /// From here on packet `source` of the stream is sent, and those after it.
    pub(crate) fn begin(&mut self, source: u64) {
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { first: self.next, source });
    }

    /// The number and stamp of the next packet, which is packet `place` of `frame`. A frame that is sent late is stamped
    /// with `live`, the moment on the live timeline: to the player it is as old as every other, so that it shows the
    /// newest at once instead of playing the past.
    #[inline]
    pub(crate) fn number(
        &mut self,
        frame: &Packets,
        place: usize,
        live: Option<media::MediaTime>,
    ) -> Numbered {
        let index = self.next;
        self.next += 1;
        let ticks = match self.latest_ticks.filter(|_| place > 0) {
            Some(current) => current,
            None => {
                let natural = frame.time.ticks(VIDEO_CLOCK_HZ);
                let wanted = live.map_or(natural, |live| live.ticks(VIDEO_CLOCK_HZ));
                // Time only goes forward, also after a frame that was stamped later than it was made.
                let ticks = self.latest_ticks.map_or(wanted, |latest| wanted.max(latest + 1));
                if ticks != natural {
                    if self.stamps.len() == STAMPS_MAX {
                        self.stamps.pop_front();
                        self.floor = self.stamps.front().map_or(index, |stamp| stamp.first);
                    }
                    self.stamps.push_back(Stamp { first: index, frame: frame.number, ticks });
                }
                ticks
            }
        };
        self.latest_ticks = Some(ticks);
        Numbered { index, timestamp: self.stamp(ticks) }
    }

    /// Which packet of the stream was sent with this sequence number: its index in the stream and in the viewer's
    /// count. `None` when it was never sent or is forgotten.
    pub(crate) fn find(&self, sequence: u16) -> Option<(u64, u64)> {
        let newest = self.next.checked_sub(1)?;
        let behind = low16(newest).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind)).filter(|index| *index >= self.floor)?;
        let run = self.runs.iter().rev().find(|run| run.first <= index)?;
        Some((run.source + (index - run.first), index))
    }

    /// The viewer's index of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The stamp that packet `index` of the viewer's count had, which is packet `place` of `frame`.
    pub(crate) fn renumber(&self, index: u64, frame: &Packets, place: usize) -> Numbered {
        let first = index.saturating_sub(place as u64);
        let stamped = self.stamps.binary_search_by_key(&first, |stamp| stamp.first).ok();
        let ticks = stamped.and_then(|at| self.stamps.get(at)).map(|stamp| stamp.ticks);
        Numbered { index, timestamp: self.stamp(ticks.unwrap_or_else(|| frame.time.ticks(VIDEO_CLOCK_HZ))) }
    }

    /// Frames before this one are not sent again.
    pub(crate) fn forget_before(&mut self, frame: u64) {
        if self.stamps.is_empty() {
            return;
        }
        while self.stamps.front().is_some_and(|stamp| stamp.frame < frame) {
            self.stamps.pop_front();
        }
        if self.stamps.is_empty() {
            self.stamps = VecDeque::new();
        }
    }

    /// The stamp of a moment on the live timeline.
    pub(crate) fn timestamp_at(&self, time: media::MediaTime) -> u32 {
        self.stamp(time.ticks(VIDEO_CLOCK_HZ))
    }

    fn stamp(&self, ticks: i64) -> u32 {
        low32(ticks).wrapping_add(self.offset)
    }
}

/// The 16 bits of a packet index that travel (RFC 3550, section 5.1).
pub(crate) fn low16(index: u64) -> u16 {
    let [.., high, low] = index.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The 32 bits of an unwrapped timestamp that travel.
pub(crate) fn low32(ticks: i64) -> u32 {
    let [.., b0, b1, b2, b3] = ticks.to_be_bytes();
    u32::from_be_bytes([b0, b1, b2, b3])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use media::{MediaTime, VideoConfig, VideoFrame};

    use super::*;

    /// Frames of one packet each, 40 ms apart.
    fn frames(count: usize) -> Vec<Packets> {
        let mut packetizer = rtp::h264::Packetizer::default();
        let config = Arc::new(VideoConfig {
            sps: Bytes::from_static(&[0x67]),
            pps: vec![],
            profile_level_id: [0; 3],
            width: 2,
            height: 2,
        });
        (0..count)
            .map(|n| {
                let frame = VideoFrame {
                    time: MediaTime::from_millis(40 * i64::try_from(n).unwrap()),
                    keyframe: false,
                    recovery_point: false,
                    config: Arc::clone(&config),
                    nals: Arc::from([Bytes::from_static(&[0x41, 1])]),
                    arrival: Instant::now(),
                };
                packetizer.packetize(&frame).unwrap()
            })
            .collect()
    }

    #[test]
    fn late_frames_are_stamped_with_the_moment_they_leave_and_time_goes_forward() {
        let frames = frames(6);
        let mut sequence = Sequence::new(65_534, 0);
        sequence.begin(1);
        let live = |ms| Some(MediaTime::from_millis(ms));
        let mut sent = Vec::new();
        // Three frames of the past leave at 163 to 165 ms, the newest in the same moment, the next when it is made.
        for (frame, live) in frames[1..].iter().zip([live(163), live(163), live(164), live(165), None]) {
            sent.push(sequence.number(frame, 0, live));
        }
        assert_eq!(
            sent.iter().map(|n| n.index).collect::<Vec<_>>(),
            [65_534, 65_535, 65_536, 65_537, 65_538]
        );
        let ticks = |ms: u32| ms * 90;
        assert_eq!(
            sent.iter().map(|n| n.timestamp).collect::<Vec<_>>(),
            [ticks(163), ticks(163) + 1, ticks(164), ticks(165), ticks(200)]
        );
    }

    #[test]
    fn a_frame_that_overtakes_the_live_timeline_waits_for_it() {
        let frames = frames(3);
        let mut sequence = Sequence::new(0, 0);
        sequence.begin(0);
        assert_eq!(sequence.number(&frames[0], 0, Some(MediaTime::from_millis(41))).timestamp, 41 * 90);
        let next = sequence.number(&frames[1], 0, None);
        assert_eq!(next.timestamp, 41 * 90 + 1, "40 ms would go backwards");
        assert_eq!(sequence.renumber(next.index, &frames[1], 0), next);
        assert_eq!(sequence.number(&frames[2], 0, None).timestamp, 80 * 90);
    }

    #[test]
    fn a_packet_that_is_sent_again_has_its_first_number_and_stamp() {
        let frames = frames(40);
        let mut sequence = Sequence::new(65_530, 77);
        let mut sent: Vec<(u64, Numbered)> = Vec::new();
        let mut send = |sequence: &mut Sequence, range: std::ops::Range<usize>, live: bool| {
            sequence.begin(frames[range.start].first);
            for frame in &frames[range] {
                let live = live.then(|| frame.time + MediaTime::from_millis(900));
                sent.push((frame.first, sequence.number(frame, 0, live)));
            }
        };
        send(&mut sequence, 2..15, true);
        send(&mut sequence, 20..30, true);
        send(&mut sequence, 20..30, false);
        send(&mut sequence, 30..33, false);
        for (source, numbered) in &sent {
            let (found, index) = sequence.find(low16(numbered.index)).unwrap();
            assert_eq!((found, index), (*source, numbered.index));
            let frame = frames.iter().find(|frame| frame.first == found).unwrap();
            assert_eq!(sequence.renumber(index, frame, 0), *numbered);
        }
        assert!(sent.is_sorted_by_key(|(_, numbered)| numbered.index), "no number is used twice");
        let stamps: Vec<_> = sent.iter().map(|(_, numbered)| numbered.timestamp).collect();
        assert!(stamps.is_sorted_by(|a, b| a < b), "time goes forward: {stamps:?}");
    }

    #[test]
    fn numbers_that_were_never_sent_are_not_found() {
        let frames = frames(3);
        let mut sequence = Sequence::new(100, 0);
        assert_eq!(sequence.find(100), None);
        sequence.begin(0);
        for frame in &frames {
            sequence.number(frame, 0, None);
        }
        assert!(sequence.find(102).is_some());
        assert_eq!(sequence.find(103), None);
        assert_eq!(sequence.find(99), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_with_its_frames() {
        let frames = frames(20);
        let mut sequence = Sequence::new(0, 0);
        for _ in 0..10_000 {
            sequence.begin(0);
            sequence.number(&frames[0], 0, Some(MediaTime::from_millis(5)));
        }
        assert_eq!((sequence.runs.len(), sequence.stamps.len()), (RUNS_MAX, STAMPS_MAX));
        sequence.forget_before(0);
        assert_eq!(sequence.stamps.len(), STAMPS_MAX);
        sequence.number(&frames[7], 0, Some(MediaTime::from_millis(9_000)));
        sequence.forget_before(7);
        assert_eq!(sequence.stamps.len(), 1);
        sequence.forget_before(8);
        assert_eq!(sequence.stamps.capacity(), 0);
    }
}
