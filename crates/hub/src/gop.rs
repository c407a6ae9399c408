//! The frames since the last keyframe, so that a late viewer sees a picture at once.
use std::collections::VecDeque;

use media::{Frame, MediaTime, VideoFrame};

/// Bytes of coded video that one stream may keep: a 10 s GOP at 12 Mbit/s.
const GOP_BYTES_MAX: usize = 16 << 20;
/// Span of one GOP: encoders that never send a second keyframe must not fill memory with small frames.
const GOP_SPAN_MAX: MediaTime = MediaTime::from_millis(30_000);
/// Frames of one GOP: the span at 60 a second. Timestamps 1 ms apart must not turn it into 30,000.
const GOP_FRAMES_MAX: usize = 1800;

/// The video of the current group of pictures, its keyframe first.
#[derive(Debug, Default)]
pub(crate) struct Gop {
    frames: VecDeque<VideoFrame>,
    bytes: usize,
    /// The group outgrew its bounds: only the keyframe is kept, and nothing more until the next one.
    overgrown: bool,
}

impl Gop {
    /// Keeps a frame. True when the group has just outgrown its bounds.
    pub(crate) fn push(&mut self, frame: &VideoFrame) -> bool {
        let len: usize = frame.nals.iter().map(bytes::Bytes::len).sum();
        if frame.keyframe {
            self.clear();
        } else if self.frames.is_empty() || self.overgrown {
            return false;
        }
        let span = self.frames.front().map_or(MediaTime::ZERO, |first| frame.time - first.time);
        self.overgrown = self.bytes.saturating_add(len) > GOP_BYTES_MAX
            || span > GOP_SPAN_MAX
            || self.frames.len() >= GOP_FRAMES_MAX;
        if self.overgrown {
            self.frames.truncate(1);
            return true;
        }
        self.bytes = self.bytes.saturating_add(len);
        self.frames.push_back(frame.clone());
        false
    }

    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.overgrown = false;
    }

    /// Whether frames are missing between the snapshot and the next frame of the stream: a decoder that gets both shows
    /// damage, so video has to wait for the next keyframe.
    pub(crate) fn is_cut(&self) -> bool {
        self.overgrown
    }

    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Frame> + '_ {
        self.frames.iter().cloned().map(Frame::Video)
    }
}
