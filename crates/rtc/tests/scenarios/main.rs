//! Scenarios of the egress machine in virtual time: a lesson is published, viewers join over networks that lose, delay and
//! choke, and what they see is judged frame by frame.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bottleneck;
mod browser;
mod crowd;
mod hostile;
mod join;
mod keyed;
mod lesson;
mod network;
mod paths;
mod repair;
mod screen;
mod seat;
mod streams;
mod timing;
mod wire;
mod world;
