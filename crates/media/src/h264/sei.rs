//! Supplemental enhancement information: sections 7.3.2.3 and D.1.
use crate::bits::Bits;

/// The type of NAL unit.
const SEI: u8 = 6;
/// Section D.1.1: the payload type of a recovery point.
const RECOVERY_POINT: u32 = 6;
/// Messages of a NAL unit that are looked at. Encoders put one to three into it.
const MESSAGES_MAX: usize = 16;
/// Frames up to recovery at most: `MaxFrameNum` less one (section D.2.8).
const RECOVERY_FRAMES_MAX: u32 = (1 << 16) - 1;

/// The number of frames after which a decoder that begins here shows what it should (`recovery_frame_cnt`, section
/// D.2.8), if the NAL unit says that one may.
pub fn recovery_frames(nal: &[u8]) -> Option<u32> {
    let (header, payload) = nal.split_first()?;
    if header & 0x1f != SEI {
        return None;
    }
    let mut bits = Bits::of_payload(payload);
    for _ in 0..MESSAGES_MAX {
        let payload_type = read_sum(&mut bits)?;
        let len = read_sum(&mut bits)?;
        if payload_type == RECOVERY_POINT {
            return bits.ue().filter(|frames| *frames <= RECOVERY_FRAMES_MAX);
        }
        bits.skip(usize::try_from(len).ok()?.checked_mul(8)?)?;
    }
    None
}

/// A number as the sum of bytes, of which all but the last are 255.
fn read_sum(bits: &mut Bits<'_>) -> Option<u32> {
    let mut sum = 0_u32;
    loop {
        let byte = bits.bits(8)?;
        sum = sum.checked_add(byte)?;
        if byte != 0xff {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_point_is_found_behind_other_messages() {
        // As x264 writes it: type 6, two bytes, 8 as "0001001", exact match, no broken link.
        assert_eq!(recovery_frames(&[0x06, 0x06, 0x02, 0x12, 0x40, 0x80]), Some(8));
        // At once: "1".
        assert_eq!(recovery_frames(&[0x06, 0x06, 0x01, 0xc4, 0x80]), Some(0));
        // Behind unregistered data of 300 bytes, whose length takes two.
        let data = [&[0x06, 5, 0xff, 45][..], &[1; 300], &[0x06, 0x01, 0xc4, 0x80]].concat();
        assert_eq!(recovery_frames(&data), Some(0));
    }

    #[test]
    fn other_units_and_damaged_ones_have_none() {
        for nal in [
            &[][..],
            &[0x06],
            &[0x06, 0x80],
            &[0x06, 0x06],
            &[0x06, 0x06, 0x02],
            &[0x41, 0x06, 0x01, 0xc4, 0x80],
            &[0x06, 0x01, 0x01, 0xc4, 0x80],
            &[0x06, 0x05, 0xff, 0xff, 0xff],
            // A count of more frames than a sequence can number.
            &[0x06, 0x06, 0x05, 0, 0, 0x3f, 0xff, 0xff],
        ] {
            assert_eq!(recovery_frames(nal), None, "{nal:x?}");
        }
        let many = [&[0x06][..], &[0x01, 0x00].repeat(17), &[0x06, 0x01, 0xc4, 0x80]].concat();
        assert_eq!(recovery_frames(&many), None);
    }
}
