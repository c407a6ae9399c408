//! What a coordinator knows of one node: its last report and the own joins which that report lacks.
//!
//! A report says how many of this coordinator's joins it contains. A time could not say that: a viewer
//! arrives anything from a moment to some seconds after its join was handed out. The count is a running
//! total, so that lost reports do no harm. Which joins were seen it does not say; the oldest are taken, and
//! a join that never came is dropped by its age in the end.

use super::{CapacityStep, HARD_PPM, LoadReport, Member, READMIT_PPM, capacity_step, score};
use std::collections::VecDeque;

/// A join that was handed out counts until a report contains it, at most this many seconds (and until
/// the end of the running second).
const JOIN_LIFE_SECONDS: u64 = 10;

/// Joins handed out in one second at one cost.
#[derive(Clone, Debug)]
struct Joins {
    second: u64,
    cost: u64,
    count: u64,
}

/// One member and its load.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) member: Member,
    pub(super) hash: u64,
    pub(super) step: CapacityStep,
    /// Above the hard limit, and not yet below the limit of readmission.
    pub(super) hot: bool,
    /// The load of the last report.
    pub(super) reported: u64,
    /// The same without its noise: a report within 5 % of what was expected leaves it alone.
    pub(super) settled: u64,
    last: Option<(u64, u64)>,
    joins_seen: u64,
    pending: VecDeque<Joins>,
    pending_bps: u64,
}

impl Node {
    pub(super) fn new(member: Member) -> Self {
        Self {
            hash: score::hash(&[&member.name]),
            member,
            step: CapacityStep::Full,
            hot: false,
            reported: 0,
            settled: 0,
            last: None,
            joins_seen: 0,
            pending: VecDeque::new(),
            pending_bps: 0,
        }
    }

    /// The capacity at present, for bounds; the static one is for ranks and slices.
    pub(super) fn capacity(&self) -> u64 {
        self.step.of(self.member.capacity_bps)
    }

    /// Own joins that no report contains, counted once for each live coordinator: the others hand out
    /// as many.
    pub(super) fn pending(&self, coordinators: u64) -> u64 {
        self.pending_bps.saturating_mul(coordinators)
    }

    pub(super) fn load(&self, coordinators: u64) -> u64 {
        self.settled.saturating_add(self.pending(coordinators))
    }

    pub(super) fn admit(&mut self, second: u64, cost: u64) {
        self.pending_bps = self.pending_bps.saturating_add(cost);
        match self.pending.back_mut() {
            Some(last) if last.second == second && last.cost == cost => last.count += 1,
            _ => self.pending.push_back(Joins { second, cost, count: 1 }),
        }
    }

    /// Takes over a report unless a later one is known.
    pub(super) fn report(&mut self, report: &LoadReport, coordinators: u64) {
        let at = (report.boot, report.seq);
        if self.last.is_some_and(|last| at <= last) {
            return;
        }
        let restarted = self.last.is_none_or(|(boot, _)| boot != report.boot);
        let before = if restarted { 0 } else { self.joins_seen };
        let contained = self.forget_joins(report.joins_seen.saturating_sub(before));
        (self.last, self.joins_seen) = (Some(at), report.joins_seen);

        let load = report.load_bps;
        let expected = self.settled.saturating_add(contained.saturating_mul(coordinators));
        self.reported = load;
        self.settled = if restarted {
            load
        } else {
            expected.clamp(load - load / 21, load.saturating_add(load / 19)) // load / 1.05 to load / 0.95
        };
        self.step = capacity_step(report.cpu, report.loss, self.step);
        self.weigh();
    }

    /// Renews `hot` after a change of load or capacity. The 5 % by which `settled` follows `reported`
    /// make it impossible that noise of 5 % crosses both limits.
    pub(super) fn weigh(&mut self) {
        if self.reported > share(self.capacity(), HARD_PPM) {
            self.hot = true;
        } else if self.settled < share(self.capacity(), READMIT_PPM) {
            self.hot = false;
        }
    }

    /// Drops the joins that never came; says whether there were any.
    pub(super) fn expire(&mut self, second: u64) -> bool {
        let before = self.pending.len();
        while let Some(first) = self.pending.front()
            && first.second + JOIN_LIFE_SECONDS < second
        {
            self.pending_bps -= first.cost.saturating_mul(first.count).min(self.pending_bps);
            self.pending.pop_front();
        }
        self.pending.len() != before
    }

    /// Removes the `count` oldest pending joins and gives their cost.
    fn forget_joins(&mut self, mut count: u64) -> u64 {
        let mut cost = 0u64;
        while count > 0
            && let Some(first) = self.pending.front_mut()
        {
            let taken = first.count.min(count);
            cost = cost.saturating_add(first.cost.saturating_mul(taken));
            count -= taken;
            first.count -= taken;
            if first.count == 0 {
                self.pending.pop_front();
            }
        }
        self.pending_bps = self.pending_bps.saturating_sub(cost);
        cost
    }
}

/// `ppm` millionths of `amount`, rounded down.
pub(super) fn share(amount: u64, ppm: u64) -> u64 {
    match amount.checked_mul(ppm) {
        Some(product) => product / 1_000_000,
        None => u64::try_from(u128::from(amount) * u128::from(ppm) / 1_000_000).unwrap_or(u64::MAX),
    }
}
