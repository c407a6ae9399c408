//! The newest picture of a stream that needs no other.
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use media::{Frame, VideoConfig};

use crate::place::{Place, StreamFrame};

/// What somebody has made of a keyframe; none if nothing can be made of it.
pub(crate) type Made = Arc<OnceLock<Option<Bytes>>>;

/// The newest keyframe of a stream. The bytes are those that subscribers get.
#[derive(Clone, Debug)]
pub struct Keyframe {
    /// Which picture of the stream it is: no other of the same class has this place.
    pub place: Place,
    /// The parameter sets in force.
    pub config: Arc<VideoConfig>,
    /// Its NAL units: [`media::VideoFrame::nals`].
    pub nals: Arc<[Bytes]>,
    made: Made,
}

impl Keyframe {
    pub(crate) fn new(item: &StreamFrame, made: Made) -> Option<Self> {
        let Frame::Video(frame) = &item.frame else { return None };
        let (config, nals) = (Arc::clone(&frame.config), Arc::clone(&frame.nals));
        Some(Self { place: item.place, config, nals, made })
    }

    /// What `make` makes of it, which is called once however many ask. The stream keeps it until its next keyframe, or its end.
    pub fn made(&self, make: impl FnOnce(&Self) -> Option<Bytes>) -> Option<Bytes> {
        self.made.get_or_init(|| make(self)).clone()
    }
}
