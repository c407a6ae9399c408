//! How evenly pictures come: gaps, freezes, and the same within a window of time.
use std::time::{Duration, Instant};

use super::totals::Totals;

/// A picture later than this after the one before is a freeze.
const FREEZE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Smoothness {
    /// The last picture, or packet of one in viewers that do not decrypt.
    last: Option<Instant>,
    longest_gap: Duration,
    freezes: u64,
    window: Option<Window>,
}

#[derive(Debug)]
struct Window {
    longest_gap: Duration,
    /// Packets that were lost before it was opened.
    lost_before: u64,
}

impl Smoothness {
    /// A picture has come.
    pub(super) fn on_picture(&mut self, now: Instant, totals: &mut Totals) {
        if let Some(before) = self.last.replace(now) {
            self.on_gap(now.saturating_duration_since(before), totals);
        }
    }

    /// Begins to watch for gaps and losses of its own, or ends it and writes them down.
    pub(super) fn set_window(&mut self, now: Instant, is_open: bool, lost: u64, totals: &mut Totals) {
        if is_open {
            self.window = Some(Window { longest_gap: Duration::ZERO, lost_before: lost });
        } else if let Some(window) = self.window.take() {
            let since_last = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            totals.window_longest_gap_ms.record_time(window.longest_gap.max(since_last));
            totals.window_lost_per_viewer.record(lost.saturating_sub(window.lost_before));
        }
    }

    /// Writes down what is known at the end; silence until then is a gap too.
    pub(super) fn finish(&mut self, now: Instant, lost: u64, totals: &mut Totals) {
        self.set_window(now, false, lost, totals);
        if let Some(last) = self.last.take() {
            self.on_gap(now.saturating_duration_since(last), totals);
            totals.longest_gap_ms.record_time(self.longest_gap);
        }
        totals.frozen_viewers += u64::from(self.freezes > 0);
    }

    fn on_gap(&mut self, gap: Duration, totals: &mut Totals) {
        self.longest_gap = self.longest_gap.max(gap);
        if let Some(window) = &mut self.window {
            window.longest_gap = window.longest_gap.max(gap);
        }
        if gap > FREEZE {
            self.freezes += 1;
            totals.freezes += 1;
            totals.frozen_ms += u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
            totals.freeze_ms.record_time(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_measured_and_long_ones_are_freezes() {
        let start = Instant::now();
        let mut totals = Totals::default();
        let mut smoothness = Smoothness::default();
        let mut at = |ms: u64, lost: Option<(bool, u64)>| {
            let now = start + Duration::from_millis(ms);
            match lost {
                Some((is_open, lost)) => smoothness.set_window(now, is_open, lost, &mut totals),
                None => smoothness.on_picture(now, &mut totals),
            }
        };
        at(0, None);
        at(700, None);
        at(710, Some((true, 5)));
        at(740, None);
        at(800, Some((false, 7)));
        smoothness.finish(start + Duration::from_millis(1500), 7, &mut totals);
        assert_eq!((totals.freezes, totals.frozen_viewers), (2, 1));
        assert_eq!(totals.longest_gap_ms.max(), 760_000);
        assert_eq!(totals.window_longest_gap_ms.max(), 60_000);
        assert_eq!(totals.window_lost_per_viewer.max(), 2);
    }
}
