//! NAL units: table 7-1.

/// What a NAL unit is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// A slice of a picture that needs others.
    Slice,
    /// A slice of a picture that needs none before it.
    IdrSlice,
    /// A sequence parameter set.
    Sps,
    /// A picture parameter set.
    Pps,
    /// What a viewer does without: delimiters, supplemental information, filler, ends, and types without a meaning.
    Dispensable,
    /// Anything else; passed on.
    Other,
}

impl NalKind {
    /// By the first byte of a NAL unit.
    ///
    /// Types 0 and 24 to 31 mean nothing in a bitstream but are packet kinds in RTP (RFC 6184, section 5.2): one that
    /// were passed on would be taken for a packet of several NAL units, so they are dispensable.
    pub fn of(nal: &[u8]) -> Option<Self> {
        Some(match nal.first()? & 0x1f {
            1..=4 => Self::Slice,
            5 => Self::IdrSlice,
            7 => Self::Sps,
            8 => Self::Pps,
            0 | 6 | 9..=12 | 24..=31 => Self::Dispensable,
            _ => Self::Other,
        })
    }

    /// Whether it is part of a picture.
    pub fn is_slice(self) -> bool {
        matches!(self, Self::Slice | Self::IdrSlice)
    }
}

/// Whether other pictures may refer to the one that this NAL unit is of: `nal_ref_idc`, section 7.4.1.
pub fn is_reference(nal: &[u8]) -> bool {
    nal.first().is_some_and(|header| header & 0x60 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_five_bits_are_the_kind_whatever_the_importance() {
        for importance in [0, 0x20, 0x40, 0x60_u8] {
            assert_eq!(NalKind::of(&[importance | 1]), Some(NalKind::Slice));
            assert_eq!(NalKind::of(&[importance | 5]), Some(NalKind::IdrSlice));
            assert_eq!(NalKind::of(&[importance | 7]), Some(NalKind::Sps));
            assert_eq!(NalKind::of(&[importance | 8]), Some(NalKind::Pps));
            assert_eq!(is_reference(&[importance | 1]), importance != 0);
        }
        assert_eq!(NalKind::of(&[]), None);
    }

    #[test]
    fn what_a_viewer_does_without_is_dispensable() {
        let dispensable: Vec<u8> =
            (0..32).filter(|kind| NalKind::of(&[*kind]) == Some(NalKind::Dispensable)).collect();
        assert_eq!(dispensable, [0, 6, 9, 10, 11, 12, 24, 25, 26, 27, 28, 29, 30, 31]);
    }
}
