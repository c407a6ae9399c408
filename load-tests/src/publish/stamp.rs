//! Marks in the video that say when it was sent, so that a viewer can tell how long it took.
//!
//! A mark is the 16 bytes of [`UUID`] and then 16 lower-case hexadecimal digits: the UNIX time in microseconds at which
//! the access unit was handed to the socket. Neither holds a zero byte, so that emulation prevention (H.264, section
//! 7.4.1) never changes a byte of it and whoever looks for it may compare raw bytes.
use bytes::{Bytes, BytesMut};

/// Begins every mark: 4c656374-6572-6e4c-6f61-6453746d7001.
pub(crate) const UUID: [u8; 16] = *b"LecternLoadStmp\x01";
/// Bytes of a mark.
pub(super) const MARK_LEN: usize = 32;
/// What the RTMP body of AVC has in front of the NAL units: frame type and codec, packet type, composition time.
const BODY_HEADER_LEN: usize = 5;
/// The codec of such a body, and the two types of packet (FLV, annex E.4.3.1).
const AVC: u8 = 7;
const CONFIG: u8 = 0;
const UNITS: u8 = 1;
/// NAL unit types (H.264, table 7-1).
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SEI: u8 = 6;
const DELIMITER: u8 = 9;
/// `user_data_unregistered` (H.264, section D.1.7): a UUID and whatever its owner likes.
const USER_DATA: u8 = 5;

/// Where the mark is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stamp {
    /// In a SEI message before each picture. Some servers strip these.
    Sei,
    /// Behind the last slice of each picture, where decoders do not look.
    Tail,
    /// Nowhere.
    None,
}

/// Puts marks into the messages of one stream. Video other than AVC in FLV's own form goes through as it is.
#[derive(Debug)]
pub(super) struct Stamper {
    stamp: Stamp,
    /// Bytes of length in front of every NAL unit.
    length_size: usize,
}

impl Stamper {
    pub(super) fn new(stamp: Stamp) -> Self {
        Self { stamp, length_size: 4 }
    }

    /// The body of a video message with a mark in it, where it is a picture.
    pub(super) fn stamp(&mut self, body: Bytes, unix_us: u64) -> Bytes {
        let Some((&[first, kind, ..], units)) = body.split_first_chunk::<BODY_HEADER_LEN>() else {
            return body;
        };
        if first & 0x8f != AVC || self.stamp == Stamp::None {
            return body;
        }
        match kind {
            CONFIG => {
                self.length_size = units.get(4).map_or(4, |flags| usize::from(flags & 3) + 1);
                body
            }
            UNITS => self.insert(&body, units, unix_us).unwrap_or(body),
            _ => body,
        }
    }

    fn insert(&self, body: &Bytes, units: &[u8], unix_us: u64) -> Option<Bytes> {
        let mark = mark(unix_us);
        let found = find(units, self.length_size)?;
        let mut stamped = BytesMut::with_capacity(body.len() + MARK_LEN + 8);
        stamped.extend_from_slice(body.get(..BODY_HEADER_LEN)?);
        if self.stamp == Stamp::Sei {
            stamped.extend_from_slice(units.get(..found.first)?);
            let len = u8::try_from(MARK_LEN).ok()?;
            let sei = [&[SEI, USER_DATA, len], &mark[..], &[0x80]].concat();
            stamped.extend_from_slice(&self.length(sei.len())?);
            stamped.extend_from_slice(&sei);
            stamped.extend_from_slice(units.get(found.first..)?);
        } else {
            let last = found.last?;
            let end = last.end;
            stamped.extend_from_slice(units.get(..last.start)?);
            stamped.extend_from_slice(&self.length(end - last.start - self.length_size + MARK_LEN)?);
            stamped.extend_from_slice(units.get(last.start + self.length_size..end)?);
            stamped.extend_from_slice(&mark);
            stamped.extend_from_slice(units.get(end..)?);
        }
        Some(stamped.freeze())
    }

