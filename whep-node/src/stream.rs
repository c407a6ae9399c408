//! From the hub to the engine: a stream that somebody watches is packetised here, once for all its viewers.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::{Hub, State, Subscription, Update};
use media::{Frame, Tracks};
use rtc::{EngineHandle, StreamId};
use thiserror::Error;

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

/// The streams of this node that somebody watches; clones share them.
#[derive(Clone, Debug)]
pub struct Streams {
    hub: Hub,
    engine: EngineHandle,
    open: Arc<Mutex<HashMap<String, StreamId>>>,
}

impl Streams {
    /// None yet.
    pub fn new(hub: Hub, engine: EngineHandle) -> Self {
        Self { hub, engine, open: Arc::default() }
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
                tokio::spawn(self.clone().feed(name.to_owned(), id, subscription));
                id
            }
        };
        Ok(OpenStream { id, session: status.session, tracks: status.tracks })
    }

    /// Runs for as long as the stream keeps its tracks: the viewers' answers name them, so that others need new answers.
    async fn feed(self, name: String, id: StreamId, mut subscription: Subscription) {
        let mut video = rtp::h264::Packetizer::default();
        let mut audio = rtp::opus::Packetizer::default();
        let mut tracks: Option<Tracks> = None;
        while let Some(update) = subscription.next().await {
            match update {
                Update::Frame(frame) => {
                    let packets = match &frame {
                        Frame::Video(frame) => video.packetize(frame),
                        Frame::Audio(frame) => audio.packetize(frame),
                    };
                    if let Some(packets) = packets {
                        self.engine.send(id, &Arc::new(packets));
                    }
                }
                Update::Tracks(new) => {
                    if tracks.as_ref().is_some_and(|old| kinds(old) != kinds(&new)) {
                        tracing::info!(class = name, "tracks changed: sessions end, players reconnect");
                        break;
                    }
                    tracks = Some(new);
                }
                Update::Paused => {}
            }
        }
        self.lock().remove(&name);
        self.engine.close_stream(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, StreamId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kinds(tracks: &Tracks) -> (bool, bool) {
    (tracks.video.is_some(), tracks.audio)
}
