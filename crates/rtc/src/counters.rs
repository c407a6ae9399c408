//! What the shards count. Every number only grows, but for those that say otherwise.
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sum over all shards.
#[derive(Debug, Default)]
pub struct Counters {
    /// RTP packets sent, retransmissions included.
    pub packets: Counter,
    /// Bytes of RTP payload sent, retransmissions included.
    pub bytes: Counter,
    /// Packets that were sent again.
    pub resent: Counter,
    /// Keyframe requests received.
    pub keyframe_requests: Counter,
    /// Times that a viewer skipped frames up to a keyframe.
    pub skips: Counter,
    /// Frames that a shard was too busy to take.
    pub frames_dropped: Counter,
    /// Messages that the kernel would not take.
    pub send_refused: Counter,
    /// System calls made for sending.
    pub send_calls: Counter,
    /// Datagrams received that belong to nobody.
    pub strays: Counter,
    /// Datagrams and connections handed to the shard they belong to.
    pub forwarded: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
}
