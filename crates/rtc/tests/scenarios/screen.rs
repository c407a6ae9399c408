//! What a viewer sees and hears: packets are put together to frames, and frames are judged.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::lesson::{RECOVERY, SPS, number_of};

/// A whole keyframe behind a gap is gone on with when the gap has lasted this long.
const PATIENCE: Duration = Duration::from_millis(250);
/// A jitter buffer remembers lateness this long, a keyframe's at least until the next, and holds back no longer than that.
const JITTER_MEMORY: Duration = Duration::from_secs(12);
const JITTER_MAX: Duration = Duration::from_millis(400);

/// One RTP packet, opened.
#[derive(Clone, Debug)]
pub(crate) struct Rtp {
    /// Sequence number with its rollovers.
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload: Vec<u8>,
}

/// A frame that was shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    pub(crate) number: u64,
    pub(crate) is_keyframe: bool,
    pub(crate) timestamp: u32,
    /// When its last packet was there, and when a player shows it.
    pub(crate) whole: Instant,
    pub(crate) at: Instant,
    /// The last byte of the parameter set of its group.
    pub(crate) sps: u8,
}

#[derive(Debug, Default)]
pub(crate) struct Screen {
    packets: BTreeMap<u64, (Instant, Rtp)>,
    next: Option<u64>,
    gap_since: Option<Instant>,
    broken: bool,
    last: Option<u64>,
    sps: u8,
    lateness: VecDeque<(Instant, Duration)>,
    /// Arrival and stamp of the first frame.
    zero: Option<(Instant, u32)>,
    pub(crate) shown: Vec<Shown>,
    /// Frames that could not be decoded: a packet was missing, or a frame that they build on.
    pub(crate) damaged: Vec<Instant>,
    /// Frames that the node began to send and did not end.
    pub(crate) cut: usize,
    pub(crate) audio: Vec<(u64, Instant, u32)>,
}

impl Screen {
    pub(crate) fn on_audio(&mut self, now: Instant, packet: &Rtp) {
        let number = number_of(&packet.payload).expect("audio arrives undamaged");
        self.audio.push((number, now, packet.timestamp));
    }

    pub(crate) fn on_video(&mut self, now: Instant, packet: Rtp) {
        if self.next.is_some_and(|next| packet.index < next) {
            return;
        }
        let newest = self.packets.last_key_value().map(|(at, _)| *at);
        let follows = newest.is_some_and(|newest| newest + 1 == packet.index);
        let is_amid_a_frame = follows && !packet.marker && self.gap_since.is_none() && self.next.is_some();
        self.packets.insert(packet.index, (now, packet));
        if is_amid_a_frame {
            return;
        }
        if self.next.is_none() {
            self.next = self.packets.iter().find(|(_, (_, packet))| begins_group(packet)).map(|(at, _)| *at);
            // Whatever was before it cannot be shown.
            self.packets = self.next.map_or_else(BTreeMap::new, |next| self.packets.split_off(&next));
        }
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        while let Some(next) = self.next {
            match self.frame_at(next) {
                Some(end) => {
                    let packets: Vec<Rtp> = (next..=end)
                        .filter_map(|at| self.packets.remove(&at))
                        .map(|(_, packet)| packet)
                        .collect();
                    self.gap_since = None;
                    self.next = Some(end + 1);
                    self.judge(now, &packets);
                }
                None => {
                    // Something is missing, or has not come yet.
                    let newest = self.packets.last_key_value().map(|(at, _)| *at);
                    let has_gap = newest.is_some_and(|newest| newest - next >= self.packets.len() as u64);
                    if !has_gap {
                        self.gap_since = None;
                        return;
                    }
                    let since = *self.gap_since.get_or_insert(now);
                    let keyframe = self
                        .packets
                        .iter()
                        .skip(1)
                        .rev()
                        .find(|(at, (_, packet))| begins_group(packet) && self.frame_at(**at).is_some());
                    let Some(keyframe) = keyframe.map(|(at, _)| *at).filter(|_| now - since > PATIENCE)
                    else {
                        return;
                    };
                    let kept = self.packets.split_off(&keyframe);
                    let mut stamps: Vec<u32> =
                        self.packets.values().map(|(_, packet)| packet.timestamp).collect();
                    stamps.dedup();
                    if self.last.is_some() {
                        self.damaged.extend(std::iter::repeat_n(now, stamps.len().max(1)));
                    }
                    (self.packets, self.next, self.gap_since) = (kept, Some(keyframe), None);
                }
            }
        }
    }

    /// The last packet of the frame that begins at `first`, if all are there.
    fn frame_at(&self, first: u64) -> Option<u64> {
        let stamp = self.packets.get(&first)?.1.timestamp;
        for (expected, (at, (_, packet))) in (first..).zip(self.packets.range(first..)) {
            if expected != *at {
                return None;
            }
            if packet.timestamp != stamp {
                // Cut off: the sender has given it up.
                return Some(*at - 1);
            }
            if packet.marker {
                return Some(*at);
            }
        }
        None
    }

