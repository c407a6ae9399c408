//! Pictures of a lesson as MP4 (ISO/IEC 14496-12; how H.264 is carried: 14496-15, section 5).
//!
//! A file begins with [`init`], which says what the track is, and goes on with [`fragment`]s, each of which can be played
//! once it is there. [`snapshot`] is such a file of one picture.
//!
//! The boxes are those of `shiguredo_mp4` 2026.5 and not of `mp4-atom` 0.17, the other crate that is kept up: it depends on nothing,
//! where `mp4-atom` brings `num` and `derive_more`, five crates that we do not have, and has broken with its users eight times this
//! year. Both have no unsafe code and write what we need. Versions that are dates may change names too, so this one is held.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod fragment;
mod init;

use bytes::Bytes;
use media::VideoConfig;
use media::h264::{H264Error, NalKind};
use thiserror::Error;

pub use fragment::{Picture, fragment};
pub use init::init;

/// What an MP4 of these is, for `Content-Type`.
pub const CONTENT_TYPE: &str = "video/mp4";
/// Ticks of a second in our files: those of RTP, of which [`media::MediaTime::ticks`] makes whole numbers.
pub const TIMESCALE: u32 = 90_000;
/// How long the one picture of a snapshot is shown: players know a file without a length as live, or as broken.
const SNAPSHOT_TICKS: u32 = TIMESCALE;
/// The one track of a file.
const TRACK: u32 = 1;

/// Why an MP4 cannot be written.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// A decoder would not know how to begin.
    #[error("there is no {0} parameter set")]
    NoParameters(&'static str),
    /// The boxes repeat what the sequence parameter set says, and it cannot be read.
    #[error(transparent)]
    Parameters(#[from] H264Error),
    /// There is nothing to write, or a NAL unit without a byte.
    #[error("a picture is empty, or has an empty NAL unit")]
    Empty,
    /// It needs pictures that are not in the file.
    #[error("the picture is not a keyframe")]
    NotKeyframe,
    /// A number has more bits than its field.
    #[error("the {0} does not fit into an MP4")]
    TooLarge(&'static str),
    /// What the writer of boxes says.
    #[error("the boxes cannot be written: {0}")]
    Boxes(String),
}

impl From<shiguredo_mp4::Error> for Error {
    fn from(error: shiguredo_mp4::Error) -> Self {
        Self::Boxes(error.to_string())
    }
}

/// A file of one picture, which an element of a page shows as it shows any video: the parameter sets and the NAL units of a keyframe,
/// as [`media::VideoFrame`] has them.
pub fn snapshot(parameters: &VideoConfig, picture: &[Bytes]) -> Result<Bytes, Error> {
    let kinds = || picture.iter().filter_map(|nal| NalKind::of(nal));
    if picture.is_empty() || picture.iter().any(Bytes::is_empty) {
        return Err(Error::Empty);
    }
    if !kinds().any(|kind| kind == NalKind::IdrSlice) || kinds().any(|kind| kind == NalKind::Slice) {
        return Err(Error::NotKeyframe);
    }
    let init = init::encode(parameters, u64::from(SNAPSHOT_TICKS))?;
    let picture = Picture { nals: picture, is_keyframe: true, duration: SNAPSHOT_TICKS };
    fragment::append(init, 1, 0, &[picture]).map(Bytes::from)
}
