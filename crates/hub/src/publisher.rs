//! The end of a stream that a publisher holds.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use media::{Frame, MediaTime, Tracks};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::place::Place;
use crate::registry::Bell;
use crate::stream::{Problem, Stream};

/// Another publisher of the same class has taken over.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("another publisher has taken over the stream")]
pub struct Superseded;

/// The right to feed one stream. Dropping it begins the grace period, unless somebody else has taken over.
#[derive(Debug)]
pub struct Publisher {
    pub(crate) feed: Feed,
    pub(crate) origin: Instant,
    pub(crate) resume_after: MediaTime,
}

impl Publisher {
    /// The instant at which the stream's media timeline is zero.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// The last time on the timeline that the publishers before used: this epoch's frames come after it.
    pub fn resume_after(&self) -> MediaTime {
        self.resume_after
    }

    /// Cancelled when another publisher takes over, or this one may not publish any more.
    pub fn superseded(&self) -> CancellationToken {
        self.feed.superseded.clone()
    }

    /// Cancelled before that when it has to go because its key was revoked.
    pub fn revoked(&self) -> CancellationToken {
        self.feed.revoked.clone()
    }

    /// Says by which key its publisher was let in, for [`crate::Hub::revoke`].
    pub fn set_key(&self, key: &str) -> Result<(), Superseded> {
        self.with(|stream| key.clone_into(&mut stream.key))?;
        self.feed.bell.ring();
        Ok(())
    }

    /// Says which tracks there are. Frames pushed before reach nobody who joins.
    pub fn set_tracks(&self, tracks: &Tracks) -> Result<(), Superseded> {
        self.with(|stream| stream.set_tracks(tracks, self.feed.clock.now()))?;
        self.feed.bell.ring();
        Ok(())
    }

    /// Gives one frame to every subscriber.
    pub fn push(&self, frame: Frame) -> Result<(), Superseded> {
        self.with(|stream| stream.push(frame))
    }

    /// Puts a problem into the stream's status, changes its words, or takes it back with `None`.
    pub fn set_problem(&self, code: &'static str, text: Option<String>) -> Result<(), Superseded> {
        self.with(|stream| {
            let Some(text) = text else { return stream.problems.retain(|problem| problem.code != code) };
            match stream.problems.iter_mut().find(|problem| problem.code == code) {
                Some(problem) => problem.text = text,
                None => stream.problems.push(Problem { code, text }),
            }
        })?;
        self.feed.bell.ring();
        Ok(())
    }

    /// Says that the lesson is over, which its viewers are told when this is dropped; the stream waits all the same.
    pub fn end(&self) -> Result<(), Superseded> {
        self.with(Stream::end)
    }

    /// Takes all problems back.
    pub fn clear_problems(&self) -> Result<(), Superseded> {
        self.with(|stream| stream.problems.clear())?;
        self.feed.bell.ring();
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Stream) -> T) -> Result<T, Superseded> {
        self.feed.with(act)
    }
}

/// The right to pass on what another node makes of a stream. Dropping it is as if the publisher had vanished.
#[derive(Debug)]
pub struct Relay {
    pub(crate) feed: Feed,
}

impl Relay {
    /// Cancelled when somebody publishes here, when a newer epoch begins, when the same is taken up from another node, and
    /// when the stream is over.
    pub fn superseded(&self) -> CancellationToken {
        self.feed.superseded.clone()
    }

    /// Says which tracks there are.
    pub fn set_tracks(&self, tracks: &Tracks) -> Result<(), Superseded> {
        self.feed.with(|stream| stream.set_tracks(tracks, self.feed.clock.now()))?;
        self.feed.bell.ring();
        Ok(())
    }

    /// Gives one frame, whose time is counted on the timeline of the epoch, to every subscriber. False if they had it before.
    pub fn push(&self, place: Place, frame: Frame) -> Result<bool, Superseded> {
        self.feed.with(|stream| stream.relay(place, frame))
    }

    /// The publisher is gone, or the node that it is at: the stream waits.
    pub fn pause(&self) -> Result<(), Superseded> {
        self.feed.with(|stream| stream.pause(self.feed.clock.now()))?;
        self.feed.bell.ring();
        Ok(())
    }
}

/// Who feeds a stream, until somebody else does.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) stream: Arc<Mutex<Stream>>,
    pub(crate) superseded: CancellationToken,
    pub(crate) revoked: CancellationToken,
    pub(crate) bell: Arc<Bell>,
    pub(crate) clock: Clock,
}

impl Feed {
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Stream) -> T) -> Result<T, Superseded> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if self.superseded.is_cancelled() {
            return Err(Superseded);
        }
        Ok(act(&mut stream))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.with(|stream| stream.pause(self.clock.now()));
        self.bell.ring();
    }
}
