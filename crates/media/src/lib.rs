//! The nouns of the media plane and the bitstreams they come from: FLV, H.264, AAC and Opus.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod aac;
mod bits;
pub mod flv;
pub mod frame;
pub mod h264;
pub mod opus;
pub mod time;

pub use frame::{AudioFrame, Frame, Track, Tracks, VideoConfig, VideoFrame};
pub use time::MediaTime;
