//! When messages are sent.
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How long a phone whose network comes and goes sends nothing at all, in milliseconds.
const SILENCE_MS: std::ops::RangeInclusive<u64> = 40..=800;

/// How evenly a publisher sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Pacing {
    /// Every message at its time.
    Real,
    /// What has gathered in 40 to 800 ms at once, as over poor Wi-Fi.
    Bursty,
}

/// The pacing of one publisher.
#[derive(Debug)]
pub(super) struct Pacer {
    pacing: Pacing,
    random: SmallRng,
    /// When what has gathered is sent.
    release: Duration,
}

impl Pacer {
    /// The same seed gives the same bursts.
    pub(super) fn new(pacing: Pacing, seed: u64) -> Self {
        Self { pacing, random: SmallRng::seed_from_u64(seed), release: Duration::ZERO }
    }

    /// When a message that is due then is sent. Messages come in the order of their times.
    pub(super) fn release(&mut self, due: Duration) -> Duration {
        if self.pacing == Pacing::Real {
            return due;
        }
        while self.release < due {
            self.release += Duration::from_millis(self.random.random_range(SILENCE_MS));
        }
        self.release
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_late_but_never_early_and_the_same_again() {
        let dues = || (0..3000).map(|ms| Duration::from_millis(ms * 33));
        let run = |seed| {
            let mut pacer = Pacer::new(Pacing::Bursty, seed);
            dues().map(|due| pacer.release(due)).collect::<Vec<_>>()
        };
        let releases = run(1);
        assert!(releases.is_sorted() && releases == run(1) && releases != run(2));
        for (due, release) in dues().zip(releases) {
            assert!(release >= due && release - due <= Duration::from_millis(800));
        }
    }
}
