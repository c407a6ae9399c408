//! How often the bounds of the hub were reached.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all streams together; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    streams_refused: AtomicU64,
    groups_cut: AtomicU64,
    video_frames_dropped: AtomicU64,
    audio_frames_dropped: AtomicU64,
    notices_dropped: AtomicU64,
}

impl Stats {
    /// Publishers refused because the node carries as many streams as it may.
    pub fn streams_refused(&self) -> u64 {
        self.0.streams_refused.load(Ordering::Relaxed)
    }

    /// Groups of pictures that outgrew their bounds and were cut to the keyframe.
    pub fn groups_cut(&self) -> u64 {
        self.0.groups_cut.load(Ordering::Relaxed)
    }

    /// Video frames that a subscriber did not get: its queue was full, or its group of pictures was cut.
    pub fn video_frames_dropped(&self) -> u64 {
        self.0.video_frames_dropped.load(Ordering::Relaxed)
    }

    /// Audio frames that a subscriber did not get because its queue was full.
    pub fn audio_frames_dropped(&self) -> u64 {
        self.0.audio_frames_dropped.load(Ordering::Relaxed)
    }

    /// Changes of tracks and pauses that a later one of the same subscriber made void.
    pub fn notices_dropped(&self) -> u64 {
        self.0.notices_dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn on_stream_refused(&self) {
        self.0.streams_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_group_cut(&self) {
        self.0.groups_cut.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_video_dropped(&self, count: u64) {
        self.0.video_frames_dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn on_audio_dropped(&self, count: u64) {
        self.0.audio_frames_dropped.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn on_notice_dropped(&self) {
        self.0.notices_dropped.fetch_add(1, Ordering::Relaxed);
    }
}
