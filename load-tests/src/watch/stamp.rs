//! The publisher's clock, carried inside access units: the mark that [`crate::publish::stamp`] describes.
//!
//! It stands in an SEI message of unregistered user data (H.264, clause D.1.7), or behind the trailing bits of the
//! last slice for servers that drop SEI.
use crate::publish::stamp::UUID;

/// Bytes at the end of an access unit that are searched.
pub(super) const TAIL_LEN: usize = 64;
/// Hexadecimal digits of the time.
const TIME_LEN: usize = 16;

/// The UNIX time in microseconds behind the last mark in `bytes`.
pub(super) fn find(bytes: &[u8]) -> Option<u64> {
    let at = bytes.windows(UUID.len()).rposition(|window| window == UUID)?;
    let digits = bytes.get(at..)?.get(UUID.len()..UUID.len() + TIME_LEN)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mark_counts_and_what_follows_it_does_not() {
        let marks = [&UUID[..], b"0000000000000001", &UUID, b"00064a8b3c2d1e0f", &[0x80]].concat();
        assert_eq!(find(&marks), Some(0x0006_4a8b_3c2d_1e0f));
    }

    #[test]
    fn a_mark_without_a_whole_time_is_nothing() {
        let whole = [&UUID[..], b"00064a8b3c2d1e0f"].concat();
        for len in 0..whole.len() {
            assert_eq!(find(&whole[..len]), None);
        }
        assert_eq!(find(&[&UUID[..], b"00064a8b3c2d1e0g"].concat()), None);
    }
}
