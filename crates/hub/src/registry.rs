//! All streams by name.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Notify;

use crate::publisher::Publisher;
use crate::queue::Subscription;
use crate::stats::Stats;
use crate::stream::{State, Status, Stream};

/// The bounds of a hub.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams that may exist at once.
    pub streams_max: usize,
    /// How long a stream waits for a publisher that vanished.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { streams_max: 1024, grace: Duration::from_secs(60) }
    }
}

/// The hub carries as many streams as it may.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("this node already carries {streams_max} streams")]
pub struct Full {
    /// The bound that was reached.
    pub streams_max: usize,
}

/// Tells whoever reports on the streams that something is worth a report.
#[derive(Debug, Default)]
pub(crate) struct Changes(Notify);

impl Changes {
    pub(crate) fn notify(&self) {
        self.0.notify_one();
    }
}

/// The streams of this process; clones share them.
#[derive(Clone, Debug)]
pub struct Hub {
    streams: Arc<Mutex<HashMap<String, Arc<Mutex<Stream>>>>>,
    changes: Arc<Changes>,
    limits: Limits,
    stats: Stats,
}

impl Hub {
    /// An empty hub.
    pub fn new(limits: Limits) -> Self {
        Self { streams: Arc::default(), changes: Arc::default(), limits, stats: Stats::default() }
    }

    /// How often the bounds were reached.
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }

    /// Opens a new epoch of the stream `name`, which is created if there is none, and takes it over if there is one.
    pub fn publish(&self, name: &str, session: &str) -> Result<Publisher, Full> {
        let now = Instant::now();
        let mut streams = self.lock();
        let full = streams.len() >= self.limits.streams_max;
        let stream = match streams.get(name) {
            Some(stream) => Arc::clone(stream),
            None if full => {
                self.stats.on_stream_refused();
                return Err(Full { streams_max: self.limits.streams_max });
            }
            None => {
                let stream = Arc::new(Mutex::new(Stream::new(name, now, self.stats.clone())));
                streams.insert(name.to_owned(), Arc::clone(&stream));
                stream
            }
        };
        let mut inner = lock(&stream);
        inner.begin_epoch(session, now);
        let publisher = Publisher {
            epoch: inner.epoch,
            origin: inner.origin,
            resume_after: inner.latest,
            superseded: inner.superseded.clone(),
            changes: Arc::clone(&self.changes),
            stream: Arc::clone(&stream),
        };
        drop(inner);
        self.changes.notify();
        Ok(publisher)
    }

    /// Subscribes to a stream that exists.
    pub fn subscribe(&self, name: &str) -> Option<Subscription> {
        // Under both locks: a stream that is swept in between would never close the subscription.
        let streams = self.lock();
        let subscription = lock(streams.get(name)?).subscribe();
        Some(subscription)
    }

    /// What one stream says of itself.
    pub fn status(&self, name: &str) -> Option<Status> {
        let stream = Arc::clone(self.lock().get(name)?);
        let status = lock(&stream).status(Instant::now());
        Some(status)
    }

    /// What every stream says of itself.
    pub fn statuses(&self) -> Vec<Status> {
        let now = Instant::now();
        let streams: Vec<_> = self.lock().values().cloned().collect();
        streams.iter().map(|stream| lock(stream).status(now)).collect()
    }

    /// Forgets the streams whose grace period is over and returns what they last said of themselves.
    pub fn sweep(&self, now: Instant) -> Vec<Status> {
        let mut removed = Vec::new();
        self.lock().retain(|_, stream| {
            let mut stream = lock(stream);
            let waited = now.saturating_duration_since(stream.state_since);
            let keep = stream.state != State::Grace || waited < self.limits.grace;
            if !keep {
                removed.push(stream.status(now));
                stream.close();
            }
            keep
        });
        if !removed.is_empty() {
            self.changes.notify();
        }
        removed
    }

    /// Waits until a stream has appeared, changed or gone since the last call.
    pub async fn changed(&self) {
        self.changes.0.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<Stream>>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(stream: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
