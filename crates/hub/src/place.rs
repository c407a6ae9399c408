//! Which frame of a stream a frame is.
use media::{Frame, MediaTime, Track};

/// Packets of sound in a group: one second.
const AUDIO_GROUP: u32 = 50;

/// Where a frame stands among those of its track. Nodes that pass a stream on keep it, so that who changes from one node
/// to another knows which frames it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which publisher of the stream it came from.
    pub epoch: u64,
    /// The group: of pictures from a keyframe or recovery point to the next, or a second of sound.
    pub group: u64,
    /// Which of the group, from 0.
    pub index: u32,
}

impl Place {
    /// The first frame of an epoch.
    pub fn first(epoch: u64) -> Self {
        Self { epoch, group: 0, index: 0 }
    }
}

/// One frame as a stream passes it on.
#[derive(Clone, Debug)]
pub struct StreamFrame {
    /// Which it is.
    pub place: Place,
    /// When it is due on the timeline of its epoch, which is the same at every node.
    pub epoch_time: MediaTime,
    /// The frame, whose time is the stream's here.
    pub frame: Frame,
}

/// Counts the frames of a stream.
#[derive(Debug, Default)]
pub(crate) struct Places {
    video: Option<Place>,
    audio: Option<Place>,
}

impl Places {
    /// The place of the next frame, at the node that makes the frames.
    pub(crate) fn next(&mut self, epoch: u64, frame: &Frame) -> Place {
        let last = self.last_mut(frame.track());
        let begins_group = |last: &Place| match frame {
            Frame::Video(_) => frame.is_keyframe() || frame.is_recovery_point(),
            Frame::Audio(_) => last.index + 1 >= AUDIO_GROUP,
        };
        let next = match last.filter(|last| last.epoch == epoch) {
            None => Place::first(epoch),
            Some(last) if begins_group(&last) => Place { group: last.group + 1, index: 0, epoch },
            Some(last) => Place { index: last.index.saturating_add(1), ..last },
        };
        *last = Some(next);
        next
    }

    /// Takes the place that another node gave a frame. False for a frame that was there before, or is older.
    pub(crate) fn admit(&mut self, track: Track, place: Place) -> bool {
        let last = self.last_mut(track);
        let is_new = last.is_none_or(|last| last < place);
        if is_new {
            *last = Some(place);
        }
        is_new
    }

    fn last_mut(&mut self, track: Track) -> &mut Option<Place> {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }
}
