//! Access units put together again from RTP (RFC 6184), and whether they are whole.
use std::collections::BTreeMap;

use super::reception::Reception;
use super::stamp;

/// Packets that wait for a missing one. At 30 Mbit/s this is a second; beyond it the hole is given up.
const PENDING_MAX: usize = 4096;
/// NAL units in one aggregation packet that are looked at.
const AGGREGATED_MAX: usize = 64;

/// How far the stream may go on behind a whole keyframe until what is older is given up: 250 ms at 90 kHz, about what a
/// browser's jitter buffer holds once packets were lost.
const PATIENCE_TICKS: u32 = 22_500;

const SLICE_IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// One packet's worth of a picture.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) payload: Vec<u8>,
}

impl Piece {
    fn has_idr(&self) -> bool {
        match self.payload.first_chunk::<2>() {
            Some([indicator, header]) if indicator & 0x1f == FU_A => header & 0x1f == SLICE_IDR,
            Some([indicator, _]) => indicator & 0x1f == SLICE_IDR,
            None => false,
        }
    }

    /// Whether it begins with what keyframes begin with.
    fn has_parameters(&self) -> bool {
        self.payload.first().is_some_and(|indicator| matches!(indicator & 0x1f, SPS | STAP_A))
    }
}

/// An access unit whose last packet has come, or whose end was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) is_complete: bool,
    pub(super) is_keyframe: bool,
    /// What the publisher's clock said, in UNIX microseconds.
    pub(super) stamp_us: Option<u64>,
}

/// The pictures of one stream, in order.
#[derive(Debug, Default)]
pub(super) struct Pictures {
    next: Option<u64>,
    pending: BTreeMap<u64, Piece>,
    /// A keyframe that waits for something older: its first packet and its RTP time.
    keyframe: Option<(u64, u32)>,
    unit: Option<Unit>,
    /// Packets before the next one are lost, so whatever it belongs to lacks something.
    after_hole: bool,
}

#[derive(Debug, Default)]
struct Unit {
    timestamp: u32,
    is_damaged: bool,
    is_keyframe: bool,
    is_in_fragments: bool,
    stamp_us: Option<u64>,
    /// The end of the NAL unit that came last.
    tail: Vec<u8>,
}

impl Pictures {
    /// Takes packet `number`; what it completes is appended to `finished`.
    pub(super) fn on_packet(
        &mut self,
        number: u64,
        piece: Piece,
        reception: &mut Reception,
        finished: &mut Vec<Finished>,
    ) {
        let next = *self.next.get_or_insert(number);
        if number < next {
            return;
        }
        if number == next && self.pending.is_empty() {
            self.take(&piece, finished);
            self.next = Some(next + 1);
            return;
        }
        let timestamp = piece.timestamp;
        self.pending.insert(number, piece);
        self.advance(reception, finished);
        if let Some(first) = self.whole_keyframe(number) {
            self.keyframe = Some((first, timestamp));
        }
        let is_late = |since: u32| (PATIENCE_TICKS..u32::MAX / 2).contains(&timestamp.wrapping_sub(since));
        if let Some((first, _)) = self.keyframe.take_if(|(_, since)| is_late(*since))
            && self.next.is_some_and(|next| next < first)
        {
            self.skip_to(first, finished);
            reception.give_up_before(first);
            self.advance(reception, finished);
        }
    }

    /// The first packet of the picture that packet `number` belongs to, if that is a keyframe of which all has come while
    /// it waits for something older.
    fn whole_keyframe(&self, number: u64) -> Option<u64> {
        let timestamp = self.pending.get(&number)?.timestamp;
        let of_picture = |number: &u64| self.pending.get(number).filter(|piece| piece.timestamp == timestamp);
        let first = (0..=number).rev().take_while(|at| of_picture(at).is_some()).last()?;
        let mut is_keyframe = false;
        for piece in (first..).map_while(|at| of_picture(&at)) {
            is_keyframe |= piece.has_idr();
            if piece.marker {
                let has_beginning = of_picture(&first)?.has_parameters()
                    || self.pending.contains_key(&(first.checked_sub(1)?));
                return (is_keyframe && has_beginning).then_some(first);
            }
        }
        None
    }

    /// Leaves out everything before packet `first`, as a browser does that has a keyframe to go on with.
    fn skip_to(&mut self, first: u64, finished: &mut Vec<Finished>) {
        self.on_hole();
        self.finish(false, finished);
        let kept = self.pending.split_off(&first);
        let mut last = None;
        for piece in std::mem::replace(&mut self.pending, kept).into_values() {
            if last.replace(piece.timestamp) != Some(piece.timestamp) {
                finished.push(Finished { is_complete: false, is_keyframe: false, stamp_us: None });
            }
        }
        self.next = Some(first);
        self.after_hole = false;
    }

