//! The RTMP side of a node: publishers in, frames out to the hub.
#![forbid(unsafe_code)]

mod connection;
mod listener;
pub mod metrics;
pub mod publish;
pub mod reorder;
mod sound;
pub mod timeline;
pub mod transcode;

pub use listener::{Bound, Config, Context, bind};
