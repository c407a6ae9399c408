//! How it goes for those who watch.
use serde::{Deserialize, Serialize};

/// What players say of what their people see and hear, added up.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Playback {
    /// Players that have said something lately.
    pub reporting: u32,
    /// Those whose picture moves on a visible page.
    pub seeing: u32,
    /// Those whose sound comes and is not muted.
    pub hearing: u32,
    /// Those whose picture stood, or who lost much.
    pub struggling: u32,
    /// Players that know how far they are behind the server.
    pub delays: u32,
    /// By how much, all together.
    pub delay_ms_sum: u64,
}

impl Playback {
    /// Adds what other players say.
    pub fn add(&mut self, other: &Self) {
        self.reporting = self.reporting.saturating_add(other.reporting);
        self.seeing = self.seeing.saturating_add(other.seeing);
        self.hearing = self.hearing.saturating_add(other.hearing);
        self.struggling = self.struggling.saturating_add(other.struggling);
        self.delays = self.delays.saturating_add(other.delays);
        self.delay_ms_sum = self.delay_ms_sum.saturating_add(other.delay_ms_sum);
    }

    /// How far players are behind the server, on average.
    pub fn delay_ms(&self) -> Option<u64> {
        self.delay_ms_sum.checked_div(self.delays.into())
    }
}
