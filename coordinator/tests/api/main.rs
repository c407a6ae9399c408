//! The coordinator through its port, with the hands of a node, a student, an operator and an attacker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod changes;
mod classes;
mod cluster;
mod doors;
mod events;
mod loads;
mod monitoring;
mod nodes;
mod operators;
mod outage;
mod pins;
mod revocations;
mod running;
mod sessions;
mod signing_keys;
mod teaching;
mod tokens;
mod whep;
