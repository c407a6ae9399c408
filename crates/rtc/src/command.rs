//! Everything that goes into a shard from the process, and everything that comes out of it.
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtp::Packets;

use crate::id::{StreamId, ViewerId};
use crate::mailbox::Room;
use crate::sdp::{Credentials, Terms};
use crate::seats::Claim;
use crate::viewer::ViewerStats;

/// What a shard is told. One queue keeps the order: a stream is open before its frames come and before it has viewers.
#[derive(Debug)]
pub(crate) enum Command {
    /// A viewer was answered and may come.
    Add(Box<NewViewer>),
    /// A viewer restarts ICE: both halves of the credentials are new.
    Restart { viewer: ViewerId, local: Credentials, remote: Credentials },
    /// A viewer's session ends.
    Remove { viewer: ViewerId },
    /// A stream begins. `origin` is the instant at which its media time is zero.
    OpenStream { stream: StreamId, origin: Instant },
    /// One frame for everybody who watches.
    Frame { stream: StreamId, frame: Arc<Packets>, room: Room },
    /// A stream is over, and with it the sessions of its viewers.
    CloseStream { stream: StreamId },
    /// Every session ends, and then the shard.
    Drain,
    /// A bug is to be simulated: the shard panics.
    #[cfg(debug_assertions)]
    Panic,
}

/// A viewer that was answered.
#[derive(Debug)]
pub(crate) struct NewViewer {
    pub(crate) id: ViewerId,
    pub(crate) stream: StreamId,
    pub(crate) local: Credentials,
    pub(crate) terms: Terms,
    pub(crate) claim: Claim,
}

/// What the shards report.
#[derive(Debug)]
pub enum Event {
    /// Keys are agreed and media flows.
    Connected {
        /// Who.
        viewer: ViewerId,
        /// The protection profile, as RFC 5764 and RFC 7714 name it.
        profile: &'static str,
        /// From the answer to this moment.
        took: Duration,
    },
    /// A viewer is gone and everything it had is freed.
    Closed {
        /// Who.
        viewer: ViewerId,
        /// Why.
        reason: CloseReason,
        /// What it was sent.
        stats: ViewerStats,
    },
}

/// Why a viewer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was removed: DELETE, or an operator.
    Removed,
    /// It said goodbye.
    Left,
    /// Nothing was heard from it for the consent period of RFC 7675.
    Lost,
    /// It never came, or its handshake failed.
    NeverConnected,
    /// The stream is over.
    StreamEnded,
    /// The node is shutting down.
    Drained,
}

impl CloseReason {
    /// One word for logs and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Left => "left",
            Self::Lost => "lost",
            Self::NeverConnected => "never_connected",
            Self::StreamEnded => "stream_ended",
            Self::Drained => "drained",
        }
    }
}
