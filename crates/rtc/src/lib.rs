//! WebRTC egress: offer and answer, ICE-lite, DTLS, SRTP, and the shards that send.

mod batch;
mod bell;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod command;
mod counters;
mod dtls;
mod egress;
mod engine;
mod handle;
mod handshake;
mod ice;
mod id;
mod interfaces;
mod mailbox;
mod pass;
mod ring;
pub mod sdp;
mod seats;
mod sequence;
mod shard;
mod sockets;
mod srtp;
mod tcp;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod udp;
mod viewer;

pub use command::{CloseReason, Event};
pub use counters::{Counter, Counters, Histogram};
pub use engine::{Config, Engine};
pub use handle::{EngineHandle, Full, Seat};
pub use id::{StreamId, ViewerId};
pub use viewer::ViewerStats;

/// The canonical name (RFC 3550, section 6.5.1) of everything we send: answers and sender reports must name the same, so
/// that a viewer's two sources belong together. One for all: every viewer has its own session.
pub const CNAME: &str = "lectern";
