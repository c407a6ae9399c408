//! H.264 (ITU-T H.264, and ISO/IEC 14496-15 for how FLV carries it), as far as a server needs it that does not decode.
pub mod avcc;
pub mod nal;
pub mod sei;
pub mod slice;
pub mod sps;

pub use avcc::AvcConfig;
pub use nal::NalKind;
pub use slice::{SliceHeader, SliceType};
pub use sps::Sps;

use bytes::Bytes;
use thiserror::Error;

use crate::VideoConfig;

/// Parameter sets of each kind in a stream at most. Encoders make one of each, some up to four for the pictures.
const SETS_MAX: usize = 8;
/// Bytes of a parameter set at most. Twenty are usual; every scaling list together makes five hundred.
const SET_BYTES_MAX: usize = 1024;

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
    #[error("The app sends H.264 {}, which browsers do not play; choose Baseline, Main or High with 8 bits and 4:2:0 (in ffmpeg -pix_fmt yuv420p, in GStreamer format=I420), and not lossless", profile_name(*.0))]
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
        let is_set = |set: &Bytes| NalKind::of(set) == Some(NalKind::Pps) && set.len() <= SET_BYTES_MAX;
        if sps.len() > SET_BYTES_MAX || pps.len() > SETS_MAX || !pps.iter().all(is_set) {
            return Err(H264Error::Damaged("parameter sets"));
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

/// The names of annex A that the apps' settings show.
fn profile_name(profile_idc: u8) -> String {
    match profile_idc {
        110 => "High 10 (10 bits)".to_owned(),
        122 => "High 4:2:2".to_owned(),
        244 => "High 4:4:4".to_owned(),
        other => format!("profile {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264, constrained baseline, 640x360.
    const SPS: Bytes = Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70]);
    const PPS: Bytes = Bytes::from_static(&[0x68, 0xcb, 0x83, 0xcb, 0x20]);

    #[test]
    fn a_configuration_says_profile_and_size() {
        let config = VideoConfig::parse(&SPS, &[PPS]).unwrap();
        assert_eq!(config.profile_level_id, [0x42, 0xc0, 0x1e]);
        assert_eq!((config.width, config.height), (640, 360));
        assert_eq!((config.sps, config.pps), (SPS, vec![PPS]));
    }

    #[test]
    fn profiles_that_no_browser_plays_are_refused_by_name() {
        // x264's parameter sets for 320x240 in 10 bits, in 4:2:2 and in 4:4:4.
        for (sps, name) in [
            (&[0x67, 0x6e, 0, 0x0d, 0xa6, 0xcd, 0x94, 0x14, 0x1f, 0xb0, 0x11, 0, 0][..], "High 10"),
            (&[0x67, 0x7a, 0, 0x0d, 0xbc, 0xd9, 0x41, 0x41, 0xfb, 0x01, 0x10, 0, 0], "High 4:2:2"),
            (&[0x67, 0xf4, 0, 0x0d, 0x91, 0x9b, 0x28, 0x28, 0x3f, 0x60, 0x22, 0, 0], "High 4:4:4"),
        ] {
            let error = VideoConfig::parse(&Bytes::from_static(sps), &[PPS]).unwrap_err();
            assert!(matches!(error, H264Error::Profile(_)), "{error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("choose Baseline"), "{text}");
        }
    }

    #[test]
    fn what_is_no_parameter_set_is_not_taken_for_one() {
        let huge = Bytes::from([&PPS[..], &[1; SET_BYTES_MAX]].concat());
        for pps in [vec![SPS], vec![huge], vec![Bytes::new()], vec![PPS; SETS_MAX + 1]] {
            let error = VideoConfig::parse(&SPS, &pps).unwrap_err();
            assert_eq!(error, H264Error::Damaged("parameter sets"), "{} sets", pps.len());
        }
    }
}
