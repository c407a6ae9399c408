//! One RTMP connection, seen from the server, as a machine without sockets or clock.
//!
//! The specification is Adobe's "Real Time Messaging Protocol 1.0" of 2012, cited by section; what real publishers make
//! of it is said beside the code that copes with it.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod address;
pub mod amf0;
pub mod chunk;
mod command;
mod error;
mod handshake;
mod limits;
mod message;
mod outbox;
mod output;
mod session;

pub use address::StreamAddress;
pub use error::{Error, Phase};
pub use limits::Limits;
pub use output::{Event, MediaKind, Output, PublishRequest, Rejection};
pub use session::Session;
