//! How much may be on its way between two nodes.
//!
//! Live media is no file: its rate is given, and a controller that halves its window at each loss only makes it late. The window is
//! what the streams of the connection need, twice, and no more; what does not fit is given up by whole groups.
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use crate::strain::Shortest;

/// Bytes on their way at least: a keyframe of 4K at once.
const WINDOW_MIN: u64 = 1 << 20;
/// And at most.
const WINDOW_MAX: u64 = 8 << 20;
/// The round trip that is assumed until one is measured.
const RTT_FIRST: Duration = Duration::from_millis(50);

/// The window of a connection; clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Window {
    rate_bps: Arc<AtomicU64>,
}

/// What one stream needs of a window.
#[derive(Debug)]
pub struct Need {
    window: Window,
    bps: u64,
}

impl Window {
    /// Of one stream more, which needs nothing yet.
    pub fn need(&self) -> Need {
        Need { window: self.clone(), bps: 0 }
    }
}

impl Need {
    /// It needs this many bits a second.
    pub fn set(&mut self, bps: u64) {
        // Never below what is there: each takes away what it has added.
        self.window.rate_bps.fetch_add(bps, Ordering::Relaxed);
        self.window.rate_bps.fetch_sub(std::mem::replace(&mut self.bps, bps), Ordering::Relaxed);
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl ControllerFactory for Window {
    fn build(self: Arc<Self>, _now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Live { window: (*self).clone(), rtt: RTT_FIRST, shortest: Shortest::default() })
    }
}

#[derive(Clone, Debug)]
struct Live {
    window: Window,
    rtt: Duration,
    shortest: Shortest,
}

impl Controller for Live {
    fn on_ack(&mut self, now: Instant, _sent: Instant, _bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        self.rtt = self.shortest.on_round_trip(now, rtt.get());
    }

    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _is_persistent: bool, _lost_bytes: u64) {
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        let bytes_per_second = self.window.rate_bps.load(Ordering::Relaxed) / 8;
        let rtt_us = u64::try_from(self.rtt.as_micros()).unwrap_or(u64::MAX);
        let needed = bytes_per_second.saturating_mul(rtt_us) / 1_000_000;
        needed.saturating_mul(2).clamp(WINDOW_MIN, WINDOW_MAX)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_MIN
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
