//! Why a connection is over.
use thiserror::Error;

use crate::amf0::AmfError;

/// A peer that breaks the protocol or a bound, or is silent for too long. The connection cannot go on.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The first byte is not RTMP's version.
    #[error("the first byte {0:#04x} is not RTMP version 3{hint}", hint = hint(*.0))]
    Version(u8),
    /// A message is announced as larger than it may be.
    #[error("a message of {len} bytes on chunk stream {chunk_stream} exceeds {max} bytes")]
    MessageTooLarge {
        /// Its announced length.
        len: usize,
        /// Where it was announced.
        chunk_stream: u32,
        /// The bound.
        max: usize,
    },
    /// A compressed header without a preceding full header.
    #[error("compressed header without a preceding full header on chunk stream {0}")]
    NoHeader(u32),
    /// More chunk streams than any publisher uses.
    #[error("more than {0} chunk streams")]
    TooManyChunkStreams(usize),
    /// Too much has begun and not ended.
    #[error("more than {0} bytes of unfinished messages")]
    TooMuchPartial(usize),
    /// A control message that cannot be one.
    #[error("message type {kind} with {len} bytes is too short or has a value out of range")]
    Control {
        /// Its type.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// Too many commands without publishing.
    #[error("more than {0} commands and no stream")]
    TooManyCommands(usize),
    /// The peer does not read its answers.
    #[error("more than {0} bytes of answers wait to be read")]
    NotReading(usize),
    /// A command that is not AMF.
    #[error("a command that cannot be read: {0}")]
    Amf(#[from] AmfError),
    /// Something did not come in time.
    #[error("timeout: {0}")]
    Timeout(Phase),
}

/// What a connection waits for, each for a time of its own.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Phase {
    /// The end of the handshake.
    #[error("the handshake did not end")]
    Handshake,
    /// An accepted publisher.
    #[error("nothing was published")]
    Publish,
    /// Any bytes of a publisher.
    #[error("the publisher sent nothing")]
    Media,
}

fn hint(byte: u8) -> &'static str {
    match byte {
        6 | 8 | 9 => ": encrypted RTMP (rtmpe) is not supported, use rtmp or rtmps",
        0x16 => ": this looks like TLS, use the rtmps port",
        b'G' | b'P' | b'H' | b'O' => ": this looks like HTTP, use the web port",
        _ => "",
    }
}
