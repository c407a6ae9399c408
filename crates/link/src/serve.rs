//! The node that has a stream, towards one that pulls it.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use hub::{Hub, Subscription};
use media::Track;
use quinn::{Connection, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::sending::{Sending, ToSend};
use crate::stats::Stats;
use crate::strain::{Level, Strain};
use crate::window::{Need, Window};
use crate::wire::{Control, ControlReader};

/// A connection that takes nothing for this long is not worth waiting for: what has begun is given up.
const BLOCKED_MAX: Duration = Duration::from_millis(500);
/// From a new stream to what it is for.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the rate of what a connection carries is looked at.
const RATE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether the way to the other node carries everything.
const STRAIN_INTERVAL: Duration = Duration::from_millis(250);
/// Priorities of QUIC streams: words before sound before pictures.
const CONTROL_PRIORITY: i32 = 3;
const AUDIO_PRIORITY: i32 = 2;
const VIDEO_PRIORITY: i32 = 1;
/// Nobody wants the rest.
pub(crate) const GIVEN_UP: VarInt = VarInt::from_u32(1);

/// What this node has for others.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) hub: Hub,
    /// This node.
    pub(crate) node: String,
    pub(crate) stats: Stats,
}

/// Serves one node until its connection ends.
pub(crate) async fn serve(connection: Connection, offer: Offer, window: Window) {
    let mut subscriptions = JoinSet::new();
    let (level, strain) = watch::channel(Level::Well);
    let mut looks = tokio::time::interval(STRAIN_INTERVAL);
    let (mut look, mut strained) = (Strain::default(), None);
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok(streams) = accepted else { break };
                let (connection, offer, strain) = (connection.clone(), offer.clone(), strain.clone());
                let asked = Asked { connection, offer, need: window.need(), strain };
                subscriptions.spawn(asked.subscribe(streams));
            }
            Some(_) = subscriptions.join_next(), if !subscriptions.is_empty() => {}
            _ = looks.tick() => {
                let path = connection.stats().path;
                let now = look.on_look(Instant::now(), (path.sent_packets, path.lost_packets), path.rtt);
                let before = level.send_replace(now);
                if before != now {
                    let to = connection.remote_address();
                    tracing::warn!(%to, before = ?before, now = ?now, "what the way to another node carries has changed");
                    strained = (now > Level::Well).then(|| offer.stats.strain());
                }
            }
        }
    }
    drop(strained);
    tracing::debug!(reason = ?connection.close_reason(), "a node that pulled is gone");
}

/// One stream that the other node wants.
struct Asked {
    connection: Connection,
    offer: Offer,
    need: Need,
    strain: watch::Receiver<Level>,
}

impl Asked {
    async fn subscribe(self, (mut send, mut receive): (SendStream, RecvStream)) {
        let _ = send.set_priority(CONTROL_PRIORITY);
        let ((number, class), subscription) = match self.admit(&mut receive).await {
            Ok(admitted) => admitted,
            Err(reason) => {
                tracing::debug!(reason, "a node is refused a stream");
                let _ = send.write_chunk(Control::Refused { reason }.encode()).await;
                let _ = send.finish();
                // Until it has read that.
                let _ = tokio::time::timeout(SUBSCRIBE_TIMEOUT, send.stopped()).await;
                return;
            }
        };
        tracing::debug!(class, "a node pulls a stream");
        let served = self.offer.stats.serve();
        let mut stream = Serving {
            sending: Sending::new(number, &self.offer.node),
            asked: self,
            class,
            control: send,
            open: HashMap::new(),
            waiting: JoinSet::new(),
        };
        // Whatever ends it, the other node sees it.
        let _ = stream.run(subscription, &mut receive).await;
        drop(served);
    }

    /// What the other node asks for, or why it does not get it.
    async fn admit(&self, receive: &mut RecvStream) -> Result<((u32, String), Subscription), String> {
        let asked = tokio::time::timeout(SUBSCRIBE_TIMEOUT, read_subscribe(receive)).await;
        let (number, class) = asked.map_err(|_| "nothing was asked for in time".to_owned())??;
        let Offer { hub, node, stats } = &self.offer;
        if *self.strain.borrow() == Level::Refusing {
            stats.on_refused_overload();
            return Err(format!("the way from the node {node} carries no further stream"));
        }
        let Some(subscription) = hub.subscribe(&class) else {
            stats.on_refused_missing();
            return Err(format!("the node {node} does not have the class {class}"));
        };
        Ok(((number, class), subscription))
    }
}

