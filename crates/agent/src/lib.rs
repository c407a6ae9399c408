//! A node as coordinators know it: what it reports of its streams, and which streams it has from other nodes. `beat` and `follow`
//! are machines without a clock or a socket; `heartbeat` and `pulls` are the loops around them.
#![forbid(unsafe_code)]

mod beat;
mod follow;
mod heartbeat;
mod links;
mod load;
mod pulls;
pub mod sweep;

pub use beat::{Beat, Reach, obey, reports};
pub use follow::{Act, Follow, IDLE_MAX, Seen, WAIT_MAX};
pub use heartbeat::Reporter;
pub use links::register_link;
pub use load::{Audience, Gauges, Sent};
pub use pulls::Pulls;
