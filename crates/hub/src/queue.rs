//! What a subscriber has not taken yet, bounded, and the drop policy when it is slow.
use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use media::{Frame, Track, Tracks};
use tokio::sync::Notify;

use crate::epoch::Epoch;
use crate::place::StreamFrame;
use crate::stats::Stats;

/// Updates that may wait for one subscriber: about 8 s of 30 frames and 50 packets of sound a second. The snapshot it
/// began with comes on top, within the bounds of `gop.rs`. A subscriber this far behind has lost the live edge anyway.
const QUEUE_LEN_MAX: usize = 640;
/// Bytes of media that may wait for one subscriber: the largest snapshot and 8 s of 8 Mbit/s.
const QUEUE_BYTES_MAX: usize = 24 << 20;
/// Changes of tracks and pauses that may wait for one subscriber. Each makes those of its kind before it void, so the oldest such goes:
/// a publisher that comes and goes must not fill memory.
const NOTICES_MAX: usize = 64;

/// What a stream tells its subscribers.
#[derive(Clone, Debug)]
pub enum Update {
    /// A publisher has begun: what follows is of its epoch. Or the epoch that there is comes by another way.
    Epoch(Epoch),
    /// The tracks of the publisher are known, or have changed.
    Tracks(Tracks),
    /// One frame.
    Frame(Arc<StreamFrame>),
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
            if let Poll::Ready(update) = self.queue.take() {
                return update;
            }
            notified.await;
        }
    }

    /// The next update if there is one now; `None` once the stream is no more.
    pub fn try_next(&mut self) -> Poll<Option<Update>> {
        self.queue.take()
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
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
}

#[derive(Debug)]
struct Inner {
    updates: VecDeque<Update>,
    bytes: usize,
    /// How many updates at the front are of the snapshot: they do not count against the length.
    snapshot_len: usize,
    /// Video is dropped up to the next keyframe or recovery point.
    gated: bool,
    dropped: u64,
    closed: bool,
    stats: Stats,
}

impl Queue {
    /// Begins with a snapshot of the stream. `gated` when video that follows refers to frames that it does not have.
    pub(crate) fn new(snapshot: Vec<Update>, gated: bool, stats: Stats) -> Self {
        let inner = Inner {
            bytes: snapshot.iter().map(cost).fold(0, usize::saturating_add),
            snapshot_len: snapshot.len(),
            updates: snapshot.into(),
            gated,
            dropped: 0,
            closed: false,
            stats,
        };
        Self { inner: Mutex::new(inner), ready: Notify::new() }
    }

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

    fn take(&self) -> Poll<Option<Update>> {
        let mut inner = self.lock();
        match inner.take() {
            Some(update) => Poll::Ready(Some(update)),
            None if inner.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
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
        self.snapshot_len = self.snapshot_len.saturating_sub(1);
        Some(update)
    }

    fn push(&mut self, update: Update) {
        let len = cost(&update);
        match &update {
            Update::Frame(item) => {
                let frame = &item.frame;
                let is_full = self.updates.len().saturating_sub(self.snapshot_len) >= QUEUE_LEN_MAX
                    || self.bytes.saturating_add(len) > QUEUE_BYTES_MAX;
                let (track, is_admitted) = match frame.track() {
                    Track::Video => (Track::Video, self.admit_video(frame, is_full)),
                    Track::Audio => (Track::Audio, self.admit_audio(is_full)),
                };
                if !is_admitted {
                    return self.count_dropped(track, 1);
                }
            }
            Update::Epoch(_) | Update::Tracks(_) | Update::Paused => self.make_way_for_notice(),
        }
        self.bytes = self.bytes.saturating_add(len);
        self.updates.push_back(update);
    }

    fn count_dropped(&mut self, track: Track, count: u64) {
        self.dropped = self.dropped.saturating_add(count);
        match track {
            Track::Video => self.stats.on_video_dropped(count),
            Track::Audio => self.stats.on_audio_dropped(count),
        }
    }

    fn make_way_for_notice(&mut self) {
        let is_notice = |update: &Update| !matches!(update, Update::Frame(..));
        if self.updates.iter().filter(|update| is_notice(update)).count() < NOTICES_MAX {
            return;
        }
        let is_void = |(at, update): (usize, &Update)| {
            let is_of_kind = |later: &Update| discriminant(later) == discriminant(update);
            is_notice(update) && self.updates.iter().skip(at + 1).any(is_of_kind)
        };
        if let Some(oldest) = self.updates.iter().enumerate().position(is_void) {
            self.updates.remove(oldest);
            if oldest < self.snapshot_len {
                self.snapshot_len = self.snapshot_len.saturating_sub(1);
            }
            self.stats.on_notice_dropped();
        }
    }

    /// Video goes up to the next keyframe, which replaces all the video that waits, or up to a recovery point.
    fn admit_video(&mut self, frame: &Frame, is_full: bool) -> bool {
        if !is_full && !self.gated {
            return true;
        }
        if frame.is_keyframe() {
            self.gated = false;
            self.discard(Track::Video, usize::MAX);
        } else if is_full {
            self.gated = true;
        } else if frame.is_recovery_point() {
            self.gated = false;
        }
        !self.gated
    }

    /// Sound goes oldest first.
    fn admit_audio(&mut self, is_full: bool) -> bool {
        !is_full || self.discard(Track::Audio, 1) > 0
    }

    fn discard(&mut self, track: Track, count_max: usize) -> usize {
        let (mut index, mut count, mut of_snapshot, mut freed) = (0, 0, 0, 0);
        let snapshot_len = self.snapshot_len;
        self.updates.retain(|update| {
            let is_hit =
                count < count_max && matches!(update, Update::Frame(item) if item.frame.track() == track);
            if is_hit {
                count += 1;
                of_snapshot += usize::from(index < snapshot_len);
                freed += cost(update);
            }
            index += 1;
            !is_hit
        });
        self.bytes = self.bytes.saturating_sub(freed);
        self.snapshot_len = snapshot_len.saturating_sub(of_snapshot);
        self.count_dropped(track, u64::try_from(count).unwrap_or(u64::MAX));
        count
    }
}

fn cost(update: &Update) -> usize {
    match update {
        Update::Frame(item) => item.frame.len(),
        Update::Epoch(_) | Update::Tracks(_) | Update::Paused => 0,
    }
}
