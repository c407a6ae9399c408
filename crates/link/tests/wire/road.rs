//! The network between two nodes.
use std::time::Duration;

/// Numbers that are the same in every run.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn is_below(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }
}

/// What the network does to a datagram, in each direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Road {
    /// How long it takes.
    pub(crate) delay: Duration,
    /// Longer by as much as this for each datagram, which reorders them.
    pub(crate) jitter: Duration,
    /// Of a thousand.
    pub(crate) loss: u64,
    /// Of a thousand, twice.
    pub(crate) duplicated: u64,
    /// None passes while this lasts.
    pub(crate) blackout: Option<(Duration, Duration)>,
    /// Bytes a second, and the bytes that wait for them at most.
    pub(crate) bottleneck: Option<(u64, usize)>,
}

impl Road {
    pub(crate) fn clean(delay: Duration) -> Self {
        Self { delay, jitter: Duration::ZERO, loss: 0, duplicated: 0, blackout: None, bottleneck: None }
    }
}
