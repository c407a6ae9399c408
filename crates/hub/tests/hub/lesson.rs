//! The frames of a lesson.
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media::{AudioFrame, Frame, MediaTime, Tracks, VideoConfig, VideoFrame};

pub(crate) fn config() -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        sps: Bytes::from_static(&[0x67, 0x42, 0xc0, 0x1f]),
        pps: vec![Bytes::from_static(&[0x68, 0xce])],
        profile_level_id: [0x42, 0xc0, 0x1f],
        width: 640,
        height: 360,
    })
}

pub(crate) fn video(millis: i64, keyframe: bool, len: usize) -> Frame {
    Frame::Video(VideoFrame {
        time: MediaTime::from_millis(millis),
        keyframe,
        recovery_point: false,
        config: config(),
        nals: Arc::from([Bytes::from(vec![0x41; len])]),
        arrival: Instant::now(),
    })
}

pub(crate) fn audio(millis: i64) -> Frame {
    Frame::Audio(AudioFrame {
        time: MediaTime::from_millis(millis),
        packet: Bytes::from_static(&[0xf8, 0xff, 0xfe]),
        arrival: Instant::now(),
    })
}

pub(crate) fn tracks() -> Tracks {
    Tracks { video: Some(config()), audio: true }
}
