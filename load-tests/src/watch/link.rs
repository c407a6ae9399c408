//! A test link in front of the viewers' sockets: datagrams are lost and delayed, the same ones in every run.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Datagrams under way in one direction, for all viewers of a thread: 1,000 viewers of 250 packets/s for a second.
const QUEUE_MAX: usize = 1 << 18;

/// What the link does, in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quality {
    /// Share of datagrams that are lost, from 0 to 1.
    pub(crate) loss: f64,
    /// How long each way takes.
    pub(crate) delay: Duration,
    pub(crate) seed: u64,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Link {
    quality: Quality,
    dice: StdRng,
    queue: VecDeque<(Instant, usize, Vec<u8>)>,
    pub(super) lost: u64,
    /// Beyond what the queue holds; this spoils a measurement and is reported.
    pub(super) overflowed: u64,
}

impl Link {
    pub(super) fn new(quality: Quality, number: u64) -> Self {
        let dice = StdRng::seed_from_u64(quality.seed.wrapping_mul(0x9e37_79b9).wrapping_add(number));
        Self { quality, dice, queue: VecDeque::new(), lost: 0, overflowed: 0 }
    }

    /// Sends a datagram of, or to, viewer `id` on its way.
    pub(super) fn push(&mut self, now: Instant, id: usize, datagram: Vec<u8>) {
        if self.dice.random_bool(self.quality.loss) {
            self.lost += 1;
        } else if self.queue.len() >= QUEUE_MAX {
            self.overflowed += 1;
        } else {
            self.queue.push_back((now + self.quality.delay, id, datagram));
        }
    }

    /// The next datagram that has arrived.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        self.queue.pop_front_if(|(due, ..)| *due <= now).map(|(_, id, datagram)| (id, datagram))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(due, ..)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_delay_are_as_asked_and_repeatable() {
        let quality = Quality { loss: 0.03, delay: Duration::from_millis(50), seed: 7 };
        let start = Instant::now();
        let run = || {
            let mut link = Link::new(quality, 1);
            for id in 0..10_000 {
                link.push(start, id, vec![1]);
            }
            assert_eq!(link.pop(start + Duration::from_millis(49)), None);
            let there = start + Duration::from_millis(50);
            std::iter::from_fn(|| link.pop(there)).map(|(id, _)| id).collect::<Vec<_>>()
        };
        let arrived = run();
        assert!((9_650..9_750).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(arrived, run());
    }
}
