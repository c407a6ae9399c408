//! A point on a stream's media timeline.
use std::fmt;
use std::ops::{Add, Sub};

/// A signed number of microseconds since the stream's origin.
///
/// It says when a frame is due on the media timeline and is never compared with a clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(i64);

impl MediaTime {
    /// The origin of the timeline.
    pub const ZERO: Self = Self(0);

    /// From microseconds since the origin.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds since the origin.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the origin, rounded towards zero.
    pub const fn as_millis(self) -> i64 {
        self.0 / 1000
    }

    /// Ticks of a clock of `rate_hz` since the origin, rounded down; callers keep the low 32 bits for RTP.
    pub fn ticks(self, rate_hz: u32) -> i64 {
        let wide = i128::from(self.0).saturating_mul(i128::from(rate_hz)).div_euclid(1_000_000);
        i64::try_from(wide).unwrap_or(i64::MAX)
    }
}

impl Add for MediaTime {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for MediaTime {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for MediaTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_milliseconds_are_exactly_960_ticks_at_48_khz() {
        for packet in 0..100_000 {
            assert_eq!(MediaTime::from_micros(packet * 20_000).ticks(48_000), packet * 960);
        }
    }

    #[test]
    fn time_before_the_origin_rounds_down() {
        assert_eq!(MediaTime::from_micros(-1).ticks(90_000), -1);
    }
}
