//! One frame as the payloads of its packets.
use std::time::Instant;

use media::{MediaTime, Track};

/// The payloads of one frame, in one allocation, shared by every viewer of the stream.
#[derive(Debug)]
pub struct Packets {
    /// The track it belongs to.
    pub track: Track,
    /// Whether a decoder can start here.
    pub keyframe: bool,
    /// Whether a decoder that was given any keyframe is right again some frames later.
    pub recovery_point: bool,
    /// When the frame is due.
    pub time: MediaTime,
    /// When it reached the node.
    pub arrival: Instant,
    /// The frame's place in its track, counted from 0 without holes.
    pub number: u64,
    /// The first packet's place in its track, counted from 0 without holes.
    pub first: u64,
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Packets {
    pub(crate) fn new(track: Track, keyframe: bool, time: MediaTime, arrival: Instant) -> Self {
        let (data, ends) = (Vec::new(), Vec::new());
        Self { track, keyframe, recovery_point: false, time, arrival, number: 0, first: 0, data, ends }
    }

    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.data.reserve_exact(bytes);
    }

    /// Appends one payload, given in parts.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.data.extend_from_slice(part);
        }
        self.ends.push(u32::try_from(self.data.len()).expect("a frame is far below 4 GiB"));
    }

    /// How many packets the frame has; never 0.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of payload in all packets together.
    pub fn len_bytes(&self) -> usize {
        self.data.len()
    }

    /// The payload of packet `index` of this frame.
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.data.get(start..end)
    }

    /// Whether packet `index` of this frame is its last, which carries the marker of a picture.
    pub fn is_last(&self, index: usize) -> bool {
        index.saturating_add(1) == self.ends.len()
    }
}