    /// Goes on as far as packets are there or given up.
    pub(super) fn advance(&mut self, reception: &Reception, finished: &mut Vec<Finished>) {
        let Some(mut next) = self.next else { return };
        while let Some(first) = self.pending.first_entry() {
            let number = *first.key();
            if number <= next {
                let piece = first.remove();
                if number == next {
                    self.take(&piece, finished);
                    next += 1;
                }
            } else if self.pending.len() > PENDING_MAX || !reception.is_missing(next) {
                // A jump in the numbers can be wide: everything up to the next missing or present packet is gone.
                let awaited = (next + 1..number).find(|number| reception.is_missing(*number));
                next = if self.pending.len() > PENDING_MAX { number } else { awaited.unwrap_or(number) };
                self.on_hole();
            } else {
                break;
            }
        }
        self.next = Some(next);
    }

    /// The stream begins anew.
    pub(super) fn restart(&mut self) {
        self.next = None;
        self.keyframe = None;
        self.pending.clear();
        self.on_hole();
    }

    fn on_hole(&mut self) {
        self.after_hole = true;
        if let Some(unit) = &mut self.unit {
            unit.is_damaged = true;
        }
    }

    fn take(&mut self, piece: &Piece, finished: &mut Vec<Finished>) {
        if piece.payload.is_empty() {
            // Padding, as bandwidth probes send.
            return;
        }
        if self.unit.as_ref().is_some_and(|unit| unit.timestamp != piece.timestamp) {
            // RFC 6184, section 5.1: the marker is on the last packet, so this one's end is missing.
            self.finish(false, finished);
        }
        let after_hole = std::mem::take(&mut self.after_hole);
        let unit = self.unit.get_or_insert_with(|| Unit {
            timestamp: piece.timestamp,
            is_damaged: after_hole,
            ..Unit::default()
        });
        unit.is_damaged |= after_hole;
        if unit.on_payload(&piece.payload).is_none() {
            unit.is_damaged = true;
        }
        if piece.marker {
            self.finish(true, finished);
        }
    }

    fn finish(&mut self, has_end: bool, finished: &mut Vec<Finished>) {
        let Some(unit) = self.unit.take() else { return };
        finished.push(Finished {
            is_complete: has_end && !unit.is_damaged && !unit.is_in_fragments,
            is_keyframe: unit.is_keyframe,
            stamp_us: unit.stamp_us.or_else(|| stamp::find(&unit.tail)),
        });
    }
}

impl Unit {
    /// `None` when the payload breaks a rule.
    fn on_payload(&mut self, payload: &[u8]) -> Option<()> {
        let (indicator, rest) = payload.split_first()?;
        let kind = indicator & 0x1f;
        if self.is_in_fragments && kind != FU_A {
            // RFC 6184, section 5.8: fragments follow each other without anything in between.
            self.is_in_fragments = false;
            return None;
        }
        match kind {
            1..=23 => self.on_nal(kind, payload),
            STAP_A => return self.on_aggregate(rest),
            FU_A => return self.on_fragment(rest),
            _ => return None,
        }
        Some(())
    }

    fn on_nal(&mut self, kind: u8, nal: &[u8]) {
        self.is_keyframe |= kind == SLICE_IDR;
        if kind == SEI {
            self.stamp_us = self.stamp_us.or_else(|| stamp::find(nal));
        }
        self.tail.clear();
        self.keep_tail(nal);
    }

