//! What the shards count. Every number only grows, but for those that say otherwise.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

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

/// Upper ends of a histogram's buckets, in microseconds; what is longer falls into one more.
const BOUNDS_US: [u64; 20] = [
    50, 100, 200, 300, 500, 750, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
    100_000, 200_000, 500_000, 1_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len()],
    longer: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.buckets.get(BOUNDS_US.partition_point(|bound| *bound < took_us));
        bucket.unwrap_or(&self.longer).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// The buckets: their upper ends in seconds, and how many were not longer than that.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().scan(0_u64, |sum, bucket| {
            *sum = sum.saturating_add(bucket.load(Ordering::Relaxed));
            Some(*sum)
        });
        BOUNDS_US.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64()).zip(counts)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        let within: u64 = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum();
        within.saturating_add(self.longer.load(Ordering::Relaxed))
    }

    /// How long all of them took together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64()
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
    /// Times that the socket was full; what was left waited.
    pub send_blocked: Counter,
    /// Packets dropped because too much waited for a full socket.
    pub send_dropped: Counter,
    /// Times that the kernel refused segmented messages to a peer, which got datagrams one by one for a while.
    pub unsegmented: Counter,
    /// Packets dropped because an ICE-TCP connection took too little.
    pub tcp_dropped: Counter,
    /// System calls made for sending.
    pub send_calls: Counter,
    /// Datagrams received that belong to nobody.
    pub strays: Counter,
    /// Datagrams and connections handed to the shard they belong to.
    pub forwarded: Counter,
    /// Datagrams and connections for another shard that had no room for them.
    pub forwards_dropped: Counter,
    /// Addresses known to belong to other shards that were forgotten because they were too many.
    pub foreign_forgotten: Counter,
    /// ICE-TCP connections that found no room.
    pub connections_refused: Counter,
    /// Handshake datagrams that were dropped because too many waited.
    pub handshakes_refused: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Retransmissions that were asked for beyond a viewer's budget.
    pub resends_refused: Counter,
    /// From the arrival of audio at the node to when a shard had sent it to all its viewers.
    pub audio_delay: Histogram,
    /// The same of video, of its first packets if they are many.
    pub video_delay: Histogram,
    /// How long the passes of shards took.
    pub pass_time: Histogram,
    /// From a viewer's answer to its first report on the picture: when it has seen some of it at the latest.
    pub first_report: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_not_longer_than_its_end() {
        let histogram = Histogram::default();
        for took_us in [0, 50, 51, 1_000_000, 1_000_001, u64::MAX >> 20] {
            histogram.observe(Duration::from_micros(took_us));
        }
        let buckets: Vec<(f64, u64)> = histogram.cumulative().collect();
        assert_eq!(buckets.first(), Some(&(0.000_05, 2)));
        assert_eq!(buckets.get(1), Some(&(0.000_1, 3)));
        assert_eq!((buckets.last(), histogram.count()), (Some(&(1.0, 4)), 6));
    }
}
