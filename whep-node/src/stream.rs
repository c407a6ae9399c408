//! From the hub to the engine: a stream that somebody has asked for is packetised here until it ends, once for all its
//! viewers.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::{Hub, State, StreamFrame, Subscription, Update};
use media::{Frame, Tracks};
use rtc::{EngineHandle, StreamId};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

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
    open: Arc<Mutex<HashMap<String, StreamId>>>,
    failed: CancellationToken,
    #[cfg(debug_assertions)]
    fault: CancellationToken,
}

/// A stream that is fed. However that ends, its viewers are let go and the next to ask opens it anew.
struct Feeding {
    streams: Streams,
    name: String,
    id: StreamId,
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.name);
        self.streams.engine.close_stream(self.id);
        if std::thread::panicking() {
            self.streams.failed.cancel();
        }
    }
}

impl Streams {
    /// None yet.
    pub fn new(hub: Hub, engine: EngineHandle) -> Self {
        Self {
            hub,
            engine,
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

    /// Opens the stream of a class for one more viewer. Must be called within a tokio runtime.
    pub fn open(&self, name: &str) -> Result<OpenStream, NotLive> {
        let status = self.hub.status(name).filter(|status| status.state == State::Active).ok_or(NotLive)?;
        let mut open = self.lock();
        let id = match open.get(name) {
            Some(id) => *id,
            None => {
                let subscription = self.hub.subscribe(name).ok_or(NotLive)?;
                let id = self.engine.open_stream(status.origin);
                open.insert(name.to_owned(), id);
                // A runtime that shuts down drops a new task at once, and that takes the lock.
                drop(open);
                self.spawn(Feeding { streams: self.clone(), name: name.to_owned(), id }, subscription);
                id
            }
        };
        Ok(OpenStream { id, session: status.session, tracks: status.tracks })
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StreamId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs for as long as the stream does. Tracks come and go meanwhile: every answer is for both.
async fn feed(feeding: Feeding, mut subscription: Subscription) {
    let Feeding { streams, id, .. } = &feeding;
    let mut video = rtp::h264::Packetizer::default();
    let mut audio = rtp::opus::Packetizer::default();
    while let Some(update) = subscription.next().await {
        let packets = match &update {
            Update::Frame(StreamFrame { frame: Frame::Video(frame), .. }) => video.packetize(frame),
            Update::Frame(StreamFrame { frame: Frame::Audio(frame), .. }) => audio.packetize(frame),
            Update::Epoch(_) | Update::Tracks(_) | Update::Paused => None,
        };
        if let Some(packets) = packets {
            streams.engine.send(*id, &Arc::new(packets));
        }
    }
}
