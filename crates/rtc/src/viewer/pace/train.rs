//! What one report of arrivals says of the link.
use std::time::{Duration, Instant};

/// Packets of one report that tell a rate, and the shortest time that they are taken to have arrived in.
const TRAIN_MIN: usize = 6;
const TRAIN_SPAN_MIN_US: i64 = 1_000;
/// Packets that left within this time of each other left together. So many of them show the link even where others that
/// trickled behind them make the report long.
const TOGETHER: Duration = Duration::from_millis(4);
const TOGETHER_MIN: usize = 20;

/// The queue is as long as the least delay of so many packets at the end of a report: links that jitter deliver in bunches, of
/// which the last waited least.
const LAST: usize = 6;

/// The packets that a report names.
#[derive(Debug, Default)]
pub(super) struct Train {
    whole: Run,
    /// Packets that left together, up to now, and the best rate of such a run.
    together: Run,
    left: Option<Instant>,
    best_bps: Option<u64>,
    pub(super) lost: usize,
    /// From departure to arrival, on two clocks: of the last packets, and the least.
    delays_us: [i64; LAST],
    delay_least_us: i64,
}

/// Packets that arrived one after the other.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    packets: usize,
    bytes: usize,
    first_bytes: usize,
    /// The first and the last arrival: not those of the first and the last packet, which others may have overtaken.
    span_us: Option<(i64, i64)>,
}

impl Train {
    /// A packet that left at `left`, `left_us` on our clock, has arrived.
    pub(super) fn add(&mut self, (left, left_us): (Instant, i64), bytes: usize, arrival_us: i64) {
        let delay_us = arrival_us.saturating_sub(left_us);
        if self.whole.packets == 0 {
            (self.delays_us, self.delay_least_us) = ([delay_us; LAST], delay_us);
        }
        self.delay_least_us = self.delay_least_us.min(delay_us);
        self.delays_us[self.whole.packets % LAST] = delay_us;
        self.whole.add(bytes, arrival_us);
        if self.left.is_some_and(|before| left.saturating_duration_since(before) > TOGETHER) {
            let run = std::mem::take(&mut self.together);
            self.best_bps = self.best_bps.max(run.rate_bps(TOGETHER_MIN));
        }
        self.left = Some(left);
        self.together.add(bytes, arrival_us);
    }

    /// The least delay of all, and of the last packets: a single one may be late by itself.
    pub(super) fn delay_us(&self) -> Option<(i64, i64)> {
        let last = self.delays_us.iter().min().copied()?;
        (self.whole.packets > 0).then_some((self.delay_least_us, last))
    }

    pub(super) fn packets(&self) -> usize {
        self.whole.packets + self.lost
    }

    pub(super) fn is_lossy(&self) -> bool {
        self.lost * 20 > self.packets()
    }

    /// Bits a second that arrived, if there is enough to tell.
    pub(super) fn received_bps(&self) -> Option<u64> {
        self.whole.rate_bps(TRAIN_MIN)
    }

    /// Bits a second that are known to pass.
    pub(super) fn passed_bps(&self) -> Option<u64> {
        self.received_bps().max(self.together_bps())
    }

    /// Bits a second at which packets that left together arrived, if enough of them did.
    pub(super) fn together_bps(&self) -> Option<u64> {
        self.best_bps.max(self.together.rate_bps(TOGETHER_MIN))
    }
}

impl Run {
    fn add(&mut self, bytes: usize, arrival_us: i64) {
        if self.span_us.is_none_or(|(first, _)| arrival_us < first) {
            self.first_bytes = bytes;
        }
        let (first, last) = self.span_us.unwrap_or((arrival_us, arrival_us));
        self.span_us = Some((first.min(arrival_us), last.max(arrival_us)));
        self.packets += 1;
        self.bytes += bytes;
    }

    /// Bits a second between the first and the last arrival, if there are at least so many.
    fn rate_bps(&self, packets_min: usize) -> Option<u64> {
        if self.packets < packets_min {
            return None;
        }
        let (first_us, last_us) = self.span_us?;
        let span_us = last_us.saturating_sub(first_us).max(TRAIN_SPAN_MIN_US);
        let bits = (self.bytes - self.first_bytes) as u64 * 8_000_000;
        Some(bits / u64::try_from(span_us).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_was_overtaken_does_not_make_the_link_look_faster() {
        let now = Instant::now();
        // 1,250 bytes every 10 ms are 1 Mbit/s; the first or the last of them comes out of its turn.
        let late = [95_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 90_000];
        let early = [0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 5_000];
        for arrivals in [late, early] {
            let mut train = Train::default();
            arrivals.iter().for_each(|arrival_us| train.add((now, 0), 1_250, *arrival_us));
            let bps = train.received_bps().unwrap();
            assert!((900_000..1_500_000).contains(&bps), "{bps}");
        }
    }
}
