//! Slice headers: section 7.3.3, as far as the kind of slice.
use super::bits::Bits;

/// The kinds of slice (table 7-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceType {
    /// Needs pictures before it, and is what everything but keyframes is made of.
    P,
    /// Needs pictures before and after it.
    B,
    /// Needs no other.
    I,
}

impl SliceType {
    /// Of a slice's NAL unit, header byte included.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        let mut bits = Bits::of_payload(nal.get(1..)?.get(..16).or(nal.get(1..))?);
        let _first_macroblock = bits.ue()?;
        match bits.ue()? % 5 {
            0 | 3 => Some(Self::P),
            1 => Some(Self::B),
            _ => Some(Self::I),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_slice_is_its_second_number() {
        // first_mb 0 is "1"; slice types 5, 6, 7 are "00110", "00111", "0001000".
        assert_eq!(SliceType::parse(&[0x41, 0b1001_1000]), Some(SliceType::P));
        assert_eq!(SliceType::parse(&[0x01, 0b1001_1100]), Some(SliceType::B));
        assert_eq!(SliceType::parse(&[0x65, 0b1000_1000]), Some(SliceType::I));
        assert_eq!(SliceType::parse(&[0x41]), None);
        assert_eq!(SliceType::parse(&[0x41, 0, 0, 0, 0, 0]), None);
    }
}
