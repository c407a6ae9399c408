//! The node that pulls a stream: the loop around [`Arriving`].
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hub::Relay;
use quinn::{RecvStream, SendStream};
use tokio::sync::oneshot;

use crate::arriving::{Arriving, PullEnd};
use crate::endpoint::Link;
use crate::peer::{Inbound, Peer, Route};
use crate::wire::Control;

/// How long frames wait for older ones at least, and for how many round trips: as many as a packet takes that is lost twice.
const PATIENCE_MIN: Duration = Duration::from_millis(200);
const PATIENCE_ROUND_TRIPS: u32 = 4;

/// A stream that comes from another node.
#[derive(Debug)]
pub struct Pulled {
    peer: Peer,
    /// Held: when it is closed, the other node knows that no more is wanted.
    _subscribe: SendStream,
    control: RecvStream,
    route: Route,
    arriving: Arriving,
    /// Groups that are being read.
    wanted: HashMap<u64, oneshot::Sender<()>>,
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
        let arriving = Arriving::new(self.hub(), self.node(), class, patience);
        Ok(Pulled { peer, _subscribe: subscribe, control, route, arriving, wanted: HashMap::new() })
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

    /// The right to pass the stream on, once the other node has said which it is.
    pub fn relay(&self) -> Option<&Relay> {
        self.arriving.relay()
    }

    async fn step(&mut self) -> Result<(), PullEnd> {
        let deadline = self.arriving.deadline();
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let superseded = self.relay().map(Relay::superseded);
        let superseded = async {
            match superseded {
                Some(superseded) => superseded.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = self.control.read_chunk(usize::MAX, true) => match read {
                Ok(Some(chunk)) => {
                    let delay = self.peer.connection().rtt() / 2;
                    self.arriving.on_control(Instant::now(), delay, &chunk.bytes)?;
                }
                Ok(None) | Err(_) => return Err(lost(&self.peer)),
            },
            Some(inbound) = self.route.inbound.recv() => self.on_inbound(inbound),
            () = late => self.arriving.on_timeout(Instant::now()),
            () = superseded => return Err(PullEnd::Superseded),
        }
        while let Some(stream) = self.arriving.poll()? {
            self.wanted.remove(&stream);
        }
        Ok(())
    }

    fn on_inbound(&mut self, inbound: Inbound) {
        let now = Instant::now();
        match inbound {
            Inbound::Group { stream, header, wanted } => {
                self.wanted.insert(stream, wanted);
                self.arriving.on_group(now, stream, &header);
            }
            Inbound::Frame { stream, index, frame } => self.arriving.on_frame(now, stream, index, frame),
            Inbound::End { stream } => {
                self.wanted.remove(&stream);
                self.arriving.on_end(now, stream);
            }
        }
    }
}

fn lost(peer: &Peer) -> PullEnd {
    let reason = peer.connection().close_reason();
    PullEnd::Lost(reason.map_or_else(|| "it ended the stream".to_owned(), |reason| reason.to_string()))
}
