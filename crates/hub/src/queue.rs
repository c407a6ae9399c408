//! What a subscriber has not taken yet, bounded, and the drop policy when it is slow.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{Frame, Track, Tracks};
use tokio::sync::Notify;

/// Updates that may wait for one subscriber: about 8 s of 30 frames and 50 packets of sound a second. Beyond the
/// group of pictures it was born with, a subscriber this far behind has lost the live edge anyway.
const QUEUE_LEN_MAX: usize = 640;
/// Bytes of media that may wait for one subscriber.
const QUEUE_BYTES_MAX: usize = 24 << 20;

/// What a stream tells its subscribers.
#[derive(Clone, Debug)]
pub enum Update {
    /// A publisher has begun, or its tracks have changed.
    Tracks(Tracks),
    /// One frame.
    Frame(Frame),
    /// The publisher is gone; the stream waits for it to come back.
    Paused,
}

/// One subscriber's end of a stream. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) queue: Arc<Queue>,
}

impl Subscription {
    /// The next update; `None` once the stream is no more.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            let notified = self.queue.ready.notified();
            {
                let mut inner = self.queue.lock();
                if let Some(update) = inner.take() {
                    return Some(update);
                }
                if inner.closed {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Frames that were dropped because this subscriber was slow.
    pub fn dropped_frames(&self) -> u64 {
        self.queue.lock().dropped
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The shared half of a subscription. The lock is held for a push or a take, never across a wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    updates: VecDeque<Update>,
    bytes: usize,
    /// Video is dropped up to the next keyframe.
    gated: bool,
    dropped: u64,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an update, or drops what the policy says. False once nobody listens any more.
    pub(crate) fn push(&self, update: Update) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.push(update);
        drop(inner);
        self.ready.notify_one();
        true
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }
}

impl Inner {
    fn take(&mut self) -> Option<Update> {
        let update = self.updates.pop_front()?;
        self.bytes = self.bytes.saturating_sub(cost(&update));
        Some(update)
    }

    fn push(&mut self, update: Update) {
        if let Update::Frame(frame) = &update {
            let is_full = self.updates.len() >= QUEUE_LEN_MAX
                || self.bytes.saturating_add(frame.len()) > QUEUE_BYTES_MAX;
            let fits = match frame.track() {
                Track::Video => self.admit_video(frame.is_keyframe(), is_full),
                Track::Audio => self.admit_audio(is_full),
            };
            if !fits {
                self.dropped += 1;
                return;
            }
        }
        self.bytes = self.bytes.saturating_add(cost(&update));
        self.updates.push_back(update);
    }

    /// Video goes up to the next keyframe, which replaces all the video that waits.
    fn admit_video(&mut self, is_keyframe: bool, is_full: bool) -> bool {
        if is_keyframe && (is_full || self.gated) {
            self.gated = false;
            self.discard(Track::Video, usize::MAX);
        } else if is_full {
            self.gated = true;
        }
        !self.gated
    }

    /// Sound goes oldest first.
    fn admit_audio(&mut self, is_full: bool) -> bool {
        !is_full || self.discard(Track::Audio, 1) > 0
    }

    fn discard(&mut self, track: Track, count_max: usize) -> usize {
        let mut count = 0;
        let mut freed = 0;
        self.updates.retain(|update| {
            let hit = count < count_max && matches!(update, Update::Frame(frame) if frame.track() == track);
            if hit {
                count += 1;
                freed += cost(update);
            }
            !hit
        });
        self.bytes = self.bytes.saturating_sub(freed);
        self.dropped += u64::try_from(count).unwrap_or(u64::MAX);
        count
    }
}

fn cost(update: &Update) -> usize {
    match update {
        Update::Frame(frame) => frame.len(),
        Update::Tracks(_) | Update::Paused => 0,
    }
}
