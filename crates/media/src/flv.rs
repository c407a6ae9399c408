//! FLV tags, which are also the bodies of RTMP's media messages (Adobe, "Flash Video File Format 10.1", annex E, and
//! "Enhanced RTMP" v1 and v2).
pub mod audio;
pub mod file;
pub mod video;

pub use audio::AudioTag;
pub use video::VideoTag;

use thiserror::Error;

/// Why a tag cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TagError {
    /// It is shorter than its header.
    #[error("a media message of {0} bytes is too short")]
    Truncated(usize),
    /// It is of a codec that is not passed on: not all browsers play it. The text is for the teacher.
    #[error("The app sends {codec}, which browsers do not play here; choose {instead} in its settings")]
    Unsupported {
        /// What it sends.
        codec: String,
        /// What it should.
        instead: &'static str,
    },
    /// A packet type that the codec does not have.
    #[error("media packet type {0} is not known")]
    PacketType(u8),
}
