//! How one viewer numbers and stamps the packets of a stream.
//!
//! Every viewer sees sequence numbers without holes although it joins late and may skip frames, and the same
//! packet must get the same number and stamp when it is sent again. So the mapping from the stream's packet index is
//! kept as a short list of *runs*, each with a constant distance; a new run begins where frames were skipped or
//! repeated.
use std::collections::VecDeque;

use rtp::Packets;

/// Runs that are remembered. A viewer that skips or repeats this often within the ring's few seconds loses the
/// ability to have the oldest of them retransmitted, nothing else.
const RUNS_MAX: usize = 16;
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
    next: u64,
    /// Added to every timestamp, so that viewers cannot be told apart from a stream's start (RFC 3550, section 5.1).
    offset: u32,
    /// The largest timestamp so far, unwrapped and without the offset.
    latest_ticks: Option<i64>,
}

/// Packets in a row with one distance between the stream's index and the viewer's.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The viewer's index of its first packet.
    first: u64,
    /// The stream's index of the same packet.
    source: u64,
    stretch: Stretch,
}

/// Frames that are sent faster than they were made get stamps close together, which end at the live timeline: the
/// player shows the newest at once instead of playing the past.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// The last frame that is stamped so.
    last: u64,
    /// The stamp of that frame.
    end_ticks: i64,
    /// Ticks between two frames.
    step_ticks: i64,
}

impl Stretch {
    fn ticks(&self, frame: u64) -> Option<i64> {
        let before_end = i64::try_from(self.last.checked_sub(frame)?).ok()?;
        Some(self.end_ticks - before_end * self.step_ticks)
    }
}

impl Sequence {
    pub(crate) fn new(start: u16, offset: u32) -> Self {
        Self { runs: VecDeque::with_capacity(4), next: u64::from(start), offset, latest_ticks: None }
    }

    /// From here on packet `source` is sent, and the frames up to `newest` in a burst: 1 ms apart when the viewer has
    /// nothing yet, closer when frames are repeated in the middle of the stream.
    pub(crate) fn burst(&mut self, source: u64, first: u64, newest: &Packets) {
        let frames = i64::try_from(newest.number.saturating_sub(first)).unwrap_or(i64::MAX / 1000) + 1;
        let natural = newest.time.ticks(VIDEO_CLOCK_HZ);
        let stretch = match self.latest_ticks {
            Some(latest) if natural <= latest + frames => {
                // Everything has been shown before. Fit in before the next live frame, 8 ms at most.
                let step_ticks = (720 / frames).max(1);
                Stretch { last: newest.number, end_ticks: latest + frames * step_ticks, step_ticks }
            }
            Some(latest) => {
                let step_ticks = ((natural - latest) / (frames + 1)).clamp(1, 90);
                Stretch { last: newest.number, end_ticks: natural, step_ticks }
            }
            None => Stretch { last: newest.number, end_ticks: natural, step_ticks: 90 },
        };
        if self.runs.len() == RUNS_MAX {
            self.runs.pop_front();
        }
        self.runs.push_back(Run { first: self.next, source, stretch });
    }

    /// The number and stamp of the next packet, which is one of `frame`.
    pub(crate) fn number(&mut self, frame: &Packets) -> Numbered {
        let ticks = ticks(self.runs.back(), frame);
        self.latest_ticks = Some(self.latest_ticks.map_or(ticks, |latest| latest.max(ticks)));
        let index = self.next;
        self.next += 1;
        Numbered { index, timestamp: self.stamp(ticks) }
    }

    /// Which packet of the stream was sent with this sequence number: its index in the stream and in the viewer's
    /// count. `None` when it was never sent or is forgotten.
    pub(crate) fn find(&self, sequence: u16) -> Option<(u64, u64)> {
        let newest = self.next.checked_sub(1)?;
        let behind = low16(newest).wrapping_sub(sequence);
        let index = newest.checked_sub(u64::from(behind))?;
        let run = self.runs.iter().rev().find(|run| run.first <= index)?;
        Some((run.source + (index - run.first), index))
    }

    /// The stamp that packet `index` of the viewer's count had, which is one of `frame`.
    pub(crate) fn renumber(&self, index: u64, frame: &Packets) -> Numbered {
        let run = self.runs.iter().rev().find(|run| run.first <= index);
        Numbered { index, timestamp: self.stamp(ticks(run, frame)) }
    }

    /// The stamp of a moment on the live timeline.
    pub(crate) fn timestamp_at(&self, time: media::MediaTime) -> u32 {
        self.stamp(time.ticks(VIDEO_CLOCK_HZ))
    }

    fn stamp(&self, ticks: i64) -> u32 {
        low32(ticks).wrapping_add(self.offset)
    }
}

fn ticks(run: Option<&Run>, frame: &Packets) -> i64 {
    run.and_then(|run| run.stretch.ticks(frame.number)).unwrap_or_else(|| frame.time.ticks(VIDEO_CLOCK_HZ))
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
    fn a_burst_is_stamped_a_millisecond_apart_and_ends_at_the_live_timeline() {
        let frames = frames(6);
        let mut sequence = Sequence::new(65_534, 0);
        sequence.burst(1, 1, &frames[4]);
        let numbered: Vec<_> = frames[1..].iter().map(|frame| sequence.number(frame)).collect();
        assert_eq!(
            numbered.iter().map(|n| n.index).collect::<Vec<_>>(),
            [65_534, 65_535, 65_536, 65_537, 65_538]
        );
        let live = 4 * 3600;
        assert_eq!(
            numbered.iter().map(|n| n.timestamp).collect::<Vec<_>>(),
            [live - 270, live - 180, live - 90, live, live + 3600]
        );
    }

    #[test]
    fn a_packet_that_is_sent_again_has_its_first_number_and_stamp() {
        let frames = frames(40);
        let mut sequence = Sequence::new(65_530, 77);
        sequence.burst(2, 2, &frames[9]);
        let mut sent: Vec<(u64, Numbered)> = Vec::new();
        for frame in &frames[2..15] {
            sent.push((frame.first, sequence.number(frame)));
        }
        sequence.burst(20, 20, &frames[20]);
        for frame in &frames[20..30] {
            sent.push((frame.first, sequence.number(frame)));
        }
        sequence.burst(20, 20, &frames[29]);
        for frame in &frames[20..33] {
            sent.push((frame.first, sequence.number(frame)));
        }
        for (source, numbered) in &sent {
            let (found, index) = sequence.find(low16(numbered.index)).unwrap();
            assert_eq!((found, index), (*source, numbered.index));
            let frame = frames.iter().find(|frame| frame.first == found).unwrap();
            assert_eq!(sequence.renumber(index, frame), *numbered);
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
        sequence.burst(0, 0, &frames[0]);
        for frame in &frames {
            sequence.number(frame);
        }
        assert!(sequence.find(102).is_some());
        assert_eq!(sequence.find(103), None);
        assert_eq!(sequence.find(99), None);
    }

    #[test]
    fn many_jumps_are_bounded() {
        let frames = frames(1);
        let mut sequence = Sequence::new(0, 0);
        for _ in 0..10_000 {
            sequence.burst(0, 0, &frames[0]);
            sequence.number(&frames[0]);
        }
        assert_eq!(sequence.runs.len(), RUNS_MAX);
    }
}
