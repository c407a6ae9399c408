//! The RTMP side of a node: publishers in, frames out to the hub.
#![forbid(unsafe_code)]

mod audio;
mod connection;
mod health;
mod listener;
pub mod metrics;
pub mod pool;
pub mod publish;
pub mod reorder;
mod takeover;
pub mod timeline;
pub mod transcode;
mod video;

pub use listener::{Bound, Config, Context, bind};
