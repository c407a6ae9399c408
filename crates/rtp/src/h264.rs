//! H.264 into RTP: RFC 6184, packetisation mode 1.
use media::{Track, VideoFrame};

use crate::{PAYLOAD_MAX, Packets};

/// RFC 6184, section 5.2: the type of a single-time aggregation packet without decoding order numbers.
const STAP_A: u8 = 24;
/// RFC 6184, section 5.2: the type of a fragmentation unit without decoding order numbers.
const FU_A: u8 = 28;
/// RFC 6184, section 5.8: the FU header's bits for the first and the last fragment.
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;
/// The importance of a NAL unit, kept in the header of every packet made from it (RFC 6184, section 5.3).
const NRI: u8 = 0x60;

/// Turns the access units of one stream into packets and numbers them.
#[derive(Debug, Default)]
pub struct Packetizer {
    frames: u64,
    packets: u64,
}

impl Packetizer {
    /// The packets of one access unit; `None` when it holds no NAL unit.
    pub fn packetize(&mut self, frame: &VideoFrame) -> Option<Packets> {
        let mut packets = Packets::new(Track::Video, frame.keyframe, frame.time, frame.arrival);
        packets.recovery_point = frame.recovery_point;
        let bytes: usize = frame.nals.iter().map(bytes::Bytes::len).sum();
        packets.reserve(bytes + bytes / 500 + 256);
        if frame.keyframe {
            push_parameter_sets(&mut packets, &frame.config.sps, &frame.config.pps);
        }
        for nal in frame.nals.iter() {
            push_nal(&mut packets, nal);
        }
        if packets.count() == 0 {
            return None;
        }
        packets.number = self.frames;
        packets.first = self.packets;
        self.frames += 1;
        self.packets += packets.count() as u64;
        Some(packets)
    }
}

/// Parameter sets travel before every IDR picture, with its timestamp, so that whoever starts there can decode:
/// together in one STAP-A (RFC 6184, section 5.7.1) where they fit, as they practically always do.
fn push_parameter_sets(packets: &mut Packets, sps: &[u8], pps: &[bytes::Bytes]) {
    let sets = || std::iter::once(sps).chain(pps.iter().map(|set| &set[..])).filter(|set| !set.is_empty());
    let len = 1 + sets().map(|set| 2 + set.len()).sum::<usize>();
    if len > PAYLOAD_MAX || sets().count() < 2 {
        for set in sets() {
            push_nal(packets, set);
        }
        return;
    }
    let mut payload = Vec::with_capacity(len);
    payload.push(STAP_A | sets().filter_map(|set| set.first()).map(|first| first & NRI).max().unwrap_or(NRI));
    for set in sets() {
        let size = u16::try_from(set.len()).expect("checked against PAYLOAD_MAX above");
        payload.extend_from_slice(&size.to_be_bytes());
        payload.extend_from_slice(set);
    }
    packets.push(&[&payload]);
}