    /// RFC 6184, section 5.7.1: 16 bits of size before each.
    fn on_aggregate(&mut self, mut rest: &[u8]) -> Option<()> {
        for _ in 0..AGGREGATED_MAX {
            let (size, after) = rest.split_first_chunk::<2>()?;
            let (nal, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
            self.on_nal(nal.first()? & 0x1f, nal);
            rest = after;
            if rest.is_empty() {
                return Some(());
            }
        }
        None
    }

    /// RFC 6184, section 5.8.
    fn on_fragment(&mut self, rest: &[u8]) -> Option<()> {
        let (header, body) = rest.split_first()?;
        let (is_start, is_end) = (header & 0x80 != 0, header & 0x40 != 0);
        let is_orderly = is_start != self.is_in_fragments && !(is_start && is_end) && !body.is_empty();
        if is_start {
            self.tail.clear();
        }
        self.is_keyframe |= header & 0x1f == SLICE_IDR;
        self.keep_tail(body);
        self.is_in_fragments = !is_end;
        is_orderly.then_some(())
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes.get(bytes.len().saturating_sub(stamp::TAIL_LEN)..).unwrap_or(&[]));
        let surplus = self.tail.len().saturating_sub(stamp::TAIL_LEN);
        self.tail.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Feeds packets as `(sequence, timestamp, marker, payload)`; what is not fed is lost.
    fn play(packets: &[(u16, u32, bool, &[u8])]) -> Vec<Finished> {
        let mut now = Instant::now();
        let mut reception = Reception::new(90_000, true, packets[0].0);
        let (mut pictures, mut finished) = (Pictures::default(), Vec::new());
        for (sequence, timestamp, marker, payload) in packets {
            let number = reception.extend(*sequence);
            reception.on_packet(now, number);
            let piece = Piece { timestamp: *timestamp, marker: *marker, payload: payload.to_vec() };
            pictures.on_packet(number, piece, &mut reception, &mut finished);
        }
        for _ in 0..110 {
            now += Duration::from_secs(1);
            reception.on_timeout(now, &mut Vec::new());
            pictures.advance(&reception, &mut finished);
        }
        finished
    }

    fn outcomes(finished: &[Finished]) -> Vec<(bool, bool)> {
        finished.iter().map(|unit| (unit.is_complete, unit.is_keyframe)).collect()
    }

    const START: &[u8] = &[0x7c, 0x85, 1, 2];
    const MIDDLE: &[u8] = &[0x7c, 0x05, 3, 4];
    const END: &[u8] = &[0x7c, 0x45, 5, 6];
    const SLICE: &[u8] = &[0x41, 9, 9];
    const PARAMETERS: &[u8] = &[0x78, 0, 2, 0x67, 1, 0, 2, 0x68, 1];

    #[test]
    fn whole_pictures_are_complete_whatever_the_order() {
        let packets: [(u16, u32, bool, &[u8]); 5] = [
            (1, 0, false, PARAMETERS),
            (2, 0, false, START),
            (3, 0, false, MIDDLE),
            (4, 0, true, END),
            (5, 3000, true, SLICE),
        ];
        assert_eq!(outcomes(&play(&packets)), [(true, true), (true, false)]);
        let shuffled = [packets[0], packets[3], packets[4], packets[1], packets[2]];
        assert_eq!(outcomes(&play(&shuffled)), [(true, true), (true, false)]);
    }

    #[test]
    fn what_lacks_a_packet_is_damaged() {
        let all: [(u16, u32, bool, &[u8]); 6] = [
            (1, 0, true, SLICE),
            (2, 3000, false, START),
            (3, 3000, false, MIDDLE),
            (4, 3000, true, END),
            (5, 6000, true, SLICE),
            (6, 9000, true, SLICE),
        ];
        for lost in [1, 2] {
            let kept: Vec<_> = all.iter().copied().filter(|packet| packet.0 != all[lost].0).collect();
            let expected = [(true, false), (false, true), (true, false), (true, false)];
            assert_eq!(outcomes(&play(&kept)), expected, "without {lost}");
        }
        let without_marker: Vec<_> = all.iter().copied().filter(|packet| packet.0 != 4).collect();
        let expected = [(true, false), (false, true), (false, false), (true, false)];
        assert_eq!(outcomes(&play(&without_marker)), expected, "the next may lack its beginning");
    }

    #[test]
    fn a_whole_keyframe_ends_the_wait_for_older_packets() {
        let now = Instant::now();
        let mut reception = Reception::new(90_000, true, 1);
        let (mut pictures, mut finished) = (Pictures::default(), Vec::new());
        let packets: [(u16, u32, bool, &[u8]); 7] = [
            (1, 0, true, SLICE),
            (3, 3000, true, SLICE),
            (4, 6000, true, SLICE),
            (6, 9000, false, START),
            (7, 9000, true, END),
            (5, 9000, false, PARAMETERS),
            (8, 31_500, true, SLICE),
        ];
        let mut counts = Vec::new();
        for (sequence, timestamp, marker, payload) in packets {
            let number = reception.extend(sequence);
            reception.on_packet(now, number);
            let piece = Piece { timestamp, marker, payload: payload.to_vec() };
            pictures.on_packet(number, piece, &mut reception, &mut finished);
            counts.push(finished.len());
        }
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 5], "250 ms behind the whole keyframe, not before");
        let expected = [(true, false), (false, false), (false, false), (true, true), (true, false)];
        assert_eq!(outcomes(&finished), expected);
        assert_eq!((reception.counts.lost, reception.deadline()), (1, None), "nobody asks for packet 2");
    }

    #[test]
    fn broken_payloads_damage_their_picture_only() {
        for bad in [&[0x78, 0, 9, 1][..], &[0x7c], &[0x7c, 0xc5, 1], &[0x7c, 0x45, 1], &[0x1f], &[0x78]] {
            let found = play(&[(1, 0, true, bad), (2, 3000, true, SLICE)]);
            assert_eq!(
                outcomes(&found).iter().map(|unit| unit.0).collect::<Vec<_>>(),
                [false, true],
                "{bad:x?}"
            );
        }
    }

    #[test]
    fn stamps_are_found_in_sei_and_at_the_end_of_the_last_slice() {
        let stamp = [&crate::publish::stamp::UUID[..], b"00064a8b3c2d1e0f"].concat();
        let sei = [&[0x06, 5, 32][..], &stamp, &[0x80]].concat();
        let slice = [SLICE, &stamp].concat();
        let (first, second) = stamp.split_at(10);
        let (start, end) = ([&[0x7c, 0x85, 1][..], first].concat(), [&[0x7c, 0x45][..], second].concat());
        let found = play(&[
            (1, 0, false, &sei),
            (2, 0, true, SLICE),
            (3, 3000, true, &slice),
            (4, 6000, false, &start),
            (5, 6000, true, &end),
            (6, 9000, true, SLICE),
        ]);
        let stamps: Vec<_> = found.iter().map(|unit| unit.stamp_us).collect();
        let stamp = Some(0x0006_4a8b_3c2d_1e0f);
        assert_eq!(stamps, [stamp, stamp, stamp, None]);
    }
}
