//! How frames reach viewers: in turns, each for some of them.
use std::sync::Arc;
use std::time::Instant;

use media::Track;
use rand::Rng;
use rtp::Packets;

use super::Egress;
use crate::id::StreamId;
use crate::mailbox::Room;
use crate::ring::Ring;
use crate::viewer::Crowd;

/// Viewers that get a frame of video before audio that has come meanwhile goes first: a millisecond's worth of a keyframe.
const VIDEO_TURN: usize = 64;
/// The same for audio, whose packets are one to a viewer.
const AUDIO_TURN: usize = 512;
/// The place of a viewer that left amid a turn.
pub(super) const NOBODY: usize = usize::MAX;

/// A stream as one shard sees it.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) origin: Instant,
    pub(super) ring: Ring,
    /// The slots of its viewers. While a turn runs, whoever leaves is replaced by [`NOBODY`], so that nobody is left out.
    pub(super) viewers: Vec<usize>,
    /// Turns that have begun and not ended.
    pub(super) turns: usize,
    pub(super) crowd: Crowd,
}

/// One frame on its way to the viewers of a stream.
#[derive(Debug)]
pub(super) struct Turn {
    stream: StreamId,
    frame: Arc<Packets>,
    /// How many viewers it goes to, the first of them, and how many have it: the order is another for each frame, so that when
    /// something is short it is not always short for the same.
    count: usize,
    first: usize,
    done: usize,
    _room: Room,
}

impl Egress {
    pub(super) fn on_frame(&mut self, id: StreamId, frame: Arc<Packets>, room: Room) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let is_audio = frame.track == Track::Audio;
        if !is_audio {
            stream.ring.push(Arc::clone(&frame));
            // A turn that has not begun brings this frame too.
            if self.video.iter().any(|turn| turn.stream == id && turn.done == 0) {
                return;
            }
        }
        let turn = Turn { stream: id, frame, count: 0, first: 0, done: 0, _room: room };
        if is_audio { self.audio.push_back(turn) } else { self.video.push_back(turn) }
    }

    /// Whether the socket is full: then no video is written, and viewers go on from there when it has room.
    pub(crate) fn set_blocked(&mut self, is_blocked: bool) {
        self.is_blocked = is_blocked;
    }

    /// Sends a part of what waits, audio first. Returns whether there is more; the batch is to be flushed in between.
    pub(crate) fn work(&mut self, now: Instant) -> bool {
        let (queue, at_once) = match self.audio.is_empty() {
            false => (&mut self.audio, AUDIO_TURN),
            true if !self.is_blocked => (&mut self.video, VIDEO_TURN),
            true => return false,
        };
        let Some(mut turn) = queue.pop_front() else { return false };
        let Some(stream) = self.streams.get_mut(&turn.stream) else { return true };
        if turn.done == 0 {
            if stream.turns == 0 {
                stream.viewers.retain(|slot| *slot != NOBODY);
            }
            stream.turns += 1;
            turn.count = stream.viewers.len();
            turn.first = if turn.count > 1 { self.rng.random_range(0..turn.count) } else { 0 };
        }
        let is_audio = turn.frame.track == Track::Audio;
        let after = turn.count.min(turn.done + at_once);
        for place in turn.done..after {
            let place = turn.first + place;
            let place = if place < turn.count { place } else { place - turn.count };
            let slot = stream.viewers.get(place).copied().unwrap_or(NOBODY);
            let batch = &mut self.out.batch;
            if is_audio {
                if let Some(peer) = self.table.peer_mut(slot) {
                    peer.with_media(batch, |viewer, out| viewer.send_audio(&turn.frame, out));
                }
            } else {
                self.table.drive(slot, |peer| peer.send_video(now, &stream.ring, batch));
            }
        }
        // Also a turn without viewers has begun.
        turn.done = after.max(1);
        if after < turn.count {
            if is_audio { self.audio.push_front(turn) } else { self.video.push_front(turn) }
        } else {
            stream.turns -= 1;
            self.finished.push((turn.frame.track, turn.frame.arrival));
        }
        true
    }

    /// The batch was written, and with it whatever [`Self::work`] has finished.
    pub(crate) fn on_flushed(&mut self, now: impl FnOnce() -> Instant) {
        if self.finished.is_empty() {
            return;
        }
        let now = now();
        for (track, arrival) in self.finished.drain(..) {
            let delay = match track {
                Track::Audio => &self.counters.audio_delay,
                Track::Video => &self.counters.video_delay,
            };
            delay.observe(now.saturating_duration_since(arrival));
        }
    }
}