/// One NAL unit: as it is where it fits, else in fragments (RFC 6184, section 5.8). All fragments but the last have
/// the same length, so that the kernel can cut them from one buffer.
fn push_nal(packets: &mut Packets, nal: &[u8]) {
    let Some((&header, body)) = nal.split_first() else { return };
    if nal.len() <= PAYLOAD_MAX {
        packets.push(&[nal]);
        return;
    }
    let count = body.len().div_ceil(PAYLOAD_MAX - 2);
    let size = body.len().div_ceil(count);
    let indicator = (header & (0x80 | NRI)) | FU_A;
    let last = body.len().div_ceil(size) - 1;
    for (index, part) in body.chunks(size).enumerate() {
        let mut fu_header = header & 0x1f;
        if index == 0 {
            fu_header |= FU_START;
        }
        if index == last {
            fu_header |= FU_END;
        }
        packets.push(&[&[indicator, fu_header], part]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;
    use media::{MediaTime, VideoConfig};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn now() -> Instant {
        Instant::now()
    }

    fn frame(keyframe: bool, nals: &[&[u8]]) -> VideoFrame {
        VideoFrame {
            time: MediaTime::ZERO,
            keyframe,
            recovery_point: false,
            config: Arc::new(VideoConfig {
                sps: Bytes::from_static(&[0x67, 1, 2]),
                pps: vec![Bytes::from_static(&[0x68, 3])],
                profile_level_id: [0x42, 0xe0, 0x1f],
                width: 16,
                height: 16,
            }),
            nals: nals.iter().map(|nal| Bytes::copy_from_slice(nal)).collect(),
            arrival: now(),
        }
    }

    /// Puts NAL units back together as RFC 6184 tells a receiver to.
    fn depacketize(packets: &Packets) -> Vec<Vec<u8>> {
        let mut nals = Vec::new();
        let mut open: Option<Vec<u8>> = None;
        for index in 0..packets.count() {
            let payload = packets.payload(index).unwrap();
            assert!(payload.len() <= PAYLOAD_MAX);
            match payload[0] & 0x1f {
                STAP_A => {
                    let mut rest = &payload[1..];
                    while let [high, low, after @ ..] = rest {
                        let (nal, tail) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                        nals.push(nal.to_vec());
                        rest = tail;
                    }
                }
                FU_A => {
                    let header = payload[1];
                    if header & FU_START != 0 {
                        open = Some(vec![(payload[0] & 0xe0) | (header & 0x1f)]);
                    }
                    let nal = open.as_mut().expect("a start before");
                    nal.extend_from_slice(&payload[2..]);
                    if header & FU_END != 0 {
                        nals.extend(open.take());
                    }
                }
                _ => nals.push(payload.to_vec()),
            }
        }
        nals
    }

    #[test]
    fn every_length_of_nal_unit_survives_the_round_trip() {
        let mut packetizer = Packetizer::default();
        for len in (1..4000).step_by(7).chain([PAYLOAD_MAX, PAYLOAD_MAX + 1, 2 * PAYLOAD_MAX, 1 << 20]) {
            let nal: Vec<u8> =
                (0..len).map(|i| if i == 0 { 0x41 } else { u8::try_from(i % 251).unwrap() }).collect();
            let packets = packetizer.packetize(&frame(false, &[&nal])).unwrap();
            assert_eq!(depacketize(&packets), [nal]);
        }
    }

    #[test]
    fn an_idr_picture_comes_with_its_parameter_sets_in_one_packet() {
        let packets = Packetizer::default().packetize(&frame(true, &[&[0x65, 9, 9], &[0x65, 8]])).unwrap();
        assert_eq!(packets.count(), 3);
        assert_eq!(depacketize(&packets), [vec![0x67, 1, 2], vec![0x68, 3], vec![0x65, 9, 9], vec![0x65, 8]]);
        assert!(packets.is_last(2) && !packets.is_last(1));
    }

    #[test]
    fn all_fragments_but_the_last_have_one_length() {
        let nal = vec![0x65; 40_000];
        let packets = Packetizer::default().packetize(&frame(false, &[&nal])).unwrap();
        let lengths: Vec<_> = (0..packets.count()).map(|i| packets.payload(i).unwrap().len()).collect();
        let (last, others) = lengths.split_last().unwrap();
        assert!(others.iter().all(|len| len == &others[0]));
        assert!(*last <= others[0]);
    }

    #[test]
    fn packets_are_numbered_without_holes() {
        let mut packetizer = Packetizer::default();
        let first = packetizer.packetize(&frame(false, &[&vec![0x41; 3000]])).unwrap();
        assert!(packetizer.packetize(&frame(false, &[])).is_none());
        let second = packetizer.packetize(&frame(false, &[&[0x41, 0]])).unwrap();
        assert_eq!((first.number, first.first, first.count()), (0, 0, 3));
        assert_eq!((second.number, second.first), (1, 3));
    }
}
