//! Bits, most significant first, and the numbers of variable length that H.264 makes of them.
use std::borrow::Cow;

/// Bytes of a NAL unit that are looked at. Parameter sets with every scaling list take half of it; slice headers as
/// far as they are read take a twentieth.
const RBSP_BYTES_MAX: usize = 1024;
/// Leading zeros of an Exp-Golomb code at most: its value has one bit more, and has to fit 32 bits.
const LEADING_ZEROS_MAX: u32 = 31;

/// Reads bits; `None` is always the end, or a number that does not fit.
#[derive(Debug)]
pub(crate) struct Bits<'a> {
    bytes: Cow<'a, [u8]>,
    at: usize,
}

impl<'a> Bits<'a> {
    /// Of bytes as they are.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { bytes: Cow::Borrowed(bytes), at: 0 }
    }
}

impl Bits<'static> {
    /// Of a NAL unit without its header; emulation prevention bytes are taken out (H.264, section 7.4.1.1).
    pub(crate) fn of_payload(payload: &[u8]) -> Self {
        let mut rbsp = Vec::with_capacity(payload.len().min(RBSP_BYTES_MAX));
        let mut zeros = 0_u8;
        for &byte in payload.iter().take(RBSP_BYTES_MAX) {
            if zeros >= 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { zeros.saturating_add(1) } else { 0 };
            rbsp.push(byte);
        }
        Self { bytes: Cow::Owned(rbsp), at: 0 }
    }
}

impl Bits<'_> {
    pub(crate) fn bit(&mut self) -> Option<bool> {
        let byte = *self.bytes.get(self.at / 8)?;
        let mask = [0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1].get(self.at % 8)?;
        self.at = self.at.checked_add(1)?;
        Some(byte & mask != 0)
    }

    /// Up to 32 bits as a number.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// How many bits are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.bytes.len().saturating_mul(8)).then_some(())
    }

    /// Unsigned Exp-Golomb, `ue(v)`: H.264, section 9.1.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0_u32;
        while !self.bit()? {
            zeros = zeros.checked_add(1).filter(|zeros| *zeros <= LEADING_ZEROS_MAX)?;
        }
        let rest = self.bits(zeros)?;
        1_u32.checked_shl(zeros)?.checked_sub(1)?.checked_add(rest)
    }

    /// Signed Exp-Golomb, `se(v)`: H.264, section 9.1.1.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let half = i32::try_from(code.div_ceil(2)).ok()?;
        if code % 2 == 1 { Some(half) } else { half.checked_neg() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers_follow_table_9_2() {
        // 1, 010, 011, 00100, 00101 and padding.
        let mut bits = Bits::of(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()], [0, 1, 2, 3, 4].map(Some));
        let mut bits = Bits::of(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        assert_eq!([bits.se(), bits.se(), bits.se(), bits.se(), bits.se()], [0, 1, -1, 2, -2].map(Some));
    }

    #[test]
    fn the_greatest_number_is_read_and_a_greater_one_refused() {
        let mut greatest = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe];
        assert_eq!(Bits::of(&greatest).ue(), Some(u32::MAX - 1));
        greatest[3] = 0;
        assert_eq!(Bits::of(&greatest).ue(), None);
    }

    #[test]
    fn emulation_prevention_is_taken_out_and_only_that() {
        let bits = Bits::of_payload(&[1, 0, 0, 3, 1, 0, 3, 0, 0, 3, 0, 0, 3]);
        assert_eq!(*bits.bytes, [1, 0, 0, 1, 0, 3, 0, 0, 0, 0]);
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let mut bits = Bits::of(&[0xff]);
        assert_eq!(bits.bits(9), None);
        assert_eq!(Bits::of(&[0xff]).skip(9), None);
        assert_eq!(Bits::of(&[0xff]).skip(8), Some(()));
        assert_eq!(Bits::of_payload(&[0xff; RBSP_BYTES_MAX + 1]).skip(RBSP_BYTES_MAX * 8 + 1), None);
    }
}
