//! The frames since the last keyframe, so that a late viewer sees a picture at once.
use std::collections::VecDeque;

use media::{Frame, MediaTime, VideoFrame};

/// Bytes of coded video that one stream may keep: a 10 s GOP at 12 Mbit/s.
const GOP_BYTES_MAX: usize = 16 << 20;
/// Span of one GOP: encoders that never send a second keyframe must not fill memory with small frames.
const GOP_SPAN_MAX: MediaTime = MediaTime::from_millis(30_000);

/// The video of the current group of pictures, its keyframe first.
#[derive(Debug, Default)]
pub(crate) struct Gop {
    frames: VecDeque<VideoFrame>,
    bytes: usize,
    /// The group outgrew its bounds: only the keyframe is kept, and nothing more until the next one.
    overgrown: bool,
}

impl Gop {
    pub(crate) fn push(&mut self, frame: &VideoFrame) {
        let len: usize = frame.nals.iter().map(bytes::Bytes::len).sum();
        if frame.keyframe {
            self.clear();
        } else if self.frames.is_empty() || self.overgrown {
            return;
        }
        let span = self.frames.front().map_or(MediaTime::ZERO, |first| frame.time - first.time);
        if self.bytes.saturating_add(len) > GOP_BYTES_MAX || span > GOP_SPAN_MAX {
            self.frames.truncate(1);
            self.overgrown = true;
            return;
        }
        self.bytes = self.bytes.saturating_add(len);
        self.frames.push_back(frame.clone());
    }

    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.overgrown = false;
    }

    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Frame> + '_ {
        self.frames.iter().cloned().map(Frame::Video)
    }
}