    /// A length as it stands in front of a NAL unit; `None` when it does not fit.
    fn length(&self, len: usize) -> Option<Vec<u8>> {
        let bytes = len.to_be_bytes();
        let (high, low) = bytes.split_at_checked(bytes.len().checked_sub(self.length_size)?)?;
        high.iter().all(|byte| *byte == 0).then(|| low.to_vec())
    }
}

/// The NAL units that matter, by where they lie with their lengths.
struct Found {
    /// Where a SEI message may begin: after a delimiter, before all else.
    first: usize,
    /// The last slice.
    last: Option<std::ops::Range<usize>>,
}

fn find(units: &[u8], length_size: usize) -> Option<Found> {
    let mut found = Found { first: 0, last: None };
    let mut start = 0;
    while start < units.len() {
        let length = units.get(start..start + length_size)?;
        let len = length.iter().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        let end = (start + length_size).checked_add(len)?;
        let unit = units.get(start + length_size..end)?;
        match unit.first().map(|header| header & 0x1f) {
            Some(DELIMITER) if start == 0 => found.first = end,
            Some(SLICE | IDR_SLICE) => found.last = Some(start..end),
            _ => {}
        }
        start = end;
    }
    Some(found)
}

fn mark(unix_us: u64) -> [u8; MARK_LEN] {
    let mut mark = [0; MARK_LEN];
    let digits = format!("{unix_us:016x}");
    for (to, from) in mark.iter_mut().zip(UUID.iter().chain(digits.as_bytes())) {
        *to = *from;
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &[u8] = b"LecternLoadStmp\x0100062f0a1b2c3d4e";
    const TIME: u64 = 0x0006_2f0a_1b2c_3d4e;

    fn body(units: &[&[u8]]) -> Bytes {
        let mut body = vec![0x17, 1, 0, 0, 0];
        for unit in units {
            body.extend_from_slice(&u32::try_from(unit.len()).unwrap().to_be_bytes());
            body.extend_from_slice(unit);
        }
        body.into()
    }

    #[test]
    fn the_tail_is_the_end_of_the_last_slice() {
        let stamped = Stamper::new(Stamp::Tail).stamp(body(&[b"\x65one", b"\x65two", b"\x0c\xff\x80"]), TIME);
        assert_eq!(stamped, body(&[b"\x65one", &[b"\x65two", MARK].concat(), b"\x0c\xff\x80"]));
    }

    #[test]
    fn the_message_comes_first_but_for_a_delimiter() {
        let sei = [b"\x06\x05\x20", MARK, b"\x80"].concat();
        let mut stamper = Stamper::new(Stamp::Sei);
        assert_eq!(stamper.stamp(body(&[b"\x41p"]), TIME), body(&[&sei, b"\x41p"]));
        let delimited = stamper.stamp(body(&[b"\x09\xf0", b"\x41p"]), TIME);
        assert_eq!(delimited, body(&[b"\x09\xf0", &sei, b"\x41p"]));
    }

    #[test]
    fn short_lengths_are_learned_from_the_configuration() {
        let mut stamper = Stamper::new(Stamp::Tail);
        let config = Bytes::from_static(b"\x17\0\0\0\0\x01\x42\xc0\x1f\xfd");
        assert_eq!(stamper.stamp(config.clone(), TIME), config);
        let stamped = stamper.stamp(Bytes::from_static(b"\x27\x01\0\0\0\0\x02\x41p"), TIME);
        assert_eq!(stamped, [b"\x27\x01\0\0\0\0\x22\x41p", MARK].concat());
    }

    #[test]
    fn what_is_no_picture_stays_as_it_is() {
        let mut stamper = Stamper::new(Stamp::Tail);
        let cut_off = body(&[b"\x65one"]);
        for other in [
            Bytes::new(),
            Bytes::from_static(b"\x17\x02\0\0\0"),
            Bytes::from_static(b"\x91avc1rest"),
            cut_off.slice(..cut_off.len() - 1),
            body(&[b"\x06sei"]),
        ] {
            assert_eq!(stamper.stamp(other.clone(), TIME), other);
        }
        assert_eq!(Stamper::new(Stamp::None).stamp(cut_off.clone(), TIME), cut_off);
    }
}
