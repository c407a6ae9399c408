//! The node that pulls a stream.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hub::{Epoch, Refused, Relay, Superseded, Timeline};
use media::{MediaTime, Tracks};
use quinn::{RecvStream, SendStream};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::endpoint::{Link, LinkError};
use crate::peer::{Inbound, Peer, Route};
use crate::receiving::{Received, Receiving};
use crate::wire::{Announcement, Control, ControlReader, WireError};

/// How long frames wait for older ones at least, and for how many round trips: as many as a packet takes that is lost twice.
const PATIENCE_MIN: Duration = Duration::from_millis(200);
const PATIENCE_ROUND_TRIPS: u32 = 4;

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

/// A stream that comes from another node.
#[derive(Debug)]
pub struct Pulled {
    link: Link,
    class: String,
    peer: Peer,
    /// Held: when it is closed, the other node knows that no more is wanted.
    _subscribe: SendStream,
    control: RecvStream,
    reader: ControlReader,
    route: Route,
    receiving: Receiving,
    /// Groups that are being read.
    wanted: HashMap<u64, oneshot::Sender<()>>,
    relay: Option<Relay>,
}

impl Link {
    /// Asks a node for the stream of a class.
    pub async fn pull(&self, class: &str, node: &str, address: SocketAddr) -> Result<Pulled, PullEnd> {
        let peer = self.peer(node, address).await?;
        let (mut subscribe, control) = peer.connection().open_bi().await.map_err(|_| lost(&peer))?;
        let route = peer.route();
        let asked = Control::Subscribe { subscription: route.number, class: class.to_owned() };
        if subscribe.write_chunk(asked.encode()).await.is_err() {
            return Err(lost(&peer));
        }
        let patience = PATIENCE_MIN.max(peer.connection().rtt() * PATIENCE_ROUND_TRIPS);
        Ok(Pulled {
            link: self.clone(),
            class: class.to_owned(),
            _subscribe: subscribe,
            control,
            reader: ControlReader::default(),
            route,
            receiving: Receiving::new(patience),
            wanted: HashMap::new(),
            relay: None,
            peer,
        })
    }
}

impl Pulled {
    /// Passes the stream on to this node's hub, until something ends that. The hub has the stream until this is dropped, and
    /// then waits for whoever passes it on next.
    pub async fn run(&mut self) -> PullEnd {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    /// Whether tracks are known: the stream can be watched here.
    pub fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    async fn step(&mut self) -> Result<(), PullEnd> {
        let deadline = self.receiving.deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let superseded = self.relay.as_ref().map(Relay::superseded);
        let superseded = async {
            match superseded {
                Some(superseded) => superseded.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.control.read_chunk(usize::MAX, true) => match read {
                Ok(Some(chunk)) => {
                    self.reader.push(&chunk.bytes);
                    self.on_control()?;
                }
                Ok(None) | Err(_) => return Err(lost(&self.peer)),
            },
            Some(inbound) = self.route.inbound.recv() => self.on_inbound(inbound),
            () = late => self.receiving.on_timeout(Instant::now()),
            () = superseded => return Err(PullEnd::Superseded),
        }
        self.pass_on()
    }

    fn on_control(&mut self) -> Result<(), PullEnd> {
        while let Some(control) = self.reader.message()? {
            match control {
                Control::Epoch(announcement) => self.on_epoch(announcement)?,
                Control::Tracks(tracks) => self.on_tracks(&tracks)?,
                Control::Paused => self.relay.as_ref().map_or(Ok(()), Relay::pause)?,
                Control::Refused { reason } => return Err(PullEnd::Refused(reason)),
                Control::Ended => {
                    self.relay.iter().for_each(|relay| self.link.hub().end(relay));
                    return Err(PullEnd::Ended);
                }
                Control::Subscribe { .. } => return Err(WireError::Damaged("conversation").into()),
            }
        }
        Ok(())
    }

    fn on_epoch(&mut self, announcement: Announcement) -> Result<(), PullEnd> {
        let Announcement { epoch: number, session, timeline, now, path } = announcement;
        if path.iter().any(|node| node == self.link.node()) {
            return Err(PullEnd::Loop);
        }
        // It has been under way for half a round trip.
        let age = now + MediaTime::from_micros(micros(self.peer.connection().rtt() / 2));
        let zero = before(Instant::now(), age);
        let epoch = Epoch { number, session, timeline: Timeline { id: timeline, zero }, path };
        let relay = self.link.hub().relay(&self.class, &epoch).map_err(|refused| match refused {
            Refused::Superseded => PullEnd::Superseded,
            full @ Refused::Full { .. } => PullEnd::Full(full),
        })?;
        self.relay = Some(relay);
        self.receiving.on_epoch(Instant::now(), number);
        Ok(())
    }

    fn on_tracks(&self, tracks: &Tracks) -> Result<(), PullEnd> {
        Ok(self.relay.as_ref().map_or(Ok(()), |relay| relay.set_tracks(tracks))?)
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        let now = Instant::now();
        match inbound {
            Inbound::Group { stream, header, wanted } => {
                self.wanted.insert(stream, wanted);
                self.receiving.on_group(now, stream, &header);
            }
            Inbound::Frame { stream, index, frame } => self.receiving.on_frame(now, stream, index, frame),
            Inbound::End { stream } => {
                self.wanted.remove(&stream);
                self.receiving.on_end(now, stream);
            }
        }
    }

    fn pass_on(&mut self) -> Result<(), PullEnd> {
        while let Some(received) = self.receiving.poll() {
            match received {
                Received::Frame(place, frame) => {
                    if let Some(relay) = &self.relay {
                        relay.push(place, frame)?;
                    }
                }
                Received::Stop(stream) => drop(self.wanted.remove(&stream)),
            }
        }
        Ok(())
    }
}

impl From<Superseded> for PullEnd {
    fn from(_: Superseded) -> Self {
        Self::Superseded
    }
}

fn lost(peer: &Peer) -> PullEnd {
    let reason = peer.connection().close_reason();
    PullEnd::Lost(reason.map_or_else(|| "it ended the stream".to_owned(), |reason| reason.to_string()))
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
