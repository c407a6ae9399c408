//! Processor load and packet loss lower the capacity of a node in steps.

use serde::Serialize;

/// Above these fractions of its processor a node has 75 %, 50 % and nothing of its capacity.
pub const CPU_LIMITS: [f64; 3] = [0.75, 0.85, 0.95];
/// A step is taken back when the processor is this far below the step's limit.
pub const CPU_MARGIN: f64 = 0.10;
/// Above these fractions of lost packets a node has 75 %, 50 % and nothing of its capacity.
pub const LOSS_LIMITS: [f64; 3] = [0.02, 0.05, 0.10];
/// A step is taken back when the loss is below this share of the step's limit.
pub const LOSS_SHARE: f64 = 0.5;

/// How much of its static capacity a node has at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacityStep {
    /// All of it.
    #[default]
    Full,
    /// 75 %.
    ThreeQuarters,
    /// 50 %.
    Half,
    /// No new viewers.
    Zero,
}

impl CapacityStep {
    const ALL: [Self; 4] = [Self::Full, Self::ThreeQuarters, Self::Half, Self::Zero];

    /// What the step leaves of `capacity`.
    pub const fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Full => capacity,
            Self::ThreeQuarters => capacity - capacity / 4,
            Self::Half => capacity / 2,
            Self::Zero => 0,
        }
    }
}

/// The step after a report of processor and loss: down at once, up by one step per report and only with
/// a margin. A measure that is not a number never takes a step back.
pub fn capacity_step(cpu: f64, loss: f64, previous: CapacityStep) -> CapacityStep {
    let above = |value: f64, limits: [f64; 3]| limits.iter().filter(|limit| value > **limit).count();
    let needed = above(cpu, CPU_LIMITS).max(above(loss, LOSS_LIMITS));
    let current = previous as usize;
    let back = current
        .checked_sub(1)
        .filter(|step| cpu < CPU_LIMITS[*step] - CPU_MARGIN && loss < LOSS_LIMITS[*step] * LOSS_SHARE);
    CapacityStep::ALL[back.unwrap_or(current).max(needed)]
}
