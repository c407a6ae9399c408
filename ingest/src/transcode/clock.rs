//! When packets of sound are due: counted, and held against the publisher's timestamps.
use media::MediaTime;

/// Opus in RTP counts at this rate, whatever the sound's (RFC 7587, section 4.1).
pub const RATE_HZ: u32 = 48_000;
/// Samples of one packet: 20 ms.
pub const PACKET_SAMPLES: usize = 960;
/// The same on the media timeline.
pub const PACKET_TIME: MediaTime = MediaTime::from_millis(20);
/// Beyond this the count is wrong, not the clocks: sound was lost, muted or sent twice.
const REANCHOR_US: i64 = 60_000;
/// How many inputs the mean error remembers: timestamps are rounded to a millisecond and arrive jittered.
const MEMORY: f64 = 64.0;
/// How fast an error is worked off: a twentieth of it in a second. 50 ppm of drift leave an error of 1 ms.
const GAIN_PER_SECOND: f64 = 0.05;
const US_PER_SECOND: f64 = 1e6;

/// What is to be done with an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Correction {
    /// Use it, and make the output this much longer.
    Trim(f64),
    /// It is sound that has been played already.
    Drop,
}

/// The count of one publisher's packets.
#[derive(Debug, Default)]
pub struct AudioClock {
    /// When the next packet is due; none before the first input.
    next: Option<MediaTime>,
    /// When the first may be due at the earliest.
    earliest: Option<MediaTime>,
    mean_error_us: f64,
    is_restarting: bool,
}

impl AudioClock {
    /// Goes on after a packet that was due at `latest`. A count that begins at zero has none before it.
    pub fn after(latest: MediaTime) -> Self {
        let earliest = (latest > MediaTime::ZERO).then(|| latest + PACKET_TIME);
        Self { earliest, ..Self::default() }
    }

    /// An input due at `time` arrives while `pending` samples wait, and will come out `delay` samples late.
    pub fn on_input(&mut self, time: MediaTime, pending: f64, delay: f64) -> Correction {
        let before_us = to_us(pending + delay);
        let wanted = MediaTime::from_micros(time.as_micros().saturating_sub(before_us));
        let Some(next) = self.next else {
            self.next = Some(self.earliest.map_or(wanted, |earliest| wanted.max(earliest)));
            return Correction::Trim(1.0);
        };
        let error_us = (wanted - next).as_micros();
        if error_us < -REANCHOR_US && !self.is_restarting {
            return Correction::Drop;
        }
        if error_us > REANCHOR_US || self.is_restarting {
            // Whole packets, so that RTP steps stay multiples of a packet. Never backwards.
            let packets = (error_us.max(0) + PACKET_TIME.as_micros() / 2) / PACKET_TIME.as_micros();
            self.next = Some(next + MediaTime::from_micros(packets * PACKET_TIME.as_micros()));
            self.mean_error_us = 0.0;
            self.is_restarting = false;
            return Correction::Trim(1.0);
        }
        self.mean_error_us += (as_f64(error_us) - self.mean_error_us) / MEMORY;
        Correction::Trim(1.0 + self.mean_error_us / US_PER_SECOND * GAIN_PER_SECOND)
    }

    /// What was pending is lost: the next input says where the count goes on.
    pub fn restart_pending(&mut self) {
        self.is_restarting = self.next.is_some();
    }

    /// The time of a packet that is complete.
    pub fn next_packet(&mut self) -> MediaTime {
        let time = self.next.unwrap_or_default();
        self.next = Some(time + PACKET_TIME);
        time
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a second or so of sound")]
fn to_us(samples: f64) -> i64 {
    (samples * US_PER_SECOND / f64::from(RATE_HZ)) as i64
}

#[expect(clippy::cast_precision_loss, reason = "at most 60,000 here")]
fn as_f64(us: i64) -> f64 {
    us as f64
}
