//! WebRTC egress: offer and answer, ICE-lite, DTLS, SRTP, and the shards that send.

mod batch;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod counters;
mod dtls;
mod engine;
mod handshake;
mod ice;
mod interfaces;
mod ring;
pub mod sdp;
mod sequence;
mod shard;
mod sockets;
mod srtp;
mod tcp;
mod udp;
mod viewer;

pub use counters::{Counter, Counters, Histogram};
pub use engine::{CloseReason, Config, Engine, EngineHandle, Event, Full, Gone, Seat, StreamId, ViewerId};
pub use viewer::ViewerStats;
