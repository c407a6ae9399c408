//! The frames since the last keyframe, so that a late viewer sees a picture at once.
use std::collections::VecDeque;
use std::sync::Arc;

use media::MediaTime;

use crate::keyframe::{Keyframe, Made};
use crate::place::StreamFrame;

/// Bytes of coded video that one stream may keep: a 10 s GOP at 12 Mbit/s.
const GOP_BYTES_MAX: usize = 16 << 20;
/// Span of one GOP: encoders that never send a second keyframe must not fill memory with small frames.
const GOP_SPAN_MAX: MediaTime = MediaTime::from_millis(30_000);
/// Frames of one GOP: the span at 60 a second. Timestamps 1 ms apart must not turn it into 30,000.
const GOP_FRAMES_MAX: usize = 1800;

/// The video of the current group of pictures, its keyframe first.
///
/// Encoders that refresh the picture bit by bit send one keyframe and then recovery points. Once such a group is cut, it
/// is the keyframe, without which no decoder begins, and the frames from the recovery point before the last: with them
/// the picture is whole again (`docs/decisions/0007-recovery-points.md`).
#[derive(Debug, Default)]
pub(crate) struct Gop {
    frames: VecDeque<Arc<StreamFrame>>,
    bytes: usize,
    /// The group outgrew its bounds: only the keyframe is kept, and nothing more until the next one or a recovery point.
    overgrown: bool,
    /// Where the last recovery point is, in a group that goes on after it was cut.
    recovery: Option<usize>,
    /// What was made of the keyframe, once somebody has asked for it.
    made: Option<Made>,
}

impl Gop {
    /// Keeps a frame. True when the group has just outgrown its bounds.
    pub(crate) fn push(&mut self, item: &Arc<StreamFrame>) -> bool {
        let frame = &item.frame;
        if frame.is_keyframe() {
            self.clear();
        } else if self.frames.is_empty() || (self.overgrown && !frame.is_recovery_point()) {
            return false;
        } else if frame.is_recovery_point() && (self.overgrown || self.recovery.is_some()) {
            self.go_on_from_recovery();
        }
        let first = self.frames.get(usize::from(self.recovery.is_some()));
        let span = first.map_or(MediaTime::ZERO, |first| frame.time() - first.frame.time());
        let bytes = self.bytes.saturating_add(frame.len());
        self.overgrown = bytes > GOP_BYTES_MAX || span > GOP_SPAN_MAX || self.frames.len() >= GOP_FRAMES_MAX;
        if self.overgrown {
            self.frames.truncate(1);
            self.bytes = self.frames.iter().map(|kept| kept.frame.len()).sum();
            self.recovery = None;
            return true;
        }
        self.bytes = bytes;
        self.frames.push_back(Arc::clone(item));
        false
    }

    /// A recovery point comes next: what was before the last one is not needed any more.
    fn go_on_from_recovery(&mut self) {
        let kept_from = self.recovery.unwrap_or(1).min(self.frames.len());
        let freed: usize = self.frames.drain(1..kept_from.max(1)).map(|gone| gone.frame.len()).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        self.recovery = Some(self.frames.len());
        self.overgrown = false;
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether frames are missing between the snapshot and the next frame of the stream: a decoder that gets both shows
    /// damage, so video has to wait for the next keyframe.
    pub(crate) fn is_cut(&self) -> bool {
        self.overgrown
    }

    /// The keyframe, which stays when the group is cut.
    pub(crate) fn keyframe(&mut self) -> Option<Keyframe> {
        let first = self.frames.front()?;
        Keyframe::new(first, Made::clone(self.made.get_or_insert_default()))
    }

    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Arc<StreamFrame>> + '_ {
        self.frames.iter().cloned()
    }
}
