//! What travels from the publisher to the viewers: one coded picture or one packet of sound.
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::MediaTime;

/// The two kinds of media a lesson has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    /// H.264.
    Video,
    /// Opus, 48 kHz, 20 ms packets.
    Audio,
}

/// Which tracks a publisher really sends, known once its first frames have been seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracks {
    /// The parameter sets of the picture, if there is one.
    pub video: Option<Arc<VideoConfig>>,
    /// Whether there is sound.
    pub audio: bool,
}

/// What a decoder must know before the first picture: the parameter sets and what the SPS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoConfig {
    /// The sequence parameter set, a NAL unit with its header byte.
    pub sps: Bytes,
    /// The picture parameter sets, NAL units with their header bytes.
    pub pps: Vec<Bytes>,
    /// `profile_idc`, the constraint flags and `level_idc`: the `profile-level-id` of RFC 6184, section 8.1.
    pub profile_level_id: [u8; 3],
    /// Width in pixels after cropping.
    pub width: u32,
    /// Height in pixels after cropping.
    pub height: u32,
}

/// One access unit: every slice of one picture.
#[derive(Clone, Debug)]
pub struct VideoFrame {
    /// When the picture is due: the unrolled decoding time, which is its display time as B-frames never get here.
    pub time: MediaTime,
    /// Whether every slice is of an IDR picture.
    pub keyframe: bool,
    /// Whether a decoder that lacks the frames before it shows what it should some frames later: a recovery point
    /// (H.264, section D.2.8) or a picture of nothing but I slices. It still has to begin with some keyframe.
    pub recovery_point: bool,
    /// The parameter sets in force.
    pub config: Arc<VideoConfig>,
    /// The NAL units, each with its header byte and without a start code; AUD, SEI, filler and parameter sets removed.
    pub nals: Arc<[Bytes]>,
    /// When its last byte came out of the socket.
    pub arrival: Instant,
}

/// One Opus packet of 20 ms.
#[derive(Clone, Debug)]
pub struct AudioFrame {
    /// When its first sample is due. Consecutive packets are exactly 20 ms apart.
    pub time: MediaTime,
    /// The packet, with its TOC byte.
    pub packet: Bytes,
    /// When the last byte that it was made from came out of the socket.
    pub arrival: Instant,
}

/// A frame of either track.
#[derive(Clone, Debug)]
pub enum Frame {
    /// A coded picture.
    Video(VideoFrame),
    /// A packet of sound.
    Audio(AudioFrame),
}

impl Frame {
    /// The track it belongs to.
    pub fn track(&self) -> Track {
        match self {
            Self::Video(_) => Track::Video,
            Self::Audio(_) => Track::Audio,
        }
    }

    /// When it is due.
    pub fn time(&self) -> MediaTime {
        match self {
            Self::Video(frame) => frame.time,
            Self::Audio(frame) => frame.time,
        }
    }

    /// Makes it due at another time.
    pub fn set_time(&mut self, time: MediaTime) {
        match self {
            Self::Video(frame) => frame.time = time,
            Self::Audio(frame) => frame.time = time,
        }
    }

    /// When its last byte reached this machine.
    pub fn arrival(&self) -> Instant {
        match self {
            Self::Video(frame) => frame.arrival,
            Self::Audio(frame) => frame.arrival,
        }
    }

    /// Whether a decoder can start here: a video keyframe.
    pub fn is_keyframe(&self) -> bool {
        matches!(self, Self::Video(frame) if frame.keyframe)
    }

    /// Whether a decoder recovers here: see [`VideoFrame::recovery_point`].
    pub fn is_recovery_point(&self) -> bool {
        matches!(self, Self::Video(frame) if frame.recovery_point)
    }

    /// Bytes of coded media.
    pub fn len(&self) -> usize {
        match self {
            Self::Video(frame) => frame.nals.iter().map(Bytes::len).sum(),
            Self::Audio(frame) => frame.packet.len(),
        }
    }

    /// Whether it holds no media.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
