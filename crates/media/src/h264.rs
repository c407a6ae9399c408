//! H.264 (ITU-T H.264, and ISO/IEC 14496-15 for how FLV carries it), as far as a server needs it that does not decode.
pub mod avcc;
mod bits;
pub mod nal;
pub mod slice;
pub mod sps;

pub use avcc::AvcConfig;
pub use nal::NalKind;
pub use slice::SliceType;
pub use sps::Sps;

use bytes::Bytes;
use thiserror::Error;

use crate::VideoConfig;

/// Why a bitstream cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum H264Error {
    /// It ends too early, or a number in it is out of range.
    #[error("the H.264 {0} is damaged")]
    Damaged(&'static str),
    /// A picture has more parts than any encoder makes.
    #[error("a picture has more than {0} NAL units")]
    TooManyNals(usize),
    /// Browsers cannot decode it. The text is for the teacher.
    #[error("the app sends H.264 profile {0}, which browsers do not play; choose Baseline, Main or High")]
    Profile(u8),
}

impl VideoConfig {
    /// From parameter sets. Refuses profiles that no browser decodes: 10 bits, 4:2:2, 4:4:4.
    pub fn parse(sps: &Bytes, pps: &[Bytes]) -> Result<Self, H264Error> {
        let parsed = Sps::parse(sps)?;
        if !matches!(parsed.profile_idc, 66 | 77 | 88 | 100)
            || parsed.chroma_format_idc > 1
            || parsed.bit_depth > 8
        {
            return Err(H264Error::Profile(parsed.profile_idc));
        }
        Ok(Self {
            sps: sps.clone(),
            pps: pps.to_vec(),
            profile_level_id: [parsed.profile_idc, parsed.constraints, parsed.level_idc],
            width: parsed.width,
            height: parsed.height,
        })
    }
}
