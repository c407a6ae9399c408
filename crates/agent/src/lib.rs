//! A node as coordinators know it: what it reports of its streams, and which streams it has from other nodes.
#![forbid(unsafe_code)]

mod heartbeat;
mod load;
mod pulls;
pub mod sweep;

pub use heartbeat::Reporter;
pub use load::{Audience, Gauges, Sent};
pub use pulls::Pulls;
