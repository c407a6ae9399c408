//! What a node's links carry, and what they had to give up.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of all links together; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    served: AtomicU64,
    groups: AtomicU64,
    groups_given_up: AtomicU64,
    refused_missing: AtomicU64,
    refused_overload: AtomicU64,
    strained: AtomicU64,
}

/// One more of something, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Stats, fn(&Counters) -> &AtomicU64);

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0.0).fetch_sub(1, Relaxed);
    }
}

impl Stats {
    /// Streams that other nodes pull from this one now.
    pub fn served(&self) -> u64 {
        self.0.served.load(Relaxed)
    }

    /// Groups of pictures and of sound that were sent, or begun.
    pub fn groups(&self) -> u64 {
        self.0.groups.load(Relaxed)
    }

    /// Those of them that were given up, because they were late or nothing could be sent.
    pub fn groups_given_up(&self) -> u64 {
        self.0.groups_given_up.load(Relaxed)
    }

    /// Pulls of streams that are not here.
    pub fn refused_missing(&self) -> u64 {
        self.0.refused_missing.load(Relaxed)
    }

    /// Pulls that the way to the other node does not carry.
    pub fn refused_overload(&self) -> u64 {
        self.0.refused_overload.load(Relaxed)
    }

    /// Nodes to which the way does not carry everything now.
    pub fn strained(&self) -> u64 {
        self.0.strained.load(Relaxed)
    }

    pub(crate) fn serve(&self) -> Counted {
        self.count(|counters| &counters.served)
    }

    pub(crate) fn strain(&self) -> Counted {
        self.count(|counters| &counters.strained)
    }

    fn count(&self, of: fn(&Counters) -> &AtomicU64) -> Counted {
        of(&self.0).fetch_add(1, Relaxed);
        Counted(self.clone(), of)
    }

    pub(crate) fn on_group(&self) {
        self.0.groups.fetch_add(1, Relaxed);
    }

    pub(crate) fn on_group_given_up(&self) {
        self.0.groups_given_up.fetch_add(1, Relaxed);
    }

    pub(crate) fn on_refused_missing(&self) {
        self.0.refused_missing.fetch_add(1, Relaxed);
    }

    pub(crate) fn on_refused_overload(&self) {
        self.0.refused_overload.fetch_add(1, Relaxed);
    }
}
