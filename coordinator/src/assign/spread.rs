//! How wide a stream is spread: grows at once, shrinks late.

use std::time::Duration;

/// Demand must stay low for this long before a stream is drawn together.
pub const SHRINK_AFTER: Duration = Duration::from_mins(10);
/// Low is below this many hundredths of the demand that the nodes were chosen for.
const LOW_PERCENT: u128 = 70;

/// The demand of a stream for which its preferred nodes are chosen, in bit/s.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    held: u64,
    low_since: Option<Duration>,
}

impl Spread {
    /// Takes the demand of now and gives the one to choose nodes for.
    pub(super) fn update(&mut self, now: Duration, demand: u64) -> u64 {
        if demand >= self.held {
            (self.held, self.low_since) = (demand, None);
        } else if u128::from(demand) * 100 >= u128::from(self.held) * LOW_PERCENT {
            self.low_since = None;
        } else {
            let since = *self.low_since.get_or_insert(now);
            if now.saturating_sub(since) >= SHRINK_AFTER {
                (self.held, self.low_since) = (demand, None);
            }
        }
        self.held
    }
}
