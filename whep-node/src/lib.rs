//! The WHEP side of a node: sessions over HTTP, frames from the hub to the WebRTC engine.
#![forbid(unsafe_code)]

mod delivery;
mod http;
mod journal;
mod metrics;
mod moving;
mod revoking;
mod server;
mod sessions;
mod stream;

pub use http::IceServer;
pub use server::{Audience, Bound, Config, Context, bind};
pub use stream::{NotLive, OpenStream, Streams};
