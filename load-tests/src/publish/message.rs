//! What a publisher sends.
use std::time::Duration;

use bytes::Bytes;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Audio,
    Video,
    /// What the stream is, for whoever asks: made by the client.
    Metadata,
}

/// A message of a stream.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// When it is to be sent, and its time in the stream: since the stream's beginning.
    pub(super) due: Duration,
    pub(super) body: Bytes,
}

impl Message {
    pub(super) fn new(kind: Kind, due: Duration, body: Bytes) -> Self {
        Self { kind, due, body }
    }

    /// RTMP's time: 32 bits that begin again after 49 days.
    pub(super) fn timestamp_ms(&self) -> u32 {
        u32::try_from(self.due.as_millis() & u128::from(u32::MAX)).unwrap_or(0)
    }
}
