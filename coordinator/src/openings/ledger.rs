//! Which epochs publishers were given here, and which of them the database does not know yet. A machine without a clock or a
//! database.
use std::collections::{HashMap, VecDeque};

use crate::store::{Epoch, Opening};

/// Publishers that may begin during one outage: what one node has streams for.
const WAITING_MAX: usize = 1024;

/// How far an epoch may be beyond the known ones that a coordinator gives by itself: others that cannot write either choose another
/// one, but for one in a million.
const LEAP_MAX: u64 = 1 << 20;

/// What one coordinator knows of the order of publishers.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Sessions that are not written down yet, oldest first.
    waiting: VecDeque<Opening>,
    /// The greatest epoch that each class was given here.
    epochs: HashMap<String, u64>,
}

impl Ledger {
    /// The greatest epoch of a class that is known here, where nodes say that it is `heard`: also what a database that was set back
    /// has forgotten.
    pub fn known(&self, class_id: &str, heard: u64) -> u64 {
        self.epochs.get(class_id).copied().unwrap_or_default().max(heard)
    }

    /// Whether a session may be written down at once: those that wait go first.
    pub fn is_written(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The database has given this epoch.
    pub fn on_epoch(&mut self, class_id: &str, epoch: u64) {
        let known = self.epochs.entry(class_id.to_owned()).or_default();
        *known = epoch.max(*known);
    }

    /// Gives an epoch beyond all that are known here, for the database does not, by a `leap` that nobody else takes. Returns it, and
    /// whether an older session was forgotten for this one.
    pub fn give(&mut self, mut opening: Opening, heard: u64, leap: u64) -> (u64, bool) {
        let epoch = self.known(&opening.class_id, heard) + 1 + leap % LEAP_MAX;
        self.on_epoch(&opening.class_id, epoch);
        opening.epoch = Epoch::Given(epoch);
        let is_full = self.waiting.len() >= WAITING_MAX;
        if is_full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(opening);
        (epoch, is_full)
    }

    /// What is to be written down next.
    pub fn next(&self) -> Option<&Opening> {
        self.waiting.front()
    }

    /// This session is written down.
    pub fn on_written(&mut self, session: &str) {
        self.waiting.retain(|waiting| waiting.session != session);
    }

    /// How many sessions wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets the sessions that wait. Returns how many.
    pub(super) fn abandon(&mut self) -> usize {
        std::mem::take(&mut self.waiting).len()
    }
}
