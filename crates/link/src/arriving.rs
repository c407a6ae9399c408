//! One subscription at the node that pulls: what is said about the stream, and its frames on their way to the hub. A machine
//! without a clock or a socket.
use std::time::{Duration, Instant};

use hub::{Epoch, Hub, Refused, Relay, Superseded, Timeline};
use media::{Frame, MediaTime, Tracks};
use thiserror::Error;

use crate::endpoint::LinkError;
use crate::receiving::{Received, Receiving};
use crate::wire::{Announcement, Control, ControlReader, GroupHeader, WireError};

/// Why a stream is pulled no longer.
#[derive(Debug, Error)]
pub enum PullEnd {
    /// The other node cannot be reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The connection has ended.
    #[error("the connection to the other node has ended: {0}")]
    Lost(String),
    /// The other node does not have the stream.
    #[error("{0}")]
    Refused(String),
    /// The stream is over.
    #[error("the stream is over")]
    Ended,
    /// A newer publisher is known here.
    #[error("a newer publisher is known here")]
    Superseded,
    /// This node has no room for another stream.
    #[error(transparent)]
    Full(Refused),
    /// The stream comes from this node itself.
    #[error("the stream comes back to the node that passes it on")]
    Loop,
    /// The other node says what makes no sense.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<Superseded> for PullEnd {
    fn from(_: Superseded) -> Self {
        Self::Superseded
    }
}

/// A stream on its way from another node into the hub of this one. The hub has it until this is dropped, and then waits for
/// whoever passes it on next.
#[derive(Debug)]
pub struct Arriving {
    hub: Hub,
    /// This node.
    node: String,
    class: String,
    reader: ControlReader,
    receiving: Receiving,
    relay: Option<Relay>,
}

impl Arriving {
    /// At `node`. Frames wait for older ones for `patience`.
    pub fn new(hub: &Hub, node: &str, class: &str, patience: Duration) -> Self {
        Self {
            hub: hub.clone(),
            node: node.to_owned(),
            class: class.to_owned(),
            reader: ControlReader::default(),
            receiving: Receiving::new(patience),
            relay: None,
        }
    }

    /// The right to pass the stream on, once the other node has said which it is.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// More has come of what is said about the stream. A word takes `delay` from there to here.
    ///
    /// # Errors
    /// If the stream can come no longer.
    pub fn on_control(&mut self, now: Instant, delay: Duration, bytes: &[u8]) -> Result<(), PullEnd> {
        self.reader.push(bytes);
        while let Some(control) = self.reader.message()? {
            match control {
                Control::Epoch(announcement) => self.on_epoch(now, delay, announcement)?,
                Control::Tracks(tracks) => self.on_tracks(&tracks)?,
                Control::Paused => self.relay.as_ref().map_or(Ok(()), Relay::pause)?,
                Control::Refused { reason } => return Err(PullEnd::Refused(reason)),
                Control::Ended => {
                    self.relay.iter().for_each(|relay| self.hub.end(relay));
                    return Err(PullEnd::Ended);
                }
                Control::Subscribe { .. } => return Err(WireError::Damaged("conversation").into()),
            }
        }
        Ok(())
    }

    /// A QUIC stream has begun.
    pub fn on_group(&mut self, now: Instant, stream: u64, header: &GroupHeader) {
        self.receiving.on_group(now, stream, header);
    }

    /// A frame has come.
    pub fn on_frame(&mut self, now: Instant, stream: u64, index: u32, frame: Frame) {
        self.receiving.on_frame(now, stream, index, frame);
    }

    /// A QUIC stream is at its end, or was given up by who sent it.
    pub fn on_end(&mut self, now: Instant, stream: u64) {
        self.receiving.on_end(now, stream);
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        self.receiving.on_timeout(now);
    }

    /// When [`Self::on_timeout`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.receiving.deadline()
    }

    /// Gives the hub what can be given. Returns the QUIC streams of which nothing more is wanted, one by one.
    ///
    /// # Errors
    /// If the hub takes it from somebody else by now.
    pub fn poll(&mut self) -> Result<Option<u64>, PullEnd> {
        while let Some(received) = self.receiving.poll() {
            match received {
                Received::Frame(place, frame) => {
                    if let Some(relay) = &self.relay {
                        relay.push(place, frame)?;
                    }
                }
                Received::Stop(stream) => return Ok(Some(stream)),
            }
        }
        Ok(None)
    }

    fn on_epoch(&mut self, now: Instant, delay: Duration, announcement: Announcement) -> Result<(), PullEnd> {
        let Announcement { epoch: number, session, timeline, now: there, path } = announcement;
        if path.contains(&self.node) {
            return Err(PullEnd::Loop);
        }
        let age = there + MediaTime::from_micros(micros(delay));
        let epoch =
            Epoch { number, session, timeline: Timeline { id: timeline, zero: before(now, age) }, path };
        let relay = self.hub.relay(&self.class, &epoch).map_err(|refused| match refused {
            Refused::Superseded => PullEnd::Superseded,
            full @ Refused::Full { .. } => PullEnd::Full(full),
        })?;
        self.relay = Some(relay);
        self.receiving.on_epoch(now, number);
        Ok(())
    }

    fn on_tracks(&self, tracks: &Tracks) -> Result<(), PullEnd> {
        Ok(self.relay.as_ref().map_or(Ok(()), |relay| relay.set_tracks(tracks))?)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The instant that was this long before another.
fn before(instant: Instant, age: MediaTime) -> Instant {
    let distance = Duration::from_micros(age.as_micros().unsigned_abs());
    let moved =
        if age < MediaTime::ZERO { instant.checked_add(distance) } else { instant.checked_sub(distance) };
    moved.unwrap_or(instant)
}