    fn judge(&mut self, now: Instant, packets: &[Rtp]) {
        if packets.last().is_none_or(|last| !last.marker) {
            self.cut += 1;
            self.broken = true;
            return;
        }
        let (number, first, sps) = decode(packets);
        let is_keyframe = sps.is_some();
        let follows = self.last.is_some_and(|last| last + 1 == number);
        // With any keyframe before it, a decoder is right again once a refresh has passed.
        let recovers = first == RECOVERY && self.last.is_some();
        if !is_keyframe && !recovers && (self.broken || !follows) {
            self.broken = true;
            self.damaged.push(now);
            return;
        }
        self.sps = sps.unwrap_or(self.sps);
        (self.broken, self.last) = (false, Some(number));
        let timestamp = packets.first().map_or(0, |packet| packet.timestamp);
        let at = self.show_at(now, timestamp);
        self.shown.push(Shown { number, is_keyframe, timestamp, whole: now, at, sps: self.sps });
    }

    /// When a player shows a frame that is whole now: as late as the latest of the last seconds, so that motion is even.
    fn show_at(&mut self, now: Instant, timestamp: u32) -> Instant {
        let (zero, first) = *self.zero.get_or_insert((now, timestamp));
        let due =
            zero + Duration::from_secs(100).mul_f64(f64::from(timestamp.wrapping_sub(first)) / 9_000_000.0);
        // Relative to a due time that is early enough for any.
        let due = due.checked_sub(Duration::from_secs(2)).unwrap();
        let late = now.saturating_duration_since(due);
        self.lateness.push_back((now, late));
        while self.lateness.front().is_some_and(|(at, _)| now - *at > JITTER_MEMORY) {
            self.lateness.pop_front();
        }
        let all = || self.lateness.iter().map(|(_, late)| *late);
        let least = all().min().unwrap_or_default();
        let held = all().max().unwrap_or_default().min(least + JITTER_MAX);
        let last = self.shown.last().map_or(now, |shown| shown.at);
        now.max(due + held).max(last)
    }

    /// Gaps between frames that a person sees as a freeze: as WebRTC's statistics count them.
    pub(crate) fn freezes(&self, fps: u32) -> Vec<Duration> {
        let step = Duration::from_secs(1) / fps;
        let limit = (step * 3).max(step + Duration::from_millis(150));
        let gaps = self.shown.windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.filter(|gap| *gap > limit).collect()
    }

    /// Packets of audio missing between the first and the last that came, as far as the next one came in this time.
    pub(crate) fn audio_lost(&self, from: Instant, to: Instant) -> usize {
        let mut came: Vec<(u64, Instant)> = self.audio.iter().map(|(number, at, _)| (*number, *at)).collect();
        came.sort_unstable();
        came.dedup_by_key(|(number, _)| *number);
        let gaps = came.windows(2).filter(|pair| from <= pair[1].1 && pair[1].1 <= to);
        gaps.map(|pair| usize::try_from(pair[1].0 - pair[0].0 - 1).unwrap()).sum()
    }

    /// Whether every frame from the first one on was shown, up to this one at least.
    pub(crate) fn has_all_to(&self, number: u64) -> bool {
        let follows = self.shown.windows(2).all(|pair| pair[1].number == pair[0].number + 1);
        follows && self.damaged.is_empty() && self.shown.last().is_some_and(|last| last.number >= number)
    }
}

fn begins_group(packet: &Rtp) -> bool {
    packet.payload.first().is_some_and(|first| first & 0x1f == 24)
}

/// The number of a frame, its first byte, and the last byte of its SPS. Panics when it is not what was published.
fn decode(packets: &[Rtp]) -> (u64, u8, Option<u8>) {
    let (mut nal, mut sps) = (Vec::new(), None);
    for Rtp { payload, .. } in packets {
        match payload.first().map(|first| first & 0x1f) {
            Some(24) => {
                assert_eq!(payload.get(3..3 + SPS.len() - 1), SPS.get(..SPS.len() - 1));
                sps = payload.get(2 + SPS.len()).copied();
            }
            Some(28) => {
                if payload[1] & 0x80 != 0 {
                    assert!(nal.is_empty(), "one slice in a frame");
                    nal.push((payload[0] & 0xe0) | (payload[1] & 0x1f));
                }
                nal.extend_from_slice(&payload[2..]);
            }
            _ => nal.extend_from_slice(payload),
        }
    }
    assert_eq!(nal[0] == 0x65, sps.is_some(), "parameter sets come with keyframes");
    (number_of(&nal[1..]).expect("a whole frame is undamaged"), nal[0], sps)
}