async fn read_subscribe(receive: &mut RecvStream) -> Result<(u32, String), String> {
    let mut reader = ControlReader::default();
    loop {
        match reader.message() {
            Ok(Some(Control::Subscribe { subscription, class })) => return Ok((subscription, class)),
            Ok(None) => {}
            Ok(Some(_)) => return Err("it asks for nothing".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        let chunk = receive.read_chunk(usize::MAX, true).await.map_err(|error| error.to_string())?;
        reader.push(&chunk.ok_or_else(|| "it asks for nothing".to_owned())?.bytes);
    }
}

struct Serving {
    sending: Sending,
    asked: Asked,
    class: String,
    control: SendStream,
    open: HashMap<u64, SendStream>,
    /// Finished streams, until all of them has arrived.
    waiting: JoinSet<u64>,
}

impl Serving {
    async fn run(
        &mut self,
        mut subscription: Subscription,
        receive: &mut RecvStream,
    ) -> Result<(), WriteError> {
        let mut rates = tokio::time::interval(RATE_INTERVAL);
        loop {
            let deadline = self.sending.deadline();
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let is_over = tokio::select! {
                update = subscription.next() => match update {
                    Some(update) => {
                        self.sending.on_update(Instant::now(), &update);
                        false
                    }
                    None => {
                        self.sending.on_end();
                        true
                    }
                },
                Some(Ok(done)) = self.waiting.join_next(), if !self.waiting.is_empty() => {
                    self.sending.on_done(done);
                    self.open.remove(&done);
                    false
                }
                () = late => {
                    self.sending.on_timeout(Instant::now());
                    false
                }
                _ = rates.tick() => {
                    let status = self.asked.offer.hub.status(&self.class);
                    self.asked.need.set(status.map_or(0, |status| status.bitrate_bps));
                    false
                }
                Ok(()) = self.asked.strain.changed() => {
                    let is_strained = *self.asked.strain.borrow_and_update() > Level::Well;
                    self.sending.on_strain(Instant::now(), is_strained);
                    false
                }
                // Nothing more is expected: it is closed by who wants no more.
                _ = receive.read_chunk(1, true) => return Ok(()),
            };
            while let Some(next) = self.sending.poll() {
                self.act(next).await?;
            }
            if is_over {
                let _ = self.control.finish();
                return Ok(());
            }
        }
    }

    async fn act(&mut self, next: ToSend) -> Result<(), WriteError> {
        match next {
            ToSend::Control(bytes) => self.control.write_chunk(bytes).await?,
            ToSend::Open { stream, track } => {
                let opened = tokio::time::timeout(BLOCKED_MAX, self.asked.connection.open_uni()).await;
                match opened {
                    Ok(opened) => {
                        let opened = opened?;
                        let _ = opened.set_priority(match track {
                            Track::Audio => AUDIO_PRIORITY,
                            Track::Video => VIDEO_PRIORITY,
                        });
                        self.open.insert(stream, opened);
                        self.asked.offer.stats.on_group();
                    }
                    Err(_) => self.sending.on_blocked(),
                }
            }
            ToSend::Write { stream, bytes } => {
                let Some(open) = self.open.get_mut(&stream) else { return Ok(()) };
                match tokio::time::timeout(BLOCKED_MAX, open.write_chunk(bytes)).await {
                    // The other node wants no more of this group.
                    Ok(Ok(()) | Err(WriteError::Stopped(_))) => {}
                    Ok(Err(error)) => return Err(error),
                    Err(_) => self.sending.on_blocked(),
                }
            }
            ToSend::Finish { stream } => {
                let Some(open) = self.open.get_mut(&stream) else {
                    self.sending.on_done(stream);
                    return Ok(());
                };
                let _ = open.finish();
                let stopped = open.stopped();
                self.waiting.spawn(async move {
                    let _ = stopped.await;
                    stream
                });
            }
            ToSend::Reset { stream } => {
                if let Some(mut open) = self.open.remove(&stream) {
                    self.asked.offer.stats.on_group_given_up();
                    let _ = open.reset(GIVEN_UP);
                }
            }
        }
        Ok(())
    }
}
