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
    /// What a viewer does without: delimiters, supplemental information, filler, ends.
    Dispensable,
    /// Anything else; passed on.
    Other,
}

impl NalKind {
    /// By the first byte of a NAL unit.
    pub fn of(nal: &[u8]) -> Option<Self> {
        Some(match nal.first()? & 0x1f {
            1..=4 => Self::Slice,
            5 => Self::IdrSlice,
            7 => Self::Sps,
            8 => Self::Pps,
            6 | 9..=12 => Self::Dispensable,
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
