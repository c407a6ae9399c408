//! From the hub to the engine: a stream that somebody has asked for is packetised here, once for all its viewers, until it ends or
//! nobody watches any more.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub::{Hub, Keyframe, Source, State, Subscription, Update};
use media::{Frame, Tracks};
use rtc::{EngineHandle, StreamId};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::sessions::{SentEvent, Sessions};

/// How long a stream that nobody watches is kept ready: a page that is loaded anew does not wait for it.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether anybody watches.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// There is nothing to watch now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the lesson is not live")]
pub struct NotLive;

/// A stream that can be watched.
#[derive(Clone, Debug)]
pub struct OpenStream {
    /// What the engine calls it.
    pub id: StreamId,
    /// The session of its publisher.
    pub session: String,
    /// What it has.
    pub tracks: Tracks,
}

/// The streams of this node that somebody has asked for since they began; clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    hub: Hub,
    engine: EngineHandle,
    sessions: Sessions,
    /// Where streams come from that nobody publishes here.
    source: Option<Arc<dyn Source>>,
    open: Arc<Mutex<HashMap<String, Feed>>>,
    failed: CancellationToken,
    #[cfg(debug_assertions)]
    fault: CancellationToken,
}

/// A stream that is fed.
#[derive(Clone, Copy, Debug)]
struct Feed {
    id: StreamId,
    /// When somebody last asked for it. He may not be in the table of sessions yet.
    asked: Instant,
}

/// Its task. However that ends, its viewers are let go and the next to ask opens it anew.
struct Feeding {
    streams: Streams,
    name: String,
    id: StreamId,
}

impl Drop for Feeding {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if open.get(&self.name).is_some_and(|feed| feed.id == self.id) {
            open.remove(&self.name);
        }
        drop(open);
        self.streams.engine.close_stream(self.id);
        if std::thread::panicking() {
            self.streams.failed.cancel();
        }
    }
}

impl Streams {
    /// None yet.
    pub(crate) fn new(
        hub: Hub,
        engine: EngineHandle,
        sessions: Sessions,
        source: Option<Arc<dyn Source>>,
    ) -> Self {
        Self {
            hub,
            engine,
            sessions,
            source,
            open: Arc::default(),
            failed: CancellationToken::new(),
            #[cfg(debug_assertions)]
            fault: CancellationToken::new(),
        }
    }

    /// The same, whose tasks panic when `fault` is cancelled.
    #[cfg(debug_assertions)]
    pub fn with_fault(self, fault: CancellationToken) -> Self {
        Self { fault, ..self }
    }

    /// Cancelled when a task that feeds a stream has panicked.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Opens the stream of a class for one more viewer, and has it come here if it is at another node.
    pub async fn open(&self, name: &str) -> Result<OpenStream, NotLive> {
        match (self.open_here(name), &self.source) {
            (Err(NotLive), Some(source)) => {
                source.ensure(name).await;
                self.open_here(name)
            }
            (opened, _) => opened,
        }
    }

    /// Whether somebody publishes in a class.
    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.hub.status(name).is_some_and(|status| status.state == State::Active)
    }

    /// The newest keyframe of a class, if its stream is here: for a still picture alone none comes from another node.
    pub(crate) fn keyframe(&self, name: &str) -> Result<Option<Keyframe>, NotLive> {
        if self.is_active(name) { Ok(self.hub.keyframe(name)) } else { Err(NotLive) }
    }

    fn open_here(&self, name: &str) -> Result<OpenStream, NotLive> {
        let status = self.hub.status(name).filter(|status| status.state == State::Active).ok_or(NotLive)?;
        let asked = Instant::now();
        let mut open = self.lock();
        let id = match open.get_mut(name) {
            Some(feed) => {
                feed.asked = asked;
                feed.id
            }
            None => {
                let subscription = self.hub.subscribe(name).ok_or(NotLive)?;
                let id = self.engine.open_stream(status.origin);
                open.insert(name.to_owned(), Feed { id, asked });
                // A runtime that shuts down drops a new task at once, and that takes the lock.
                drop(open);
                self.spawn(Feeding { streams: self.clone(), name: name.to_owned(), id }, subscription);
                id
            }
        };
        Ok(OpenStream { id, session: status.session, tracks: status.tracks })
    }

    /// Takes a stream out that nobody has asked for lately and nobody watches: the next to ask opens it anew.
    fn close_idle(&self, name: &str) -> bool {
        let mut open = self.lock();
        let is_idle = open.get(name).is_some_and(|feed| feed.asked.elapsed() >= IDLE_MAX)
            && self.sessions.count(name) == 0;
        if is_idle {
            open.remove(name);
        }
        is_idle
    }

    #[cfg(not(debug_assertions))]
    fn spawn(&self, feeding: Feeding, subscription: Subscription) {
        tokio::spawn(feed(feeding, subscription));
    }

    #[cfg(debug_assertions)]
    fn spawn(&self, feeding: Feeding, subscription: Subscription) {
        let fault = self.fault.clone();
        let harm = async move {
            fault.cancelled().await;
            panic!("a task that feeds a stream was told to panic")
        };
        tokio::spawn(async move {
            tokio::select! {
                () = feed(feeding, subscription) => {}
                () = harm => {}
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Feed>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs for as long as the stream does and somebody watches. Tracks come and go meanwhile: every answer is for both.
async fn feed(feeding: Feeding, mut subscription: Subscription) {
    let Feeding { streams, name, id } = &feeding;
    let mut video = rtp::h264::Packetizer::default();
    let mut audio = rtp::opus::Packetizer::default();
    let mut looks = tokio::time::interval(IDLE_INTERVAL);
    let mut idle_since: Option<Instant> = None;
    loop {
        let update = tokio::select! {
            update = subscription.next() => update,
            _ = looks.tick() => {
                let is_watched = streams.sessions.count(name) > 0;
                let since = *idle_since.get_or_insert_with(Instant::now);
                if is_watched {
                    idle_since = None;
                } else if since.elapsed() >= IDLE_MAX && streams.close_idle(name) {
                    tracing::debug!(class = name, "nobody watches any more");
                    return;
                }
                continue;
            }
        };
        let packets = match &update {
            Some(Update::Frame(item)) => match &item.frame {
                Frame::Video(frame) => video.packetize(frame),
                Frame::Audio(frame) => audio.packetize(frame),
            },
            Some(Update::Tracks(_)) => {
                streams.sessions.tell_class(name, &SentEvent::Active);
                None
            }
            Some(Update::Paused) => {
                streams.sessions.tell_class(name, &SentEvent::Inactive);
                None
            }
            Some(Update::Epoch(_)) => None,
            None => return,
        };
        if let Some(packets) = packets {
            streams.engine.send(*id, &Arc::new(packets));
        }
    }
}
