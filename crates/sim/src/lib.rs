//! A whole cluster in virtual time, from one seed: coordinators, nodes, phones and viewers, a database and a network, with crashes,
//! pauses, partitions, drains and outages drawn from the seed, and invariants that are checked at every step.
//!
//! Registry, placement, ledger, hub, the node's heartbeats and pulls, and both ends of the link are those of the product, which are
//! machines without a clock or a socket. Models stand in for what is not: the network, QUIC's streams, the row of the database that
//! decides about epochs (`EpochRow`, which a test holds against the statement), WHEP sessions as far as they carry frames, phones, and
//! the page's rules of when it joins anew. WebRTC itself has its own scenarios (`crates/rtc/tests/scenarios`).
#![forbid(unsafe_code)]

mod check;
mod conn;
mod coordinator;
mod faults;
mod message;
mod names;
mod net;
mod node;
mod phone;
mod pulls;
mod store;
mod viewer;
mod world;

use std::time::Duration;

/// A bug that is put in on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// The database reads the newest epoch and writes the next one in two steps.
    LostCompareAndSet,
    /// A coordinator takes heartbeats that were recorded and are sent again.
    ReplayedHeartbeat,
    /// A viewer that is to move closes its session before the next one shows a picture.
    CloseBeforeOpen,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The invariant that was broken, with what there was at that moment.
    pub broken: Option<String>,
    /// When, from the beginning.
    pub at: Duration,
    /// How often viewers joined.
    pub joins: u64,
    /// What happened, in figures.
    pub figures: String,
}

/// Plays one run.
pub fn run(seed: u64, plant: Option<Plant>) -> Outcome {
    world::World::new(seed, plant).run()
}
