//! One direction of a viewer's way to the node.
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

/// IPv4 and UDP.
const HEADERS: usize = 28;

/// What a direction does to packets. The default delivers all of them after 10 ms.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) delay: Duration,
    /// From this time on the way takes this much longer.
    pub(crate) longer: Option<(Duration, Duration)>,
    /// Further delay of up to this much; packets do not overtake each other by it.
    pub(crate) jitter: Duration,
    /// Share of packets that are lost, each by its own fate.
    pub(crate) loss: f64,
    /// Share of packets that take 30 ms longer than those behind them.
    pub(crate) reordering: f64,
    /// Share of packets that arrive twice.
    pub(crate) duplication: f64,
    /// The bottleneck, in bits a second from each of these times on.
    pub(crate) rates: Vec<(Duration, u64)>,
    /// What waits before the bottleneck at most; more is dropped.
    pub(crate) queue: Duration,
    /// Times at which nothing passes.
    pub(crate) blackouts: Vec<Range<Duration>>,
    /// These are lost, counted from 0 in the order in which they are sent.
    pub(crate) lost: Vec<usize>,
    /// The first so many packets of this kind are lost.
    pub(crate) lost_kind: Option<(Kind, usize)>,
    pub(crate) seen: Seen,
    pub(crate) free: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

/// Tells packets of one kind.
pub(crate) type Kind = fn(&[u8]) -> bool;

/// What became of packets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    pub(crate) dropped: usize,
    pub(crate) queue_most: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            longer: None,
            jitter: Duration::ZERO,
            loss: 0.0,
            reordering: 0.0,
            duplication: 0.0,
            rates: Vec::new(),
            queue: Duration::from_millis(300),
            blackouts: Vec::new(),
            lost: Vec::new(),
            lost_kind: None,
            seen: Seen::default(),
            free: None,
            last: None,
        }
    }
}

impl Link {
    /// A bottleneck of this rate before which 300 ms may wait.
    pub(crate) fn bottleneck(bps: u64) -> Self {
        Self { rates: vec![(Duration::ZERO, bps)], ..Self::default() }
    }

    /// A packet of this size enters. Returns when it arrives: never, once or twice.
    pub(crate) fn pass(
        &mut self,
        now: Instant,
        since: Duration,
        packet: &[u8],
        rng: &mut StdRng,
    ) -> [Option<Instant>; 2] {
        let (number, len) = (self.seen.packets, packet.len());
        self.seen.packets += 1;
        self.seen.bytes += len;
        let is_lost = self.loss > 0.0 && rng.random_bool(self.loss)
            || self.blackouts.iter().any(|blackout| blackout.contains(&since))
            || self.lost.contains(&number);
        let is_of_kind = self.lost_kind.as_mut().is_some_and(|(is_of_kind, left)| {
            let is_lost = *left > 0 && is_of_kind(packet);
            *left -= usize::from(is_lost);
            is_lost
        });
        if is_lost || is_of_kind {
            self.seen.dropped += 1;
            return [None, None];
        }
        let mut at = now;
        if let Some((_, bps)) = self.rates.iter().rev().find(|(from, _)| *from <= since) {
            let free = self.free.unwrap_or(now).max(now);
            if free - now > self.queue {
                self.seen.dropped += 1;
                return [None, None];
            }
            let bits = (len + HEADERS) as u64 * 8;
            at = free + Duration::from_nanos(bits * 1_000_000_000 / bps);
            self.free = Some(at);
            self.seen.queue_most = self.seen.queue_most.max(at - now);
        }
        at += self.delay;
        at += self.longer.filter(|(from, _)| *from <= since).map_or(Duration::ZERO, |(_, by)| by);
        if !self.jitter.is_zero() {
            at += self.jitter.mul_f64(rng.random());
        }
        at = self.last.map_or(at, |last| last.max(at));
        let again = (self.duplication > 0.0 && rng.random_bool(self.duplication))
            .then_some(at + Duration::from_millis(3));
        if self.reordering > 0.0 && rng.random_bool(self.reordering) {
            return [Some(at + Duration::from_millis(30)), again];
        }
        self.last = Some(at);
        [Some(at), again]
    }
}
