//! Streams from node to node over QUIC.
//!
//! A node that has viewers of a stream but not the stream pulls it from one that has. Both ends are machines without a clock or
//! a socket (`sending`, `arriving`); `serve` and `pull` are the loops around them. Each group of pictures, and each second
//! of sound, is a QUIC stream of its own, so that what is lost of one delays no other, and one that comes too late is given up
//! as a whole. What the streams have in common travels on the stream that the subscription began with.
#![forbid(unsafe_code)]

mod arriving;
mod endpoint;
mod identity;
mod peer;
mod pull;
mod receiving;
mod sending;
mod serve;
mod stats;
mod strain;
mod window;
mod wire;

pub use arriving::{Arriving, PullEnd};
pub use endpoint::{Link, LinkError, transport};
pub use identity::{Identity, IdentityError};
pub use pull::Pulled;
pub use receiving::{Received, Receiving};
pub use sending::{Sending, ToSend};
pub use stats::Stats;
pub use strain::{Level, Strain};
pub use window::{Need, Window};
pub use wire::{Announcement, Control, ControlReader, GroupHeader, GroupReader, WireError};
