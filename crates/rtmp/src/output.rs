//! What a session tells the shell around it.
use std::time::Instant;

use bytes::Bytes;

use crate::amf0::Value;

/// What the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Write these bytes.
    Send(Bytes),
    /// Something happened.
    Event(Event),
    /// Close the connection once everything is written.
    Close,
    /// Nothing more now; call [`Session::handle_timeout`](crate::Session::handle_timeout) at this time.
    Timeout(Instant),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants to publish: answer with [`Session::accept_publish`](crate::Session::accept_publish) or
    /// [`Session::reject_publish`](crate::Session::reject_publish).
    PublishRequested(PublishRequest),
    /// Media. Its body is never empty.
    Media {
        /// Sound or picture.
        kind: MediaKind,
        /// Milliseconds, modulo 2^32, from wherever the publisher counts.
        timestamp_ms: u32,
        /// The body of an FLV tag.
        body: Bytes,
    },
    /// What the encoder says of itself. Never to be trusted over the streams themselves.
    Metadata(Vec<(String, Value)>),
    /// The publisher has ended its stream.
    PublishEnded,
}

/// The kinds of media message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// An FLV audio tag.
    Audio,
    /// An FLV video tag.
    Video,
}

/// Who wants to publish what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRequest {
    /// The application, as sent.
    pub app: String,
    /// The stream key, as sent.
    pub stream_key: String,
    /// What the encoder calls itself.
    pub encoder: String,
}

/// Why a publisher is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The key is wrong, there is no such class, or another app has it.
    BadName(String),
    /// Anything else, in words for a teacher.
    Failed(String),
}
